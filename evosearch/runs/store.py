"""The store of a run: one SQLite database, written only by the searching process.

A search is resumed by replaying its measurements, and every reported figure is computed from them.
No measurement is ever deleted. The only other writer is `evosearch inject`, which writes rows of
`injections`.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from evosearch.errors import EvosearchError, UsageError
from evosearch.files import explain_file_errors
from evosearch.measuring.tuning import Tuner
from evosearch.runs.conversion import (
    champion_row,
    measurement_rows,
    program_row,
    progress_row,
    reject_rows,
    test_row,
    tuning_row,
    validation_of,
    validation_rows,
)
from evosearch.runs.database import (
    DATABASE,
    acquire_lock,
    connect,
    is_unfinished,
    with_current_schema,
)
from evosearch.runs.rows import (
    CHAMPIONS,
    EMPTY_PROGRESS,
    INJECTIONS,
    MEASUREMENTS,
    META,
    PROCESSES,
    PROGRAMS,
    PROGRESS,
    REJECTS,
    SPARES,
    TABLES,
    TESTS,
    TUNING,
    VALIDATIONS,
    InjectionRow,
    MetaRow,
    ProcessRow,
    ProgressRow,
    R,
    RowError,
    Table,
)
from evosearch.runs.validations import Validation

if TYPE_CHECKING:
    from evosearch.evolution.evolution import Birth, Evolution, Request
    from evosearch.evolution.records import Champion, Test
    from evosearch.measuring.measurement import Measurement
    from evosearch.seeds import Seed

_SECONDS_BETWEEN_SYNCS = 10.0
"""A power failure loses at most the commits of this time."""
_VALIDATION_COUNT = "validations"
"""Key in `meta` of the number of rows of the table `validations`."""

Mode = Literal["read", "search", "inject"]


class Store:
    """An open run database; create it with `Store.open`.

    Attributes:
        directory: The run's directory.
        path: Path of the database.
        is_migrated_copy: Whether this is a copy in memory of a database with an older schema.
    """

    def __init__(self, directory: Path, connection: sqlite3.Connection, lock: int | None):
        self.directory = directory
        self.path = directory / DATABASE
        self._db = connection
        self._lock = lock
        self._last_sync = time.monotonic()
        self.is_migrated_copy = False

    @classmethod
    def open(cls, directory: Path, mode: Mode = "read") -> Store:
        """Open the run in `directory`.

        A database with an older schema is migrated: in memory if it is only read, otherwise in the
        file, after a backup.

        Args:
            directory: The run's directory.
            mode: `read`, `search` (read and write; one process at a time) or `inject` (read and
                write injections).

        Raises:
            UsageError: There is no run in `directory`.
            EvosearchError: Another process is searching in the run, or the database is damaged,
                cannot be written, or was written by a newer version.
        """
        path = directory / DATABASE
        if is_unfinished(directory):
            raise UsageError(
                f"{directory} holds no run: its creation was interrupted before the search began; "
                f"start again with `evosearch search ... --out {directory}`"
            )
        if not path.is_file():
            raise UsageError(f"{directory} holds no run ({DATABASE} is missing); check the path")
        if mode != "read" and path.is_symlink():
            raise UsageError(
                f"{path} is a link to {path.resolve()}, which would be changed; replace the link "
                "with a copy of the file"
            )
        lock = None
        try:
            with explain_file_errors(path):
                lock = acquire_lock(directory) if mode == "search" else None
                opened = connect(path, read_only=mode == "read")
                connection = with_current_schema(path, opened, in_memory=mode == "read")
        except BaseException:
            if lock is not None:
                os.close(lock)
            raise
        store = cls(directory, connection, lock)
        store.is_migrated_copy = connection is not opened
        return store

    def close(self) -> None:
        """Commit, close the database and release the lock."""
        try:
            with self._explain_errors():
                self._db.commit()
        finally:
            with suppress(sqlite3.Error):
                self._db.close()
            if self._lock is not None:
                os.close(self._lock)
                self._lock = None

    def commit(self) -> None:
        """Commit what was written, and sync it to disk every `_SECONDS_BETWEEN_SYNCS`.

        A commit survives the death of the process; only a sync survives a power failure.
        """
        with self._explain_errors():
            self._db.commit()
            if time.monotonic() - self._last_sync >= _SECONDS_BETWEEN_SYNCS:
                self._db.execute("pragma wal_checkpoint(passive)")
                self._last_sync = time.monotonic()

    def rollback(self) -> None:
        """Discard what was written since the last commit."""
        with suppress(sqlite3.Error):
            self._db.rollback()

    def _explain_errors(self) -> AbstractContextManager[None]:
        return explain_file_errors(self.path, retry=f"run `evosearch resume {self.directory}`")

    # -- writing ---------------------------------------------------------------------------------

    def write(self, table: Table[R], rows: Iterable[R]) -> None:
        """Insert rows; each replaces the row with the same primary key."""
        stored = [table.stored(row) for row in rows]
        if stored:
            with self._explain_errors():
                self._db.executemany(table.insertion, stored)

    def add_births(self, births: Iterable[Birth]) -> None:
        """Write generated programs, their rejected drafts, and which injections were used."""
        births = list(births)
        self.write(PROGRAMS, map(program_row, births))
        self.write(REJECTS, reject_rows(births))
        used_injections = {birth.injection: birth.request for birth in births if birth.injection}
        if used_injections:
            self.write(
                INJECTIONS,
                [
                    row._replace(request=used_injections[row.id])
                    for row in self.select(INJECTIONS)
                    if row.id in used_injections
                ],
            )

    def add_measurements(
        self, results: Iterable[tuple[Request, Mapping[str, Measurement]]]
    ) -> None:
        """Write the measurements of requests, given by task."""
        rows = (measurement_rows(request, measurements) for request, measurements in results)
        self.write(MEASUREMENTS, chain.from_iterable(rows))

    def remove_spare(self, key: str, seed: Seed) -> None:
        """Remove the spares of a semantic key and seed, which the search has requested again."""
        with self._explain_errors():
            self._db.execute(
                f"delete from {SPARES.name} where key = ? and stream = ? and seed = ?",
                (key, str(seed.stream), seed.number),
            )

    def add_test(self, test: Test) -> None:
        """Write a test; replace the stored test when the verdict is known."""
        self.write(TESTS, [test_row(test)])

    def add_champion(self, number: int, champion: Champion) -> None:
        """Write a champion; `number` counts champions from 0."""
        self.write(CHAMPIONS, [champion_row(number, champion)])

    def add_validation(
        self, champion: int, program: int, validations: Iterable[Validation]
    ) -> None:
        """Write the validations of a champion, given its number and its program's id."""
        self.write(VALIDATIONS, validation_rows(champion, program, validations))
        self.set_meta(_VALIDATION_COUNT, str(self.count(VALIDATIONS)))

    def set_progress(self, evolution: Evolution, elapsed: float, stop_reason: str | None) -> None:
        """Write the counts of a search whose programs, tests and champions are already written.

        Args:
            evolution: The search.
            elapsed: Seconds spent by all processes of the search.
            stop_reason: Why the search ended; None while it runs.
        """
        self.write(PROGRESS, [progress_row(evolution, elapsed, stop_reason)])

    def set_stop_reason(self, reason: str) -> None:
        """Write only the reason why a search ended, for a search that made no new requests."""
        progress = self.progress() or EMPTY_PROGRESS
        self.write(PROGRESS, [progress._replace(stop_reason=reason)])

    def add_tuning(self, task: str, params: int, tuner: Tuner) -> None:
        """Write the baseline's tuned learning rate for a task and the trials that chose it."""
        self.write(TUNING, [tuning_row(task, params, tuner)])

    def add_process(self, process: ProcessRow) -> None:
        """Write the row of a process that starts to search in this run."""
        self.write(PROCESSES, [process])

    def set_meta(self, key: str, value: str) -> None:
        """Write an entry of the run's description."""
        self.write(META, [MetaRow(key, value)])

    def clear(self, table: Table[Any]) -> None:
        """Delete the rows of a table that will be derived again."""
        with self._explain_errors():
            self._db.execute(f"delete from {table.name}")

    def set_aside(self, request: int, tests: int, champions: int) -> None:
        """Move measurements from `request` on to `spares`, for a search with a higher limit.

        Args:
            request: Number of the first request to set aside.
            tests: Number of tests to keep; the others followed from the moved measurements.
            champions: Number of champions to keep; the others followed from the moved
                measurements.
        """
        with self._explain_errors():
            rows = self.select(MEASUREMENTS, "where request >= ?", request)
            self.write(SPARES, rows)
            self._db.execute("delete from measurements where request >= ?", (request,))
            self._db.execute("delete from tests where number > ?", (tests,))
            self._db.execute("delete from champions where number >= ?", (champions,))

    # -- reading ---------------------------------------------------------------------------------

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """Read one consistent state inside the block, even while a search writes."""
        with self._explain_errors():
            self._db.execute("begin")
            self._db.execute("select 1 from meta limit 1").fetchone()  # a read opens the snapshot
        try:
            yield
        finally:
            self.rollback()

    def select(self, table: Table[R], where: str = "", *values: Any) -> list[R]:
        """Return rows of a table, after verifying their checksums.

        Write conditions on text as `+key = ?`, so that SQLite reads the table and not an index.
        Rows have checksums; a damaged index would omit rows silently.

        Args:
            table: The table.
            where: SQL after the table's name, such as a condition or an order; empty for all rows.
            *values: Values of the condition's parameters.

        Raises:
            EvosearchError: A row is damaged.
        """
        read = table.read
        with self._explain_errors():
            stored_rows = self._db.execute(f"{table.selection} {where}", values).fetchall()
        try:
            return [read(stored) for stored in stored_rows]
        except RowError:
            raise self._damaged_row_error(table, stored_rows) from None

    def select_until_damaged(self, table: Table[R]) -> list[R]:
        """Return the rows of a table up to the first damaged one, in the order of insertion.

        Raises:
            EvosearchError: The file cannot be read at all.
        """
        with self._explain_errors():
            stored_rows = self._db.execute(f"{table.selection} order by rowid").fetchall()
        rows = []
        for stored in stored_rows:
            try:
                rows.append(table.read(stored))
            except RowError:
                break
        return rows

    def _damaged_row_error(
        self, table: Table[Any], stored_rows: Sequence[Sequence[Any]]
    ) -> EvosearchError:
        """Return an error that names the first damaged row."""
        for stored in stored_rows:
            try:
                table.read(stored)
            except RowError as error:
                key = ", ".join(
                    f"{name} {value!r}"
                    for name, value in zip(table.columns, stored, strict=False)
                    if name in (table.key or table.columns[:2])
                )
                return EvosearchError(
                    f"{self.path} is damaged: in table {table.name}, the row with {key} was "
                    f"changed after it was written ({error}); run "
                    f"`evosearch check {self.directory}`"
                )
        raise AssertionError("no row is damaged")

    def damaged_rows(self) -> dict[str, int]:
        """Return the number of damaged rows by table, for the tables that have any.

        Raises:
            EvosearchError: The file cannot be read at all.
        """
        counts = {}
        for table in TABLES:
            with self._explain_errors():
                stored_rows = self._db.execute(table.selection).fetchall()
            damaged = sum(not table.is_undamaged(stored) for stored in stored_rows)
            if damaged:
                counts[table.name] = damaged
        return counts

    def integrity(self) -> list[str]:
        """Return the problems that SQLite reports about the file; empty if there are none."""
        with self._explain_errors():
            rows = self._db.execute("pragma integrity_check(20)").fetchall()
        return [row[0] for row in rows if row[0] != "ok"]

    def reindex(self) -> None:
        """Rebuild all indexes from the tables."""
        with self._explain_errors():
            self._db.execute("reindex")

    def count(self, table: Table[Any]) -> int:
        """Return the number of rows of a table, without using an index, which may be damaged."""
        query = f"select count(*) from {table.name} not indexed"
        with self._explain_errors():
            count = self._db.execute(query).fetchone()[0]
        return int(count)

    def largest(self, table: Table[Any], column: str) -> int | None:
        """Return the largest value in an integer column; None if the table is empty."""
        with self._explain_errors():
            value = self._db.execute(f"select max({column}) from {table.name}").fetchone()[0]
        return value if isinstance(value, int) else None

    def meta(self, key: str) -> str | None:
        """Return an entry of the run's description; None if there is none."""
        rows = self.select(META, "where +key = ?", key)
        return rows[0].value if rows else None

    def progress(self) -> ProgressRow | None:
        """Return the counts of the last commit; None before the first commit."""
        rows = self.select(PROGRESS)
        return rows[0] if rows else None

    def progress_or_guess(self) -> ProgressRow:
        """Return the counts of the last commit; if they are lost, a guess from the programs.

        The guess assumes that a limit was reached at the last program.
        """
        rows = self.select_until_damaged(PROGRESS)
        if rows:
            return rows[0]
        generated, request = self.largest(PROGRAMS, "id"), self.largest(PROGRAMS, "request")
        return EMPTY_PROGRESS._replace(generated=generated or 0, limited_from=request or 0)

    def check_complete(self) -> None:
        """Check that the tables have as many rows as at the last commit.

        Raises:
            EvosearchError: Rows are missing, or there are more rows than expected.
        """
        with self.snapshot():
            progress = self.progress()
            if progress is None and self.count(PROGRAMS):
                raise EvosearchError(
                    f"{self.path} is damaged: its counts are missing; `evosearch check "
                    f"{self.directory} --repair` restores them, except for the time spent and the "
                    "reason why the search ended"
                )
            progress = progress or EMPTY_PROGRESS
            expected_counts: tuple[tuple[Table[Any], int], ...] = (
                (MEASUREMENTS, progress.measurements),
                (PROGRAMS, progress.programs),
                (TESTS, progress.tests),
                (CHAMPIONS, progress.champions),
            )
            for table, expected in expected_counts:
                if self.count(table) != expected:
                    raise EvosearchError(
                        f"{self.path} is damaged: table {table.name} has {self.count(table):,} "
                        f"rows and had {expected:,}; run `evosearch check {self.directory}`"
                    )

    def rates(self) -> dict[str, float]:
        """Return the baseline's learning rate by task."""
        return {row.task: row.rate for row in self.select(TUNING)}

    def has_all_validations(self) -> bool:
        """Whether no row of `validations` is missing; True if the run does not store the count."""
        count = self.meta(_VALIDATION_COUNT)
        return count is None or count == str(self.count(VALIDATIONS))

    def validations(self) -> dict[int, list[Validation]]:
        """Return the validations of champions by the program's id, in the order of champions."""
        by_program: dict[int, list[Validation]] = {}
        for row in self.select(VALIDATIONS, "order by champion, task, seed"):
            by_program.setdefault(row.program, []).append(validation_of(row))
        return by_program

    def trainings(self, requests: int) -> int:
        """Return the number of trainings of the first `requests` requests.

        The number includes one training of the baseline for each task and seed.
        """
        rows = self.select(MEASUREMENTS, "where request <= ?", requests)
        return len(rows) + len({(row.task, row.stream, row.seed) for row in rows})

    def inject(self, source: str) -> int:
        """Inject a program, which becomes the next child, and return the injection's number."""
        with self._explain_errors():
            self._db.execute("begin immediate")
            try:
                number = (self.largest(INJECTIONS, "id") or 0) + 1
                self.write(INJECTIONS, [InjectionRow(number, source, None, None)])
            except BaseException:
                self._db.rollback()
                raise
            self._db.commit()
        return number

    def withdraw(self, number: int, reason: str) -> None:
        """Set an injection aside, so that the search does not use it.

        Raises:
            UsageError: There is no injection of this number, or the search has used it.
        """
        with self._explain_errors():
            self._db.execute("begin immediate")
            try:
                self._withdraw(number, reason)
            except BaseException:
                self._db.rollback()
                raise
            self._db.commit()

    def _withdraw(self, number: int, reason: str) -> None:
        rows = self.select(INJECTIONS, "where id = ?", number)
        if not rows:
            raise UsageError(f"{self.directory} has no injected program i{number}")
        if rows[0].request is not None:
            raise UsageError(
                f"i{number} cannot be withdrawn: the search in {self.directory} used it at "
                f"request {rows[0].request}"
            )
        self.write(INJECTIONS, [rows[0]._replace(withdrawn=reason)])
