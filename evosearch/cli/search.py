"""Launching: `search`, `resume`, `inject`."""

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
from evosearch.cli.interrupts import INTERRUPTED, Interrupted, interruptible, next_signal_kills
from evosearch.errors import UsageError
from evosearch.presets import baselines, presets

if TYPE_CHECKING:
    from evosearch.cli.live import LiveView
    from evosearch.config import Config
    from evosearch.pipeline.limits import Limits
    from evosearch.pipeline.pipeline import Pipeline

Programs = Annotated[
    int | None,
    typer.Option(min=1, max=10**12, help="Stop when this many programs have been generated."),
]
Trainings = Annotated[
    int | None,
    typer.Option(
        min=1, max=10**12, help="Stop after this many trainings; compares searches at equal cost."
    ),
]
Minutes = Annotated[
    float | None, typer.Option(min=0.01, max=1e6, help="Stop after this many minutes.")
]

_ACCELERATOR_BATCH = 512


@app.command()
def search(
    config: Annotated[
        Path | None, typer.Argument(help="A TOML file of settings; see `config.toml` of any run.")
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option(
            help=f"Settings to start from: {', '.join(presets())}; quick by default, which takes "
            "three minutes."
        ),
    ] = None,
    baseline: Annotated[
        str | None,
        typer.Option(help=f"Search as a baseline does, to compare with: {', '.join(baselines())}."),
    ] = None,
    tasks: Annotated[
        str | None,
        typer.Option(
            help="Search tasks, comma-separated: names, or your own as my_task.py:task, table.npz, "
            "notes.txt (docs/your-own-task.md)."
        ),
    ] = None,
    init: Annotated[
        str | None,
        typer.Option(
            help="The program to start from: a zoo name, a file, - or another run's champion; "
            "adamw_paper by default."
        ),
    ] = None,
    programs: Programs = None,
    trainings: Trainings = None,
    minutes: Minutes = None,
    seed: Annotated[
        int | None, typer.Option(min=0, help="Everything random follows from it.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="The run's directory; runs/... by default.")
    ] = None,
    workers: Workers = None,
    job_timeout: JobTimeout = None,
    device: Device = None,
    batch: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=16384,
            help="Programs that train side by side on each task; as many as memory holds, up to "
            f"{_ACCELERATOR_BATCH}, on a GPU or TPU, and 1 on CPU, by default.",
        ),
    ] = None,
    search_only: Annotated[
        bool,
        typer.Option(
            "--search-only", help="Leave out the funnel and the simplification at the preset's end."
        ),
    ] = False,
    trust: TrustOption = False,
    json: Json = False,
) -> None:
    """Search for optimizers, live, from a known one.

    Ctrl-C stops; `evosearch resume` goes on exactly where it was. Prints the champion at the end.
    """
    from evosearch.cli.evaluate import named_tasks
    from evosearch.config import make_config
    from evosearch.environment import use_device
    from evosearch.pipeline.limits import NO_LIMITS
    from evosearch.pipeline.pipeline import start
    from evosearch.runs.directory import free_directory

    settings = _settings(config, preset, baseline)
    if programs is not None or trainings is not None:
        for limit in ("programs", "trainings", "minutes"):
            settings.pop(limit, None)
    given = {
        "programs": programs,
        "trainings": trainings,
        "minutes": minutes,
        "seed": seed,
        "job_timeout": job_timeout,
    }
    settings |= {name: value for name, value in given.items() if value is not None}
    if tasks is not None:
        settings["tasks"] = named_tasks(tasks)
    if search_only:
        settings["simplify"] = False
        settings["funnel"] = {**settings.get("funnel", {}), "at_end": False}
    if init is not None or "init" not in settings:
        settings["init"] = _initial(init or "adamw_paper")
    wanted = batch or settings.get("batch")
    kind = use_device(device, batched=(wanted or 1) > 1)
    settings["batch"] = wanted or (1 if kind == "cpu" else _ACCELERATOR_BATCH)
    resolved = make_config(settings)
    _check_batch(resolved.batch, kind)
    directory = out or free_directory(_directory_name(config, preset, baseline))
    _run(start(resolved, directory, warn), resolved, workers, json, NO_LIMITS)


@app.command()
def resume(
    run: Annotated[Path, typer.Argument(metavar="DIR", help="The run's directory.")],
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
            help="Copy what still replays into the new run directory NEW, and continue there; for "
            "a run that was made by another version.",
        ),
    ] = None,
    trust: TrustOption = False,
    json: Json = False,
) -> None:
    """Continue a search exactly where it stopped, however it stopped.

    The result is that of a search that was never interrupted. New limits replace the run's own:
    --programs and --trainings count those that the run has already, --minutes counts from now.
    A later `resume` without limits keeps them.
    Nothing that is stored is ever deleted: a run that this version's search does not reproduce is
    refused, with what differs.
    """
    from evosearch.environment import use_device
    from evosearch.pipeline.limits import Limits
    from evosearch.runs.directory import read_config
    from evosearch.runs.recovery import fork as forked
    from evosearch.trust import ask_about_tasks

    config = read_config(run)
    _check_batch(config.batch, use_device(device, batched=config.batch > 1))
    ask_about_tasks(config.tasks)
    if fork is not None:
        copied = forked(run, fork)
        warn(
            f"copied {copied.copied_requests:,} of {copied.total_requests:,} requests of {run} "
            f"into {fork}"
        )
        run = fork
    if job_timeout is not None:
        config = config.model_copy(update={"job_timeout": job_timeout})
    _run(run, config, workers, json, Limits(programs, trainings, minutes))


