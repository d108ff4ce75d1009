"""From a run to its winner: `funnel`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from evosearch.cli.app import Device, JobTimeout, Json, Workers, app, print_json, warn
from evosearch.cli.progress import reporting

if TYPE_CHECKING:
    from evosearch.config import FunnelConfig
    from evosearch.evaluation.funnel import Funnelled
    from evosearch.runs.run import Run

Scale = Literal["10x", "100x"]


@app.command()
def funnel(
    runs: Annotated[list[Path], typer.Argument(metavar="DIR...", help="One or more runs.")],
    entrants: Annotated[
        int | None,
        typer.Option(min=1, max=10_000, help="How many programs enter; the run's own by default."),
    ] = None,
    to: Annotated[
        Scale, typer.Option(help="The last stage: 10x is a quick look, at a tenth of the cost.")
    ] = "100x",
    workers: Workers = None,
    job_timeout: JobTimeout = None,
    bfloat16: Annotated[
        bool, typer.Option("--bfloat16", help="Compute losses and gradients in bfloat16.")
    ] = False,
    device: Device = None,
    json: Json = False,
) -> None:
    """Take the best programs of runs through 10x and 100x the work; name the winner.

    Only what is shown to beat the tuned baseline on a stage goes on. Every entrant and the baseline
    are tuned alike. The winner's figures are from seeds that chose nothing. It is kept in each
    run's directory; every command that takes a program takes it as runs/NAME#winner.
    """
    from evosearch.environment import use_device
    from evosearch.runs.run import Run

    use_device(device)
    opened = [Run(path) for path in runs]
    config = opened[0].config.funnel
    if entrants is not None:
        config = config.model_copy(update={"entrants": (entrants, config.entrants[1])})
    if bfloat16:
        config = config.model_copy(update={"precision": "bfloat16"})
    found = measured(opened, config, workers, job_timeout, to)
    if json:
        print_json(found.document())
    else:
        print_funnel(found)


def measured(
    runs: list[Run],
    config: FunnelConfig,
    workers: int | None,
    timeout: float | None,
    to: Scale,
) -> Funnelled:
    """The funnel with progress on the terminal; its document is kept in each run."""
    from evosearch.cli.terminal import Terminal
    from evosearch.evaluation.funnel import funnel as through
    from evosearch.measuring.ledger import Ledger

    ledger = Ledger.beside(runs[0].directory, on_error=warn)
    with reporting(Terminal(stderr=True)) as report:
        found = through(
            runs,
            config=config,
            to=to,
            workers=workers,
            timeout=timeout,
            notify=warn,
            progress=report,
            ledger=ledger,
        )
    for run in runs:
        run.save_funnel(found.document())
    return found


def print_funnel(found: Funnelled) -> None:
    """The stages as tables, and the winner."""
    from evosearch.cli.terminal import Terminal
    from evosearch.report.funnel import funnel_report
    from evosearch.report.terminal import show

    show(funnel_report(found), Terminal())
