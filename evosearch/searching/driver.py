"""The search with its effects: worker threads, the store, the clock.

Evolution decides, workers measure, the store remembers. The main thread asks for requests, commits
their results in order and writes each to the store before the next is decided. JAX releases
Python's lock while it trains, so threads keep all cores busy and share one compiled interpreter.
"""

from __future__ import annotations

import os
import threading
import time
import tomllib
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from evosearch.config import MAY_CHANGE, Config, make_config
from evosearch.environment import describe
from evosearch.errors import EvosearchError, UsageError
from evosearch.searching.evolution import Counts, Evolution, Request
from evosearch.searching.journal import Journal
from evosearch.searching.measurement import Laboratory, Measurement
from evosearch.searching.records import Champion
from evosearch.searching.replay import Replay
from evosearch.searching.run import CONFIG, Run, free_directory, make_run_directory, read_config
from evosearch.searching.startup import make_laboratory
from evosearch.searching.store import Store
from evosearch.searching.validation import Validator, fitness_on
from primitives import live

_Results = Mapping[str, Measurement]


@dataclass(frozen=True)
class Snapshot:
    """What an observer may show while the search runs."""

    counts: Counts
    champion: Champion
    tests: int
    trainings: int
    programs: int | None
    """The limit, as the next two."""
    trainings_limit: int | None
    minutes: float | None
    elapsed_seconds: float
    """Since this process started the search."""
    searching_seconds: float
    """The same, without start-up and replay."""
    replayed: int
    """Programs that were generated before this process took over."""
    replayed_trainings: int
    """Trainings that were made before."""
    validated: Sequence[tuple[Champion, float]]
    """Champions in order, each with its fitness on validation tasks."""


class Observer(Protocol):
    """Whoever watches a search; called from the searching thread."""

    def phase(self, text: str) -> None:
        """The search has begun something that takes a while."""

    def notice(self, text: str) -> None:
        """Something happened that a person should know of, though the search goes on."""

    def update(self, snapshot: Snapshot) -> None:
        """A result has been committed."""


class _Silent:
    def phase(self, text: str) -> None:
        """Nobody watches."""

    def notice(self, text: str) -> None:
        """Nobody watches."""

    def update(self, snapshot: Snapshot) -> None:
        """Nobody watches."""