@app.command()
def inject(
    run: Annotated[Path, typer.Argument(metavar="DIR", help="The run's directory.")],
    program: Annotated[
        str | None, typer.Argument(metavar="[FILE]", help="A program, as for `show`.")
    ] = None,
    withdraw: Annotated[
        str | None,
        typer.Option(
            metavar="ID", help="Set an injected program aside that the search has not taken up."
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Put a program into a running or stopped search as the next child; or withdraw it."""
    from evosearch.cli.programs import load_program
    from evosearch.runs.store import Store

    if (program is None) == (withdraw is None):
        raise UsageError("give either a program to inject or --withdraw ID")
    if withdraw is not None:
        _withdraw(run, withdraw, json)
        return
    assert program is not None
    source = str(load_program(program))
    store = Store.open(run, "inject")
    number = f"i{store.inject(source)}"
    store.close()
    if json:
        print_json({"id": number})
    else:
        command = shlex.join(["evosearch", "show", f"{run}#{number}"])
        say(f"injected as {number}: it is the next child; see `{command}`")


def _withdraw(run: Path, name: str, json: bool) -> None:
    from evosearch.runs.store import Store

    number = name.rpartition("#")[2].removeprefix("i")
    if not number.isdecimal():
        raise UsageError(f"--withdraw {name}: give the number of an injected program, such as i1")
    store = Store.open(run, "inject")
    try:
        store.withdraw(int(number), "withdrawn by hand")
    finally:
        store.close()
    if json:
        print_json({"withdrawn": f"i{number}"})
    else:
        say(f"withdrawn: the search will not take up i{number}")


def _settings(config: Path | None, preset: str | None, baseline: str | None) -> dict[str, Any]:
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
    name = (preset or "quick") if config is None else config.stem
    return f"{name}-{baseline}" if baseline else name


def _initial(name: str) -> str:
    from evosearch.cli.programs import load_program

    return str(load_program(name))


def _check_batch(batch: int, kind: str) -> None:
    """Says so where an accelerator is to train one program at a time."""
    if batch == 1 and kind != "cpu":
        say(
            f"one program at a time, as the settings have it; a search with --batch "
            f"{_ACCELERATOR_BATCH} would keep the {kind} busy",
            err=True,
        )


def _run(directory: Path, config: Config, workers: int | None, json: bool, limits: Limits) -> None:
    """Searches and finishes, with a live view, and prints what was found."""
    from evosearch.cli.live import LiveView
    from evosearch.cli.screen import Screen
    from evosearch.cli.status import print_status
    from evosearch.cli.terminal import Terminal
    from evosearch.pipeline.loop import INTERRUPTED as STOPPED_BY_HAND
    from evosearch.pipeline.pipeline import Pipeline
    from evosearch.report.run import standing
    from evosearch.runs.run import Run

    view = LiveView(Terminal(stderr=True), str(directory), config.measurement)
    screen = Screen(view, quiet=json)
    pipeline = Pipeline(directory, config, limits=limits, workers=workers, observer=screen)
    with view, _interruptible(pipeline, view):
        was_interrupted = pipeline.search() == STOPPED_BY_HAND
    if not was_interrupted:
        try:
            with interruptible(), screen.finishing():
                pipeline.finish()
        except Interrupted:
            was_interrupted = True
    found = standing(Run(directory, config))
    if json:
        funnel = {"funnel": screen.funnelled.document()} if screen.funnelled else {}
        print_json(found.document() | funnel)
    else:
        print_status(found)
    if was_interrupted:
        say(f"interrupted; continue with `{_resume(directory)}`", err=True)
        raise typer.Exit(INTERRUPTED)


def _resume(directory: Path) -> str:
    return shlex.join(["evosearch", "resume", str(directory)])


@contextmanager
def _interruptible(pipeline: Pipeline, view: LiveView) -> Iterator[None]:
    """The first Ctrl-C or termination signal stops the search cleanly, a second one at once."""

    def handle(number: int, frame: object) -> None:
        next_signal_kills()
        pipeline.interrupt()
        view.stopping("stopping after what is in flight; Ctrl-C again to quit now")

    before = {which: signal.signal(which, handle) for which in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for which, handler in before.items():
            signal.signal(which, handler)
