"""The command `evosearch export`, which writes a program as an optimizer of optax or PyTorch."""

from __future__ import annotations

import re
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from evosearch.cli.app import Json, app, print_json, say
from evosearch.cli.show import ProgramName
from evosearch.errors import UsageError


class Library(StrEnum):
    """Libraries that programs are exported for."""

    OPTAX = "optax"
    TORCH = "torch"


@app.command()
def export(
    program: ProgramName,
    to: Annotated[Library, typer.Option("--to", help="Library that the optimizer is for.")],
    out: Annotated[
        Path | None,
        typer.Option("-o", "--out", help="File to write; by default the code is printed."),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(
            help="Name of the optimizer, such as my_optimizer; by default the program's name."
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite an existing file.")] = False,
    json: Json = False,
) -> None:
    """Export a program as an optax or PyTorch optimizer.

    The file is self-contained. Before it is written, 100 steps of the code are compared with the
    reference interpreter in float64, each from the same state, with the program's constants and
    with other constants. Code that differs is not written.
    """
    from evosearch.cli.programs import load_program
    from evosearch.files import check_writable, write_text
    from primitives import zoo
    from primitives.export import check
    from primitives.export import export as export_program

    loaded = load_program(program)
    if out is not None:
        check_writable(out)
        if out.is_file() and not force:
            raise UsageError(f"{out} exists; add --force to overwrite it, or give another -o")
    summary = zoo.summary(program) if program in zoo.names() else ""
    file = export_program(loaded, to.value, name or default_name(program), summary)
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
    """Return an optimizer name made from a zoo name, a file name or the name of a run."""
    stem = Path(program.partition("#")[0]).name.removesuffix(".txt")
    name = re.sub(r"\W+", "_", stem.lower(), flags=re.ASCII).strip("_")
    if program == "-" or not name:
        return "found_optimizer"
    return name if name[0].isalpha() else f"optimizer_{name}"
