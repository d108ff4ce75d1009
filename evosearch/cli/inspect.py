"""The commands `evosearch top`, a run's best programs, and `evosearch lineage`, its family tree."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from evosearch.cli.app import Json, app, print_json, say
from evosearch.errors import UsageError

RunDirectory = Annotated[Path, typer.Argument(metavar="DIR", help="Directory of the run.")]


@app.command()
def top(
    run: RunDirectory,
    n: Annotated[int, typer.Option("-n", min=1, help="Number of programs.")] = 10,
    pareto: Annotated[
        bool,
        typer.Option(
            "--pareto", help="List only the Pareto front of fitness, statements and memory."
        ),
    ] = False,
    json: Json = False,
) -> None:
    """List the best programs, by the lower bound of their fitness.

    Fitness 0 is tuned AdamW; +0.1 is about 10% lower loss. The fitness of champions comes from
    fresh seeds. The fitness of other programs comes from the search seeds that selected them, and
    is therefore biased upwards.
    """
    from evosearch.runs.run import Run

    programs = Run(run).top(n, pareto=pareto)
    if json:
        print_json({"programs": [program.document() for program in programs]})
        return
    from evosearch.cli.terminal import Terminal
    from evosearch.report.run import top_report
    from evosearch.report.terminal import show

    show(top_report(programs), Terminal())


@app.command()
def lineage(
    run: RunDirectory,
    out: Annotated[
        Path | None, typer.Option("-o", "--out", help="Draw the tree to this .svg file.")
    ] = None,
    json: Json = False,
) -> None:
    """Draw the family tree of a run's champions.

    The tree starts at the initial program. Mutations that do not change the update are only
    counted. A filled circle (●) is a champion. `evosearch show DIR#ID` lists the ancestors of any
    program.
    """
    from evosearch.files import check_writable, write_text
    from evosearch.report.family import rows, to_svg, to_text
    from evosearch.runs.lineage import family
    from evosearch.runs.run import Run

    if out is not None and out.suffix.lower() != ".svg":
        raise UsageError(f"cannot draw a family tree to {out}; give -o a name that ends in .svg")
    if out is not None:
        check_writable(out)
    tree = family(Run(run))
    ancestors = rows(tree)
    if out is not None:
        write_text(out, to_svg(ancestors))
    if json:
        documents = [row.ancestor.document() | {"champion": row.champion} for row in ancestors]
        print_json({"ancestors": documents, "edges": [list(edge) for edge in sorted(tree.edges)]})
    elif out is not None:
        say(f"wrote {out}")
    else:
        say("\n".join(to_text(ancestors)))
