"""Evaluating programs: every contender at its best setting, on seeds nothing else has used.

The learning rate of every contender, and its weight decay if asked, is tuned with the same number
of trials on tuning seeds. Then all train on the same fresh seeds, so that differences are paired:
log(loss / reference's loss) on a seed, clipped to +-log 4, where a divergence counts as the clip.
Which differences are real is decided over all comparisons of the report together (Holm 1979). Over
several tasks the fitness is that of a search: minus the difference to the first reference,
averaged over tasks.
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
from evosearch.measuring.contenders import Contender, Library, find
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
"""Told what is being done, how many trainings are done and how many there will be."""

_SHARPNESS_SEEDS = 3


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
    """Compares programs with references on tasks, each at its best setting.

    Args:
        programs: by name; without names they are named as in the zoo, or numbered.
        task: the name of a task, or several, over which fitness is averaged.
        against: the references: names in the zoo or of `evosearch.measuring.contenders`, or
            programs by name. Fitness is relative to the first.
        seeds: fresh seeds that the report is from, the same for all contenders.
        lrs: factors on a program's own learning rate that are tried first; None for 1/4 to 16. More
            are tried until the best lies inside, as many for every contender.
        decays: weight decays outside every contender that are tried first (see
            `evosearch.seeds.Conditions`), in rising order; none for no such decay.
        resolution: the best rate's neighbours are at most this factor away in the end.
        steps: the training budget; None for each task's own.
        schedule: of the learning rate; a name in `proxies.SCHEDULES`.
        seed: all seeds follow from it; the result does not depend on `workers`.
        tuning_seeds: seeds on which learning rates are chosen.
        workers: trainings at a time; None for one per core.
        timeout: maximum seconds of a training; see `evosearch.measuring.job_runner.open_backend`.
        notify: called with a message for each training that failed; it counts as diverged.
        progress: told how far the evaluation is.
        sharpness: whether to measure the sharpness of the minimum that each contender ends at.
        streams: where the seeds to tune on and the fresh seeds are from.
        ledger: trainings that it holds are not made again, new ones are added; None for none.
        runner: what trains, in place of `workers`, `timeout`, `told` and `ledger`, so that a
            later call with it compiles nothing anew; None for one of its own.
        ops: what the programs of later calls with this runner may use beyond this one's.
        trace: whether `evosearch.evaluation.trajectories` will ask for paths of these trainings.

    Raises:
        UsageError: no such task, schedule or reference, a name for two programs, a number out of
            range.
        EvosearchError: a reference that diverges at every learning rate.
        TrainingError: an exception in a user's task.
    """
    contenders, references = _contenders(programs, against)
    tasks = _load(task)
    grid = _positive("lrs", lrs, GRID)
    decays = _positive("decays", decays, ()) if decays else ()
    if schedule not in proxies.SCHEDULES:
        near = suggestion(schedule, proxies.SCHEDULES)
        raise UsageError(
            f"no schedule {schedule!r}{near or '; there are ' + ', '.join(proxies.SCHEDULES)}"
        )
    for name, value, least in (
        ("seeds", seeds, 2),
        ("tuning_seeds", tuning_seeds, 1),
        ("steps", 1 if steps is None else steps, 1),
        ("workers", 1 if workers is None else workers, 1),
    ):
        if value < least:
            raise UsageError(f"{name} = {value}: use at least {least}")
    with ExitStack() as opened:
        if runner is None:
            runner = opened.enter_context(
                open_job_runner(workers, ledger or Ledger(), timeout=timeout, notify=notify)
            )
        if runner.ledger is not None:
            for split in {one.split for one in tasks}:
                names = [one.name for one in tasks if one.split == split]
                runner.ledger.log(split, names, list(contenders))
        ops = ops.union(*(one.ops for one in contenders.values() if isinstance(one, Program)))
        # Of each contender on each task, or more.
        runs = (len(grid) + len(decays)) * tuning_seeds + seeds
        trainings = _Trainings(runner, progress, runs * len(tasks) * len(contenders))

        def report(task: proxies.Task) -> TaskReport:
            setup = TaskSetup.of(task, steps, ops=ops, observe=True, trace=trace)
            arena = _Arena(task, setup, contenders, runs, trainings, streams, seed, schedule)
            tuners = {name: SettingTuner(grid, decays, {}, resolution) for name in contenders}
            arena.tune(tuners, tuning_seeds, references)
            return arena.measure(seeds, sharpness=sharpness)

        # As many tasks at a time as workers: while one compiles, another keeps the others busy.
        threads = ThreadPoolExecutor(runner.backend.capacity, thread_name_prefix="task")
        try:
            found = list(threads.map(report, tasks))
        except TrainingError as error:
            names = [name for name, one in contenders.items() if one == error.contender]
            raise error.named(names[0] if names else "") from error.__cause__
        finally:
            threads.shutdown(wait=False, cancel_futures=True)
    return compare(found, references, tuning_seeds)


def _contenders(
    programs: Mapping[str, Contender] | Sequence[Program],
    against: Sequence[str] | Mapping[str, Contender],
) -> tuple[dict[str, Contender], list[str]]:
    """All contenders by name, the given programs first, and the names of the references."""
    if not isinstance(programs, Mapping):
        known = {zoo.load(name): name for name in zoo.names()}
        programs = {known.get(p, f"program {i}"): p for i, p in enumerate(programs, 1)}
    if not isinstance(against, Mapping):
        against = {name: find(name) for name in against}
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


def _positive(
    name: str, given: Sequence[float] | None, default: tuple[float, ...]
) -> tuple[float, ...]:
    numbers = default if given is None else tuple(sorted(set(given)))
    wrong = [number for number in numbers if not (number > 0 and math.isfinite(number))]
    if wrong or not numbers:
        raise UsageError(f"{name}: {wrong or 'none given'}; give positive numbers")
    return numbers


def _mean_curve(curves: Sequence[NDArray[np.float32]]) -> tuple[float, ...]:
    return tuple(float(x) for x in np.mean(curves, axis=0))


class _Trainings:
    """The trainings of one evaluation: run, and told how far they are.

    Args:
        runner: runs them.
        progress: told how far the evaluation is.
        planned: how many trainings there will be, as far as is known.
    """

    def __init__(self, runner: JobRunner, progress: Progress, planned: int):
        self.runner = runner
        self._progress = progress
        self._planned = planned
        self._done = 0
        self._lock = threading.Lock()

    def extend(self, trainings: int) -> None:
        """There will be more trainings than planned."""
        with self._lock:
            self._planned += trainings

    def results(self, text: str, rows: Sequence[Sequence[Job]]) -> list[list[JobResult]]:
        """The result of every job; all run at once."""
        futures = [[self.runner.submit_once(job) for job in row] for row in rows]
        found: list[list[JobResult]] = []
        for row in futures:
            found.append([])
            for future in row:
                self.tell(text)
                found[-1].append(future.result())
                with self._lock:
                    self._done += 1
        self.tell(text)
        return found

    def tell(self, text: str) -> None:
        """Tells the observer how far the evaluation is, and at what."""
        self._progress(text, self._done, max(self._done, self._planned))


class _Arena:
    """All contenders on one task: first tuned, then measured.

    Each takes the engine that is cheaper for about `runs` trainings.
    """

    def __init__(
        self,
        task: proxies.Task,
        setup: TaskSetup,
        contenders: Mapping[str, Contender],
        runs: int,
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
        engine = trainings.runner.backend.engine
        self._engines = {name: engine(setup, one, runs) for name, one in contenders.items()}

    def tune(
        self, tuners: Mapping[str, SettingTuner], seeds: int, references: Sequence[str]
    ) -> None:
        """The setting of every contender, with as many trials for each.

        Raises:
            EvosearchError: a reference has no finite loss at any rate.
        """
        drawn = [Seed(self._tuning_stream, number) for number in range(seeds)]
        self._tuners = tuners

        def mean_losses(trials: list[tuple[str, Setting]]) -> list[float]:
            if any(tuner.losses for tuner in tuners.values()):
                self._trainings.extend(len(trials) * seeds)
            found = self._outcomes("tuning", trials, drawn)
            return [float(np.mean([log_loss(one.loss) for one in row])) for row in found]

        tune_equally(tuners, mean_losses)
        for name in references:
            tried = tuners[name].losses
            if min(tried.values()) == math.inf:
                raise EvosearchError(
                    f"reference {name!r} diverges on {self._task.name!r} at every learning "
                    f"rate from {min(tried).lr:g} to {max(tried).lr:g} times its own; "
                    "compare with another"
                )

    def measure(self, seeds: int, *, sharpness: bool) -> TaskReport:
        """Every contender at its best setting on fresh seeds; compared with nobody yet."""
        drawn = [Seed(self._report_stream, number) for number in range(seeds)]
        best = [(name, tuner.best) for name, tuner in self._tuners.items()]
        found = self._outcomes("measuring", best, drawn)
        results = [
            Result(
                program=name,
                source=str(self._contenders[name]),
                lr=setting.lr,
                decay=setting.decay,
                trials={s: math.exp(x) for s, x in sorted(self._tuners[name].losses.items())},
                losses=tuple(one.loss for one in row),
                curve=_mean_curve([one.train_loss for one in row]),
                update_rms=_mean_curve([one.update_rms for one in row]),
                sharpness=self._sharpness(name, setting, drawn) if sharpness else None,
            )
            for (name, setting), row in zip(best, found, strict=True)
        ]
        task = self._task
        return TaskReport(task.name, task.split, task.metric, self._setup.steps, tuple(results))

    def _sharpness(self, name: str, setting: Setting, seeds: Sequence[Seed]) -> float:
        """The geometric mean over the first few seeds."""
        jobs = [
            replace(self._job(name, setting, seed), output="sharpness")
            for seed in seeds[:_SHARPNESS_SEEDS]
        ]
        self._trainings.extend(len(jobs))
        (row,) = self._trainings.results(f"{self._task.name}: sharpness", [jobs])
        found = np.array([one.sharpness for one in row], float)
        return float(np.exp(np.mean(np.log(np.abs(found)))))

    def _outcomes(
        self, text: str, settings: Sequence[tuple[str, Setting]], seeds: Sequence[Seed]
    ) -> list[list[JobResult]]:
        rows = [[self._job(name, setting, seed) for seed in seeds] for name, setting in settings]
        return self._trainings.results(f"{self._task.name}: {text}", rows)

    def _job(self, name: str, setting: Setting, seed: Seed) -> Job:
        contender = self._contenders[name]
        schedule = contender.schedule if isinstance(contender, Library) else None
        under = Conditions(self._setup.steps, schedule or self._schedule, setting.decay)
        return Job(
            self._setup,
            contender,
            self._engines[name],
            under,
            self._run_seed,
            seed,
            setting.lr,
        )
