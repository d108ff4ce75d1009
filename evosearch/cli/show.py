"""The command `evosearch show`, which prints or draws a program."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from evosearch.cli.app import Json, app, print_json, say
from evosearch.errors import UsageError

if TYPE_CHECKING:
    from evosearch.report.program import Inspection
    from primitives import Program

ProgramName = Annotated[
    str,
    typer.Argument(
        metavar="PROGRAM",
        help="A zoo name, a file, - for standard input, runs/NAME (its champion) or runs/NAME#ID. "
        "The suffix :simplified names the stored simplified form of a run's program.",
    ),
]


class Form(StrEnum):
    """Forms in which `show` prints or draws a program."""

    TEXT = "text"
    LATEX = "latex"
    GRAPH = "graph"
    BEHAVIOUR = "behaviour"


_SUFFIXES = {
    Form.TEXT: (".txt", ".md", ""),
    Form.LATEX: (".tex",),
    Form.GRAPH: (".svg", ".dot", ".gv"),
    Form.BEHAVIOUR: (".png", ".pdf", ".svg"),
}
"""Suffixes of the files to which each form can be written."""
_DEFAULT_FORMS = {
    suffix: form
    for form, suffixes in reversed(_SUFFIXES.items())  # without --as, .svg means the graph
    for suffix in suffixes
}
"""The form that each suffix implies without `--as`."""


@app.command()
def show(
    program: ProgramName,
    form: Annotated[
        Form | None,
        typer.Option(
            "--as",
            help="Form of the output; by default the form that the suffix of -o implies, or text.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--out",
            help="Write to this file: a graph to .svg or .dot, behaviour to .png or .pdf.",
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Show a program: source, simplified form, description, equations, nearest optimizer, lineage.

    --as latex prints the equations of the simplified program. --as graph prints its dataflow graph
    in DOT; `evosearch show lion -o lion.svg` draws the graph.

    --as behaviour plots the update for scalar gradients: update against gradient, the responses to
    a step, a spike, noise and a flat region, and the step size over time. `evosearch show lion -o
    lion.png` draws the same plots. Plots need matplotlib (pip install 'evosearch[plot]').
    """
    from evosearch.cli.programs import load_program, run_and_id
    from evosearch.files import check_writable, write_text
    from evosearch.report.program import inspect

    loaded = load_program(program)
    suffix = out.suffix.lower() if out else ""
    if form is None:
        form = _DEFAULT_FORMS.get(suffix, Form.TEXT)
    if out and suffix not in _SUFFIXES[form]:
        endings = " or ".join(filter(None, _SUFFIXES[form]))
        raise UsageError(
            f"cannot write {form} to {out}: its name must end in {endings} (a graph is written to "
            ".svg or .dot, LaTeX to .tex, behaviour to .png)"
        )
    if form == Form.BEHAVIOUR and out is None:
        raise UsageError("--as behaviour draws a picture; add -o FILE.png, .pdf or .svg")
    if out:
        check_writable(out)
    inspection = None
    if json or form in (Form.TEXT, Form.LATEX):
        inspection = inspect(program, loaded, run_and_id(program))
    if out and form == Form.BEHAVIOUR:
        _plot(program, loaded, out)
    elif out:
        write_text(out, _text(form, suffix, loaded, inspection))
    if json:
        assert inspection is not None
        print_json(inspection.document() | ({"path": str(out)} if out else {}))
    elif out:
        say(f"wrote {out}")
    else:
        say(_text(form, suffix, loaded, inspection), end="")


def _plot(name: str, program: Program, path: Path) -> None:
    """Write a plot of a program's behaviour."""
    from evosearch.files import atomic_write
    from evosearch.report import plots
    from primitives.explain.behaviour import behaviour

    plots.require()
    from evosearch.report.plots.behaviour import draw

    with atomic_write(path) as file:
        draw(behaviour(program), name, file, path.suffix[1:].lower())


def _text(form: Form, suffix: str, program: Program, inspection: Inspection | None) -> str:
    """Return the content of a file in any form but behaviour; text and LaTeX need `inspection`."""
    from evosearch.report.program import program_report
    from evosearch.report.terminal import plain_text
    from primitives import to_dot, to_graph, to_latex, to_svg

    if form == Form.GRAPH:
        return to_svg(to_graph(program)) if suffix == ".svg" else to_dot(to_graph(program))
    assert inspection is not None
    if form == Form.LATEX:
        return f"{to_latex(inspection.program_for_equations)}\n"
    return plain_text(program_report(inspection))
