"""Trainings of programs on the measuring tasks, and paired differences of their losses."""

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
"""Called with the current activity, the number of finished trainings and their total or None."""

TUNING_SEEDS = 3
"""Number of seeds on which learning rates are tuned."""
_FITNESS_SEEDS = 32
"""Maximum number of seeds from which a fitness is estimated."""
_ASSUMED_TRAININGS = 8
"""Number of trainings of a program for which the backend chooses the cheapest engine."""


class PairedTrainings:
    """Trains programs on tasks and seeds; no training is repeated.

    For each task, a multiplier of the original program's learning rate is tuned. All other programs
    are trained with the same multiplier, except for the baseline, which has multipliers of its own.

    Args:
        original: The program that costs are measured against.
        tasks: Names of the measuring tasks.
        seed: The number from which all seeds are derived.
        ops: The ops of all programs that will be trained.
        runner: Runs the trainings.
        progress: Called with a description of the current work.

    Attributes:
        factors: The tuned multiplier of the original program's learning rate, by task.

    Raises:
        EvosearchError: The original program diverges on a task at every learning rate.
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
        self._jobs: set[Job] = set()
        self._progress = progress
        self._activity = ""
        self._representatives: dict[tuple[str, float], Program] = {}
        """The program that is trained for all programs of a semantic key and a multiplier."""
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
    def num_trainings(self) -> int:
        """Number of different trainings, without the trainings that tune learning rates."""
        return len(self._jobs)

    def report(self, activity: str, done: int = 0, total: int | None = None) -> None:
        """Report the current activity, which `differences` reports again with its progress."""
        self._activity = activity
        self._progress(activity, done, total)

    def differences(
        self, program: Program, reference: Program, seeds: Sequence[Seed]
    ) -> np.ndarray:
        """Return log(loss / reference's loss), clipped to +-log 4, [tasks, seeds]."""
        self.start_trainings([program, reference], seeds)
        values = np.empty((len(self.tasks), len(seeds)))
        for column, seed in enumerate(seeds):
            self._progress(self._activity, column * len(values), values.size)
            for row, task in enumerate(self.tasks):
                loss = self._loss(task, program, seed)
                values[row, column] = log_ratio(loss, self._loss(task, reference, seed))
        return values

    def start_trainings(self, programs: Sequence[Program], seeds: Sequence[Seed]) -> None:
        """Submit the trainings that `differences` will need, so that all cores are busy."""
        for seed in seeds:
            for task in self.tasks:
                for program in programs:
                    self._submit(task, program, seed)

    def diverges(self, program: Program, seeds: Sequence[Seed]) -> bool:
        """Return whether a program diverges on a task and seed on which the original does not."""
        return any(
            not math.isfinite(self._loss(task, program, seed))
            and math.isfinite(self._loss(task, self.original, seed))
            for task in self.tasks
            for seed in seeds
        )

    def cost(
        self,
        program: Program,
        seeds: Sequence[Seed],
        *,
        reference: Program | None = None,
        looks: int,
    ) -> Cost:
        """Return the cost of a program with confidence bounds.

        Args:
            program: The program.
            seeds: Two or more seeds; the fitness is measured on the first 32.
            reference: The program with which `program` is compared; None for the original program.
            looks: Number of looks at the data over which the error rate of the bounds is divided.
        """
        fitness_seeds = seeds[:_FITNESS_SEEDS]
        self.start_trainings([self._baseline], fitness_seeds)
        costs = self.differences(program, reference or self.original, seeds)
        over_tasks = bounds(costs.mean(axis=0), looks)
        per_task = {}
        for task, task_costs in zip(self.tasks, costs, strict=True):
            task_bounds = bounds(task_costs, looks)
            per_task[task] = task_bounds.mean, task_bounds.high
        differences_to_baseline = self.differences(program, self._baseline, fitness_seeds)
        return Cost(
            mean=over_tasks.mean,
            low=over_tasks.low,
            high=over_tasks.high,
            per_task=per_task,
            seeds=len(seeds),
            fitness=-float(differences_to_baseline.mean()),
        )

    def _submit(self, task: str, program: Program, seed: Seed) -> Future[JobResult]:
        """Submit a training; an equal training that was submitted earlier is not repeated."""
        factors = self._baseline_factors if program == self._baseline else self.factors
        factor, setup = factors[task], self._setups[task]
        program = self._representatives.setdefault((semantic_key(program), factor), program)
        engine = self._runner.backend.engine(setup, program, _ASSUMED_TRAININGS)
        job = Job(setup, program, engine, Conditions(setup.steps), self.seed, seed, factor)
        self._jobs.add(job)
        return self._runner.submit_once(job)

    def _loss(self, task: str, program: Program, seed: Seed) -> float:
        return self._submit(task, program, seed).result().loss

    def _prepare(self) -> None:
        """Compile the tasks, then tune the baseline and the original program on each."""
        seeds = [Seed(Stream.SIMPLIFY_TUNE, number) for number in range(TUNING_SEEDS)]
        backend = self._runner.backend
        for number, (task, setup) in enumerate(self._setups.items()):
            remaining = len(self._setups) - number
            tasks = "task" if remaining == 1 else "tasks"
            self.report(f"compiling and tuning learning rates: {remaining} {tasks} left")
            backend.prepare(
                setup, self.original, backend.engine(setup, self.original, _ASSUMED_TRAININGS)
            )
            conditions = {seed: Conditions(setup.steps) for seed in seeds}
            baseline = tune_baseline(setup, self._runner, self.seed, conditions)
            self._baseline_factors[task] = baseline.best
            self.factors[task] = self._tuned_factor(setup, conditions)

    def _tuned_factor(self, setup: TaskSetup, conditions: Mapping[Seed, Conditions]) -> float:
        """Return the best multiplier of the original program's learning rate on a task."""
        tuner = tune_rate(
            setup, self.original, self._runner, self.seed, conditions, _ASSUMED_TRAININGS
        )
        if not math.isfinite(tuner.losses[tuner.best]):
            raise EvosearchError(
                f"the program diverges on {setup.task!r} at every learning rate from "
                f"{min(tuner.losses):g} to {max(tuner.losses):g} times its own; choose other "
                "tasks, or simplify with --algebra-only"
            )
        return tuner.best
