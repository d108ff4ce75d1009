"""`export`: a program as a file that people use without this project."""

from __future__ import annotations

import re
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from evosearch.cli.app import Json, app, print_json, say
from evosearch.cli.show import ProgramName
from evosearch.errors import UsageError


class To(StrEnum):
    """What a file is for."""

    OPTAX = "optax"
    TORCH = "torch"


@app.command()
def export(
    program: ProgramName,
    to: Annotated[To, typer.Option("--to", help="The library that the file is for.")],
    out: Annotated[
        Path | None, typer.Option("-o", "--out", help="Where to write; else it is printed.")
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(help="The optimizer's name, as in my_optimizer; by default the program's."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite an existing file.")] = False,
    json: Json = False,
) -> None:
    """Write a program as an optax or PyTorch optimizer, in one file that stands alone.

    The file is checked first: 100 steps beside the reference interpreter in float64, each from the
    same state, at the program's constants and at others. One that differs is not written.
    """
    from evosearch.cli.programs import load_program
    from evosearch.files import check_writable, write_text
    from primitives import zoo
    from primitives.export import check
    from primitives.export import export as exported

    loaded = load_program(program)
    if out is not None:
        check_writable(out)
        if out.is_file() and not force:
            raise UsageError(f"{out} exists; pass --force to overwrite it, or another -o")
    summary = zoo.summary(program) if program in zoo.names() else ""
    file = exported(loaded, to.value, name or default_name(program), summary)
    report = check(file)
    if out is not None:
        write_text(out, file.source)
    if json:
        print_json(
            {
                "path": None if out is None else str(out),
                "name": file.name,
                "to": to.value,
                "hyperparameters": file.hyperparameters,
                "states": file.states,
                "steps_checked": report.steps,
                "largest_difference": report.largest_difference,
                "source": file.source,
            }
        )
    elif out is None:
        say(file.source, end="")
    else:
        say(
            f"wrote {out}: {file.name} for {to.value}, equal to the reference over "
            f"{report.steps} steps (largest difference {report.largest_difference:.1e})"
        )


def default_name(program: str) -> str:
    """A name from how the user called the program: that of the zoo, of a file or of a run."""
    stem = Path(program.partition("#")[0]).name.removesuffix(".txt")
    name = re.sub(r"\W+", "_", stem.lower(), flags=re.ASCII).strip("_")
    if program == "-" or not name:
        return "found_optimizer"
    return name if name[0].isalpha() else f"optimizer_{name}"
