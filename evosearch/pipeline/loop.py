"""The loop of a search: ask for a request, measure it, tell evolution the scores, commit."""

from __future__ import annotations

import threading
import time
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from evosearch.config import Config
from evosearch.errors import EvosearchError, describe_error
from evosearch.evolution.evolution import Evolution, Request
from evosearch.measuring.scorer import Scorer
from evosearch.pipeline.limits import Limits
from evosearch.pipeline.observers import Notifier, Snapshot
from evosearch.pipeline.validating import ChampionValidation
from evosearch.runs.activity import Activity
from evosearch.runs.recorder import Recorder
from evosearch.runs.replay import Measurements, ReplayResult
from evosearch.runs.rows import INJECTIONS
from evosearch.runs.store import Store
from primitives import ProgramError, live, parse

INTERRUPTED = "interrupted"
"""Stop reason of an interrupted search."""


@dataclass(frozen=True)
class Clock:
    """Durations of a search.

    Attributes:
        start: value of `time.monotonic()` at the start of this process.
        earlier_seconds: seconds that earlier processes of the run took.
    """

    start: float
    earlier_seconds: float

    @property
    def in_this_process(self) -> float:
        """Seconds since this process started."""
        return time.monotonic() - self.start

    @property
    def elapsed(self) -> float:
        """Seconds that all processes of the run took."""
        return self.earlier_seconds + self.in_this_process


class Injections:
    """Programs that users inject into a running search; each program is added once."""

    def __init__(self, store: Store, notifier: Notifier):
        self._store = store
        self._notifier = notifier
        self._added: set[int] = set()

    def add_to(self, evolution: Evolution) -> None:
        """Add new injections; an invalid program is withdrawn with a notice."""
        for row in self._store.select(INJECTIONS, "where request is null and withdrawn is null"):
            if row.id in self._added:
                continue
            self._added.add(row.id)
            try:
                evolution.inject(row.id, parse(row.source))
            except ProgramError as error:
                reason = str(error).splitlines()[0]
                self._store.withdraw(row.id, reason)
                self._notifier.notice(f"injected program i{row.id} is set aside: {reason}")


