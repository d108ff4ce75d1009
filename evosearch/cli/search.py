"""The commands `evosearch search`, `resume` and `inject`, which start and continue searches."""

from __future__ import annotations

import shlex
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from evosearch.cli.app import (
    Device,
    JobTimeout,
    Json,
    TrustOption,
    Workers,
    app,
    print_json,
    say,
    warn,
)
from evosearch.cli.interrupts import (
    INTERRUPTED_STATUS,
    Interrupted,
    interruptible,
    restore_default_handlers,
)
from evosearch.errors import UsageError
from evosearch.presets import baselines, presets

if TYPE_CHECKING:
    from evosearch.cli.live import LiveView
    from evosearch.config import Config
    from evosearch.pipeline.limits import Limits
    from evosearch.pipeline.pipeline import Pipeline

Programs = Annotated[
    int | None,
    typer.Option(min=1, max=10**12, help="Stop after generating this many programs."),
]
Trainings = Annotated[
    int | None,
    typer.Option(
        min=1,
        max=10**12,
        help="Stop after this many trainings; use it to compare searches at equal cost.",
    ),
]
Minutes = Annotated[
    float | None, typer.Option(min=0.01, max=1e6, help="Stop after this many minutes.")
]

_ACCELERATOR_BATCH = 512
"""Default batch size on a GPU or TPU."""


@app.command()
def search(
    config: Annotated[
        Path | None, typer.Argument(help="TOML file of settings, such as the config.toml of a run.")
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option(
            help=f"Preset to start from: {', '.join(presets())}. The default is quick, which takes "
            "three minutes."
        ),
    ] = None,
    baseline: Annotated[
        str | None,
        typer.Option(help=f"Run a baseline search to compare with: {', '.join(baselines())}."),
    ] = None,
    tasks: Annotated[
        str | None,
        typer.Option(
            help="Search tasks, comma-separated: names, or user tasks such as my_task.py:task, "
            "table.npz and notes.txt (docs/your-own-task.md)."
        ),
    ] = None,
    init: Annotated[
        str | None,
        typer.Option(
            help="Initial program: a zoo name, a file, - for standard input, or a run for its "
            "champion. The default is adamw_paper."
        ),
    ] = None,
    programs: Programs = None,
    trainings: Trainings = None,
    minutes: Minutes = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Random seed of the search.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="Directory for the run; by default a new one in runs/.")
    ] = None,
    workers: Workers = None,
    job_timeout: JobTimeout = None,
    device: Device = None,
    batch: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=16384,
            help="Maximum number of programs that train side by side on each task; by default "
            f"{_ACCELERATOR_BATCH} on a GPU or TPU and 1 on CPU. Memory may limit it further.",
        ),
    ] = None,
    search_only: Annotated[
        bool,
        typer.Option(
            "--search-only", help="Skip the funnel and the simplification after the search."
        ),
    ] = False,
    trust: TrustOption = False,
    json: Json = False,
) -> None:
    """Search for optimizers, starting from a known one.

    A live view shows the progress, and the best program is printed at the end. Ctrl-C stops the
    search; `evosearch resume` continues it exactly where it stopped.
    """
    from evosearch.cli.evaluate import trusted_tasks
    from evosearch.config import make_config
    from evosearch.environment import use_device
    from evosearch.pipeline.limits import NO_LIMITS
    from evosearch.pipeline.pipeline import start
    from evosearch.runs.directory import free_directory

    settings = _merged_settings(config, preset, baseline)
    if programs is not None or trainings is not None:
        for limit in ("programs", "trainings", "minutes"):
            settings.pop(limit, None)
    options = {
        "programs": programs,
        "trainings": trainings,
        "minutes": minutes,
        "seed": seed,
        "job_timeout": job_timeout,
    }
    settings |= {name: value for name, value in options.items() if value is not None}
    if tasks is not None:
        settings["tasks"] = trusted_tasks(tasks)
    if search_only:
        settings["simplify"] = False
        settings["funnel"] = {**settings.get("funnel", {}), "at_end": False}
    if init is not None or "init" not in settings:
        settings["init"] = _initial_program_text(init or "adamw_paper")
    batch = batch or settings.get("batch")
    kind = use_device(device, batched=(batch or 1) > 1)
    settings["batch"] = batch or (1 if kind == "cpu" else _ACCELERATOR_BATCH)
    resolved = make_config(settings)
    _warn_of_idle_device(resolved.batch, kind)
    directory = out or free_directory(_directory_name(config, preset, baseline))
    _run(start(resolved, directory, warn), resolved, workers, json, NO_LIMITS)


@app.command()
def resume(
    run: Annotated[Path, typer.Argument(metavar="DIR", help="Directory of the run.")],
    programs: Programs = None,
    trainings: Trainings = None,
    minutes: Minutes = None,
    workers: Workers = None,
    job_timeout: JobTimeout = None,
    device: Device = None,
    fork: Annotated[
        Path | None,
        typer.Option(
            metavar="NEW",
            help="Copy the part of the run that this version reproduces to the new directory NEW, "
            "and continue there; use it for a run made by another version.",
        ),
    ] = None,
    trust: TrustOption = False,
    json: Json = False,
) -> None:
    """Continue a search exactly where it stopped.

    The result equals that of an uninterrupted search. New limits replace the run's:
    --programs and --trainings also count what the run has already done, --minutes counts from now.
    A later `resume` without limits keeps the new limits.

    Stored measurements are never deleted. If this version does not reproduce the run, the command
    reports the difference and stops.
    """
    from evosearch.environment import use_device
    from evosearch.pipeline.limits import Limits
    from evosearch.runs.directory import read_config
    from evosearch.runs.recovery import fork as fork_run
    from evosearch.trust import load_before_progress

    config = read_config(run)
    _warn_of_idle_device(config.batch, use_device(device, batched=config.batch > 1))
    load_before_progress(config.tasks)
    if fork is not None:
        result = fork_run(run, fork)
        warn(
            f"copied {result.copied_requests:,} of {result.total_requests:,} requests of {run} "
            f"to {fork}"
        )
        run = fork
    if job_timeout is not None:
        config = config.model_copy(update={"job_timeout": job_timeout})
    _run(run, config, workers, json, Limits(programs, trainings, minutes))


