"""The pipeline of a run: search, funnel and simplification.

`evosearch.search(config)` in Python and `evosearch search` on the command line use this pipeline.
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
    """Runs the phases of one run: first `search`, then `finish`.

    Args:
        directory: the run directory, which must exist; see `start`.
        config: configuration of the run.
        limits: limits that replace the run's own limits; `NO_LIMITS` keeps the run's own.
        workers: maximum number of trainings at a time; None for one per core. Results do not depend
            on it.
        observer: notified of progress.

    Raises:
        UsageError: a task is not a search task.
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
        """Search until a limit is reached or `interrupt` is called; return the stop reason."""
        return self._search.run()

    def interrupt(self) -> None:
        """End `search` soon; may be called from a signal handler."""
        self._search.interrupt()

    def finish(self) -> None:
        """Run the funnel and the simplification, as configured.

        An exception, for example from a signal handler, ends both; unsaved results are lost.
        """
        if self.config.funnel.at_end:
            self._funnel()
        if self.config.simplify:
            self._simplify()

    def _ledger(self) -> Ledger:
        return Ledger.beside(self.directory, on_error=self._observer.notice)

    def _funnel(self) -> None:
        """Run the funnel on the best programs, and save the result in the run."""
        run = Run(self.directory, self.config)
        if not counterparts(self.config.tasks, "100x"):
            self._observer.notice("no funnel: none of the tasks has a validation task at 100x")
            return
        result = funnel(
            [run],
            workers=self._workers,
            timeout=self.config.job_timeout,
            notify=self._observer.notice,
            progress=self._observer.progress,
            ledger=self._ledger(),
        )
        run.save_funnel(result.document())
        self._observer.funnel(result)

    def _simplify(self) -> None:
        """Simplify the funnel's winner, or the champion, and save the derivation in the run."""
        run = Run(self.directory, self.config)
        best, funnel_result = run.best(), run.funnel()
        if best is None:
            return
        number = funnel_result.winner.id if funnel_result and funnel_result.winner else best.id
        if read_derivation(self.directory, number) is not None:
            return
        program, steps = run.program(number), list[Step]()

        def on_step(step: Step) -> None:
            steps.append(step)
            self._observer.step(step)

        try:
            result = simplify(
                program,
                counterparts_10x_or_same(self.config.tasks),
                screening=self.config.tasks,
                minutes=self.config.simplify_minutes,
                workers=self._workers,
                timeout=self.config.job_timeout,
                on_step=on_step,
                notify=self._observer.notice,
                progress=self._observer.progress,
                ledger=self._ledger(),
            )
        except BaseException as error:
            if not isinstance(error, Exception):  # on Ctrl-C, show the steps so far
                self._observer.simplified(Simplification.interrupted(program, steps))
            raise
        save_derivation(self.directory, number, result)
        self._observer.simplified(result)


def start(
    config: Config,
    directory: Path | None = None,
    notice: Callable[[str], None] = lambda text: None,
) -> Path:
    """Create the directory of a new run, and return its path.

    Args:
        config: configuration of the search; see `evosearch.config`.
        directory: the run directory; None for a new directory under `runs/`.
        notice: called with a message if creating a run was interrupted in this directory before.

    Raises:
        UsageError: the directory holds a run already, or a task is not a search task.
        EvosearchError: the directory cannot be written.
    """
    check_for_searching(config.tasks)
    directory = free_directory() if directory is None else directory
    if directory.is_dir() and is_unfinished(directory):
        notice(f"{directory}: creating a run was interrupted here; starting over")
    use_device(None, batched=config.batch > 1)  # must precede all computation
    make_run_directory(directory, config, describe())
    return directory


def search(
    config: Config,
    directory: Path | str | None = None,
    *,
    workers: int | None = None,
    observer: Observer | None = None,
) -> Run:
    """Start a run, search until its limit, and run the funnel and simplification as configured.

    Args:
        config: configuration of the search; see `evosearch.config`.
        directory: the run directory, created if it does not exist; None for a new directory
            under `runs/`.
        workers: maximum number of trainings at a time; None for one per core. Results do not depend
            on it.
        observer: notified of progress.

    Returns:
        The finished run.

    Raises:
        UsageError: the directory holds a run already, or a task is not a search task.
        EvosearchError: a training failed, or the run cannot be written.

    Example:
        >>> import tempfile
        >>> import evosearch
        >>> from primitives import zoo
        >>> settings = {"tasks": ["points-teacher"], "init": str(zoo.load("adamw_paper"))}
        >>> settings |= {"validation_seeds": 0, "measurement": {"tuning_seeds": 1}}
        >>> config = evosearch.make_config({**settings, "programs": 2})
        >>> run = evosearch.search(config, tempfile.mkdtemp() + "/run")
        >>> run.status().generated
        2
    """
    observer = observer or Observer()
    path = start(config, None if directory is None else Path(directory), observer.notice)
    return _run(Pipeline(path, config, workers=workers, observer=observer))


def resume(
    directory: Path | str,
    *,
    programs: int | None = None,
    trainings: int | None = None,
    minutes: float | None = None,
    workers: int | None = None,
    observer: Observer | None = None,
) -> Run:
    """Continue a run exactly where it stopped, even if it was killed.

    If any limit is given, the new limits replace all limits of the run, also for later calls
    without limits.

    Args:
        directory: the run directory.
        programs: maximum number of programs, including the programs that the run already has.
        trainings: maximum number of trainings, including the trainings that the run already has.
        minutes: maximum duration from now.
        workers: maximum number of trainings at a time; None for one per core. Results do not depend
            on it.
        observer: notified of progress.

    Returns:
        The finished run.

    Raises:
        UsageError: the directory holds no run, or a limit is below the run's present number.
        EvosearchError: the run is damaged, a training failed, or the run cannot be written.

    Example:
        >>> import tempfile
        >>> import evosearch
        >>> from primitives import zoo
        >>> settings = {"tasks": ["points-teacher"], "init": str(zoo.load("adamw_paper"))}
        >>> settings |= {"validation_seeds": 0, "measurement": {"tuning_seeds": 1}}
        >>> config = evosearch.make_config({**settings, "programs": 2})
        >>> run = evosearch.search(config, tempfile.mkdtemp() + "/run")
        >>> evosearch.resume(run.directory, programs=3).status().generated
        3
    """
    limits, path = Limits(programs, trainings, minutes), Path(directory)
    config = read_config(path)
    return _run(Pipeline(path, config, limits=limits, workers=workers, observer=observer))


def _run(pipeline: Pipeline) -> Run:
    if pipeline.search() != INTERRUPTED:
        pipeline.finish()
    return Run(pipeline.directory, pipeline.config)
