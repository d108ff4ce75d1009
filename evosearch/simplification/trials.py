"""Losses of programs on the measuring tasks, each training run once; differences are paired."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future

import numpy as np

import proxies
from evosearch.errors import EvosearchError
from evosearch.measuring.job import Job, JobResult, TaskSetup
from evosearch.measuring.job_runner import JobRunner
from evosearch.measuring.scorer import BASELINE, tune_baseline, tune_rate
from evosearch.seeds import Conditions, Seed, Stream
from evosearch.simplification.deciding import bounds
from evosearch.simplification.record import Cost
from evosearch.statistics import log_ratio
from primitives import Program, semantic_key, zoo
from primitives.machine.instructions import OpNames

Progress = Callable[[str, int, int | None], None]
"""Told what is being done, how much of it is done and, if known, how much there is."""

TUNING_SEEDS = 3
_FITNESS_SEEDS = 32
_FEW_RUNS = 8


class Trials:
    """Trains programs on tasks and seeds.

    The original program's learning rate is tuned on every task, and every other program trains at
    the same factor: what is compared is the program as it stands. The baseline, which fitness is
    relative to, has its own.

    Args:
        original: the program that costs are measured against.
        tasks: names of the measuring tasks.
        seed: all seeds follow from it.
        ops: those that the programs to come are made of.
        runner: trains.
        progress: told what is going on.

    Raises:
        EvosearchError: the original program trains on a task at no learning rate.
    """

    def __init__(
        self,
        original: Program,
        tasks: Sequence[str],
        seed: int,
        ops: OpNames,
        runner: JobRunner,
        progress: Progress = lambda text, done, total: None,
    ):
        self.original = original
        self.seed = seed
        self._runner = runner
        self._begun: set[Job] = set()
        self._progress = progress
        self._doing = ""
        self._equal: dict[tuple[str, float], Program] = {}
        """Of programs with one semantic key and factor the first, which is trained for all."""
        self._baseline = zoo.load(BASELINE)
        self._setups = {
            name: TaskSetup.of(proxies.load(name), ops=ops | self._baseline.ops) for name in tasks
        }
        self.factors: dict[str, float] = {}
        self._baseline_factors: dict[str, float] = {}
        self._prepare()

    @property
    def tasks(self) -> tuple[str, ...]:
        """The measuring tasks."""
        return tuple(self._setups)

    @property
    def trainings(self) -> int:
        """How many different trainings were asked for after tuning."""
        return len(self._begun)

    def say(self, text: str, done: int = 0, total: int | None = None) -> None:
        """Tells whoever watches what is going on, now and while `differences` waits."""
        self._doing = text
        self._progress(text, done, total)

    def differences(
        self, program: Program, reference: Program, seeds: Sequence[Seed]
    ) -> np.ndarray:
        """log(program's loss / reference's), clipped to +-log 4, [tasks, seeds]."""
        self.request([program, reference], seeds)
        found = np.empty((len(self.tasks), len(seeds)))
        for column, seed in enumerate(seeds):
            self._progress(self._doing, column * len(found), found.size)
            for row, task in enumerate(self.tasks):
                loss, other = (self._loss(task, one, seed) for one in (program, reference))
                found[row, column] = log_ratio(loss, other)
        return found

    def request(self, programs: Sequence[Program], seeds: Sequence[Seed]) -> None:
        """Begins the trainings that `differences` will ask for, so that all cores are busy."""
        for seed in seeds:
            for task in self.tasks:
                for program in programs:
                    self._begin(task, program, seed)

    def diverges(self, program: Program, seeds: Sequence[Seed]) -> bool:
        """Whether `program` diverges on a seed and task on which the original does not."""
        return any(
            not math.isfinite(self._loss(task, program, seed))
            and math.isfinite(self._loss(task, self.original, seed))
            for task in self.tasks
            for seed in seeds
        )

    def cost(
        self, program: Program, seeds: Sequence[Seed], *, against: Program | None = None, looks: int
    ) -> Cost:
        """What `program` costs on `seeds`, where the data were, or may have been, looked at often.

        Args:
            program: is compared with `against`, by default the original.
            seeds: two or more; the fitness is from the first 32.
            against: the program that it is compared with.
            looks: between how many looks at the data the error rate is shared.
        """
        few = seeds[:_FITNESS_SEEDS]
        self.request([self._baseline], few)
        found = self.differences(program, against or self.original, seeds)
        over_tasks = bounds(found.mean(axis=0), looks)
        per_task = [bounds(row, looks) for row in found]
        behind = self.differences(program, self._baseline, few)
        return Cost(
            over_tasks.mean,
            over_tasks.low,
            over_tasks.high,
            {task: (held.mean, held.high) for task, held in zip(self.tasks, per_task, strict=True)},
            len(seeds),
            -float(behind.mean()),
        )

    def _begin(self, task: str, program: Program, seed: Seed) -> Future[JobResult]:
        factors = self._baseline_factors if program == self._baseline else self.factors
        factor, setup = factors[task], self._setups[task]
        program = self._equal.setdefault((semantic_key(program), factor), program)
        engine = self._runner.backend.engine(setup, program, _FEW_RUNS)
        under = Conditions(setup.steps)
        job = Job(setup, program, engine, under, self.seed, seed, factor)
        self._begun.add(job)
        return self._runner.submit_once(job)

    def _loss(self, task: str, program: Program, seed: Seed) -> float:
        return self._begin(task, program, seed).result().loss

    def _prepare(self) -> None:
        """Compiles the tasks' interpreters, then tunes the original and the baseline on each."""
        seeds = [Seed(Stream.SIMPLIFY_TUNE, number) for number in range(TUNING_SEEDS)]
        backend = self._runner.backend
        for number, (task, setup) in enumerate(self._setups.items()):
            left = len(self._setups) - number
            self.say(f"compiling and tuning learning rates: {left} task{'s' * (left != 1)} to go")
            backend.prepare(setup, self.original, backend.engine(setup, self.original, _FEW_RUNS))
            under = {seed: Conditions(setup.steps) for seed in seeds}
            baseline = tune_baseline(setup, self._runner, self.seed, under)
            self._baseline_factors[task] = baseline.best
            self.factors[task] = self._tuned(setup, under)

    def _tuned(self, setup: TaskSetup, under: Mapping[Seed, Conditions]) -> float:
        tuner = tune_rate(setup, self.original, self._runner, self.seed, under, _FEW_RUNS)
        if not math.isfinite(tuner.losses[tuner.best]):
            raise EvosearchError(
                f"the program diverges on {setup.task!r} at every learning rate from "
                f"{min(tuner.losses):g} to {max(tuner.losses):g} times its own; measure on "
                "other tasks, or simplify with --algebra-only"
            )
        return tuner.best
