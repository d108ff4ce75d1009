"""The command `evosearch funnel`, which chooses the winner among the best programs of runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from evosearch.cli.app import Device, JobTimeout, Json, Workers, app, print_json, warn
from evosearch.cli.progress import reporting

if TYPE_CHECKING:
    from evosearch.config import FunnelConfig
    from evosearch.evaluation.funnel import FunnelResult
    from evosearch.runs.run import Run

Scale = Literal["10x", "100x"]


@app.command()
def funnel(
    runs: Annotated[
        list[Path], typer.Argument(metavar="DIR", help="Directories of one or more runs.")
    ],
    entrants: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=10_000,
            help="Maximum number of programs that enter; by default the run's setting.",
        ),
    ] = None,
    to: Annotated[
        Scale, typer.Option(help="Last stage; stopping at 10x costs about a tenth.")
    ] = "100x",
    workers: Workers = None,
    job_timeout: JobTimeout = None,
    bfloat16: Annotated[
        bool, typer.Option("--bfloat16", help="Compute losses and gradients in bfloat16.")
    ] = False,
    device: Device = None,
    json: Json = False,
) -> None:
    """Choose the winner among the best programs of runs.

    The programs are measured on tasks with 10x and then 100x the work. A program enters the next
    stage only if it is shown to beat the tuned baseline. All entrants and the baseline are tuned
    with the same number of trials. The winner's fitness is reported from fresh seeds. The winner is
    stored in each run's directory; its name is runs/NAME#winner.
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
    result = run_funnel(opened, config, workers, job_timeout, to)
    if json:
        print_json(result.document())
    else:
        print_funnel(result)


def run_funnel(
    runs: list[Run],
    config: FunnelConfig,
    workers: int | None,
    timeout: float | None,
    to: Scale,
) -> FunnelResult:
    """Run the funnel with progress on the terminal, and store its document in each run."""
    from evosearch.cli.terminal import Terminal
    from evosearch.evaluation.funnel import funnel as measure
    from evosearch.measuring.ledger import Ledger

    ledger = Ledger.beside(runs[0].directory, on_error=warn)
    with reporting(Terminal(stderr=True)) as report:
        result = measure(
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
        run.save_funnel(result.document())
    return result


def print_funnel(result: FunnelResult) -> None:
    """Print the stages as tables, and the winner."""
    from evosearch.cli.terminal import Terminal
    from evosearch.report.funnel import funnel_report
    from evosearch.report.terminal import show

    show(funnel_report(result), Terminal())
