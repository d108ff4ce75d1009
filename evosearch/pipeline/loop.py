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
from evosearch.runs.activity import ActivityWriter
from evosearch.runs.recorder import Recorder
from evosearch.runs.replay import Measurements, ReplayResult
from evosearch.runs.rows import INJECTIONS
from evosearch.runs.store import Store
from primitives import ProgramError, live, parse

INTERRUPTED = "interrupted"
"""Stop reason of an interrupted search."""
SECONDS_BETWEEN_COMMITS = 0.25
"""Maximum time between commits while results arrive.

Results are committed when no further result is ready, and at the latest after this time.
"""


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
    def seconds_in_this_process(self) -> float:
        """Seconds since this process started."""
        return time.monotonic() - self.start

    @property
    def elapsed(self) -> float:
        """Seconds that all processes of the run took."""
        return self.earlier_seconds + self.seconds_in_this_process


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

    The main thread decides and writes the record. Without batches, each of the other threads
    measures one request at a time, task by task, and waits while the backend trains. With batches,
    the thread that advances the batches measures all requests.

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
        activity: ActivityWriter,
        interrupted: threading.Event,
    ):
        self._config = config
        self._store = store
        self._evolution = replayed.evolution
        self._unused_measurements = replayed.unused_measurements
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
        # The first commit logs the last champion again, since an earlier process may have ended
        # between the commit of this champion and the write of `best.txt`.
        self._logged_champions = len(self._evolution.champions) - 1
        self._last_commit = time.monotonic()
        self._in_flight = deque((request, self._submit(request)) for request in replayed.in_flight)

    def run(self) -> str:
        """Search, and return the stop reason.

        Raises:
            EvosearchError: a training failed. Committed results are kept.
        """
        self._injections.add_to(self._evolution)
        if self._config.batch > 1:
            self._activity.note(f"batches of up to {self._config.batch:,} programs on each task")
        while not self._interrupted.is_set():
            finished_requests = self._evolution.next_request - 1 - len(self._in_flight)
            while (
                len(self._in_flight) < self._config.max_in_flight(finished_requests)
                and not self._interrupted.is_set()
                and (request := self._ask())
            ):
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
            self._recorder.add(request, measurements)
            if self._is_commit_due():
                self._commit()
        return self._stop(INTERRUPTED)

    def _ask(self) -> Request | None:
        """Return the next request; None at a limit."""
        programs = self._limits.programs
        if (
            self._limits.minutes is not None
            and self._clock.seconds_in_this_process >= 60 * self._limits.minutes
        ):
            programs = self._evolution.counts.generated  # generate no more programs
        return self._evolution.ask(programs, self._limits.trainings)

    def _submit(self, request: Request) -> Future[Measurements]:
        """Start measuring a request, unless the run already stores its measurements."""
        measurements = self._unused_measurements.pop((request.record.key, request.seed), None)
        if measurements is None:
            if self._config.batch > 1:
                return self._scorer.submit(request.program, request.seed, request.min_totals)
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

    def _is_commit_due(self) -> bool:
        """Return whether no further result is ready, or the last commit was some time ago."""
        if not self._in_flight or not self._in_flight[0][1].done():
            return True
        return time.monotonic() - self._last_commit >= SECONDS_BETWEEN_COMMITS

    def _commit(self) -> None:
        """Commit measurements with the decisions that followed, and update the observer."""
        self._validation.advance(self._evolution)
        self._recorder.write(self._clock.elapsed, None)
        self._store.commit()
        for champion in self._evolution.champions[self._logged_champions :]:
            program, generated = live(champion.record.program), self._evolution.counts.generated
            self._notifier.journal.write_champion(champion.record.id, program, generated)
        self._logged_champions = len(self._evolution.champions)
        self._notifier.deliver()
        self._notifier.observer.update(self._snapshot())
        self._injections.add_to(self._evolution)
        self._last_commit = time.monotonic()

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
        self._recorder.write(self._clock.elapsed, reason)
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
            elapsed_seconds=self._clock.seconds_in_this_process,
            searching_seconds=time.monotonic() - self._search_start,
            replayed=self._replayed_programs,
            replayed_trainings=self._replayed_trainings,
            validated=self._validation.validated_champions(evolution),
        )


def _wait_at_most(seconds: float, future: Future[Any]) -> None:
    """Wait for `future` for at most `seconds`; a short wait lets Python handle signals."""
    try:
        future.exception(timeout=seconds)
    except TimeoutError:
        return