class Search:
    """A search in a run directory. `run` blocks; `interrupt` may come from a signal handler."""

    def __init__(
        self,
        directory: Path,
        *,
        programs: int | None = None,
        trainings: int | None = None,
        minutes: float | None = None,
        workers: int | None = None,
        observer: Observer | None = None,
    ):
        self.directory = directory
        self.config = read_config(directory)
        self.programs, self.trainings = programs, trainings
        if programs is None and trainings is None:
            self.programs, self.trainings = self.config.programs, self.config.trainings
        self.minutes = self.config.minutes if minutes is None else minutes
        self.workers = workers or os.cpu_count() or 1
        self.observer = observer or _Silent()
        self._interrupted = threading.Event()
        self._notices: deque[str] = deque()  # from any thread
        self._journal = Journal(directory)

    def interrupt(self) -> None:
        """Ends the search soon; what is in flight is dropped and measured again on resume."""
        self._interrupted.set()

    def run(self) -> str:
        """Searches until a limit is reached or `interrupt` is called; the reason for the stop.

        Raises:
            EvosearchError: the work cannot go on; everything committed is kept.
        """
        self._start = time.monotonic()
        store = Store.open(self.directory, "search")
        # In a batch, a thread for each request: it only waits.
        threads = self.workers if self.config.batch == 1 else self.config.requests
        executor = ThreadPoolExecutor(threads, thread_name_prefix="evosearch")
        self._validator = Validator(self.config, self._interrupted)
        try:
            before = store.progress() or {}
            self._before = float(before.get("elapsed_seconds") or 0.0)
            self._check_config(store)
            self._check_limits(store, before.get("generated") or 0)
            laboratory = make_laboratory(
                self.config,
                store,
                executor,
                self.workers,
                self._phase,
                self._notices.append,
                self._interrupted,
            )
            if laboratory is None:
                return self._ended(store, None, "interrupted")
            return self._search(store, laboratory, executor)
        except BaseException:
            store.rollback()
            raise
        finally:
            executor.shutdown(wait=True, cancel_futures=True)
            self._validator.close()
            store.close()

    def _check_config(self, store: Store) -> None:
        """A search that goes on under other settings is another, and its record would be lost."""
        text = store.meta("config")
        if text is None:  # a run from before this was kept
            return
        made = make_config(tomllib.loads(text))
        changed = [
            name
            for name in sorted(Config.model_fields.keys() - MAY_CHANGE)
            if getattr(made, name) != getattr(self.config, name)
        ]
        if changed:
            path = self.directory / CONFIG
            raise UsageError(
                f"{path} is not what the run was made with ({', '.join(changed)}), and to resume "
                "would drop what is recorded; undo the change, or start another run: "
                f"evosearch search {path}"
            )

    def _check_limits(self, store: Store, generated: int) -> None:
        """A limit below what the run has is a mistake: replaying up to it would drop the rest."""
        last_request = store.rows("select max(request) as last from programs")[0]["last"] or 0
        # What was known when the last program was generated; tests go on beyond the limit.
        trainings = store.trainings(last_request - self.config.requests)
        for name, has, limit in (
            ("programs", generated, self.programs),
            ("trainings", trainings + 1, self.trainings),
        ):
            if limit is not None and limit < has:
                raise UsageError(
                    f"{self.directory} has {has:,} {name} already, more than the limit of "
                    f"{limit:,}, which counts them too; go on with a larger --{name}"
                )

    def _search(self, store: Store, laboratory: Laboratory, executor: ThreadPoolExecutor) -> str:
        evolution = Evolution(self.config)
        replay = Replay(store)
        if replay.replaying:
            self._phase("replaying the run so far")
            store.begin_replay()
        self._tests_written = 0
        self._champions_written = 0
        self._validations = store.validations()
        self._validated = 0
        in_flight: deque[tuple[Request, Future[_Results]]] = deque()
        self._searching_since = time.monotonic()
        self._replayed = self._replayed_trainings = 0
        while not self._interrupted.is_set():
            while len(in_flight) < self.config.requests:
                replay.inject(evolution, store)
                # The clock ends no replay: it would drop what is not yet replayed.
                limit = self.programs if replay.replaying else self._limit(evolution)
                request = evolution.ask(limit, self.trainings)
                if request is None:
                    break
                in_flight.append((request, self._begun(request, replay, laboratory, executor)))
            if not in_flight:
                self._finish_validation(store, evolution)
                return self._ended(store, evolution, self._reason(evolution))
            request, future = in_flight.popleft()
            found = self._waited(request, future)
            if found is None:
                break
            evolution.tell(request, {task: m.score for task, m in found.items()})
            self._write(store, evolution, request, found)
            replay.told(request)
            if replay.replaying:
                self._searching_since = time.monotonic()
                self._replayed = evolution.counts.generated
                self._replayed_trainings = evolution.trainings
            else:
                self._validate(store, evolution)
                store.set_progress(evolution.counts, self._elapsed(), None)
                store.commit()
                record = evolution.champion.record
                self._journal.champion(record.id, live(record.program), evolution.counts.generated)
            while self._notices:
                text = self._notices.popleft()
                self._journal.event("notice", text=text)
                self.observer.notice(text)
            self.observer.update(self._snapshot(evolution))
        for _, future in in_flight:
            future.cancel()
        if replay.replaying:
            store.rollback()
            return "interrupted"
        return self._ended(store, evolution, "interrupted")

    def _begun(
        self,
        request: Request,
        replay: Replay,
        laboratory: Laboratory,
        executor: ThreadPoolExecutor,
    ) -> Future[_Results]:
        known = replay.take(request)
        if known is None:
            return executor.submit(
                laboratory.measure, request.program, request.seed, request.floors
            )
        done: Future[_Results] = Future()
        done.set_result(known)
        return done

    def _waited(self, request: Request, future: Future[_Results]) -> _Results | None:
        """The result; None if the search is interrupted first."""
        while not future.done():
            if self._interrupted.is_set():
                return None
            _wait(future, 0.1)
        try:
            return future.result()
        except Exception as error:
            raise EvosearchError(
                f"training with program {request.record.id} failed ({type(error).__name__}: "
                f"{str(error).splitlines()[0] if str(error) else ''}); nothing is lost: "
                f"`evosearch resume {self.directory}`"
            ) from error

    def _write(self, store: Store, evolution: Evolution, request: Request, found: _Results) -> None:
        store.add_births(evolution.births)
        evolution.births.clear()
        store.add_measurements(request, found)
        for test in evolution.tests[max(0, self._tests_written - 1) :]:
            store.add_test(test)
        self._tests_written = len(evolution.tests)
        for number in range(self._champions_written, len(evolution.champions)):
            store.add_champion(number, evolution.champions[number])
        self._champions_written = len(evolution.champions)

    def _validate(self, store: Store, evolution: Evolution) -> None:
        """Begins with champions that are new and keeps what has been found of earlier ones."""
        for number in range(self._validated, len(evolution.champions)):
            record = evolution.champions[number].record
            if record.id not in self._validations:
                self._validator.begin(number, record.program)
        self._validated = len(evolution.champions)
        while self._validator.problems:
            self._journal.event("validation", problem=self._validator.problems.pop())
        for number, found in self._validator.finished().items():
            program = evolution.champions[number].record.id
            self._validations[program] = found
            store.add_validation(number, program, found)

    def _finish_validation(self, store: Store, evolution: Evolution) -> None:
        self._validate(store, evolution)
        while self._validator.waiting and not self._interrupted.is_set():
            left = self._validator.waiting
            self._phase(f"validating champions on 10x the work: {left} left")
            while self._validator.waiting == left and not self._interrupted.is_set():
                time.sleep(0.1)
                self._validate(store, evolution)
            store.commit()

    def _phase(self, text: str) -> None:
        self._journal.event("phase", text=text)
        self.observer.phase(text)

    def _ended(self, store: Store, evolution: Evolution | None, reason: str) -> str:
        self._journal.event("stop", reason=reason)
        if evolution is None:
            store.set_stop_reason(reason)
        else:
            store.add_births(evolution.births)
            store.set_progress(evolution.counts, self._elapsed(), reason)
        store.commit()
        return reason

    def _limit(self, evolution: Evolution) -> int | None:
        """How many programs to generate: the number asked for, or no more once time is up."""
        spent = time.monotonic() - self._start
        if self.minutes is not None and spent >= 60 * self.minutes:
            return evolution.counts.generated
        return self.programs

    def _reason(self, evolution: Evolution) -> str:
        if self.programs is not None and evolution.counts.generated >= self.programs:
            return "programs"
        enough = self.trainings is not None and evolution.trainings >= self.trainings
        return "trainings" if enough else "minutes"

    def _elapsed(self) -> float:
        return self._before + time.monotonic() - self._start

    def _snapshot(self, evolution: Evolution) -> Snapshot:
        return Snapshot(
            evolution.counts,
            evolution.champion,
            len(evolution.tests),
            evolution.trainings,
            self.programs,
            self.trainings,
            self.minutes,
            time.monotonic() - self._start,
            time.monotonic() - self._searching_since,
            self._replayed,
            self._replayed_trainings,
            self._curve(evolution),
        )

    def _curve(self, evolution: Evolution) -> list[tuple[Champion, float]]:
        largest = self.config.measurement.largest_gain
        return [
            (champion, fitness_on(self._validations[champion.record.id], largest))
            for champion in evolution.champions
            if self._validations.get(champion.record.id)
        ]


def _wait(future: Future[Any], seconds: float) -> None:
    """Waits for `future`, at most so long; signals are handled in between."""
    try:
        future.exception(timeout=seconds)
    except TimeoutError:
        return


def search(
    config: Config,
    directory: Path | str | None = None,
    *,
    workers: int | None = None,
    observer: Observer | None = None,
) -> Run:
    """Starts a run in `directory` and searches until its limit.

    Args:
        config: what to search; see `evosearch.config`.
        directory: where the run is kept, made if need be; None for a new one under `runs/`.
        workers: threads that train; None for one per core. The result does not depend on it.
        observer: told of progress.

    Returns:
        The finished run.

    Raises:
        UsageError: the directory holds a run already.
        EvosearchError: the work cannot go on.
    """
    path = free_directory() if directory is None else Path(directory)
    make_run_directory(path, config, describe())
    Search(path, workers=workers, observer=observer).run()
    return Run(path)


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

    `programs` and `trainings` count what the run has already, and either replaces both of the
    run's own; `minutes` count from now.
    """
    path = Path(directory)
    Search(
        path,
        programs=programs,
        trainings=trainings,
        minutes=minutes,
        workers=workers,
        observer=observer,
    ).run()
    return Run(path)
