"""`show`: one program as text, equations, LaTeX or a graph."""

from __future__ import annotations

import textwrap
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from evosearch.cli.app import Json, app, print_json, say
from evosearch.errors import UsageError

if TYPE_CHECKING:
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
    from evosearch.cli.programs import load_program, place_in_run
    from evosearch.files import check_writable, write_text
    from evosearch.report.inspection import inspected

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
    document = describe(program, loaded)
    if json or form in (Form.TEXT, Form.LATEX):
        document |= inspected(loaded, place_in_run(program))
    if out and form == Form.BEHAVIOUR:
        _plot(program, loaded, out)
    elif out:
        write_text(out, _written(form, suffix, loaded, document))
    if out:
        document["path"] = str(out)
    if json:
        print_json(document)
    elif out:
        say(f"wrote {out}")
    else:
        say(_written(form, suffix, loaded, document), end="")


def _plot(name: str, program: Program, path: Path) -> None:
    from evosearch.files import whole
    from evosearch.report import plots
    from primitives.explain.behaviour import behaviour

    plots.require()
    from evosearch.report.plots.behaviour import draw

    found = behaviour(program)
    with whole(path) as file:
        draw(found, name, file, path.suffix[1:].lower())


def describe(name: str, program: Program) -> dict[str, Any]:
    """What is read off a program; `name` is how the user called it."""
    from primitives import check, equations, live, semantic_key, state_memory, to_latex

    living = live(program)
    return {
        "description": _description(name),
        "source": str(program),
        "statements": len(program.statements),
        "live_source": str(living),
        "live_statements": len(living.statements),
        "semantic_key": semantic_key(program),
        "kinds": {variable: str(kind) for variable, kind in check(program).items()},
        "state_memory": state_memory(program),
        "equations": [str(equation) for equation in equations(program)],
        "latex": to_latex(program),
    }


def _description(name: str) -> dict[str, Any] | None:
    """What a zoo program's header says; None for other programs."""
    from primitives import zoo

    if name not in zoo.names():
        return None
    entry = zoo.entry(name)
    return asdict(entry) | {"hyperparameters": dict(entry.hyperparameters)}


def _written(form: Form, suffix: str, program: Program, document: dict[str, Any]) -> str:
    from primitives import to_dot, to_graph, to_svg

    if form == Form.LATEX:
        return f"{document['latex' if _is_zoo_text(document) else 'simplified_latex']}\n"
    if form == Form.GRAPH:
        return to_svg(to_graph(program)) if suffix == ".svg" else to_dot(to_graph(program))
    return _text(document)


def _text(document: dict[str, Any]) -> str:
    parts = [_header(document["description"]), document["source"].rstrip()]
    statements, alive = document["statements"], document["live_statements"]
    if alive < statements:
        live_source = document["live_source"].rstrip()
        parts.append(f"without what no update depends on:\n\n{live_source}")
    parts += _readable(document)
    parts.append(_equations(document))
    memory = f"{document['state_memory']:.4g} number{'s' * (document['state_memory'] != 1)}"
    parts.append(_ancestors(document["lineage"]))
    facts = [
        f"statements    {statements}, of which {alive} live",
        f"state memory  {memory} per weight (of two 1024 x 1024 layers with biases)",
        *_kinds(document["kinds"]),
        f"semantic key  {document['semantic_key']}",
    ]
    parts.append("\n".join(facts))
    return "\n\n".join(filter(None, parts)) + "\n"


def _readable(document: dict[str, Any]) -> list[str]:
    """The simplified program, if that is news, with its description and the nearest known one."""
    from evosearch.report.simplifications import compared
    from primitives import parse
    from primitives.explain.nearest import nearest

    simplified = parse(document["simplified"])
    parts = []
    if not _is_zoo_text(document) and document["derivation"]:
        how = "by algebra and measurement" if document["measured"] else "by algebra"
        steps = len(document["derivation"])
        parts.append(f"simplified {how}, in {steps} steps:\n\n{str(simplified).rstrip()}")
    parts.append(textwrap.fill(document["in_words"], 100))
    if not _is_zoo_text(document):
        parts.append(compared(nearest(simplified)))
    return parts


def _equations(document: dict[str, Any]) -> str:
    """Those of the simplified program; of a known one its own, under the names of its text."""
    own = _is_zoo_text(document)
    lines = document["equations" if own else "simplified_equations"]
    title = "one step, from t-1 to t" + ("" if own else ", simplified")
    return "\n".join([f"{title}:\n", *(f"    {line}" for line in lines)])


def _is_zoo_text(document: dict[str, Any]) -> bool:
    return document["description"] is not None


def _ancestors(found: list[dict[str, Any]] | None) -> str:
    from evosearch.report.inspection import lineage_lines
    from evosearch.runs.lineage import Ancestor

    if not found:
        return ""
    head = f"{'id':>8}  {'fitness':>12}  seeds  mutation"
    return "\n".join(["lineage:\n", head, *lineage_lines([Ancestor(**one) for one in found])])


def _header(description: dict[str, Any] | None) -> str:
    if description is None:
        return ""
    defaults = ", ".join(f"{k} {v:g}" for k, v in description["hyperparameters"].items())
    lines = [f"{description['title']}: {description['idea']}", description["paper"], defaults]
    return "\n".join([*lines, *textwrap.wrap(description["notes"], 100)])


def _kinds(kinds: dict[str, str]) -> list[str]:
    """One line for each kind but tensor, which most variables are."""
    lines: list[str] = []
    for kind in dict.fromkeys(kinds.values()):
        if kind != "tensor":
            listed = ", ".join(name for name, own in kinds.items() if own == kind)
            lines.append(f"{'' if lines else 'kinds':14}{kind}: {listed}")
    return lines
