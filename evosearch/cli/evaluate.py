"""Comparing: `eval` (programs on tasks) and `bench` (engines on this machine)."""

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


@app.command("eval")
def evaluate(
    programs: Annotated[
        list[str],
        typer.Argument(metavar="PROGRAM", help="Zoo names, files, -, runs/NAME or runs/NAME#ID."),
    ],
    task: Annotated[
        str | None,
        typer.Option(help="A task, several with commas between, or a split such as held-out."),
    ] = None,
    suite: Annotated[
        str | None,
        typer.Option(help="All tasks of a split, weight decay tuned too: search, held-out, ..."),
    ] = None,
    landscapes: Annotated[
        bool,
        typer.Option(
            "--landscapes",
            help="On the landscapes, formulas of a few weights, and draw the programs' ways: to "
            "the picture among -o, landscapes.svg by default.",
        ),
    ] = False,
    against: Annotated[
        str,
        typer.Option(
            help="What to compare with, several with commas between: zoo names, files, runs, and "
            "of optax: optax:sgd, optax:adamw, optax:muon, optax:schedule_free_adamw. Fitness is "
            "relative to the first."
        ),
    ] = "adamw,lion",
    seeds: Annotated[int, typer.Option(min=2, max=10_000, help="Fresh seeds to report from.")] = 8,
    tuning_seeds: Annotated[int, typer.Option(min=1, max=1000, help="Seeds to tune on.")] = 2,
    lrs: Annotated[
        str | None,
        typer.Option(help="Factors on a program's own learning rate to start tuning from."),
    ] = None,
    decays: Annotated[
        str | None,
        typer.Option(
            help="Weight decays outside every contender to start tuning from; none to tune none. "
            "A decay of 0.3 would shrink the weights by e^-0.3 over a training without updates.",
            show_default="none; with --suite 0.1,0.3,1",
        ),
    ] = None,
    schedule: Annotated[
        str, typer.Option(help="Of the learning rate: cosine, linear, constant, cyclical, ...")
    ] = "cosine",
    steps: Annotated[
        int | None,
        typer.Option(min=1, max=10_000_000, help="Training steps; the task's own by default."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="All seeds follow from it.")] = 0,
    workers: Workers = None,
    job_timeout: JobTimeout = None,
    sharpness: Annotated[
        bool,
        typer.Option(
            "--sharpness", help="Also the largest Hessian eigenvalue where each training ends."
        ),
    ] = False,
    fresh: Annotated[
        bool,
        typer.Option("--fresh", help="Ignore trainings that are kept in evaluations.db."),
    ] = False,
    out: Annotated[
        list[Path] | None,
        typer.Option("-o", "--out", help="Write the report too: .md, .json, .svg or .png."),
    ] = None,
    device: Device = None,
    json: Json = False,
) -> None:
    """Compare programs on tasks, each at its best setting, on seeds no search has used.

    Every contender's learning rate (a factor on its own) is tuned with the same number of trials on
    tuning seeds, extending the grid until the best lies inside it, and so is weight decay outside
    the contenders if asked. Then all are trained on the same fresh seeds: mean and 95% interval,
    paired differences, and which of those are real; over several tasks ranks, wins and the mean
    loss ratio. The seeds follow from --seed: who chooses among many ideas by them should confirm
    the choice on another. Every training is kept in evaluations.db, beside the run or else in
    runs/, and never made twice; looks at held-out tasks are counted there.
    """
    from evosearch.cli.programs import ledger_of
    from evosearch.cli.terminal import Terminal
    from evosearch.environment import use_device
    from evosearch.evaluation.evaluation import evaluate as compare
    from evosearch.evaluation.trajectories import names, trajectories
    from evosearch.measuring.ledger import Ledger
    from evosearch.measuring.tuning import DECAYS
    from evosearch.report.evaluation import evaluation_report
    from evosearch.report.files import PLOTS, check, write
    from evosearch.report.terminal import show

    if (task is not None) + (suite is not None) + landscapes != 1:
        raise UsageError(
            "say what to evaluate on: either --task NAME or --suite SPLIT or --landscapes"
        )
    if suite is not None:
        check_split(suite)
    use_device(device)
    out = out or []
    if landscapes and not any(path.suffix in PLOTS for path in out):
        out = [*out, Path("landscapes.svg")]
    for path in out:
        check(path)
    if decays is None:
        tried: Sequence[float] | None = DECAYS if suite is not None else ()
    else:
        tried = () if decays == "none" else _numbers(decays)
    named = _named(programs)
    console = Terminal(stderr=True)
    ledger = Ledger() if fresh else ledger_of(programs)
    how: dict[str, Any] = {
        "seeds": seeds,
        "tuning_seeds": tuning_seeds,
        "lrs": _numbers(lrs),
        "decays": tried or (),
        "schedule": schedule,
        "sharpness": sharpness,
        "steps": steps,
        "seed": seed,
        "workers": workers,
        "timeout": job_timeout,
        "notify": warn,
        "ledger": ledger,
    }
    references = _named(_listed(against))
    seen: Sequence[Landscape] = ()
    with reporting(console) as report:
        if landscapes:
            evaluation, seen = trajectories(named, references, names(), progress=report, **how)
        else:
            tasks = task_names(task or suite or "")
            evaluation = compare(named, tasks, against=references, progress=report, **how)
    for path in out:
        write(evaluation, path, seen)
    if json:
        print_json(evaluation.document())
    else:
        show(evaluation_report(evaluation), Terminal())
        if landscapes:
            drawn = ", ".join(str(path) for path in out if path.suffix in PLOTS)
            console.print(f"trajectories: {drawn}", highlight=False)
        if ledger.path and (looks := ledger.count_evaluations("held-out")) and suite == "held-out":
            console.print(f"look {looks} at held-out tasks, by {ledger.path}", highlight=False)


