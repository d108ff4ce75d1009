"""Evaluation of programs: each contender at its best setting, on fresh seeds.

The learning rate of each contender, and on request its weight decay, is tuned with the same number
of trials on tuning seeds. Then all contenders train on the same fresh seeds, so that differences
are paired; see `evosearch.evaluation.comparison`.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

import proxies
from evosearch.errors import EvosearchError, UsageError
from evosearch.evaluation.comparison import compare
from evosearch.evaluation.results import Evaluation, Result, TaskReport
from evosearch.measuring.contenders import Contender, OptaxOptimizer, find
from evosearch.measuring.failures import TrainingError
from evosearch.measuring.job import Job, JobResult, TaskSetup
from evosearch.measuring.job_runner import JobRunner, open_job_runner
from evosearch.measuring.ledger import Ledger
from evosearch.measuring.tuning import GRID, RESOLUTION, Setting, SettingTuner, tune_equally
from evosearch.seeds import Conditions, Seed, Stream
from evosearch.statistics import log_loss
from primitives import Program, zoo
from primitives.machine.instructions import OpNames
from primitives.text.wording import suggestion

Progress = Callable[[str, int, int], None]
"""Called with the current activity, the number of finished trainings and their expected total."""

_SHARPNESS_SEEDS = 3
"""Number of fresh seeds on which sharpness is measured."""


def evaluate(
    programs: Mapping[str, Contender] | Sequence[Program],
    task: str | Sequence[str],
    *,
    against: Sequence[str] | Mapping[str, Contender] = ("adamw", "lion"),
    seeds: int = 16,
    lrs: Sequence[float] | None = None,
    decays: Sequence[float] = (),
    resolution: float = RESOLUTION,
    steps: int | None = None,
    schedule: str = "cosine",
    seed: int = 0,
    tuning_seeds: int = 3,
    workers: int | None = None,
    timeout: float | None = None,
    notify: Callable[[str], None] = lambda text: None,
    progress: Progress = lambda text, done, total: None,
    sharpness: bool = False,
    streams: tuple[Stream, Stream] = (Stream.EVAL_TUNE, Stream.EVAL),
    ledger: Ledger | None = None,
    runner: JobRunner | None = None,
    ops: OpNames = frozenset(),
    trace: bool = False,
) -> Evaluation:
    """Compare programs with references on tasks, each at its best setting.

    Args:
        programs: contenders by name, or a sequence of programs, which are named by their names in
            the zoo or by numbers.
        task: name of a task, or several names, over which fitness is averaged.
        against: references by name, or names that `evosearch.measuring.contenders.find` accepts.
            Fitness is relative to the first reference.
        seeds: number of fresh seeds, the same for all contenders.
        lrs: initial grid of multipliers of a program's own learning rate; None for 1/4 to 16. The
            grid is extended until the best multiplier lies inside, with the same number of trials
            for each contender.
        decays: initial grid of decoupled weight decays, applied outside the contenders (see
            `evosearch.seeds.Conditions`); empty for no weight decay.
        resolution: maximum ratio of the best learning rate to its neighbours in the final grid.
        steps: number of training steps; None for each task's default.
        schedule: name of the learning-rate schedule, from `proxies.SCHEDULES`.
        seed: the number that all seeds are derived from.
        tuning_seeds: number of seeds of each tuning trial.
        workers: number of concurrent trainings, which does not affect results; None for one per
            core.
        timeout: maximum seconds of a training; see `evosearch.measuring.job_runner.open_backend`.
        notify: called with a message for each failed training, which counts as diverged.
        progress: called with the state of the evaluation.
        sharpness: whether to measure the sharpness of the minimum that each contender reaches.
        streams: streams of the tuning seeds and of the fresh seeds.
        ledger: stores finished trainings, which are not repeated; None to store nothing.
        runner: job runner, used instead of `workers`, `timeout`, `notify` and `ledger`. Later calls
            with the same runner reuse compiled trainings. None opens a new job runner.
        ops: additional ops that programs of later calls with `runner` may use.
        trace: whether the compiled trainings can return paths, which
            `evosearch.evaluation.trajectories` needs.

    Raises:
        UsageError: a task, schedule or reference does not exist, one name is used for two programs,
            or a number is out of range.
        EvosearchError: a reference diverges at every learning rate.
        TrainingError: a user's task raised an exception.

    Example:
        >>> import evosearch
        >>> from primitives import zoo
        >>> evaluation = evosearch.evaluate(
        ...     {"mine": zoo.load("lion")}, "quadratic", against=["sgd"], seeds=2, tuning_seeds=1
        ... )
        >>> [result.program for result in evaluation.tasks[0].results]
        ['mine', 'sgd']
    """
    contenders, references = _named_contenders(programs, against)
    tasks = _load_tasks(task)
    grid = _positive_numbers("lrs", lrs, GRID)
    decays = _positive_numbers("decays", decays, ()) if decays else ()
    if schedule not in proxies.SCHEDULES:
        hint = suggestion(schedule, proxies.SCHEDULES)
        raise UsageError(
            f"no schedule {schedule!r}{hint or '; there are ' + ', '.join(proxies.SCHEDULES)}"
        )
    for name, value, minimum in (
        ("seeds", seeds, 2),
        ("tuning_seeds", tuning_seeds, 1),
        ("steps", 1 if steps is None else steps, 1),
        ("workers", 1 if workers is None else workers, 1),
    ):
        if value < minimum:
            raise UsageError(f"{name} = {value}: use at least {minimum}")
    with ExitStack() as stack:
        if runner is None:
            runner = stack.enter_context(
                open_job_runner(workers, ledger or Ledger(), timeout=timeout, notify=notify)
            )
        if runner.ledger is not None:
            for split in {task.split for task in tasks}:
                names = [task.name for task in tasks if task.split == split]
                runner.ledger.log(split, names, list(contenders))
        programs_of_contenders = [
            contender for contender in contenders.values() if isinstance(contender, Program)
        ]
        ops = ops.union(*(program.ops for program in programs_of_contenders))
        min_trainings = (len(grid) + len(decays)) * tuning_seeds + seeds  # per task and contender
        expected_total = min_trainings * len(tasks) * len(contenders)
        trainings = _Trainings(runner, progress, expected_total)

        def evaluate_on(task: proxies.Task) -> TaskReport:
            setup = TaskSetup.of(task, steps, ops=ops, observe=True, trace=trace)
            evaluation = _TaskEvaluation(
                task, setup, contenders, min_trainings, trainings, streams, seed, schedule
            )
            tuners = {name: SettingTuner(grid, decays, {}, resolution) for name in contenders}
            evaluation.tune(tuners, tuning_seeds, references)
            return evaluation.measure(seeds, sharpness=sharpness)

        # One thread per worker: while a task is compiled, the trainings of other tasks continue.
        threads = ThreadPoolExecutor(runner.backend.capacity, thread_name_prefix="task")
        try:
            reports = list(threads.map(evaluate_on, tasks))
        except TrainingError as error:
            names = [name for name, contender in contenders.items() if contender == error.contender]
            raise error.named(names[0] if names else "") from error.__cause__
        finally:
            threads.shutdown(wait=False, cancel_futures=True)
    return compare(reports, references, tuning_seeds)


def _named_contenders(
    programs: Mapping[str, Contender] | Sequence[Program],
    against: Sequence[str] | Mapping[str, Contender],
) -> tuple[dict[str, Contender], list[str]]:
    """Return all contenders by name, programs first, and the names of the references."""
    if not isinstance(programs, Mapping):
        zoo_names = {zoo.load(name): name for name in zoo.names()}
        programs = {
            zoo_names.get(program, f"program {number}"): program
            for number, program in enumerate(programs, 1)
        }
    if not isinstance(against, Mapping):
        against = {name: find(name) for name in against}
    if not against:
        raise UsageError("no reference to compare with; name one, such as adamw")
    for name in programs.keys() & against.keys():
        if programs[name] != against[name]:
            raise UsageError(
                f"{name!r} names both a program and a different reference; rename the program"
            )
    if programs and programs.keys() <= against.keys() and len(against) < 2:
        raise UsageError(
            f"{', '.join(programs)} would be compared only with itself; name another reference"
        )
    return {**programs, **against}, list(against)


def _load_tasks(task: str | Sequence[str]) -> list[proxies.Task]:
    names = [task] if isinstance(task, str) else list(dict.fromkeys(task))
    if not names:
        raise UsageError("no task to evaluate on; `evosearch tasks` lists them")
    try:
        return [proxies.load(name) for name in names]
    except proxies.UnknownTaskError as error:
        raise UsageError(str(error)) from None


def _positive_numbers(
    name: str, values: Sequence[float] | None, default: tuple[float, ...]
) -> tuple[float, ...]:
    """Return the sorted numbers of an argument, or raise an error if they are not positive."""
    numbers = default if values is None else tuple(sorted(set(values)))
    invalid = [number for number in numbers if not (number > 0 and math.isfinite(number))]
    if invalid or not numbers:
        raise UsageError(f"{name}: {invalid or 'none given'}; give positive numbers")
    return numbers


def _mean_curve(curves: Sequence[NDArray[np.float32]]) -> tuple[float, ...]:
    """Return the mean of several curves at each point."""
    return tuple(float(mean) for mean in np.mean(curves, axis=0))


class _Trainings:
    """Runs the trainings of one evaluation and reports its progress.

    Args:
        runner: runs the trainings.
        progress: called with the state of the evaluation.
        expected_total: expected number of trainings.
    """

    def __init__(self, runner: JobRunner, progress: Progress, expected_total: int):
        self.runner = runner
        self._progress = progress
        self._expected_total = expected_total
        self._finished = 0
        self._lock = threading.Lock()

    def add_expected(self, trainings: int) -> None:
        """Add `trainings` to the expected number of trainings."""
        with self._lock:
            self._expected_total += trainings

    def results(self, activity: str, rows: Sequence[Sequence[Job]]) -> list[list[JobResult]]:
        """Run all jobs concurrently and return their results, row by row."""
        futures = [[self.runner.submit_once(job) for job in row] for row in rows]
        results: list[list[JobResult]] = []
        for row in futures:
            results.append([])
            for future in row:
                self._report_progress(activity)
                results[-1].append(future.result())
                with self._lock:
                    self._finished += 1
        self._report_progress(activity)
        return results

    def _report_progress(self, activity: str) -> None:
        total = max(self._finished, self._expected_total)
        self._progress(activity, self._finished, total)


class _TaskEvaluation:
    """Tunes and measures all contenders on one task.

    Each contender is trained with the engine that is cheapest for about `training_count` trainings.
    """

    def __init__(
        self,
        task: proxies.Task,
        setup: TaskSetup,
        contenders: Mapping[str, Contender],
        training_count: int,
        trainings: _Trainings,
        streams: tuple[Stream, Stream],
        run_seed: int,
        schedule: str,
    ):
        self._tuning_stream, self._report_stream = streams
        self._task = task
        self._setup = setup
        self._contenders = contenders
        self._trainings = trainings
        self._run_seed = run_seed
        self._schedule = schedule
        self._tuners: Mapping[str, SettingTuner] = {}
        choose_engine = trainings.runner.backend.engine
        self._engines = {
            name: choose_engine(setup, contender, training_count)
            for name, contender in contenders.items()
        }

    def tune(
        self, tuners: Mapping[str, SettingTuner], seeds: int, references: Sequence[str]
    ) -> None:
        """Tune the setting of each contender with the same number of trials.

        Raises:
            EvosearchError: a reference has no finite loss at any learning rate.
        """
        tuning_seeds = [Seed(self._tuning_stream, number) for number in range(seeds)]
        self._tuners = tuners

        def mean_losses(trials: list[tuple[str, Setting]]) -> list[float]:
            is_first_round = not any(tuner.losses for tuner in tuners.values())
            if not is_first_round:
                self._trainings.add_expected(len(trials) * seeds)
            rows = self._results("tuning", trials, tuning_seeds)
            return [float(np.mean([log_loss(result.loss) for result in row])) for row in rows]

        tune_equally(tuners, mean_losses)
        for name in references:
            losses = tuners[name].losses
            if min(losses.values()) == math.inf:
                raise EvosearchError(
                    f"reference {name!r} diverges on {self._task.name!r} at every learning "
                    f"rate from {min(losses).lr:g} to {max(losses).lr:g} times its own; "
                    "compare with another reference"
                )

    def measure(self, seeds: int, *, sharpness: bool) -> TaskReport:
        """Train each contender at its best setting on fresh seeds.

        The report has no differences yet; `comparison.compare` adds them.
        """
        fresh_seeds = [Seed(self._report_stream, number) for number in range(seeds)]
        best_settings = [(name, tuner.best) for name, tuner in self._tuners.items()]
        rows = self._results("measuring", best_settings, fresh_seeds)
        results = [
            Result(
                program=name,
                source=str(self._contenders[name]),
                lr=setting.lr,
                decay=setting.decay,
                trials=self._trials(name),
                losses=tuple(result.loss for result in row),
                curve=_mean_curve([result.train_loss for result in row]),
                update_rms=_mean_curve([result.update_rms for result in row]),
                sharpness=self._sharpness(name, setting, fresh_seeds) if sharpness else None,
            )
            for (name, setting), row in zip(best_settings, rows, strict=True)
        ]
        task = self._task
        return TaskReport(task.name, task.split, task.metric, self._setup.steps, tuple(results))

    def _trials(self, name: str) -> dict[Setting, float]:
        """Return the geometric mean loss of each setting that was tried for a contender."""
        log_losses = self._tuners[name].losses
        return {setting: math.exp(log_losses[setting]) for setting in sorted(log_losses)}

    def _sharpness(self, name: str, setting: Setting, seeds: Sequence[Seed]) -> float:
        """Return the geometric mean of the sharpness over the first seeds."""
        jobs = [
            replace(self._job(name, setting, seed), output="sharpness")
            for seed in seeds[:_SHARPNESS_SEEDS]
        ]
        self._trainings.add_expected(len(jobs))
        (row,) = self._trainings.results(f"{self._task.name}: sharpness", [jobs])
        eigenvalues = np.array([result.sharpness for result in row], float)
        return float(np.exp(np.mean(np.log(np.abs(eigenvalues)))))

    def _results(
        self, activity: str, settings: Sequence[tuple[str, Setting]], seeds: Sequence[Seed]
    ) -> list[list[JobResult]]:
        """Train contenders with the given settings; return a row of results for each setting."""
        rows = [[self._job(name, setting, seed) for seed in seeds] for name, setting in settings]
        return self._trainings.results(f"{self._task.name}: {activity}", rows)

    def _job(self, name: str, setting: Setting, seed: Seed) -> Job:
        contender = self._contenders[name]
        schedule = contender.schedule if isinstance(contender, OptaxOptimizer) else None
        conditions = Conditions(self._setup.steps, schedule or self._schedule, setting.decay)
        return Job(
            self._setup,
            contender,
            self._engines[name],
            conditions,
            self._run_seed,
            seed,
            setting.lr,
        )
