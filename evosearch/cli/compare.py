"""Runs beside others: `compare` (at equal cost) and `audit` (what is reported against truth)."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from evosearch.cli.app import Json, app, print_json
from evosearch.cli.progress import reporting

Runs = Annotated[list[Path], typer.Argument(metavar="RUN...", help="Directories of runs.")]


@app.command()
def audit(
    runs: Runs,
    seeds: Annotated[int, typer.Option(min=2, help="Fresh seeds for each champion.")] = 64,
    workers: Annotated[int | None, typer.Option(min=1, help="Threads that train.")] = None,
    json: Json = False,
) -> None:
    """Measure the champions of runs again: does the fitness reported hold on fresh seeds?

    Every champion that was confirmed is trained on the same tasks under the same conditions against
    the same baseline, on seeds that nothing else uses. Reported and fresh fitness differ by chance
    alone if the search is honest.
    """
    from rich.console import Console

    from evosearch.audit import audit as measure
    from evosearch.run import Run
    from evosearch.run_tables import render_audit

    with reporting(Console(stderr=True)) as report:
        found = measure([Run(path) for path in runs], seeds=seeds, workers=workers, progress=report)
    if json:
        print_json(found.document())
    else:
        render_audit(found, Console())
