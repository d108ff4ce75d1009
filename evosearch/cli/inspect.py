"""Looking at the programs of runs: `top`, `lineage`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from evosearch.cli.app import Json, app, print_json, say
from evosearch.errors import UsageError

RunDirectory = Annotated[Path, typer.Argument(metavar="DIR", help="The run's directory.")]


@app.command()
def top(
    run: RunDirectory,
    n: Annotated[int, typer.Option("-n", min=1, help="How many programs.")] = 10,
    pareto: Annotated[
        bool,
        typer.Option("--pareto", help="Only the front of fitness, statements and state memory."),
    ] = False,
    json: Json = False,
) -> None:
    """The best programs, by the lower bound of their fitness.

    Fitness 0 is tuned AdamW; +0.1 is about 10% lower loss. The fitness of champions comes from
    fresh seeds that decided nothing; that of other programs from the search seeds that they were
    selected by, which flatters them.
    """
    from evosearch.runs.run import Run

    found = Run(run).top(n, pareto=pareto)
    if json:
        print_json({"programs": [one.document() for one in found]})
        return
    from evosearch.cli.terminal import Terminal
    from evosearch.report.run import top_report
    from evosearch.report.terminal import show

    show(top_report(found), Terminal())


@app.command()
def lineage(
    run: RunDirectory,
    out: Annotated[
        Path | None, typer.Option("-o", "--out", help="Draw the tree into an .svg file.")
    ] = None,
    json: Json = False,
) -> None:
    """The family tree of a run's champions: what made each, from the seed program on.

    Mutations that change nothing of what a program computes are folded. ● is a champion. One
    program's ancestors are in `evosearch show DIR#ID`.
    """
    from evosearch.files import check_writable, write_text
    from evosearch.report.family import rows, to_svg, to_text
    from evosearch.runs.lineage import family
    from evosearch.runs.run import Run

    if out is not None and out.suffix.lower() != ".svg":
        raise UsageError(f"{out}: a family tree is drawn into a file that ends in .svg")
    if out is not None:
        check_writable(out)
    tree = family(Run(run))
    found = rows(tree)
    if out is not None:
        write_text(out, to_svg(found))
    if json:
        ancestors = [row.ancestor.document() | {"champion": row.champion} for row in found]
        print_json({"ancestors": ancestors, "edges": [list(edge) for edge in sorted(tree.edges)]})
    elif out is not None:
        say(f"wrote {out}")
    else:
        say("\n".join(to_text(found)))