class SearchLoop:
    """Continues a search from the end of its record to a limit or an interrupt.

    The main thread decides and writes the record. Each of the other threads measures one request
    at a time, task by task, and waits while the backend trains.

    Args:
        config: configuration of the search.
        store: store of the run, opened for searching.
        replayed: state of the search at the end of its record.
        scorer: measures programs.
        threads: threads that measure requests; as many as the backend runs trainings at a time.
        limits: limits of the search.
        clock: durations of the search.
        recorder: writes the record.
        injections: programs that users inject.
        validation: validates champions.
        notifier: passes messages to the log and the observer.
        activity: shows what each thread is doing.
        interrupted: event that ends the search.
    """

    def __init__(
        self,
        config: Config,
        store: Store,
        replayed: ReplayResult,
        scorer: Scorer,
        threads: ThreadPoolExecutor,
        limits: Limits,
        clock: Clock,
        recorder: Recorder,
        injections: Injections,
        validation: ChampionValidation,
        notifier: Notifier,
        activity: Activity,
        interrupted: threading.Event,
    ):
        self._config = config
        self._store = store
        self._evolution = replayed.evolution
        self._stored = replayed.spares
        self._scorer = scorer
        self._threads = threads
        self._limits = limits
        self._clock = clock
        self._recorder = recorder
        self._injections = injections
        self._validation = validation
        self._notifier = notifier
        self._activity = activity
        self._interrupted = interrupted
        self._search_start = time.monotonic()
        self._replayed_programs = self._evolution.counts.generated
        self._replayed_trainings = self._evolution.trainings
        self._in_flight = deque((request, self._submit(request)) for request in replayed.in_flight)

    def run(self) -> str:
        """Search, and return the stop reason.

        Raises:
            EvosearchError: a training failed. Committed results are kept.
        """
        while not self._interrupted.is_set():
            while len(self._in_flight) < self._config.requests and (request := self._ask()):
                self._in_flight.append((request, self._submit(request)))
            if not self._in_flight:
                self._finish_validation()
                reason = INTERRUPTED if self._interrupted.is_set() else self._limit_reached()
                return self._stop(reason)
            request, future = self._in_flight.popleft()
            measurements = self._wait(request, future)
            if measurements is None:
                break
            scores = {task: measurement.score for task, measurement in measurements.items()}
            self._evolution.tell(request, scores)
            self._commit(request, measurements)
        return self._stop(INTERRUPTED)

    def _ask(self) -> Request | None:
        """Return the next request; None at a limit."""
        self._injections.add_to(self._evolution)
        programs = self._limits.programs
        if (
            self._limits.minutes is not None
            and self._clock.in_this_process >= 60 * self._limits.minutes
        ):
            programs = self._evolution.counts.generated  # generate no more programs
        return self._evolution.ask(programs, self._limits.trainings)

    def _submit(self, request: Request) -> Future[Measurements]:
        """Start measuring a request, unless the run already stores its measurements."""
        measurements = self._stored.pop((request.record.key, request.seed), None)
        if measurements is None:
            return self._threads.submit(self._measure, request)
        future: Future[Measurements] = Future()
        future.set_result(measurements)
        return future

    def _measure(self, request: Request) -> Measurements:
        """Measure a request on the calling thread; return the measurements."""
        seed = f"{request.seed.stream} seed {request.seed.number}"

        def on_task(task: str) -> None:
            self._activity.note(f"program {request.record.id} on {task}, {seed}")

        try:
            return self._scorer.measure(request.program, request.seed, request.min_totals, on_task)
        finally:
            self._activity.note("")

    def _wait(self, request: Request, future: Future[Measurements]) -> Measurements | None:
        """Wait for the measurements of a request; None if the search is interrupted first."""
        while not future.done():
            if self._interrupted.is_set():
                return None
            _wait_at_most(0.1, future)
            self._notifier.deliver()
        try:
            return future.result()
        except Exception as error:
            raise EvosearchError(
                f"training with program {request.record.id} failed ({describe_error(error)}); "
                f"continue with `evosearch resume {self._store.directory}`"
            ) from error

    def _commit(self, request: Request, measurements: Measurements) -> None:
        """Commit measurements with the decisions that followed, and update the observer."""
        evolution = self._evolution
        self._recorder.write(request, measurements)
        self._validation.advance(evolution)
        self._recorder.write_progress(self._clock.elapsed, None)
        self._store.commit()
        record = evolution.champion.record
        self._notifier.journal.write_champion(
            record.id, live(record.program), evolution.counts.generated
        )
        self._notifier.deliver()
        self._notifier.observer.update(self._snapshot())

    def _finish_validation(self) -> None:
        """Wait until all champions are validated, or the search is interrupted."""
        validation, evolution = self._validation, self._evolution
        validation.advance(evolution)
        while validation.waiting and not self._interrupted.is_set():
            remaining = validation.waiting
            self._notifier.phase(f"validating champions on 10x the work: {remaining} left")
            while validation.waiting == remaining and not self._interrupted.is_set():
                time.sleep(0.1)
                validation.advance(evolution)
            self._store.commit()

    def _limit_reached(self) -> str:
        """Return the name of the limit that ended the search."""
        limits, evolution = self._limits, self._evolution
        if limits.programs is not None and evolution.counts.generated >= limits.programs:
            return "programs"
        if limits.trainings is not None and evolution.trainings >= limits.trainings:
            return "trainings"
        return "minutes"

    def _stop(self, reason: str) -> str:
        self._recorder.write_progress(self._clock.elapsed, reason)
        self._store.commit()
        self._notifier.stop(reason)
        return reason

    def _snapshot(self) -> Snapshot:
        evolution, limits = self._evolution, self._limits
        return Snapshot(
            counts=evolution.counts,
            champion=evolution.champion,
            tests=len(evolution.tests),
            trainings=evolution.trainings,
            programs=limits.programs,
            trainings_limit=limits.trainings,
            minutes=limits.minutes,
            elapsed_seconds=self._clock.in_this_process,
            searching_seconds=time.monotonic() - self._search_start,
            replayed=self._replayed_programs,
            replayed_trainings=self._replayed_trainings,
            validated=self._validation.curve(evolution),
        )


def _wait_at_most(seconds: float, future: Future[Any]) -> None:
    """Wait for `future` for at most `seconds`; a short wait lets Python handle signals."""
    try:
        future.exception(timeout=seconds)
    except TimeoutError:
        return
