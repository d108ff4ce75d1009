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

import numpy as np

import proxies
from evosearch.comparison import Evaluation, Result, TaskReport, compare
from evosearch.engines import Engine, Trainer, seed_key
from evosearch.errors import EvosearchError, UsageError
from evosearch.records import Seed, Stream
from evosearch.statistics import log_loss
from evosearch.tuning import GRID, Tuner, tune_alike
from primitives import Program, zoo

Progress = Callable[[str, int, int], None]
"""Told what is being done, how many trainings are done and how many there will be."""


def evaluate(
    programs: Mapping[str, Program] | Sequence[Program],
    task: str | Sequence[str],
    *,
    against: Sequence[str] | Mapping[str, Program] = ("adamw", "lion"),
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
    runs = len(grid) * tuning_seeds + seeds  # of each contender on each task, or more
    with ThreadPoolExecutor(workers or os.cpu_count() or 1) as executor:
        trainings = _Trainings(executor, seed, progress, runs * len(tasks) * len(contenders))
        ops = frozenset[str]().union(*(program.ops for program in contenders.values()))
        arenas = [
            _Arena(Trainer(one, steps, ops=ops), contenders, runs, trainings) for one in tasks
        ]
        try:
            trainings.compile(arenas)
            reports = []
            for arena in arenas:
                arena.tune(grid, tuning_seeds, references)
                reports.append(arena.measure(seeds))
        except BaseException:
            executor.shutdown(wait=False, cancel_futures=True)
            raise
    return compare(reports, references, tuning_seeds)


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
    if programs and programs.keys() <= against.keys() and len(against) < 2:
        raise UsageError(f"{', '.join(programs)} would be compared with itself; name others")
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

    def compile(self, arenas: Sequence[_Arena]) -> None:
        """Compiles what the arenas will need, several at a time."""
        pending = [(arena, self._executor.submit(arena.compile)) for arena in arenas]
        for arena, future in pending:
            self._tell(f"{arena.trainer.task.name}: compiling")
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

    Each takes the engine that is cheaper for about `runs` trainings.
    """

    def __init__(
        self, trainer: Trainer, contenders: Mapping[str, Program], runs: int, trainings: _Trainings
    ):
        self.trainer = trainer
        self._contenders = contenders
        self._trainings = trainings
        self._tuners: dict[str, Tuner] = {}
        self._engines = {
            name: trainer.choose_engine(program, runs) for name, program in contenders.items()
        }

    def compile(self) -> None:
        """Compiles what the contenders' engines need."""
        for name, program in self._contenders.items():
            self.trainer.prepare(program, self._engines[name])

    def tune(self, grid: tuple[float, ...], seeds: int, references: Sequence[str]) -> None:
        """The learning rate of every contender, with as many trials for each.

        Raises:
            EvosearchError: a reference has no finite loss at any rate.
        """
        drawn = [Seed(Stream.EVAL_TUNE, number) for number in range(seeds)]
        self._tuners = {name: Tuner(grid) for name in self._contenders}

        def mean_losses(trials: list[tuple[str, float]]) -> list[float]:
            if any(tuner.losses for tuner in self._tuners.values()):
                self._trainings.extend(len(trials) * seeds)
            found = self._losses("tuning", trials, drawn)
            return [float(np.mean([log_loss(loss) for loss in row])) for row in found]

        tune_alike(self._tuners, mean_losses)
        for name in references:
            tuner = self._tuners[name]
            if tuner.losses[tuner.best] == math.inf:
                raise EvosearchError(
                    f"reference {name!r} diverges on {self.trainer.task.name!r} at every learning "
                    f"rate from {min(tuner.losses):g} to {max(tuner.losses):g} times its own; "
                    "compare with another"
                )

    def measure(self, seeds: int) -> TaskReport:
        """Every contender at its best rate on fresh seeds; compared with nobody yet."""
        drawn = [Seed(Stream.EVAL, number) for number in range(seeds)]
        best = [(name, tuner.best) for name, tuner in self._tuners.items()]
        found = self._losses("measuring", best, drawn)
        results = [
            Result(
                program=name,
                source=str(self._contenders[name]),
                lr=rate,
                trials={r: math.exp(x) for r, x in sorted(self._tuners[name].losses.items())},
                losses=tuple(losses),
            )
            for (name, rate), losses in zip(best, found, strict=True)
        ]
        task = self.trainer.task
        return TaskReport(task.name, task.split, task.metric, self.trainer.steps, tuple(results))

    def _losses(
        self, text: str, rates: Sequence[tuple[str, float]], seeds: Sequence[Seed]
    ) -> list[list[float]]:
        jobs = [(self._contenders[name], rate, self._engines[name]) for name, rate in rates]
        return self._trainings.losses(text, self.trainer, jobs, seeds)
