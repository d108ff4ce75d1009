"""Reading a run: its status, programs, champions and cost."""

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
_MAX_IDS_PER_QUERY = 500
"""Maximum number of ids in one SQL condition; SQLite allows at least 1,000."""


class Run:
    """A run that is read from its directory, in which another process may be searching.

    Args:
        directory: The run's directory.
        config: The run's configuration; None to read it from the directory.

    Raises:
        UsageError: There is no run in `directory`, or its configuration was changed.
        EvosearchError: The database is damaged, or was written by a newer version.

    Example:
        >>> import evosearch
        >>> run = evosearch.Run("runs/example")
        >>> run.status().stop_reason
        'minutes'
    """

    def __init__(self, directory: Path | str, config: Config | None = None):
        self.directory = Path(directory)
        self.config = config or read_config(self.directory)
        self._store = Store.open(self.directory)
        check_config(self._store, self.config)
        self._store.check_complete()

    def status(self) -> RunStatus:
        """Return the search's counts, speed, cost and champion."""
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
        """Return the champion; None before the first measurement."""
        rows = self._store.select(CHAMPIONS, "order by number desc limit 1")
        return self.measured(rows[0].key) if rows else None

    def _last_validation(self) -> Estimate | None:
        """Return the champion's validation; None if the champion has no validation."""
        number = self._store.largest(CHAMPIONS, "number")
        return None if number is None else self.validations().get(number)

    def top(self, n: int | None = 10, *, pareto: bool = False) -> list[MeasuredProgram]:
        """Return the best programs, sorted by the lower bound of fitness, then by id.

        Programs that were not trained on every task are left out, since their fitness is unknown.

        Args:
            n: Number of programs; None for all.
            pareto: Whether to return only the Pareto front in fitness (lower bound), live
                statements and state memory.
        """
        programs = self._candidates()
        if pareto:
            programs = self._pareto_front(programs)
        programs.sort(key=lambda candidate: (-candidate.fitness.low, candidate.id))
        return self._measured_programs(programs[:n])

    def program(self, number: int) -> Program:
        """Return a generated program by its id.

        Raises:
            UsageError: There is no program with this id.
        """
        return self._parse(self.row(number).source)

    def row(self, number: int) -> ProgramRow:
        """Return the database row of a generated program by its id.

        Raises:
            UsageError: There is no program with this id.
        """
        if not 0 <= number < 2**63 or not (
            rows := self._store.select(PROGRAMS, "where id = ?", number)
        ):
            last = self._store.largest(PROGRAMS, "id")
            ids = "no program was generated yet" if last is None else f"ids go from 0 to {last}"
            raise UsageError(f"{self.directory} has no program {number}; {ids}")
        return rows[0]

    def injected(self, number: int) -> Program:
        """Return an injected program by the id that `evosearch inject` printed, without the `i`.

        Raises:
            UsageError: There is no injected program with this id.
        """
        if not 0 <= number < 2**63 or not (
            rows := self._store.select(INJECTIONS, "where id = ?", number)
        ):
            raise UsageError(f"{self.directory} has no injected program i{number}")
        return self._parse(rows[0].source)

    def champion(self) -> Program:
        """Return the champion's program.

        Raises:
            EvosearchError: Nothing has been measured yet.
        """
        best = self.best()
        if best is None:
            raise EvosearchError(
                f"{self.directory} has no champion yet; run `evosearch resume {self.directory}`"
            )
        return parse(best.source)

    def save_funnel(self, document: Mapping[str, Any]) -> None:
        """Write the result of a funnel with this run's programs to `funnel.json`.

        Raises:
            EvosearchError: The file cannot be written.
        """
        write_document(self.directory / FUNNEL, document)

    def funnel(self) -> FunnelDocument | None:
        """Return the result of the last funnel; None if there was no funnel.

        Raises:
            EvosearchError: The file is damaged.
        """
        remedy = f"evosearch funnel {self.directory}"
        return read_document(self.directory / FUNNEL, FunnelDocument, remedy)

    def winner(self) -> Program:
        """Return the program that won the funnel.

        Raises:
            UsageError: There was no funnel, or no program passed the funnel.
        """
        document = self.funnel()
        if document is None:
            raise UsageError(
                f"{self.directory} has no winner yet; run `evosearch funnel {self.directory}`"
            )
        if document.winner is None:
            raise UsageError(f"no program of {self.directory} passed the funnel")
        return parse(document.winner.source)

    def measured(self, key: str) -> MeasuredProgram | None:
        """Return the measured program with a semantic key; None if no such program was measured."""
        programs = self._measured_programs(self._candidates(key))
        return programs[0] if programs else None

    def tests(self) -> list[TestRow]:
        """Return all tests of challengers against the champion, in order."""
        return self._store.select(TESTS, "order by number")

    def rates(self) -> dict[str, float]:
        """Return the baseline's learning rate by task, for the tasks on which it is tuned."""
        return self._store.rates()

    def cost(self) -> Cost:
        """Return the cost of the search so far."""
        return next(reversed(self._running_cost().values()), Cost())

    def champions(self) -> list[ChampionEntry]:
        """Return all champions in order, the initial program first.

        A champion's estimate is from its confirming seeds; a champion that was replaced before its
        confirmation has no estimate. If a champion fails on a confirming seed, the previous
        champion becomes champion again, as a new entry.
        """
        costs = self._running_cost()
        test_requests = self._last_test_requests()
        entries: list[ChampionEntry] = []
        previous: ChampionRow | None = None
        for row in self._store.select(CHAMPIONS, "order by number"):
            if row.test is not None:
                request = test_requests.get(row.test, 0)
            else:
                request = self._failed_confirmation(previous.key) if previous else 0
            previous = row
            cost = costs.get(request, Cost())
            entries.append(ChampionEntry(row.number, row.program, cost, self._estimate_of(row)))
        return entries

    def _estimate_of(self, row: ChampionRow) -> Estimate | None:
        """Return a champion's fitness; None if the champion was not confirmed."""
        programs = self._candidates(row.key)
        is_initial = row.number == 0
        if programs and (programs[0].confirmed or is_initial):
            return programs[0].estimate
        return None

    def validations(self) -> dict[int, Estimate]:
        """Return the fitness of champions on validation tasks, by the champion's number.

        The result leaves out champions without validation.
        """
        if not self._store.has_all_validations():
            raise self._incomplete_validation_error()
        validations = self._store.validations()
        return {
            row.number: self._validated_estimate(validations[row.program])
            for row in self._store.select(CHAMPIONS, "order by number")
            if row.program in validations
        }

    def _running_cost(self) -> dict[int, Cost]:
        """Return the cumulative cost after each request."""
        weights = {row.task: row.params for row in self._store.select(TUNING)}
        rows = self._store.select(MEASUREMENTS, "order by request")
        for task in {row.task for row in rows} - weights.keys():
            raise EvosearchError(
                f"{self._store.path} is damaged: the tuning of the baseline on {task} is missing; "
                f"`evosearch resume {self.directory}` repeats it"
            )
        return running_cost(rows, weights)

    def _failed_confirmation(self, key: str) -> int:
        """Return the first request of a program's confirmation that failed; 0 if none failed."""
        rows_by_request: dict[int, list[MeasurementRow]] = defaultdict(list)
        condition = "where +key = ? and stream = ? order by request"
        for row in self._store.select(MEASUREMENTS, condition, key, Stream.CONFIRM):
            rows_by_request[row.request].append(row)
        for request, rows in rows_by_request.items():
            lowest_score = min(row.score for row in rows)
            if lowest_score <= -LARGEST_SCORE or len(rows) < len(self.config.tasks):
                return request
        return 0

    def _last_test_requests(self) -> dict[int, int]:
        """Return the last request of each test, by the test's number."""
        last_requests: dict[int, int] = defaultdict(int)
        for row in self._store.select(MEASUREMENTS, "where stream = ?", Stream.TEST):
            last_requests[row.seed] = max(last_requests[row.seed], row.request)
        return {
            row.number: max((last_requests[seed] for seed in self._seed_numbers(row)), default=0)
            for row in self._store.select(TESTS)
        }

    def _seed_numbers(self, test: TestRow) -> list[int]:
        try:
            return [int(seed) for seed in json.loads(test.seeds)]
        except (ValueError, TypeError, OverflowError, RecursionError):
            raise self._missing_data_error(f"the seeds of test {test.number}") from None

    def _parse(self, source: str) -> Program:
        try:
            return parse(source)
        except ProgramError as error:
            raise self._missing_data_error(f"a valid program ({error})") from None

    def _incomplete_validation_error(self) -> EvosearchError:
        return EvosearchError(
            f"{self._store.path} is damaged: a part of a champion's validation is missing; "
            f"`evosearch resume {self.directory}` repeats it"
        )

    def _missing_data_error(self, missing: str) -> EvosearchError:
        return EvosearchError(
            f"{self._store.path} is damaged: it does not hold {missing}; "
            f"run `evosearch check {self.directory}`"
        )

    def _candidates(self, key: str | None = None) -> list[Candidate]:
        """Return the programs that were trained on all tasks.

        With a semantic key, return only the program with this key, even if the hurdle or the race
        skipped a task.
        """
        condition, values = ("where +key = ?", (key,)) if key else ("", ())
        rows = self._store.select(MEASUREMENTS, f"{condition} order by rowid", *values)
        try:
            return candidates(rows, self.config, include_incomplete=key is not None)
        except ValueError as error:
            raise self._missing_data_error(str(error)) from None

    def _pareto_front(self, programs: list[Candidate]) -> list[Candidate]:
        rows = self._program_rows(candidate.id for candidate in programs)
        live_statements = {row.id: row.live_statements for row in rows.values()}

        @cache
        def memory(number: int) -> float:
            return state_memory(self._parse(rows[number].source))

        return pareto_front(programs, live_statements, memory)

    def _measured_programs(self, programs: Sequence[Candidate]) -> list[MeasuredProgram]:
        """Return the programs with their texts, which are read from the database and parsed."""
        rows = self._program_rows(candidate.id for candidate in programs)
        return [
            self._measured_program(candidate, rows[candidate.id].source) for candidate in programs
        ]

    def _program_rows(self, ids: Iterable[int]) -> dict[int, ProgramRow]:
        """Return the rows of measured programs by id."""
        all_ids = list(ids)
        rows: dict[int, ProgramRow] = {}
        for start in range(0, len(all_ids), _MAX_IDS_PER_QUERY):
            chunk = all_ids[start : start + _MAX_IDS_PER_QUERY]
            condition = f"where id in ({', '.join('?' * len(chunk))})"
            rows |= {row.id: row for row in self._store.select(PROGRAMS, condition, *chunk)}
        for number in all_ids:
            if number not in rows:
                raise self._missing_data_error(f"program {number}, which was measured")
        return rows

    def _measured_program(self, candidate: Candidate, source: str) -> MeasuredProgram:
        program, estimate = live(self._parse(source)), candidate.estimate
        return MeasuredProgram(
            fitness=estimate.fitness,
            per_task=estimate.per_task,
            seeds=estimate.seeds,
            id=candidate.id,
            confirmed=candidate.confirmed,
            measurements=candidate.measurements,
            statements=len(program.statements),
            state_memory=state_memory(program),
            source=str(program),
        )

    def _validated_estimate(self, validations: list[Validation]) -> Estimate:
        if not is_complete(validations, self.config):
            raise self._incomplete_validation_error()
        return validated_estimate(validations, self.config.measurement)


def open_run(path: Path | str) -> Run:
    """Open the run in directory `path`.

    Args:
        path: The run's directory.

    Raises:
        UsageError: There is no run in `path`.
        EvosearchError: The database is damaged, or was written by a newer version.

    Example:
        >>> import evosearch
        >>> len(evosearch.open_run("runs/example").top(3))
        3
    """
    return Run(path)
