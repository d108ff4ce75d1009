"""A run, read: how it stands, its programs and champions, what they cost."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from evosearch.config import Config
from evosearch.errors import EvosearchError, UsageError
from evosearch.runs.activity import read_activity
from evosearch.runs.cost import Cost, running_cost
from evosearch.runs.database import is_being_searched
from evosearch.runs.directory import check_config, read_config
from evosearch.runs.documents import read_document, write_document
from evosearch.runs.funnel_document import FunnelDocument
from evosearch.runs.ranking import Candidate, candidates, pareto_front
from evosearch.runs.rows import (
    CHAMPIONS,
    EMPTY_PROGRESS,
    INJECTIONS,
    MEASUREMENTS,
    PROGRAMS,
    TESTS,
    TUNING,
    ChampionRow,
    MeasurementRow,
    ProgramRow,
    TestRow,
)
from evosearch.runs.store import Store
from evosearch.runs.summary import ChampionEntry, Estimate, MeasuredProgram, RunStatus
from evosearch.runs.validations import Validation, is_complete, validated_estimate
from evosearch.seeds import Stream
from evosearch.statistics import LARGEST_SCORE
from primitives import Program, ProgramError, live, parse, state_memory

FUNNEL = "funnel.json"
_PROGRAMS_AT_ONCE = 500
"""Ids in one condition; SQLite allows a thousand at least."""


class Run:
    """A run directory, read; it may still be searched in by another process.

    Args:
        directory: the run's.
        config: what its configuration is, where that is known; None to read it.

    Raises:
        UsageError: there is no run, or its configuration was changed.
        EvosearchError: its database is damaged, or of a newer version.
    """

    def __init__(self, directory: Path | str, config: Config | None = None):
        self.directory = Path(directory)
        self.config = config or read_config(self.directory)
        self._store = Store.open(self.directory)
        check_config(self._store, self.config)
        self._store.check_complete()

    def status(self) -> RunStatus:
        """Counts, speed, cost and the champion."""
        progress = self._store.progress() or EMPTY_PROGRESS
        generated, elapsed = progress.generated, progress.elapsed_seconds
        cost = self.cost()
        is_running = is_being_searched(self.directory)
        return RunStatus(
            run=str(self.directory),
            generated=generated,
            invalid=progress.invalid,
            cache_hits=progress.cache_hits,
            cache_hit_rate=1 - progress.evaluated / generated if generated else 0.0,
            evaluated=progress.evaluated,
            redundant_fraction=(
                1 - progress.live_statements / progress.statements if progress.statements else 0.0
            ),
            measurements=progress.measurements,
            trainings=cost.trainings,
            weight_updates=cost.updates,
            programs_per_second=generated / elapsed if elapsed else 0.0,
            elapsed_seconds=elapsed,
            best=self.best(),
            validation=self._last_validation(),
            funnel=self.funnel(),
            stop_reason=None if is_running else progress.stop_reason,
            running=is_running,
            workers=read_activity(self.directory) if is_running else [],
        )

    def best(self) -> MeasuredProgram | None:
        """The champion; None before the first measurement."""
        rows = self._store.select(CHAMPIONS, "order by number desc limit 1")
        return self.measured(rows[0].key) if rows else None

    def _last_validation(self) -> Estimate | None:
        """The champion's on ten times the work; None if it had none, or not yet."""
        last = self._store.largest(CHAMPIONS, "number")
        return None if last is None else self.validations().get(last)

    def top(self, n: int | None = 10, *, pareto: bool = False) -> list[MeasuredProgram]:
        """The best programs by the lower bound of fitness, then id.

        Only programs that were trained on every task: others have no mean to report. Only those
        that are returned are parsed.

        Args:
            n: how many; None for all.
            pareto: only those that no other beats in fitness (lower bound), live statements and
                state memory alike.
        """
        found = self._candidates()
        if pareto:
            found = self._front(found)
        found.sort(key=lambda one: (-one.fitness.low, one.id))
        return self._read(found[:n])

    def program(self, number: int) -> Program:
        """A generated program by its id.

        Raises:
            UsageError: there is none of that id.
        """
        return self._parsed(self.row(number).source)

    def row(self, number: int) -> ProgramRow:
        """What the store knows of a generated program.

        Raises:
            UsageError: there is none of that id.
        """
        if not 0 <= number < 2**63 or not (
            rows := self._store.select(PROGRAMS, "where id = ?", number)
        ):
            last = self._store.largest(PROGRAMS, "id")
            ids = "it has none yet" if last is None else f"ids go from 0 to {last}"
            raise UsageError(f"{self.directory} has no program {number}; {ids}")
        return rows[0]

    def injected(self, number: int) -> Program:
        """A program put in by `evosearch inject`, by its number.

        Raises:
            UsageError: there is none of that number.
        """
        if not 0 <= number < 2**63 or not (
            rows := self._store.select(INJECTIONS, "where id = ?", number)
        ):
            raise UsageError(f"{self.directory} has no injected program i{number}")
        return self._parsed(rows[0].source)

    def champion(self) -> Program:
        """The champion.

        Raises:
            EvosearchError: nothing has been measured yet.
        """
        best = self.best()
        if best is None:
            raise EvosearchError(
                f"{self.directory} has no champion yet; `evosearch resume {self.directory}`"
            )
        return parse(best.source)

    def save_funnel(self, document: Mapping[str, Any]) -> None:
        """Keeps what `evosearch.evaluation.funnel` found of this run's programs.

        Raises:
            EvosearchError: it cannot be written.
        """
        write_document(self.directory / FUNNEL, document)

    def funnel(self) -> FunnelDocument | None:
        """What `save_funnel` kept last; None if this run went through no funnel.

        Raises:
            EvosearchError: the file is damaged.
        """
        remedy = f"evosearch funnel {self.directory}"
        return read_document(self.directory / FUNNEL, FunnelDocument, remedy)

    def winner(self) -> Program:
        """The program that came through the funnel.

        Raises:
            UsageError: there was no funnel, or nothing came through.
        """
        document = self.funnel()
        if document is None:
            raise UsageError(
                f"{self.directory} has no winner yet; `evosearch funnel {self.directory}` finds it"
            )
        if document.winner is None:
            raise UsageError(f"no program of {self.directory} came through the funnel")
        return parse(document.winner.source)

    def measured(self, key: str) -> MeasuredProgram | None:
        """What is known of the programs with a semantic key; None if nothing."""
        found = self._read(self._candidates(key))
        return found[0] if found else None

    def tests(self) -> list[TestRow]:
        """Every test between a challenger and the champion of its time."""
        return self._store.select(TESTS, "order by number")

    def rates(self) -> dict[str, float]:
        """The baseline's learning rate on each task, as far as it is tuned."""
        return self._store.rates()

    def cost(self) -> Cost:
        """What the search has cost so far."""
        return next(reversed(self._running_cost().values()), Cost())

    def champions(self) -> list[ChampionEntry]:
        """Every champion in order, the initial program first, with what the search had cost.

        A champion has an estimate only from the seeds that confirm it, and none if it was dethroned
        before. One that failed on one of these seeds is followed by the one before it.
        """
        after = self._running_cost()
        decided = self._test_requests()
        found: list[ChampionEntry] = []
        before: ChampionRow | None = None
        for row in self._store.select(CHAMPIONS, "order by number"):
            if row.test is not None:
                last = decided.get(row.test, 0)
            else:
                last = self._failure(before.key) if before else 0
            before = row
            described = self._candidates(row.key)[:1]
            known = [one.estimate for one in described if one.confirmed or row.number == 0]
            found.append(
                ChampionEntry(
                    row.number, row.program, after.get(last, Cost()), known[0] if known else None
                )
            )
        return found

    def validations(self) -> dict[int, Estimate]:
        """The validation of champions, by their number; empty if there is none.

        Fitness as in `champions`, on validation tasks.
        """
        if not self._store.has_all_validations():
            raise self._unvalidated()
        by_program = self._store.validations()
        return {
            row.number: self._validated(by_program[row.program])
            for row in self._store.select(CHAMPIONS, "order by number")
            if row.program in by_program
        }

    def _running_cost(self) -> dict[int, Cost]:
        """What the search had cost after each request."""
        weights = {row.task: row.params for row in self._store.select(TUNING)}
        rows = self._store.select(MEASUREMENTS, "order by request")
        for task in {row.task for row in rows} - weights.keys():
            raise EvosearchError(
                f"{self._store.path} is damaged: the tuning of the baseline on {task} is missing; "
                f"`evosearch resume {self.directory}` makes it again"
            )
        return running_cost(rows, weights)

    def _failure(self, key: str) -> int:
        """The first request that confirms a program, and on which it failed; 0 if none is."""
        by_request: dict[int, list[MeasurementRow]] = defaultdict(list)
        confirming = "where +key = ? and stream = ? order by request"
        for row in self._store.select(MEASUREMENTS, confirming, key, Stream.CONFIRM):
            by_request[row.request].append(row)
        for request, rows in by_request.items():
            lowest = min(row.score for row in rows)
            if lowest <= -LARGEST_SCORE or len(rows) < len(self.config.tasks):
                return request
        return 0

    def _test_requests(self) -> dict[int, int]:
        """The last request of each test."""
        last: dict[int, int] = defaultdict(int)
        for row in self._store.select(MEASUREMENTS, "where stream = ?", Stream.TEST):
            last[row.seed] = max(last[row.seed], row.request)
        return {
            row.number: max((last[seed] for seed in self._seeds(row)), default=0)
            for row in self._store.select(TESTS)
        }

    def _seeds(self, test: TestRow) -> list[int]:
        try:
            return [int(seed) for seed in json.loads(test.seeds)]
        except (ValueError, TypeError, OverflowError, RecursionError):
            raise self._damaged(f"the seeds of test {test.number}") from None

    def _parsed(self, source: str) -> Program:
        try:
            return parse(source)
        except ProgramError as error:
            raise self._damaged(f"a program ({error})") from None

    def _unvalidated(self) -> EvosearchError:
        return EvosearchError(
            f"{self._store.path} is damaged: a part of a champion's validation is missing; "
            f"`evosearch resume {self.directory}` makes it again"
        )

    def _damaged(self, what: str) -> EvosearchError:
        return EvosearchError(
            f"{self._store.path} is damaged: it does not hold {what}; "
            f"run `evosearch check {self.directory}`"
        )

    def _candidates(self, key: str | None = None) -> list[Candidate]:
        """Every program that was trained on all tasks; or the one with `key`, if it was trained."""
        where, values = ("where +key = ?", (key,)) if key else ("", ())
        rows = self._store.select(MEASUREMENTS, f"{where} order by rowid", *values)
        try:
            return candidates(rows, self.config, with_skipped=key is not None)
        except ValueError as error:
            raise self._damaged(str(error)) from None

    def _front(self, found: list[Candidate]) -> list[Candidate]:
        """The Pareto front of `found`."""
        rows = self._rows(one.id for one in found)

        @cache
        def memory(number: int) -> float:
            return state_memory(self._parsed(rows[number].source))

        return pareto_front(found, {row.id: row.live_statements for row in rows.values()}, memory)

    def _read(self, found: Sequence[Candidate]) -> list[MeasuredProgram]:
        """The candidates with their programs."""
        rows = self._rows(one.id for one in found)
        return [self._described(one, rows[one.id].source) for one in found]

    def _rows(self, numbers: Iterable[int]) -> dict[int, ProgramRow]:
        """The rows of programs that were measured, by their ids."""
        wanted = list(numbers)
        found: dict[int, ProgramRow] = {}
        for start in range(0, len(wanted), _PROGRAMS_AT_ONCE):
            part = wanted[start : start + _PROGRAMS_AT_ONCE]
            condition = f"where id in ({', '.join('?' * len(part))})"
            found |= {row.id: row for row in self._store.select(PROGRAMS, condition, *part)}
        for number in wanted:
            if number not in found:
                raise self._damaged(f"program {number}, which was measured")
        return found

    def _described(self, one: Candidate, source: str) -> MeasuredProgram:
        program, estimate = live(self._parsed(source)), one.estimate
        return MeasuredProgram(
            fitness=estimate.fitness,
            per_task=estimate.per_task,
            seeds=estimate.seeds,
            id=one.id,
            confirmed=one.confirmed,
            measurements=one.measurements,
            statements=len(program.statements),
            state_memory=state_memory(program),
            source=str(program),
        )

    def _validated(self, found: list[Validation]) -> Estimate:
        if not is_complete(found, self.config):
            raise self._unvalidated()
        return validated_estimate(found, self.config.measurement)


def open_run(path: Path | str) -> Run:
    """The run in directory `path`.

    Raises:
        UsageError: there is none.
        EvosearchError: its database is damaged or of a newer version.
    """
    return Run(path)
