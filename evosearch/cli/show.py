"""`show`: one program as text, equations, LaTeX or a graph."""

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
        help="A zoo name, a file, - for standard input, runs/NAME (its champion) or runs/NAME#ID; "
        "with :simplified after it, what `evosearch simplify` has made of a run's program."
    ),
]


class Form(StrEnum):
    """What `show` shows."""

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
_FORM_OF = {
    suffix: form
    for form, suffixes in reversed(_SUFFIXES.items())  # an .svg without --as is the graph
    for suffix in suffixes
}


@app.command()
def show(
    program: ProgramName,
    form: Annotated[
        Form | None,
        typer.Option(
            "--as", help="Text by default, or what the suffix of -o says; graph prints DOT."
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--out",
            help="Write to a file: a graph to .svg or .dot, behaviour to .png or .pdf.",
        ),
    ] = None,
    json: Json = False,
) -> None:
    """A program: its text, simplified and in words, equations, neighbours, ancestors and facts.

    --as latex gives its equations, simplified, for a paper, --as graph the dataflow with the
    states' loops: `evosearch show lion -o lion.svg` draws it. -o lion.png plots what the rule does
    on scalar streams: update against gradient, its response to a step, a spike, noise and a flat
    region, and its step size over time (to an .svg with --as behaviour).
    """
    from evosearch.cli.programs import load_program, run_and_id
    from evosearch.files import check_writable, write_text
    from evosearch.report.program import inspect

    loaded = load_program(program)
    suffix = out.suffix.lower() if out else ""
    if form is None:
        form = _FORM_OF.get(suffix, Form.TEXT)
    if out and suffix not in _SUFFIXES[form]:
        endings = " or ".join(filter(None, _SUFFIXES[form]))
        raise UsageError(
            f"{out}: {form} is written to a file that ends in {endings}; "
            "a graph to .svg or .dot, LaTeX to .tex, behaviour to .png"
        )
    if form == Form.BEHAVIOUR and out is None:
        raise UsageError("--as behaviour draws a picture: say where, by -o FILE.png, .pdf or .svg")
    if out:
        check_writable(out)
    found = None
    if json or form in (Form.TEXT, Form.LATEX):
        found = inspect(program, loaded, run_and_id(program))
    if out and form == Form.BEHAVIOUR:
        _plot(program, loaded, out)
    elif out:
        write_text(out, _written(form, suffix, loaded, found))
    if json:
        assert found is not None
        print_json(found.document() | ({"path": str(out)} if out else {}))
    elif out:
        say(f"wrote {out}")
    else:
        say(_written(form, suffix, loaded, found), end="")


def _plot(name: str, program: Program, path: Path) -> None:
    from evosearch.files import atomic_write
    from evosearch.report import plots
    from primitives.explain.behaviour import behaviour

    plots.require()
    from evosearch.report.plots.behaviour import draw

    found = behaviour(program)
    with atomic_write(path) as file:
        draw(found, name, file, path.suffix[1:].lower())


def _written(form: Form, suffix: str, program: Program, found: Inspection | None) -> str:
    """A program as `show` prints it; `found` for text and LaTeX."""
    from evosearch.report.program import program_report
    from evosearch.report.terminal import plain_text
    from primitives import to_dot, to_graph, to_latex, to_svg

    if form == Form.GRAPH:
        return to_svg(to_graph(program)) if suffix == ".svg" else to_dot(to_graph(program))
    assert found is not None
    return f"{to_latex(found.shown)}\n" if form == Form.LATEX else plain_text(program_report(found))
