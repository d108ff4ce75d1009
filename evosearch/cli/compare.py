"""The commands `evosearch compare` and `evosearch audit`, which examine the results of searches."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from evosearch.cli.app import JobTimeout, Json, TrustOption, Workers, app, print_json, warn
from evosearch.cli.progress import reporting
from evosearch.runs.cost import Unit

Runs = Annotated[list[Path], typer.Argument(metavar="RUN", help="Directories of one or more runs.")]


@app.command()
def compare(
    runs: Runs,
    by: Annotated[
        Unit, typer.Option(help="Unit of cost; an update is one step of one weight.")
    ] = Unit.UPDATES,
    out: Annotated[
        Path | None,
        typer.Option("-o", "--out", help="Draw the curves to this .svg, .png or .pdf file."),
    ] = None,
    json: Json = False,
) -> None:
    """Compare searches at equal cost.

    The tables give the fitness of the champion so far, and its validation, at several costs. Runs
    that differ only in their seeds share a row. `evosearch search --baseline` runs searches to
    compare with.
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
    comparison = compare_runs([Run(path) for path in runs], by)
    if out is not None:
        from evosearch.report.plots.curves import draw

        with atomic_write(out) as file:
            draw(comparison, file, out.suffix.removeprefix("."))
    if json:
        document = comparison.document()
        print_json({**document, "path": str(out)} if out else document)
    else:
        show(comparison_report(comparison), Terminal())


@app.command()
def audit(
    runs: Runs,
    seeds: Annotated[
        int, typer.Option(min=2, max=10_000, help="Number of fresh seeds for each champion.")
    ] = 64,
    workers: Workers = None,
    job_timeout: JobTimeout = None,
    trust: TrustOption = False,
    json: Json = False,
) -> None:
    """Check the reported fitness of champions on fresh seeds.

    Every confirmed champion is trained again on the same tasks, under the same conditions and
    against the same baseline, on seeds that nothing else uses. If the reports are unbiased, the
    reported and the new fitness differ only by chance.
    """
    from evosearch.cli.terminal import Terminal
    from evosearch.evaluation.audit import audit as audit_runs
    from evosearch.report.comparison import audit_report
    from evosearch.report.terminal import show
    from evosearch.runs.run import Run
    from evosearch.trust import load_before_progress

    opened_runs = [Run(path) for path in runs]
    load_before_progress(task for run in opened_runs for task in run.config.tasks)
    with reporting(Terminal(stderr=True)) as report:
        result = audit_runs(
            opened_runs,
            seeds=seeds,
            workers=workers,
            timeout=job_timeout,
            notify=warn,
            progress=report,
        )
    if json:
        print_json(result.document())
    else:
        show(audit_report(result), Terminal())