def _named(arguments: list[str]) -> dict[str, Contender]:
    from evosearch.cli.programs import load_program
    from evosearch.measuring.contenders import PREFIX, find

    return {
        argument: find(argument) if argument.startswith(PREFIX) else load_program(argument)
        for argument in arguments
    }


def check_split(name: str) -> None:
    """Whether there is such a split.

    Raises:
        UsageError: there is none.
    """
    from proxies.task import SPLITS

    if name not in SPLITS:
        raise UsageError(f"no split {name!r}; there are {', '.join(SPLITS)}")


def task_names(text: str) -> list[str]:
    """The tasks that `text` names on the command line: a split, or names with commas between."""
    import proxies
    from proxies.task import SPLITS

    return list(proxies.names(text)) if text in SPLITS else named_tasks(text)


def named_tasks(text: str) -> list[str]:
    """The tasks in a text with commas between, from the command line: their files are trusted."""
    names = _listed(text)
    trust.current().trust_tasks(names)
    return names


def _listed(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _numbers(text: str | None) -> list[float] | None:
    if text is None:
        return None
    try:
        return [float(word) for word in _listed(text)]
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not a list of numbers; write 0.1,1,10") from None


@app.command()
def bench(
    repeats: Annotated[int, typer.Option(min=1, help="Interleaved repeats of each way.")] = 5,
    seconds: Annotated[
        float, typer.Option(min=0, help="How long to search with the quick preset; 0 for not.")
    ] = 60.0,
    device: Device = None,
    batch: Annotated[
        str | None,
        typer.Option(
            help="Measure batches of so many programs side by side, several sizes with commas "
            "between; 64,256,1024 on a GPU or TPU, and none on CPU, by default."
        ),
    ] = None,
    minutes: Annotated[
        float | None,
        typer.Option(
            min=1,
            max=1000,
            help="On an accelerator: what matters most, in about so many minutes; each figure is "
            "printed as soon as it is measured. 10 holds everything, 4 the first figures.",
        ),
    ] = None,
    profile: Annotated[
        Path, typer.Option(help="The file for the profile that --minutes makes.")
    ] = Path("evosearch.xplane.pb"),
    json: Json = False,
) -> None:
    """How fast everything is on this machine, each way beside the others; a few minutes.

    On CPU, one training. The floor is the training loop fused by XLA for one program, without its
    compilation. Beside it: the compile-once interpreter, compiling the whole loop for each new
    program, and compiling the update alone. On a GPU or TPU, or with --batch, batches: the floor is
    one program fused under vmap over seeds; beside it the interpreter with a program in each lane,
    and each program compiled for itself; the device's roofline; and the paper's proxies. Then
    mutation with abstract execution, and the quick preset end to end.
    """
    from evosearch.cli.terminal import Terminal
    from evosearch.environment import use_device
    from evosearch.report.benchmark import batches_report, training_report
    from evosearch.report.terminal import show

    sizes = _sizes(batch)
    kind = use_device(device, batched=bool(sizes))
    console = Terminal(stderr=True)
    if minutes is not None:
        _bench_accelerator(minutes, profile, json)
        return
    if sizes or kind != "cpu":
        from evosearch.benchmarking.batches import bench_batches
        from evosearch.benchmarking.plan import BenchmarkPlan

        with reporting(console) as report:
            document = bench_batches(
                BenchmarkPlan.usual(sizes),
                repeats=repeats,
                seconds=seconds,
                progress=lambda text: report(text, 0, None),
            )
        report_of = batches_report
    else:
        from evosearch.benchmarking.benchmark import bench as measure

        with reporting(console) as report:
            document = measure(
                repeats=repeats, seconds=seconds, progress=lambda text: report(text, 0, None)
            )
        report_of = training_report
    if json:
        print_json(document)
    else:
        show(report_of(document), Terminal())


def _bench_accelerator(minutes: float, profile: Path, json: bool) -> None:
    """Prints each figure as it is measured; ends with status 1 if a part failed."""
    from evosearch.benchmarking.accelerator import AcceleratorPlan, measure
    from evosearch.cli.terminal import Terminal
    from evosearch.report.benchmark import part_report
    from evosearch.report.terminal import show

    console = Terminal(stderr=True)
    failed = False
    with reporting(console) as report:
        plan = AcceleratorPlan.of_minutes(minutes)
        for part in measure(plan, minutes, profile, lambda text: report(text, 0, None)):
            failed |= "error" in part
            if json:
                say(dumps(part, allow_nan=False))
            else:
                show(part_report(part), Terminal())
            sys.stdout.flush()
    if failed:
        raise typer.Exit(1)


def _sizes(text: str | None) -> list[int]:
    """The sizes of batches that `text` lists; none for the device's own."""
    try:
        sizes = [int(word) for word in _listed(text or "")]
    except ValueError:
        sizes = [0]
    if any(not 1 <= size <= 16384 for size in sizes) or (text is not None and not sizes):
        raise typer.BadParameter(
            f"{text!r} is not a list of batch sizes from 1 to 16384; write 64,256,1024"
        )
    return sizes
