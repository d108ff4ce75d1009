"""The search with its effects: worker threads, the store, the clock.

Evolution decides, workers measure, the store remembers. The main thread asks for requests, commits
their results in order and writes each to the store before the next is decided. JAX releases
Python's lock while it trains, so threads keep all cores busy and share one compiled interpreter.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from evosearch.config import Config
from evosearch.environment import describe
from evosearch.errors import EvosearchError, UsageError, told
from evosearch.evaluation.validation import Validator
from evosearch.evolution.evolution import Evolution, Request
from evosearch.evolution.records import Champion
from evosearch.measuring.laboratory import Laboratory
from evosearch.measuring.ledger import Ledger
from evosearch.pipeline.limits import Limits, kept_limits
from evosearch.pipeline.observers import Observer, Silent, Snapshot
from evosearch.pipeline.startup import make_laboratory
from evosearch.runs.activity import Activity
from evosearch.runs.directory import (
    check_config,
    free_directory,
    make_run_directory,
    read_config,
)
from evosearch.runs.journal import Journal
from evosearch.runs.provenance import refusal, this_process
from evosearch.runs.recorder import Recorder
from evosearch.runs.replay import Divergence, Measurements, Replayed, replay
from evosearch.runs.rows import INJECTIONS, MEASUREMENTS, PROCESSES, PROGRAMS
from evosearch.runs.run import Run
from evosearch.runs.store import Store
from evosearch.runs.validations import is_whole, validated_fitness
from primitives import ProgramError, live, parse

_SECONDS_BETWEEN_PHASES = 1.0
_SECONDS_BEFORE_SAYING = 2.0


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
        self._given = Limits(programs, trainings, minutes)
        self.limits = self._given or Limits.of(self.config)
        self.workers = workers or os.cpu_count() or 1
        self.observer = observer or Silent()
        self._interrupted = threading.Event()
        self._notices: deque[str] = deque()  # from any thread
        self._injected: set[int] = set()
        self._journal = Journal(directory)
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
        self._start = time.monotonic()
        self._check_older_run()
        store = Store.open(self.directory, "search")
        # In a batch, a thread for each request: it only waits.
        threads = self.workers if self.config.batch == 1 else self.config.requests
        executor = ThreadPoolExecutor(threads, thread_name_prefix="worker")
        ledger = partial(Ledger.beside, self.directory, trouble=self._notices.append)
        self._validator = Validator(self.config, self._interrupted, ledger, self._activity.note)
        with self._activity:
            try:
                return self._run(store, executor)
            except BaseException:
                self._interrupted.set()
                store.rollback()
                raise
            finally:
                self._wait_for_workers(executor)
                store.close()

    def _check_older_run(self) -> None:
        """Whether a run of an older schema can be resumed, before its database is migrated."""
        store = Store.open(self.directory)
        if store.is_migrated_copy:
            check_config(store, self.config)
            self.limits = self._given or kept_limits(store, self.config)
            store.check_complete()
            with suppress(_InterruptedError):
                self._replayed_from(store)
        store.close()

    def _run(self, store: Store, executor: ThreadPoolExecutor) -> str:
        store.check_complete()
        before = store.progress()
        self._before = before.elapsed_seconds if before else 0.0
        check_config(store, self.config)
        self.limits = self._given or kept_limits(store, self.config)
        self._check_limits(store, before.generated if before else 0)
        try:
            replayed = self._replayed_from(store)
            laboratory = make_laboratory(
                self.config,
                store,
                executor,
                self.workers,
                self._phase,
                self._notices.append,
                self._interrupted,
                self._activity.note,
            )
        except _InterruptedError:
            laboratory = None
        if laboratory is None:
            self._journal.event("stop", reason="interrupted")
            store.set_stop_reason("interrupted")
            store.commit()
            return "interrupted"
        return self._search(store, laboratory, executor, replayed)

    def _replayed_from(self, store: Store) -> Replayed:
        """The search brought to where its record ends; nothing is written."""
        if store.count(MEASUREMENTS):
            self._phase("replaying the run so far")
        next_phase = time.monotonic() + _SECONDS_BETWEEN_PHASES

        def proceed(done: int, total: int) -> None:
            nonlocal next_phase
            if self._interrupted.is_set():
                raise _InterruptedError
            if time.monotonic() >= next_phase:
                next_phase = time.monotonic() + _SECONDS_BETWEEN_PHASES
                self._phase(f"replaying the run so far: {done:,} of {total:,} requests")

        try:
            return replay(
                self.config,
                store,
                programs=self.limits.programs,
                trainings=self.limits.trainings,
                proceed=proceed,
                take_up=lambda evolution: self._inject(store, evolution),
            )
        except Divergence as divergence:
            raise refusal(divergence, store) from None

    def _check_limits(self, store: Store, generated: int) -> None:
        """A limit below what the run has is a mistake: it counts that too."""
        last_request = store.largest(PROGRAMS, "request") or 0
        # What was known when the last program was generated; tests go on beyond the limit.
        trainings = store.trainings(last_request - self.config.requests)
        for name, has, limit in (
            ("programs", generated, self.limits.programs),
            ("trainings", trainings + 1, self.limits.trainings),
        ):
            if limit is not None and limit < has:
                raise UsageError(
                    f"{self.directory} has {has:,} {name} already, more than the limit of "
                    f"{limit:,}, which counts them too; go on with a larger --{name}"
                )

    def _search(
        self,
        store: Store,
        laboratory: Laboratory,
        executor: ThreadPoolExecutor,
        replayed: Replayed,
    ) -> str:
        evolution, spares = replayed.evolution, replayed.spares
        recorder = self._begin(store, replayed)

        def begun(request: Request) -> Future[Measurements]:
            known = spares.pop((request.record.key, request.seed), None)
            if known is None:
                return executor.submit(self._measured, laboratory, request)
            done: Future[Measurements] = Future()
            done.set_result(known)
            return done

        in_flight = deque((request, begun(request)) for request in replayed.in_flight)
        while not self._interrupted.is_set():
            while len(in_flight) < self.config.requests:
                self._inject(store, evolution)
                request = evolution.ask(self._limit(evolution), self.limits.trainings)
                if request is None:
                    break
                in_flight.append((request, begun(request)))
            if not in_flight:
                self._finish_validation(store, evolution)
                if self._interrupted.is_set():
                    break
                return self._ended(store, recorder, self._reason(evolution))
            request, future = in_flight.popleft()
            found = self._waited(request, future)
            if found is None:
                break
            evolution.tell(request, {task: m.score for task, m in found.items()})
            recorder.write(request, found)
            self._validate(store, evolution)
            recorder.progress(self._elapsed(), None)
            store.commit()
            record = evolution.champion.record
            self._journal.champion(record.id, live(record.program), evolution.counts.generated)
            self._pass_on_notices()
            self.observer.update(self._snapshot(evolution))
        return self._ended(store, recorder, "interrupted")

    def _begin(self, store: Store, replayed: Replayed) -> Recorder:
        """Notes this process in the run; what writes it from here on."""
        evolution = replayed.evolution
        self._validations = {
            program: found
            for program, found in store.validations().items()
            if is_whole(found, self.config)
        }
        self._validated = 0
        self._searching_since = time.monotonic()
        self._replayed = evolution.counts.generated
        self._replayed_trainings = evolution.trainings
        recorder = Recorder(store, replayed)
        first = replayed.in_flight[0].number if replayed.in_flight else evolution.next_request
        number = (store.largest(PROCESSES, "number") or 0) + 1
        store.add_process(this_process(number, first))
        self._given.keep(store)
        store.commit()
        return recorder

    def _inject(self, store: Store, evolution: Evolution) -> None:
        """Passes on the programs put in by hand; a bad one is set aside, never fatal."""
        for row in store.select(INJECTIONS, "where request is null and withdrawn is null"):
            if row.id in self._injected:
                continue
            self._injected.add(row.id)
            try:
                evolution.inject(row.id, parse(row.source))
            except ProgramError as error:
                why = str(error).splitlines()[0]
                store.withdraw(row.id, why)
                self._notices.append(f"injected program i{row.id} is set aside: {why}")

    def _measured(self, laboratory: Laboratory, request: Request) -> Measurements:
        """What `request` asks for; on a worker's thread."""
        seed = f"{request.seed.stream} seed {request.seed.number}"

        def note(task: str) -> None:
            self._activity.note(f"program {request.record.id} on {task}, {seed}")

        try:
            return laboratory.measure(request.program, request.seed, request.floors, note)
        finally:
            self._activity.note("")

    def _waited(self, request: Request, future: Future[Measurements]) -> Measurements | None:
        """The result; None if the search is interrupted first."""
        while not future.done():
            if self._interrupted.is_set():
                return None
            _wait(future, 0.1)
            self._pass_on_notices()
        try:
            return future.result()
        except Exception as error:
            raise EvosearchError(
                f"training with program {request.record.id} failed ({told(error)}); nothing is "
                f"lost: `evosearch resume {self.directory}`"
            ) from error

    def _pass_on_notices(self) -> None:
        while self._notices:
            text = self._notices.popleft()
            self._journal.event("notice", text=text)
            self.observer.notice(text)

    def _wait_for_workers(self, executor: ThreadPoolExecutor) -> None:
        """Waits for trainings that cannot be cut short, and says for which after a while."""
        executor.shutdown(wait=False, cancel_futures=True)

        def wait() -> None:
            executor.shutdown()
            self._validator.close()

        next_line = time.monotonic() + _SECONDS_BEFORE_SAYING
        ended = threading.Thread(target=wait, name="shutdown", daemon=True)
        ended.start()
        while ended.is_alive():
            ended.join(0.1)
            if time.monotonic() >= next_line and ended.is_alive():
                next_line = time.monotonic() + 10 * _SECONDS_BEFORE_SAYING
                doing = [f"{one.worker}: {one.doing}" for one in self._activity.now()]
                self.observer.notice(f"waiting for what is in flight ({'; '.join(doing)})")

    def _validate(self, store: Store, evolution: Evolution) -> None:
        """Begins with champions that are new and keeps what has been found of earlier ones."""
        for number in range(self._validated, len(evolution.champions)):
            record = evolution.champions[number].record
            if record.id not in self._validations:
                self._validator.begin(number, record.program)
        self._validated = len(evolution.champions)
        while self._validator.problems:
            self._notices.append(self._validator.problems.pop())
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

    def _ended(self, store: Store, recorder: Recorder, reason: str) -> str:
        recorder.progress(self._elapsed(), reason)
        store.commit()
        self._pass_on_notices()
        self._journal.event("stop", reason=reason)
        return reason

    def _limit(self, evolution: Evolution) -> int | None:
        """How many programs to generate: the number asked for, or no more once time is up."""
        spent = time.monotonic() - self._start
        if self.limits.minutes is not None and spent >= 60 * self.limits.minutes:
            return evolution.counts.generated
        return self.limits.programs

    def _reason(self, evolution: Evolution) -> str:
        if self.limits.programs is not None and evolution.counts.generated >= self.limits.programs:
            return "programs"
        enough = self.limits.trainings is not None and evolution.trainings >= self.limits.trainings
        return "trainings" if enough else "minutes"

    def _elapsed(self) -> float:
        return self._before + time.monotonic() - self._start

    def _snapshot(self, evolution: Evolution) -> Snapshot:
        return Snapshot(
            evolution.counts,
            evolution.champion,
            len(evolution.tests),
            evolution.trainings,
            self.limits.programs,
            self.limits.trainings,
            self.limits.minutes,
            time.monotonic() - self._start,
            time.monotonic() - self._searching_since,
            self._replayed,
            self._replayed_trainings,
            self._curve(evolution),
        )

    def _curve(self, evolution: Evolution) -> list[tuple[Champion, float]]:
        limits = self.config.measurement
        return [
            (champion, validated_fitness(self._validations[champion.record.id], limits).mean)
            for champion in evolution.champions
            if self._validations.get(champion.record.id)
        ]


class _InterruptedError(Exception):
    """The search was interrupted before it began."""


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

    `programs` and `trainings` count what the run has already; `minutes` count from now. Limits that
    are given replace all of the run's own, also for later calls without any.
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