@app.command()
def inject(
    run: Annotated[Path, typer.Argument(metavar="DIR", help="Directory of the run.")],
    program: Annotated[
        str | None, typer.Argument(metavar="PROGRAM", help="A program, as for `evosearch show`.")
    ] = None,
    withdraw: Annotated[
        str | None,
        typer.Option(
            metavar="ID", help="Withdraw an injected program that the search has not used yet."
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Add a program to a search as its next child, or withdraw it.

    The search may be running or stopped.
    """
    from evosearch.cli.programs import load_program
    from evosearch.runs.store import Store

    if (program is None) == (withdraw is None):
        raise UsageError("give either a program to inject or --withdraw ID, not both")
    if withdraw is not None:
        _withdraw(run, withdraw, json)
        return
    assert program is not None
    source = str(load_program(program))
    store = Store.open(run, "inject")
    injected_id = f"i{store.inject(source)}"
    store.close()
    if json:
        print_json({"id": injected_id})
    else:
        command = shlex.join(["evosearch", "show", f"{run}#{injected_id}"])
        say(f"injected as {injected_id}, the next child of the search; see `{command}`")


def _withdraw(run: Path, argument: str, json: bool) -> None:
    """Withdraw the injected program that an argument such as `i1` or `runs/NAME#i1` names."""
    from evosearch.runs.store import Store

    injection_id = argument.rpartition("#")[2].removeprefix("i")
    if not injection_id.isdecimal():
        raise UsageError(f"--withdraw {argument}: give the id of an injected program, such as i1")
    store = Store.open(run, "inject")
    try:
        store.withdraw(int(injection_id), "withdrawn by hand")
    finally:
        store.close()
    if json:
        print_json({"withdrawn": f"i{injection_id}"})
    else:
        say(f"withdrawn: the search will not use i{injection_id}")


def _merged_settings(
    config: Path | None, preset: str | None, baseline: str | None
) -> dict[str, Any]:
    """Return the settings of the preset, overridden by the file and then by the baseline."""
    from evosearch.config import read_toml
    from evosearch.presets import load_baseline, load_preset, over

    settings: dict[str, Any] = {}
    if config is None or preset is not None:
        settings = load_preset(preset or "quick")
    if config is not None:
        settings = over(settings, read_toml(config))
    if baseline is not None:
        settings = over(settings, load_baseline(baseline))
    return settings


def _directory_name(config: Path | None, preset: str | None, baseline: str | None) -> str:
    """Return the name of a new run's directory, without a number at its end."""
    name = (preset or "quick") if config is None else config.stem
    return f"{name}-{baseline}" if baseline else name


def _initial_program_text(name: str) -> str:
    from evosearch.cli.programs import load_program

    return str(load_program(name))


def _warn_of_idle_device(batch: int, kind: str) -> None:
    if batch == 1 and kind != "cpu":
        warn(
            f"batch = 1 leaves the {kind.upper()} mostly idle; "
            f"try `evosearch search --batch {_ACCELERATOR_BATCH}`"
        )


def _run(directory: Path, config: Config, workers: int | None, json: bool, limits: Limits) -> None:
    """Run the search with a live view, then the funnel and simplification; print the result."""
    from evosearch.cli.live import LiveView
    from evosearch.cli.screen import Screen
    from evosearch.cli.status import print_status
    from evosearch.cli.terminal import Terminal
    from evosearch.pipeline.loop import INTERRUPTED as STOP_REASON_OF_INTERRUPTED_SEARCH
    from evosearch.pipeline.pipeline import Pipeline
    from evosearch.report.run import overview
    from evosearch.runs.run import Run

    view = LiveView(Terminal(stderr=True), str(directory), config.measurement)
    screen = Screen(view, quiet=json)
    pipeline = Pipeline(directory, config, limits=limits, workers=workers, observer=screen)
    with view, _interruptible_search(pipeline, view):
        was_interrupted = pipeline.search() == STOP_REASON_OF_INTERRUPTED_SEARCH
    if not was_interrupted:
        try:
            with interruptible(), screen.finishing():
                pipeline.finish()
        except Interrupted:
            was_interrupted = True
    result = overview(Run(directory, config))
    if json:
        funnel = {"funnel": screen.funnel_result.document()} if screen.funnel_result else {}
        print_json(result.document() | funnel)
    else:
        print_status(result)
    if was_interrupted:
        resume_command = shlex.join(["evosearch", "resume", str(directory)])
        say(f"interrupted; continue with `{resume_command}`", err=True)
        raise typer.Exit(INTERRUPTED_STATUS)


@contextmanager
def _interruptible_search(pipeline: Pipeline, view: LiveView) -> Iterator[None]:
    """On the first Ctrl-C or SIGTERM let the search finish its trainings; on the second end it."""

    def handle(number: int, frame: object) -> None:
        restore_default_handlers()
        pipeline.interrupt()
        view.stopping("stopping after the trainings in flight; Ctrl-C again to quit now")

    previous_handlers = {
        number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for number, handler in previous_handlers.items():
            signal.signal(number, handler)
