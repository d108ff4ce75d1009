"""The search phase of a run: open and replay the record, set up the tasks, run the loop, close.

See `evosearch.pipeline.loop` for the loop.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path

from evosearch.config import Config
from evosearch.errors import UsageError
from evosearch.evaluation.validation import Validator
from evosearch.measuring.batching import Batching, Occupancy
from evosearch.measuring.job import Backend
from evosearch.measuring.job_runner import JobRunner, open_backend
from evosearch.measuring.ledger import Ledger
from evosearch.pipeline.limits import NO_LIMITS, Limits, load_limits
from evosearch.pipeline.loop import INTERRUPTED, Clock, Injections, SearchLoop
from evosearch.pipeline.observers import Notifier, Observer
from evosearch.pipeline.startup import make_scorer
from evosearch.pipeline.validating import ChampionValidation
from evosearch.runs.activity import ActivityWriter
from evosearch.runs.directory import check_config
from evosearch.runs.journal import Journal
from evosearch.runs.provenance import current_process_row, divergence_error
from evosearch.runs.recorder import Recorder
from evosearch.runs.replay import Divergence, ReplayResult, replay
from evosearch.runs.rows import MEASUREMENTS, PROCESSES, PROGRAMS
from evosearch.runs.store import Store
from proxies.training.lanes import Lanes

_SECONDS_BETWEEN_MESSAGES = 1.0
_SECONDS_BEFORE_NOTICE = 2.0


class Search:
    """A search in a run directory.

    Args:
        directory: the run directory.
        config: configuration of the run.
        limits: limits that replace the run's own. Without any, the limits that the run was last
            resumed with apply, or else those of its configuration.
        workers: maximum number of trainings at a time; None for one per core. Results do not depend
            on it.
        observer: notified of progress.
        make_lanes: makes the lanes of batches.

    Attributes:
        occupancy: fraction of lanes that held a training, in a search with batches.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> import evosearch
        >>> from primitives import zoo
        >>> settings = {"tasks": ["points-teacher"], "init": str(zoo.load("adamw_paper"))}
        >>> settings |= {"validation_seeds": 0, "measurement": {"tuning_seeds": 1}}
        >>> config = evosearch.make_config({**settings, "programs": 2})
        >>> directory = Path(tempfile.mkdtemp()) / "run"
        >>> from evosearch.environment import describe
        >>> from evosearch.runs.directory import make_run_directory
        >>> make_run_directory(directory, config, describe())
        >>> evosearch.Search(directory, config).run()
        'programs'
    """

    def __init__(
        self,
        directory: Path,
        config: Config,
        *,
        limits: Limits = NO_LIMITS,
        workers: int | None = None,
        observer: Observer | None = None,
        make_lanes: Callable[..., Lanes] = Lanes,
    ):
        self.directory = directory
        self.config = config
        self._make_lanes = make_lanes
        self._new_limits = limits
        self._workers = workers
        self.occupancy = Occupancy()
        self._interrupted = threading.Event()
        self._notifier = Notifier(Journal(directory), observer or Observer())
        self._activity = ActivityWriter(directory)

    def interrupt(self) -> None:
        """End `run` soon, from a signal handler too; a resume repeats unfinished measurements."""
        self._interrupted.set()

    def run(self) -> str:
        """Search until a limit is reached or `interrupt` is called; return the stop reason.

        Raises:
            EvosearchError: a training failed, the run cannot be read or written, or its replay
                differs from its record. Committed results are kept.
        """
        start = time.monotonic()
        self._check_older_run()
        store = Store.open(self.directory, "search")
        backend = open_backend(
            self._workers, timeout=self.config.job_timeout, batching=self._batching
        )
        threads = ThreadPoolExecutor(backend.capacity, thread_name_prefix="worker")
        ledger = partial(Ledger.beside, self.directory, on_error=self._notifier.notice)
        validator = Validator(self.config, self._interrupted, ledger, self._activity.note)
        with self._activity:
            try:
                return self._run(store, backend, threads, validator, start)
            except BaseException:
                self._interrupted.set()
                store.rollback()
                raise
            finally:
                self._wait_for_workers(backend, threads, validator)
                store.close()

    @property
    def _batching(self) -> Batching | None:
        """Settings of batches; None if `batch` is 1. Tasks share the memory equally."""
        if self.config.batch == 1:
            return None
        return Batching(
            self.config.batch,
            memory_fraction=1 / len(self.config.tasks),
            notify=self._notifier.notice,
            occupancy=self.occupancy,
            make_lanes=self._make_lanes,
        )

    def _limits(self, store: Store) -> Limits:
        return self._new_limits or load_limits(store, self.config)

    def _check_older_run(self) -> None:
        """Check that a run of an older schema can be resumed, before its database is migrated."""
        store = Store.open(self.directory)
        if store.is_migrated_copy:
            check_config(store, self.config)
            store.check_complete()
            with suppress(_InterruptedError):
                self._replay(store, self._limits(store), Injections(store, self._notifier))
        store.close()

    def _run(
        self,
        store: Store,
        backend: Backend,
        threads: ThreadPoolExecutor,
        validator: Validator,
        start: float,
    ) -> str:
        store.check_complete()
        earlier = store.progress()
        clock = Clock(start, earlier.elapsed_seconds if earlier else 0.0)
        check_config(store, self.config)
        limits = self._limits(store)
        self._check_limits(store, limits, earlier.generated if earlier else 0)
        injections = Injections(store, self._notifier)
        try:
            replayed = self._replay(store, limits, injections)
            scorer = make_scorer(
                self.config,
                store,
                JobRunner(backend, notify=self._notifier.notice),
                self._notifier.phase,
                self._interrupted,
                self._activity.note,
            )
        except _InterruptedError:
            scorer = None
        if scorer is None:
            store.set_stop_reason(INTERRUPTED)
            store.commit()
            self._notifier.stop(INTERRUPTED)
            return INTERRUPTED
        recorder = self._record_process(store, replayed)
        validation = ChampionValidation(self.config, store, validator, self._notifier)
        return SearchLoop(
            self.config,
            store,
            replayed,
            scorer,
            threads,
            limits,
            clock,
            recorder,
            injections,
            validation,
            self._notifier,
            self._activity,
            self._interrupted,
        ).run()

    def _replay(self, store: Store, limits: Limits, injections: Injections) -> ReplayResult:
        """Replay the record to its end; write nothing."""
        if store.count(MEASUREMENTS):
            self._notifier.phase("replaying the run so far")
        next_message = time.monotonic() + _SECONDS_BETWEEN_MESSAGES

        def on_progress(done: int, total: int) -> None:
            nonlocal next_message
            if self._interrupted.is_set():
                raise _InterruptedError
            if time.monotonic() >= next_message:
                next_message = time.monotonic() + _SECONDS_BETWEEN_MESSAGES
                self._notifier.phase(f"replaying the run so far: {done:,} of {total:,} requests")

        try:
            return replay(
                self.config,
                store,
                programs=limits.programs,
                trainings=limits.trainings,
                on_progress=on_progress,
                add_injections=injections.add_to,
            )
        except Divergence as divergence:
            raise divergence_error(divergence, store) from None

    def _check_limits(self, store: Store, limits: Limits, generated: int) -> None:
        """Check that no limit is below the run's number of programs or trainings.

        Raises:
            UsageError: a limit is too small.
        """
        last_request = store.largest(PROGRAMS, "request") or 0
        # Count trainings that preceded the last program only; later tests may exceed the limit.
        trainings = store.trainings(last_request - self.config.requests)
        for name, count, limit in (
            ("programs", generated, limits.programs),
            ("trainings", trainings + 1, limits.trainings),
        ):
            if limit is not None and limit < count:
                raise UsageError(
                    f"{self.directory} has {count:,} {name} already, more than the limit of "
                    f"{limit:,}, which includes them; give a larger --{name}"
                )

    def _record_process(self, store: Store, replayed: ReplayResult) -> Recorder:
        """Record this process in the run, and return the recorder for its results."""
        recorder = Recorder(store, replayed)
        in_flight, evolution = replayed.in_flight, replayed.evolution
        first = in_flight[0].number if in_flight else evolution.next_request
        number = (store.largest(PROCESSES, "number") or 0) + 1
        store.add_process(current_process_row(number, first))
        self._new_limits.save(store)
        store.commit()
        return recorder

    def _wait_for_workers(
        self, backend: Backend, threads: ThreadPoolExecutor, validator: Validator
    ) -> None:
        """Wait for running trainings, which cannot be ended early; report a long wait."""
        threads.shutdown(wait=False, cancel_futures=True)
        backend.close(wait=False)

        def wait() -> None:
            threads.shutdown()
            backend.close()
            validator.close()

        next_line = time.monotonic() + _SECONDS_BEFORE_NOTICE
        shutdown = threading.Thread(target=wait, name="shutdown", daemon=True)
        shutdown.start()
        while shutdown.is_alive():
            shutdown.join(0.1)
            if time.monotonic() >= next_line and shutdown.is_alive():
                next_line = time.monotonic() + 10 * _SECONDS_BEFORE_NOTICE
                activities = [f"{row.worker}: {row.doing}" for row in self._activity.now()]
                self._notifier.observer.notice(
                    f"waiting for running trainings ({'; '.join(activities)})"
                )


class _InterruptedError(Exception):
    """The search was interrupted during start-up."""
