"""The loop of a search: ask evolution, submit to the scorer, tell, commit."""

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
from evosearch.runs.replay import Measurements, Replayed
from evosearch.runs.rows import INJECTIONS
from evosearch.runs.store import Store
from primitives import ProgramError, live, parse

INTERRUPTED = "interrupted"
"""The reason for the stop of a search that was interrupted."""


@dataclass(frozen=True)
class Clock:
    """Times of a search, by `time.monotonic`.

    Attributes:
        start: when this process started.
        before: seconds that earlier processes spent.
    """

    start: float
    before: float

    @property
    def spent(self) -> float:
        """Seconds since this process started."""
        return time.monotonic() - self.start

    @property
    def elapsed(self) -> float:
        """Seconds over all processes."""
        return self.before + self.spent


class Injections:
    """Programs put into a search by hand, passed on to evolution once each."""

    def __init__(self, store: Store, notifier: Notifier):
        self._store = store
        self._notifier = notifier
        self._taken: set[int] = set()

    def take_up(self, evolution: Evolution) -> None:
        """Passes on those that are new; a bad one is set aside, never fatal."""
        for row in self._store.select(INJECTIONS, "where request is null and withdrawn is null"):
            if row.id in self._taken:
                continue
            self._taken.add(row.id)
            try:
                evolution.inject(row.id, parse(row.source))
            except ProgramError as error:
                why = str(error).splitlines()[0]
                self._store.withdraw(row.id, why)
                self._notifier.notice(f"injected program i{row.id} is set aside: {why}")


class SearchLoop:
    """Searches from where a record ends until a limit is reached or the search is interrupted.

    The main thread decides and writes; threads follow one request each through its tasks and wait
    while the backend trains.

    Args:
        config: of the search.
        store: open to search.
        replayed: the search where its record ends.
        scorer: measures.
        threads: follow requests, at most as many as the backend trains at a time.
        limits: of the search.
        clock: of this process.
        recorder: writes the record.
        injections: programs put in by hand.
        validation: of champions.
        notifier: what is said goes there.
        activity: what each thread does.
        interrupted: once set, the search ends.
    """

    def __init__(
        self,
        config: Config,
        store: Store,
        replayed: Replayed,
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
        self._spares = replayed.spares
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
        self._begun = time.monotonic()
        self._replayed = self._evolution.counts.generated
        self._replayed_trainings = self._evolution.trainings
        self._in_flight = deque((one, self._submit(one)) for one in replayed.in_flight)

    def run(self) -> str:
        """Searches; the reason for the stop.

        Raises:
            EvosearchError: a training failed; everything committed is kept.
        """
        while not self._interrupted.is_set():
            while len(self._in_flight) < self._config.requests and (request := self._ask()):
                self._in_flight.append((request, self._submit(request)))
            if not self._in_flight:
                self._finish_validation()
                reason = INTERRUPTED if self._interrupted.is_set() else self._limit_reached()
                return self._stop(reason)
            request, future = self._in_flight.popleft()
            found = self._wait(request, future)
            if found is None:
                break
            self._evolution.tell(request, {task: m.score for task, m in found.items()})
            self._commit(request, found)
        return self._stop(INTERRUPTED)

    def _ask(self) -> Request | None:
        """The next request; None at a limit."""
        self._injections.take_up(self._evolution)
        programs = self._limits.programs
        if self._limits.minutes is not None and self._clock.spent >= 60 * self._limits.minutes:
            programs = self._evolution.counts.generated  # no more
        return self._evolution.ask(programs, self._limits.trainings)

    def _submit(self, request: Request) -> Future[Measurements]:
        """What `request` asks for; at once if it was measured before."""
        known = self._spares.pop((request.record.key, request.seed), None)
        if known is None:
            return self._threads.submit(self._measure, request)
        done: Future[Measurements] = Future()
        done.set_result(known)
        return done

    def _measure(self, request: Request) -> Measurements:
        """Follows `request` through its tasks; on a thread."""
        seed = f"{request.seed.stream} seed {request.seed.number}"

        def note(task: str) -> None:
            self._activity.note(f"program {request.record.id} on {task}, {seed}")

        try:
            return self._scorer.measure(request.program, request.seed, request.floors, note)
        finally:
            self._activity.note("")

    def _wait(self, request: Request, future: Future[Measurements]) -> Measurements | None:
        """The result; None if the search is interrupted first."""
        while not future.done():
            if self._interrupted.is_set():
                return None
            _wait_at_most(0.1, future)
            self._notifier.pass_on()
        try:
            return future.result()
        except Exception as error:
            raise EvosearchError(
                f"training with program {request.record.id} failed ({describe_error(error)}); "
                f"nothing is lost: `evosearch resume {self._store.directory}`"
            ) from error

    def _commit(self, request: Request, found: Measurements) -> None:
        """Writes what `request` measured and what evolution made of it, and tells of it."""
        evolution = self._evolution
        self._recorder.write(request, found)
        self._validation.advance(evolution)
        self._recorder.progress(self._clock.elapsed, None)
        self._store.commit()
        record = evolution.champion.record
        self._notifier.journal.champion(record.id, live(record.program), evolution.counts.generated)
        self._notifier.pass_on()
        self._notifier.observer.update(self._snapshot())

    def _finish_validation(self) -> None:
        validation, evolution = self._validation, self._evolution
        validation.advance(evolution)
        while validation.waiting and not self._interrupted.is_set():
            left = validation.waiting
            self._notifier.phase(f"validating champions on 10x the work: {left} left")
            while validation.waiting == left and not self._interrupted.is_set():
                time.sleep(0.1)
                validation.advance(evolution)
            self._store.commit()

    def _limit_reached(self) -> str:
        """Which limit ended the search."""
        limits, evolution = self._limits, self._evolution
        if limits.programs is not None and evolution.counts.generated >= limits.programs:
            return "programs"
        enough = limits.trainings is not None and evolution.trainings >= limits.trainings
        return "trainings" if enough else "minutes"

    def _stop(self, reason: str) -> str:
        self._recorder.progress(self._clock.elapsed, reason)
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
            elapsed_seconds=self._clock.spent,
            searching_seconds=time.monotonic() - self._begun,
            replayed=self._replayed,
            replayed_trainings=self._replayed_trainings,
            validated=self._validation.curve(evolution),
        )


def _wait_at_most(seconds: float, future: Future[Any]) -> None:
    """Waits for `future`; signals are handled in between."""
    try:
        future.exception(timeout=seconds)
    except TimeoutError:
        return
