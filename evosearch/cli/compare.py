"""Runs beside others: `compare` (at equal cost) and `audit` (what is reported against truth)."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from evosearch.cli.app import JobTimeout, Json, TrustOption, Workers, app, print_json, warn
from evosearch.cli.progress import reporting
from evosearch.runs.cost import Unit

Runs = Annotated[list[Path], typer.Argument(metavar="RUN", help="Directories of runs.")]


@app.command()
def compare(
    runs: Runs,
    by: Annotated[
        Unit, typer.Option(help="What cost is counted in: weight updates (steps times weights).")
    ] = Unit.UPDATES,
    out: Annotated[
        Path | None, typer.Option("-o", "--out", help="Draw the curves too: .svg, .png or .pdf.")
    ] = None,
    json: Json = False,
) -> None:
    """Compare searches at equal cost: the champion so far, and its validation, against cost.

    Runs that differ in nothing but their seed are one row. Make searches to compare with by
    `search --baseline`.
    """
    from evosearch.cli.terminal import Terminal
    from evosearch.files import atomic_write
    from evosearch.report.comparison import comparison_report
    from evosearch.report.files import PLOTS, check
    from evosearch.report.terminal import show
    from evosearch.runs.curves import compare_runs
    from evosearch.runs.run import Run

    if out is not None:
        check(out, PLOTS)
    found = compare_runs([Run(path) for path in runs], by)
    if out is not None:
        from evosearch.report.plots.curves import draw

        with atomic_write(out) as file:
            draw(found, file, out.suffix.removeprefix("."))
    if json:
        print_json({**found.document(), "path": str(out)} if out else found.document())
    else:
        show(comparison_report(found), Terminal())


@app.command()
def audit(
    runs: Runs,
    seeds: Annotated[
        int, typer.Option(min=2, max=10_000, help="Fresh seeds for each champion.")
    ] = 64,
    workers: Workers = None,
    job_timeout: JobTimeout = None,
    trust: TrustOption = False,
    json: Json = False,
) -> None:
    """Measure the champions of runs again: does the fitness reported hold on fresh seeds?

    Every champion that was confirmed is trained on the same tasks under the same conditions against
    the same baseline, on seeds that nothing else uses. Reported and fresh fitness differ by chance
    alone if the search is honest.
    """
    from evosearch.cli.terminal import Terminal
    from evosearch.evaluation.audit import audit as measure
    from evosearch.report.comparison import audit_report
    from evosearch.report.terminal import show
    from evosearch.runs.run import Run
    from evosearch.trust import ask_about_tasks

    opened = [Run(path) for path in runs]
    ask_about_tasks(task for one in opened for task in one.config.tasks)
    with reporting(Terminal(stderr=True)) as report:
        found = measure(
            opened,
            seeds=seeds,
            workers=workers,
            timeout=job_timeout,
            notify=warn,
            progress=report,
        )
    if json:
        print_json(found.document())
    else:
        show(audit_report(found), Terminal())
