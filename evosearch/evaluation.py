"""Evaluating programs: every contender at its best learning rate, on seeds nothing else has used.

The learning rate of every contender is tuned with the same number of trials on tuning seeds. Then
all train on the same fresh seeds, so that differences are paired: log(loss / reference's loss) on a
seed, clipped to +-log 4, where a divergence counts as the clip. Which differences are real is
decided over all comparisons of the report together (Holm 1979). Over several tasks the fitness is
that of a search: minus the difference to the first reference, averaged over tasks.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

import proxies
from evosearch.engines import Engine, Trainer, choose_engine, seed_key
from evosearch.errors import EvosearchError, UsageError
from evosearch.records import Seed, Stream
from evosearch.statistics import Interval, holm, interval, log_loss, log_ratio, p_value
from evosearch.tuning import GRID, Tuner, tune_alike
from primitives import Program, zoo

ERROR_RATE = 0.05
"""Chance that a report calls any difference real that is none."""
ROUNDING = 1e-3
"""Least standard deviation assumed of a difference: rounding is never a real one."""
OVERALL = "overall"

Progress = Callable[[str, int, int], None]
"""Told what is being done, how many trainings are done and how many there will be."""


@dataclass(frozen=True)
class Difference:
    """A paired difference of two contenders' log losses over seeds; negative is better.

    Attributes:
        interval: its mean and 95% interval.
        p: the chance of so large a mean if there were no difference.
        p_holm: `p` adjusted for all comparisons of the report.
    """

    interval: Interval
    p: float
    p_holm: float

    @property
    def real(self) -> bool:
        """Whether there is a difference, at an error rate of 5% for the whole report."""
        return self.p_holm < ERROR_RATE

    @property
    def verdict(self) -> str:
        """`better`, `worse` or `no real difference`."""
        if not self.real:
            return "no real difference"
        return "better" if self.interval.mean < 0 else "worse"


@dataclass(frozen=True)
class Result:
    """One contender on one task.

    Attributes:
        program: its name.
        source: its text.
        lr: the tuned factor on its own learning rate.
        trials: the geometric mean loss on tuning seeds for every factor tried; +inf if diverged.
        losses: one for each fresh seed; +inf if diverged.
        versus: the difference to each reference it was compared with.
    """

    program: str
    source: str
    lr: float
    trials: Mapping[float, float]
    losses: tuple[float, ...]
    versus: Mapping[str, Difference]

    @property
    def diverged(self) -> int:
        """How many fresh seeds ended in a loss that is not finite."""
        return sum(not math.isfinite(loss) for loss in self.losses)

    @property
    def loss(self) -> Interval | None:
        """Mean and 95% interval; None if any seed diverged, for the mean is infinite then."""
        return None if self.diverged else interval(self.losses, 0.0)


@dataclass(frozen=True)
class TaskReport:
    """All contenders on one task."""

    task: str
    split: str
    metric: str
    steps: int
    results: tuple[Result, ...]


@dataclass(frozen=True)
class Fitness:
    """One contender over all tasks: log(reference's loss / loss); 0.1 is about 10% lower loss.

    Attributes:
        program: its name.
        interval: mean and 95% interval over seeds of the mean over tasks.
        per_task: the mean over seeds for each task.
        difference: the same with the sign of a difference, tested; None for the reference.
    """

    program: str
    interval: Interval
    per_task: Mapping[str, float]
    difference: Difference | None


@dataclass(frozen=True)
class Evaluation:
    """What `evaluate` found.

    Attributes:
        tasks: a report for each task.
        overall: every contender's fitness, where there are several tasks.
        reference: the contender that fitness is relative to.
        seeds: fresh seeds for each result.
        tuning_seeds: seeds for each trial of a learning rate.
        comparisons: how many differences were tested together.
    """

    tasks: tuple[TaskReport, ...]
    overall: tuple[Fitness, ...]
    reference: str
    seeds: int
    tuning_seeds: int
    comparisons: int

    def document(self) -> dict[str, Any]:
        """The evaluation as JSON: of the one task, or `tasks`, `overall` and `reference`."""
        tasks = [_task_document(report) for report in self.tasks]
        if not self.overall:
            return tasks[0]
        overall = [_fitness_document(fitness) for fitness in self.overall]
        return {"tasks": tasks, "overall": overall, "reference": self.reference}


def evaluate(
    programs: Mapping[str, Program] | Sequence[Program],
    task: str | Sequence[str],
    *,
    against: Sequence[str] | Mapping[str, Program] = ("adamw",),
    seeds: int = 16,
    lrs: Sequence[float] | None = None,
    steps: int | None = None,
    seed: int = 0,
    tuning_seeds: int = 3,
    workers: int | None = None,
    progress: Progress = lambda text, done, total: None,
) -> Evaluation:
    """Compares programs with references on tasks, each at its best learning rate.

    Args:
        programs: by name; without names they are named as in the zoo, or numbered.
        task: the name of a task, or several, over which fitness is averaged.
        against: the references: names in the zoo, or programs by name. Fitness is relative to the
            first.
        seeds: fresh seeds that the report is from, the same for all contenders.
        lrs: factors on a program's own learning rate that are tried first; None for 1/4 to 16. More
            are tried until the best lies inside, as many for every contender.
        steps: the training budget; None for each task's own.
        seed: all seeds follow from it; the result does not depend on `workers`.
        tuning_seeds: seeds on which learning rates are chosen.
        workers: threads that train; None for one per core.
        progress: told how far the evaluation is.

    Raises:
        UsageError: no such task or reference, a name for two programs, a number out of range.
        EvosearchError: a reference that diverges at every learning rate.
    """
    contenders, references = _contenders(programs, against)
    tasks = _load(task)
    grid = _grid(lrs)
    for name, value, least in (
        ("seeds", seeds, 2),
        ("tuning_seeds", tuning_seeds, 1),
        ("steps", 1 if steps is None else steps, 1),
        ("workers", 1 if workers is None else workers, 1),
    ):
        if value < least:
            raise UsageError(f"{name} = {value}: use at least {least}")
    planned = len(tasks) * len(contenders) * (len(grid) * tuning_seeds + seeds)
    with ThreadPoolExecutor(workers or os.cpu_count() or 1) as executor:
        trainings = _Trainings(executor, seed, progress, planned)
        arenas = {one.name: _Arena(Trainer(one, steps), contenders, trainings) for one in tasks}
        try:
            trainings.prepare([arena.trainer for arena in arenas.values()])
            for arena in arenas.values():
                arena.choose_engines(len(grid) * tuning_seeds + seeds)
                arena.tune(grid, tuning_seeds, references)
                arena.measure(seeds)
        except BaseException:
            executor.shutdown(wait=False, cancel_futures=True)
            raise
    return _compared(arenas, contenders, references, seeds, tuning_seeds)


def _contenders(
    programs: Mapping[str, Program] | Sequence[Program],
    against: Sequence[str] | Mapping[str, Program],
) -> tuple[dict[str, Program], list[str]]:
    """All contenders by name, the given programs first, and the names of the references."""
    if not isinstance(programs, Mapping):
        known = {zoo.load(name): name for name in zoo.names()}
        programs = {known.get(p, f"program {i}"): p for i, p in enumerate(programs, 1)}
    if not isinstance(against, Mapping):
        try:
            against = {name: zoo.load(name) for name in against}
        except zoo.UnknownProgramError as error:
            raise UsageError(str(error)) from None
    if not against:
        raise UsageError("there is nothing to compare with; name a reference, as adamw")
    for name in programs.keys() & against.keys():
        if programs[name] != against[name]:
            raise UsageError(f"{name!r} names a program and another reference; rename the program")
    return {**programs, **against}, list(against)


def _load(task: str | Sequence[str]) -> list[proxies.Task]:
    names = [task] if isinstance(task, str) else list(dict.fromkeys(task))
    if not names:
        raise UsageError("no task to evaluate on; `evosearch tasks` lists them")
    try:
        return [proxies.load(name) for name in names]
    except proxies.UnknownTaskError as error:
        raise UsageError(str(error)) from None


def _grid(lrs: Sequence[float] | None) -> tuple[float, ...]:
    rates = GRID if lrs is None else tuple(sorted(set(lrs)))
    wrong = [rate for rate in rates if not (rate > 0 and math.isfinite(rate))]
    if wrong or not rates:
        raise UsageError(f"lrs: {wrong or 'none given'}; learning rates are positive numbers")
    return rates


_Job = tuple[Program, float, Engine]


class _Trainings:
    """Runs trainings on all workers and tells how far they are."""

    def __init__(
        self, executor: ThreadPoolExecutor, run_seed: int, progress: Progress, planned: int
    ):
        self._executor = executor
        self._run_seed = run_seed
        self._progress = progress
        self._planned = planned
        self._done = 0

    def prepare(self, trainers: Sequence[Trainer]) -> None:
        """Compiles the interpreter for every task, several at a time."""
        program = zoo.load("sgd")
        pending = [
            (trainer, self._executor.submit(trainer.prepare, program, Engine.INTERPRETER))
            for trainer in trainers
            if choose_engine(trainer.task, program, 1, trainer.steps) is Engine.INTERPRETER
        ]
        for trainer, future in pending:
            self._tell(f"{trainer.task.name}: compiling")
            future.result()

    def extend(self, trainings: int) -> None:
        """There will be more trainings than planned."""
        self._planned += trainings

    def losses(
        self, text: str, trainer: Trainer, jobs: Sequence[_Job], seeds: Sequence[Seed]
    ) -> list[list[float]]:
        """The loss of every job on every seed."""
        futures = [
            [
                self._executor.submit(
                    trainer.run, program, rate, seed_key(self._run_seed, seed), engine
                )
                for seed in seeds
            ]
            for program, rate, engine in jobs
        ]
        found: list[list[float]] = []
        for row in futures:
            found.append([])
            for future in row:
                self._tell(f"{trainer.task.name}: {text}")
                found[-1].append(future.result().loss)
                self._done += 1
        self._tell(f"{trainer.task.name}: {text}")
        return found

    def _tell(self, text: str) -> None:
        self._progress(text, self._done, self._planned)


class _Arena:
    """All contenders on one task: first tuned, then measured.

    Attributes:
        tuners: what was tried, by contender.
        losses: on fresh seeds, by contender.
    """

    def __init__(self, trainer: Trainer, contenders: Mapping[str, Program], trainings: _Trainings):
        self.trainer = trainer
        self.tuners: dict[str, Tuner] = {}
        self.losses: dict[str, list[float]] = {}
        self._contenders = contenders
        self._trainings = trainings
        self._engines: dict[str, Engine] = {}

    def choose_engines(self, runs: int) -> None:
        """The cheaper engine for each contender, which will be trained about `runs` times."""
        self._engines = {
            name: choose_engine(self.trainer.task, program, runs, self.trainer.steps)
            for name, program in self._contenders.items()
        }

    def tune(self, grid: tuple[float, ...], seeds: int, references: Sequence[str]) -> None:
        """The learning rate of every contender, with as many trials for each.

        Raises:
            EvosearchError: a reference has no finite loss at any rate.
        """
        drawn = [Seed(Stream.EVAL_TUNE, number) for number in range(seeds)]
        self.tuners = {name: Tuner(grid) for name in self._contenders}

        def mean_losses(trials: list[tuple[str, float]]) -> list[float]:
            if any(tuner.losses for tuner in self.tuners.values()):
                self._trainings.extend(len(trials) * seeds)
            found = self._losses("tuning", trials, drawn)
            return [float(np.mean([log_loss(loss) for loss in row])) for row in found]

        tune_alike(self.tuners, mean_losses)
        for name in references:
            tuner = self.tuners[name]
            if tuner.losses[tuner.best] == math.inf:
                raise EvosearchError(
                    f"reference {name!r} diverges on {self.trainer.task.name!r} at every learning "
                    f"rate from {min(tuner.losses):g} to {max(tuner.losses):g} times its own; "
                    "compare with another"
                )

    def measure(self, seeds: int) -> None:
        """The loss of every contender at its best rate on fresh seeds."""
        drawn = [Seed(Stream.EVAL, number) for number in range(seeds)]
        best = [(name, tuner.best) for name, tuner in self.tuners.items()]
        self.losses = dict(zip(self.tuners, self._losses("measuring", best, drawn), strict=True))

    def _losses(
        self, text: str, rates: Sequence[tuple[str, float]], seeds: Sequence[Seed]
    ) -> list[list[float]]:
        jobs = [(self._contenders[name], rate, self._engines[name]) for name, rate in rates]
        return self._trainings.losses(text, self.trainer, jobs, seeds)


_Comparison = tuple[str, str, str]
"""Task (or OVERALL), contender and reference."""


def _compared(
    arenas: Mapping[str, _Arena],
    contenders: Mapping[str, Program],
    references: Sequence[str],
    seeds: int,
    tuning_seeds: int,
) -> Evaluation:
    """The report, with every comparison tested at one error rate."""
    first = references[0]
    pairs = [(name, first) for name in contenders if name != first]
    pairs += [(n, other) for n in contenders if n not in references for other in references[1:]]
    differences: dict[_Comparison, list[float]] = {
        (task, name, other): list(map(log_ratio, arena.losses[name], arena.losses[other]))
        for task, arena in arenas.items()
        for name, other in pairs
    }
    if len(arenas) > 1:
        for name in contenders:
            if name != first:
                by_task = [differences[task, name, first] for task in arenas]
                differences[OVERALL, name, first] = [float(x) for x in np.mean(by_task, axis=0)]
    tested = _tested(differences)
    overall = [_fitness(name, first, arenas, tested) for name in contenders] if arenas else []
    return Evaluation(
        tuple(_report(arena, contenders, references, tested) for arena in arenas.values()),
        tuple(overall) if len(arenas) > 1 else (),
        first,
        seeds,
        tuning_seeds,
        len(tested),
    )


def _tested(differences: Mapping[_Comparison, Sequence[float]]) -> dict[_Comparison, Difference]:
    p_values = [p_value(found, ROUNDING) for found in differences.values()]
    return {
        comparison: Difference(interval(found, ROUNDING), p, p_holm)
        for (comparison, found), p, p_holm in zip(
            differences.items(), p_values, holm(p_values), strict=True
        )
    }


def _report(
    arena: _Arena,
    contenders: Mapping[str, Program],
    references: Sequence[str],
    tested: Mapping[_Comparison, Difference],
) -> TaskReport:
    task = arena.trainer.task
    results = [
        Result(
            name,
            str(program),
            arena.tuners[name].best,
            {rate: math.exp(loss) for rate, loss in sorted(arena.tuners[name].losses.items())},
            tuple(arena.losses[name]),
            {r: tested[task.name, name, r] for r in references if (task.name, name, r) in tested},
        )
        for name, program in contenders.items()
    ]
    return TaskReport(task.name, task.split, task.metric, arena.trainer.steps, tuple(results))


def _fitness(
    name: str,
    first: str,
    tasks: Sequence[str],
    tested: Mapping[_Comparison, Difference],
) -> Fitness:
    if name == first:
        return Fitness(name, Interval(0.0, 0.0, 0.0), dict.fromkeys(tasks, 0.0), None)
    difference = tested[OVERALL, name, first]
    mean, low, high = difference.interval
    per_task = {task: 0.0 - tested[task, name, first].interval.mean for task in tasks}
    return Fitness(name, Interval(-mean, -high, -low), per_task, difference)


def _task_document(report: TaskReport) -> dict[str, Any]:
    return {
        "task": report.task,
        "split": report.split,
        "metric": report.metric,
        "steps": report.steps,
        "results": [_result_document(result) for result in report.results],
    }


def _result_document(result: Result) -> dict[str, Any]:
    mean, low, high = result.loss or (None, None, None)
    return {
        "program": result.program,
        "lr": result.lr,
        "mean": mean,
        "low": low,
        "high": high,
        "seeds": len(result.losses),
        "scores": [_finite(loss) for loss in result.losses],
        "diverged": result.diverged,
        "trials": {f"{rate:g}": _finite(loss) for rate, loss in result.trials.items()},
        "versus": {name: _difference_document(d) for name, d in result.versus.items()},
        "source": result.source,
    }


def _difference_document(difference: Difference) -> dict[str, Any]:
    mean, low, high = difference.interval
    return {
        "difference": mean,
        "low": low,
        "high": high,
        "p": difference.p,
        "p_holm": difference.p_holm,
        "real": difference.real,
    }


def _fitness_document(fitness: Fitness) -> dict[str, Any]:
    mean, low, high = fitness.interval
    return {
        "program": fitness.program,
        "fitness": mean,
        "low": low,
        "high": high,
        "per_task": dict(fitness.per_task),
        "real": fitness.difference is not None and fitness.difference.real,
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
