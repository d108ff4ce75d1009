"""The search phase of a run: a record opened and replayed, tasks set up, the loop run, all closed.

Evolution decides, the scorer measures, the store remembers; see `evosearch.pipeline.loop`.
"""

from __future__ import annotations

import threading
import time
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
from evosearch.pipeline.limits import NO_LIMITS, Limits, kept_limits
from evosearch.pipeline.loop import INTERRUPTED, Clock, Injections, SearchLoop
from evosearch.pipeline.observers import Notifier, Observer
from evosearch.pipeline.startup import make_scorer
from evosearch.pipeline.validating import ChampionValidation
from evosearch.runs.activity import Activity
from evosearch.runs.directory import check_config
from evosearch.runs.journal import Journal
from evosearch.runs.provenance import current_process_row, divergence_error
from evosearch.runs.recorder import Recorder
from evosearch.runs.replay import Divergence, Replayed, replay
from evosearch.runs.rows import MEASUREMENTS, PROCESSES, PROGRAMS
from evosearch.runs.store import Store

_SECONDS_BETWEEN_PHASES = 1.0
_SECONDS_BEFORE_SAYING = 2.0


class Search:
    """A search in a run directory. `run` blocks; `interrupt` may come from a signal handler.

    Args:
        directory: of the run.
        config: of the run.
        limits: in place of the run's own; without any, those of its configuration, or those that it
            was resumed with last.
        workers: trainings at a time; None for one per core. The result does not depend on it.
        observer: told of progress.

    Attributes:
        occupancy: how full the lanes of a search in batches are.
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
        self.directory = directory
        self.config = config
        self._given = limits
        self._workers = workers
        self.occupancy = Occupancy()
        self._interrupted = threading.Event()
        self._notifier = Notifier(Journal(directory), observer or Observer())
        self._activity = Activity(directory)

    def interrupt(self) -> None:
        """Ends the search soon; what is in flight is measured again on resume."""
        self._interrupted.set()

    def run(self) -> str:
        """Searches until a limit is reached or `interrupt` is called; the reason for the stop.

        Raises:
            EvosearchError: the work cannot go on, or the record is not one of this code's searches;
                everything committed is kept.
        """
        start = time.monotonic()
        self._check_older_run()
        store = Store.open(self.directory, "search")
        backend = open_backend(
            self._capacity, timeout=self.config.job_timeout, batching=self._batching
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
    def _capacity(self) -> int | None:
        """Trainings at a time; in a batch, as many as there are requests."""
        return self._workers if self.config.batch == 1 else self.config.requests

    @property
    def _batching(self) -> Batching | None:
        """How trainings share devices; the tasks' batches share the devices evenly."""
        if self.config.batch == 1:
            return None
        each = 1 / len(self.config.tasks)
        return Batching(
            self.config.lanes, memory=each, notify=self._notifier.notice, occupancy=self.occupancy
        )

    def _limits(self, store: Store) -> Limits:
        return self._given or kept_limits(store, self.config)

    def _check_older_run(self) -> None:
        """Whether a run of an older schema can be resumed, before its database is migrated."""
        store = Store.open(self.directory)
        if store.is_migrated_copy:
            check_config(store, self.config)
            store.check_complete()
            with suppress(_InterruptedError):
                self._replayed_from(store, self._limits(store), Injections(store, self._notifier))
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
        before = store.progress()
        clock = Clock(start, before.elapsed_seconds if before else 0.0)
        check_config(store, self.config)
        limits = self._limits(store)
        self._check_limits(store, limits, before.generated if before else 0)
        injections = Injections(store, self._notifier)
        try:
            replayed = self._replayed_from(store, limits, injections)
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
        recorder = self._begin(store, replayed)
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

    def _replayed_from(self, store: Store, limits: Limits, injections: Injections) -> Replayed:
        """The search brought to where its record ends; nothing is written."""
        if store.count(MEASUREMENTS):
            self._notifier.phase("replaying the run so far")
        next_phase = time.monotonic() + _SECONDS_BETWEEN_PHASES

        def on_progress(done: int, total: int) -> None:
            nonlocal next_phase
            if self._interrupted.is_set():
                raise _InterruptedError
            if time.monotonic() >= next_phase:
                next_phase = time.monotonic() + _SECONDS_BETWEEN_PHASES
                self._notifier.phase(f"replaying the run so far: {done:,} of {total:,} requests")

        try:
            return replay(
                self.config,
                store,
                programs=limits.programs,
                trainings=limits.trainings,
                on_progress=on_progress,
                add_injections=injections.take_up,
            )
        except Divergence as divergence:
            raise divergence_error(divergence, store) from None

    def _check_limits(self, store: Store, limits: Limits, generated: int) -> None:
        """A limit below what the run has is a mistake: it counts that too."""
        last_request = store.largest(PROGRAMS, "request") or 0
        # What was known when the last program was generated; tests go on beyond the limit.
        trainings = store.trainings(last_request - self.config.requests)
        for name, has, limit in (
            ("programs", generated, limits.programs),
            ("trainings", trainings + 1, limits.trainings),
        ):
            if limit is not None and limit < has:
                raise UsageError(
                    f"{self.directory} has {has:,} {name} already, more than the limit of "
                    f"{limit:,}, which counts them too; go on with a larger --{name}"
                )

    def _begin(self, store: Store, replayed: Replayed) -> Recorder:
        """Notes this process in the run; what writes it from here on."""
        recorder = Recorder(store, replayed)
        in_flight, evolution = replayed.in_flight, replayed.evolution
        first = in_flight[0].number if in_flight else evolution.next_request
        number = (store.largest(PROCESSES, "number") or 0) + 1
        store.add_process(current_process_row(number, first))
        self._given.keep(store)
        store.commit()
        return recorder

    def _wait_for_workers(
        self, backend: Backend, threads: ThreadPoolExecutor, validator: Validator
    ) -> None:
        """Waits for trainings that cannot be cut short, and says for which after a while."""
        threads.shutdown(wait=False, cancel_futures=True)
        backend.close(wait=False)

        def wait() -> None:
            threads.shutdown()
            backend.close()
            validator.close()

        next_line = time.monotonic() + _SECONDS_BEFORE_SAYING
        ended = threading.Thread(target=wait, name="shutdown", daemon=True)
        ended.start()
        while ended.is_alive():
            ended.join(0.1)
            if time.monotonic() >= next_line and ended.is_alive():
                next_line = time.monotonic() + 10 * _SECONDS_BEFORE_SAYING
                doing = [f"{one.worker}: {one.doing}" for one in self._activity.now()]
                self._notifier.observer.notice(
                    f"waiting for what is in flight ({'; '.join(doing)})"
                )


class _InterruptedError(Exception):
    """The search was interrupted before it began."""
