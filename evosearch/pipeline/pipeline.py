"""The whole job: a run started or resumed, its search, and the funnel and simplification after it.

`evosearch.search(config)` in Python and `evosearch search` on the command line are both this.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from evosearch.config import Config
from evosearch.environment import describe, use_device
from evosearch.evaluation.funnel import funnel
from evosearch.measuring.ledger import Ledger
from evosearch.pipeline.limits import NO_LIMITS, Limits
from evosearch.pipeline.loop import INTERRUPTED
from evosearch.pipeline.observers import Observer
from evosearch.pipeline.search import Search
from evosearch.pipeline.startup import check_for_searching
from evosearch.runs.database import is_unfinished
from evosearch.runs.directory import free_directory, make_run_directory, read_config
from evosearch.runs.run import Run
from evosearch.runs.validations import counterparts, counterparts_10x_or_same
from evosearch.simplification import Simplification, simplify
from evosearch.simplification.derivation_files import read_derivation, save_derivation
from evosearch.simplification.record import Step


class Pipeline:
    """The phases of one run, in order: `search`, then `finish`.

    Args:
        directory: of the run, which exists; see `start`.
        config: of the run.
        limits: in place of the run's own; none for those.
        workers: trainings at a time; None for one per core. The result does not depend on it.
        observer: told of progress.

    Raises:
        UsageError: a task is not for searching.
    """

    def __init__(
        self,
        directory: Path,
        config: Config,
        *,
        limits: Limits = NO_LIMITS,
        workers: int | None = None,
        observer: Observer | None = None,
    ):
        check_for_searching(config.tasks)
        use_device(None, batched=config.batch > 1)
        self.directory = directory
        self.config = config
        self._workers = workers
        self._observer = observer or Observer()
        self._search = Search(
            directory,
            config,
            limits=limits,
            workers=workers,
            observer=self._observer,
        )

    def search(self) -> str:
        """Searches until a limit is reached or `interrupt` is called; the reason for the stop."""
        return self._search.run()

    def interrupt(self) -> None:
        """Ends `search` soon; may come from a signal handler."""
        self._search.interrupt()

    def finish(self) -> None:
        """What the configuration ends with: the funnel, and a simplification.

        An exception, as one that a signal handler raises, ends it; what was not kept yet is lost.
        """
        if self.config.funnel.at_end:
            self._funnel()
        if self.config.simplify:
            self._simplify()

    def _ledger(self) -> Ledger:
        return Ledger.beside(self.directory, on_error=self._observer.notice)

    def _funnel(self) -> None:
        """Takes the best programs through the funnel; the outcome is kept in the run."""
        run = Run(self.directory, self.config)
        if not counterparts(self.config.tasks, "100x"):
            self._observer.notice("no funnel: none of the tasks has a validation task at 100x")
            return
        found = funnel(
            [run],
            workers=self._workers,
            timeout=self.config.job_timeout,
            notify=self._observer.notice,
            progress=self._observer.progress,
            ledger=self._ledger(),
        )
        run.save_funnel(found.document())
        self._observer.funnel(found)

    def _simplify(self) -> None:
        """Simplifies the funnel's winner, or the champion; the derivation is kept in the run."""
        run = Run(self.directory, self.config)
        best, funnelled = run.best(), run.funnel()
        if best is None:
            return
        number = funnelled.winner.id if funnelled and funnelled.winner else best.id
        if read_derivation(self.directory, number) is not None:
            return
        program, steps = run.program(number), list[Step]()

        def take(step: Step) -> None:
            steps.append(step)
            self._observer.step(step)

        try:
            found = simplify(
                program,
                counterparts_10x_or_same(self.config.tasks),
                screening=self.config.tasks,
                minutes=self.config.simplify_minutes,
                workers=self._workers,
                timeout=self.config.job_timeout,
                on_step=take,
                notify=self._observer.notice,
                progress=self._observer.progress,
                ledger=self._ledger(),
            )
        except BaseException as error:
            if not isinstance(error, Exception):  # Ctrl-C: the steps taken so far are shown
                self._observer.simplified(Simplification.interrupted(program, steps))
            raise
        save_derivation(self.directory, number, found)
        self._observer.simplified(found)


def start(
    config: Config,
    directory: Path | None = None,
    notice: Callable[[str], None] = lambda text: None,
) -> Path:
    """Makes the directory of a new run, and returns it.

    Args:
        config: what to search; see `evosearch.config`.
        directory: where the run is kept; None for a new one under `runs/`.
        notice: told if the making of a run was interrupted there before.

    Raises:
        UsageError: the directory holds a run already, or a task is not for searching.
        EvosearchError: it cannot be written.
    """
    check_for_searching(config.tasks)
    directory = free_directory() if directory is None else directory
    if directory.is_dir() and is_unfinished(directory):
        notice(f"{directory}: making a run was interrupted here; starting over")
    use_device(None, batched=config.batch > 1)  # before anything is computed
    make_run_directory(directory, config, describe())
    return directory


def search(
    config: Config,
    directory: Path | str | None = None,
    *,
    workers: int | None = None,
    observer: Observer | None = None,
) -> Run:
    """Starts a run in `directory`, searches until its limit, and finishes it.

    Args:
        config: what to search; see `evosearch.config`. It says too whether the funnel and a
            simplification follow.
        directory: where the run is kept, made if need be; None for a new one under `runs/`.
        workers: trainings at a time; None for one per core. The result does not depend on it.
        observer: told of progress.

    Returns:
        The finished run.

    Raises:
        UsageError: the directory holds a run already, or a task is not for searching.
        EvosearchError: the work cannot go on.
    """
    observer = observer or Observer()
    path = start(config, None if directory is None else Path(directory), observer.notice)
    return _finished(Pipeline(path, config, workers=workers, observer=observer))


def resume(
    directory: Path | str,
    *,
    programs: int | None = None,
    trainings: int | None = None,
    minutes: float | None = None,
    workers: int | None = None,
    observer: Observer | None = None,
) -> Run:
    """Goes on with a run exactly where it stopped, however it stopped; arguments as `search`.

    `programs` and `trainings` count what the run has already; `minutes` count from now. Limits that
    are given replace all of the run's own, also for later calls without any.
    """
    limits, path = Limits(programs, trainings, minutes), Path(directory)
    config = read_config(path)
    return _finished(Pipeline(path, config, limits=limits, workers=workers, observer=observer))


def _finished(pipeline: Pipeline) -> Run:
    if pipeline.search() != INTERRUPTED:
        pipeline.finish()
    return Run(pipeline.directory, pipeline.config)
