"""The command `evosearch eval`, which compares programs, and `evosearch bench`, a benchmark."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from evosearch import trust
from evosearch.cli.app import Device, JobTimeout, Json, Workers, app, print_json, say, warn
from evosearch.cli.progress import reporting
from evosearch.errors import UsageError

if TYPE_CHECKING:
    from evosearch.evaluation.trajectories import Landscape
    from evosearch.measuring.contenders import Contender

_MAX_BATCH = 16384
"""Maximum batch size of a benchmark."""


@app.command("eval")
def evaluate(
    programs: Annotated[
        list[str],
        typer.Argument(
            metavar="PROGRAM",
            help="Zoo names, files, - for standard input, runs/NAME or runs/NAME#ID.",
        ),
    ],
    task: Annotated[
        str | None,
        typer.Option(help="Tasks, comma-separated, or a split such as held-out."),
    ] = None,
    suite: Annotated[
        str | None,
        typer.Option(
            help="Evaluate on all tasks of a split, such as held-out, and tune weight decay too."
        ),
    ] = None,
    landscapes: Annotated[
        bool,
        typer.Option(
            "--landscapes",
            help="Evaluate on the landscapes, which are formulas of a few weights, and draw the "
            "trajectories in the picture given by -o, by default landscapes.svg.",
        ),
    ] = False,
    against: Annotated[
        str,
        typer.Option(
            help="Optimizers to compare with, comma-separated: zoo names, files, runs, or "
            "optax:sgd, optax:adamw, optax:muon, optax:schedule_free_adamw. Fitness is relative "
            "to the first."
        ),
    ] = "adamw,lion",
    seeds: Annotated[
        int,
        typer.Option(min=2, max=10_000, help="Number of fresh seeds that the report is based on."),
    ] = 8,
    tuning_seeds: Annotated[
        int, typer.Option(min=1, max=1000, help="Number of seeds of each tuning trial.")
    ] = 2,
    lrs: Annotated[
        str | None,
        typer.Option(
            help="First grid of multipliers of a program's own learning rate, comma-separated."
        ),
    ] = None,
    decays: Annotated[
        str | None,
        typer.Option(
            help="First grid of decoupled weight decays, comma-separated, or none for no tuning. "
            "Over a training, a decay of 0.3 alone multiplies the weights by e^-0.3.",
            show_default="none; with --suite 0.1,0.3,1",
        ),
    ] = None,
    schedule: Annotated[
        str, typer.Option(help="Learning-rate schedule: cosine, linear, constant, cyclical, ...")
    ] = "cosine",
    steps: Annotated[
        int | None,
        typer.Option(
            min=1, max=10_000_000, help="Number of training steps; by default the task's own."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Random seed from which all seeds derive.")] = 0,
    workers: Workers = None,
    job_timeout: JobTimeout = None,
    sharpness: Annotated[
        bool,
        typer.Option(
            "--sharpness", help="Report the largest Hessian eigenvalue at the end of each training."
        ),
    ] = False,
    fresh: Annotated[
        bool,
        typer.Option("--fresh", help="Ignore cached trainings."),
    ] = False,
    out: Annotated[
        list[Path] | None,
        typer.Option(
            "-o", "--out", help="Write the report to this .md, .json, .svg or .png file too."
        ),
    ] = None,
    device: Device = None,
    json: Json = False,
) -> None:
    """Compare tuned programs on tasks, on fresh seeds.

    The learning rate of each contender, as a multiple of the contender's own, and on request its
    weight decay are tuned with the same number of trials on the tuning seeds. The grid is extended
    until the best value lies inside it. Then all contenders are trained on the same fresh seeds.
    The report gives means with 95% intervals and significant paired differences, and over several
    tasks ranks, wins and the mean loss ratio.

    If you choose among many programs by one evaluation, confirm the choice with another --seed.

    Trainings are cached in the file evaluations.db beside the run or, without a run, in runs/. The
    file also counts evaluations on held-out tasks.
    """
    from evosearch.cli.programs import ledger_of
    from evosearch.cli.terminal import Terminal
    from evosearch.environment import use_device
    from evosearch.evaluation.evaluation import evaluate as evaluate_programs
    from evosearch.evaluation.trajectories import names, trajectories
    from evosearch.measuring.ledger import Ledger
    from evosearch.measuring.tuning import DECAYS
    from evosearch.report.evaluation import evaluation_report
    from evosearch.report.files import PLOTS, check, write
    from evosearch.report.terminal import show

    if (task is not None) + (suite is not None) + landscapes != 1:
        raise UsageError("give exactly one of --task NAME, --suite SPLIT and --landscapes")
    if suite is not None:
        check_split(suite)
    use_device(device)
    paths = out or []
    if landscapes and not any(path.suffix in PLOTS for path in paths):
        paths = [*paths, Path("landscapes.svg")]
    for path in paths:
        check(path)
    if decays is None:
        decay_grid: Sequence[float] | None = DECAYS if suite is not None else ()
    else:
        decay_grid = () if decays == "none" else _parse_numbers(decays)
    contenders = _contenders(programs)
    console = Terminal(stderr=True)
    ledger = Ledger() if fresh else ledger_of(programs)
    settings: dict[str, Any] = {
        "seeds": seeds,
        "tuning_seeds": tuning_seeds,
        "lrs": _parse_numbers(lrs),
        "decays": decay_grid or (),
        "schedule": schedule,
        "sharpness": sharpness,
        "steps": steps,
        "seed": seed,
        "workers": workers,
        "timeout": job_timeout,
        "notify": warn,
        "ledger": ledger,
    }
    references = _contenders(_comma_separated(against))
    landscape_results: Sequence[Landscape] = ()
    with reporting(console) as report:
        if landscapes:
            evaluation, landscape_results = trajectories(
                contenders, references, names(), progress=report, **settings
            )
        else:
            evaluation = evaluate_programs(
                contenders,
                task_names(task or suite or ""),
                against=references,
                progress=report,
                **settings,
            )
    for path in paths:
        write(evaluation, path, landscape_results)
    if json:
        print_json(evaluation.document())
    else:
        show(evaluation_report(evaluation), Terminal())
        if landscapes:
            pictures = ", ".join(str(path) for path in paths if path.suffix in PLOTS)
            console.print(f"wrote the trajectories to {pictures}", highlight=False)
        evaluations = ledger.count_evaluations("held-out") if ledger.path else 0
        if evaluations and suite == "held-out":
            console.print(
                f"evaluation {evaluations} on held-out tasks, as counted by {ledger.path}",
                highlight=False,
            )


def _contenders(arguments: list[str]) -> dict[str, Contender]:
    """Return the programs and optimizers of optax that arguments name, by argument."""
    from evosearch.cli.programs import load_program
    from evosearch.measuring.contenders import PREFIX, find

    return {
        argument: find(argument) if argument.startswith(PREFIX) else load_program(argument)
        for argument in arguments
    }


def check_split(name: str) -> None:
    """Check that a split exists.

    Raises:
        UsageError: No split has that name.
    """
    from proxies.task import SPLITS

    if name not in SPLITS:
        raise UsageError(f"no split {name!r}; there are {', '.join(SPLITS)}")


def task_names(text: str) -> list[str]:
    """Return the tasks of a command-line argument: a split or comma-separated names."""
    import proxies
    from proxies.task import SPLITS

    return list(proxies.names(text)) if text in SPLITS else trusted_tasks(text)


def trusted_tasks(text: str) -> list[str]:
    """Return the comma-separated tasks of a command-line argument, and trust their files."""
    names = _comma_separated(text)
    trust.current().trust_tasks(names)
    return names


def _comma_separated(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _parse_numbers(text: str | None) -> list[float] | None:
    if text is None:
        return None
    try:
        return [float(part) for part in _comma_separated(text)]
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not a list of numbers; write 0.1,1,10") from None


@app.command()
def bench(
    repeats: Annotated[
        int, typer.Option(min=1, help="Number of interleaved repeats of each variant.")
    ] = 5,
    seconds: Annotated[
        float,
        typer.Option(min=0, help="Duration of a search with the quick preset; 0 means no search."),
    ] = 60.0,
    device: Device = None,
    batch: Annotated[
        str | None,
        typer.Option(
            help="Batch sizes to measure, comma-separated; by default 64,256,1024 on a GPU or TPU "
            "and none on CPU."
        ),
    ] = None,
    minutes: Annotated[
        float | None,
        typer.Option(
            min=1,
            max=1000,
            help="Measure an accelerator in about this many minutes, the most important figures "
            "first. All figures need 10 minutes, the first ones 4.",
        ),
    ] = None,
    part: Annotated[
        list[str] | None,
        typer.Option(
            help="With --minutes, measure only the parts whose names begin with this text, in the "
            "order given; repeat the option for several parts."
        ),
    ] = None,
    profile: Annotated[
        Path, typer.Option(help="File for the profile that --minutes writes.")
    ] = Path("evosearch.xplane.pb"),
    json: Json = False,
) -> None:
    """Time training, mutation and search on this machine.

    On CPU, the benchmark times one training. The floor is the training loop of one program, fused
    by XLA, without compilation time. The floor is compared with the interpreter, with compiling the
    whole loop for each new program, and with compiling only the update.

    On a GPU or TPU, or with --batch, the benchmark times batches. The floor is one program fused
    under vmap over seeds. The floor is compared with the interpreter with one program per lane, and
    with compiling each program separately. The report also gives the device's roofline, and the
    speed on the proxies of Chen et al. 2023.

    Then the benchmark times mutation with abstract execution, and a search with the quick preset.
    The benchmark takes a few minutes.
    """
    from evosearch.cli.terminal import Terminal
    from evosearch.environment import use_device
    from evosearch.report.benchmark import batches_report, training_report
    from evosearch.report.terminal import show

    sizes = _parse_batch_sizes(batch)
    kind = use_device(device, batched=bool(sizes))
    console = Terminal(stderr=True)
    if minutes is not None:
        _bench_accelerator(minutes, profile, json, part or [])
        return
    if part:
        raise UsageError("--part selects parts of a benchmark in minutes; add --minutes 10")
    if sizes or kind != "cpu":
        from evosearch.benchmarking.batches import bench_batches
        from evosearch.benchmarking.plan import BenchmarkPlan

        with reporting(console) as report:
            document = bench_batches(
                BenchmarkPlan.default(sizes),
                repeats=repeats,
                seconds=seconds,
                progress=lambda text: report(text, 0, None),
            )
        make_report = batches_report
    else:
        from evosearch.benchmarking.benchmark import bench as bench_training

        with reporting(console) as report:
            document = bench_training(
                repeats=repeats, seconds=seconds, progress=lambda text: report(text, 0, None)
            )
        make_report = training_report
    if json:
        print_json(document)
    else:
        show(make_report(document), Terminal())


def _bench_accelerator(minutes: float, profile: Path, json: bool, selected: list[str]) -> None:
    """Print the figures of each part as soon as the part ends; exit with 1 if a part failed."""
    from evosearch.benchmarking.accelerator import AcceleratorPlan, measure
    from evosearch.cli.terminal import Terminal
    from evosearch.report.benchmark import part_report
    from evosearch.report.terminal import show

    console = Terminal(stderr=True)
    failed = False
    with reporting(console) as report:
        plan = AcceleratorPlan.of_minutes(minutes)
        parts = measure(plan, minutes, profile, lambda text: report(text, 0, None), selected)
        for part in parts:
            failed |= "error" in part
            if json:
                say(dumps(part, allow_nan=False))
            else:
                show(part_report(part), Terminal())
            sys.stdout.flush()
    if failed:
        raise typer.Exit(1)


def _parse_batch_sizes(text: str | None) -> list[int]:
    """Return the batch sizes in a comma-separated text; an empty list means the default sizes."""
    try:
        sizes = [int(part) for part in _comma_separated(text or "")]
        is_valid = all(1 <= size <= _MAX_BATCH for size in sizes)
    except ValueError:
        sizes, is_valid = [], False
    is_empty = text is not None and not sizes
    if not is_valid or is_empty:
        raise typer.BadParameter(
            f"{text!r} is not a list of batch sizes from 1 to {_MAX_BATCH}; write 64,256,1024"
        )
    return sizes
