"""The run store: one SQLite database a run, written by the searching process alone.

The record is the truth: a search is resumed by replaying its measurements, and every figure that is
shown is computed from them. Nothing that was measured is ever deleted. (The one other writer is
`evosearch inject`, which writes rows of `injections`.)
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
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
"""A loss of power loses at most what was committed in this time."""
_VALIDATED = "validations"
"""The entry of `meta` that is the number of rows of validation."""

Mode = Literal["read", "search", "inject"]


class Store:
    """An open run database; use `open`.

    Attributes:
        directory: the run's.
        path: the database's.
        is_migrated_copy: whether this is a copy in memory of an older database, to read.
    """

    def __init__(self, directory: Path, connection: sqlite3.Connection, lock: int | None):
        self.directory = directory
        self.path = directory / DATABASE
        self._db = connection
        self._lock = lock
        self._synced = time.monotonic()
        self.is_migrated_copy = False

    @classmethod
    def open(cls, directory: Path, mode: Mode = "read") -> Store:
        """The run in `directory`; one process at a time may open it to search.

        An older database is brought to the present schema: in memory to read it; in the file, of
        which a copy is kept, to write to it.

        Raises:
            UsageError: there is no run.
            EvosearchError: another process searches in it, or the database is damaged, cannot be
                written, or was made by a newer version.
        """
        path = directory / DATABASE
        if is_unfinished(directory):
            raise UsageError(
                f"{directory} holds no run: making it was interrupted before the search began; "
                f"start it again with `evosearch search ... --out {directory}`"
            )
        if not path.is_file():
            raise UsageError(f"{directory} holds no run ({DATABASE} is missing); check the path")
        if mode != "read" and path.is_symlink():
            raise UsageError(
                f"{path} is a link to {path.resolve()}, which would be written; copy the file here"
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
        """Commits and closes; the run can be opened by others again."""
        try:
            with self._explained():
                self._db.commit()
        finally:
            with suppress(sqlite3.Error):
                self._db.close()
            if self._lock is not None:
                os.close(self._lock)
                self._lock = None

    def commit(self) -> None:
        """Makes everything written so far survive a kill; now and then, a loss of power too."""
        with self._explained():
            self._db.commit()
            if time.monotonic() - self._synced >= _SECONDS_BETWEEN_SYNCS:
                self._db.execute("pragma wal_checkpoint(passive)")
                self._synced = time.monotonic()

    def rollback(self) -> None:
        """Forgets what was written since the last commit."""
        with suppress(sqlite3.Error):
            self._db.rollback()

    def _explained(self) -> AbstractContextManager[None]:
        return explain_file_errors(self.path, retry=f"run `evosearch resume {self.directory}`")

    # -- what the search writes ------------------------------------------------------------------

    def write(self, table: Table[R], rows: Iterable[R]) -> None:
        """Writes rows, each in place of one with the same primary key."""
        stored = [table.stored(row) for row in rows]
        if stored:
            with self._explained():
                self._db.executemany(table.insertion, stored)

    def add_births(self, births: Iterable[Birth]) -> None:
        """Writes generated programs and the drafts rejected on the way to them."""
        births = list(births)
        self.write(PROGRAMS, map(program_row, births))
        self.write(REJECTS, reject_rows(births))
        taken_up = {birth.injection: birth.request for birth in births if birth.injection}
        if taken_up:
            self.write(
                INJECTIONS,
                [
                    row._replace(request=taken_up[row.id])
                    for row in self.select(INJECTIONS)
                    if row.id in taken_up
                ],
            )

    def add_measurements(self, request: Request, found: Mapping[str, Measurement]) -> None:
        """Writes what one request measured, a row a task."""
        self.write(MEASUREMENTS, measurement_rows(request, found))

    def remove_spare(self, key: str, seed: Seed) -> None:
        """Removes what was set aside for a program and seed, which is a measurement again."""
        with self._explained():
            self._db.execute(
                f"delete from {SPARES.name} where key = ? and stream = ? and seed = ?",
                (key, str(seed.stream), seed.number),
            )

    def add_test(self, test: Test) -> None:
        """Writes a test, or its verdict."""
        self.write(TESTS, [test_row(test)])

    def add_champion(self, number: int, champion: Champion) -> None:
        """Writes champion `number`, counted from 0."""
        self.write(CHAMPIONS, [champion_row(number, champion)])

    def add_validation(self, champion: int, program: int, found: Iterable[Validation]) -> None:
        """Writes what champion number `champion` gave on validation tasks."""
        self.write(VALIDATIONS, validation_rows(champion, program, found))
        self.set_meta(_VALIDATED, str(self.count(VALIDATIONS)))

    def set_progress(self, evolution: Evolution, elapsed: float, stop_reason: str | None) -> None:
        """Writes how far a search is, whose births, tests and champions are written.

        Args:
            evolution: the search.
            elapsed: seconds spent, over all processes.
            stop_reason: why it ended; None while it runs.
        """
        self.write(PROGRESS, [progress_row(evolution, elapsed, stop_reason)])

    def set_stop_reason(self, reason: str) -> None:
        """Writes why the search stopped before it got anywhere new."""
        before = self.progress() or EMPTY_PROGRESS
        self.write(PROGRESS, [before._replace(stop_reason=reason)])

    def add_tuning(self, task: str, params: int, tuner: Tuner) -> None:
        """Writes the baseline's learning rate for a task and the trials that chose it."""
        self.write(TUNING, [tuning_row(task, params, tuner)])

    def add_process(self, process: ProcessRow) -> None:
        """Notes a process that searches in this run from now on."""
        self.write(PROCESSES, [process])

    def set_meta(self, key: str, value: str) -> None:
        """Writes an entry of the run's description."""
        self.write(META, [MetaRow(key, value)])

    def clear(self, table: Table[Any]) -> None:
        """Empties a table whose rows follow from others, before it is written anew."""
        with self._explained():
            self._db.execute(f"delete from {table.name}")

    def set_aside(self, request: int, tests: int, champions: int) -> None:
        """Moves what was measured from `request` on to `spares`, for a search that goes on longer.

        Tests and champions beyond the first so many are taken back: they follow from measurements.
        """
        with self._explained():
            rows = self.select(MEASUREMENTS, "where request >= ?", request)
            self.write(SPARES, rows)
            self._db.execute("delete from measurements where request >= ?", (request,))
            self._db.execute("delete from tests where number > ?", (tests,))
            self._db.execute("delete from champions where number >= ?", (champions,))

    # -- what anybody reads ----------------------------------------------------------------------

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """While it is open, all that is read is of one moment, whatever a search writes."""
        with self._explained():
            self._db.execute("begin")
            self._db.execute("select 1 from meta limit 1").fetchone()  # from here on
        try:
            yield
        finally:
            self.rollback()

    def select(self, table: Table[R], where: str = "", *values: Any) -> list[R]:
        """The rows of a table, as they were written.

        A condition on text says `+key`, so that SQLite reads the table and no index of it: rows
        have checksums, and a damaged index would leave some out unnoticed.

        Args:
            table: which.
            where: SQL that follows the table's name: a condition, an order.
            *values: the condition's.

        Raises:
            EvosearchError: a row is damaged.
        """
        read = table.read
        with self._explained():
            stored = self._db.execute(f"{table.selection} {where}", values).fetchall()
        try:
            return [read(one) for one in stored]
        except RowError:
            raise self._damaged(table, stored) from None

    def readable(self, table: Table[R]) -> list[R]:
        """The rows of a table up to the first damaged one, in the order in which they were written.

        Raises:
            EvosearchError: the file cannot be read at all.
        """
        with self._explained():
            stored = self._db.execute(f"{table.selection} order by rowid").fetchall()
        found = []
        for one in stored:
            try:
                found.append(table.read(one))
            except RowError:
                break
        return found

    def _damaged(self, table: Table[Any], stored: Sequence[Sequence[Any]]) -> EvosearchError:
        for one in stored:
            try:
                table.read(one)
            except RowError as error:
                where = ", ".join(
                    f"{name} {value!r}"
                    for name, value in zip(table.columns, one, strict=False)
                    if name in (table.key or table.columns[:2])
                )
                return EvosearchError(
                    f"{self.path} is damaged: in table {table.name}, the row with {where} is not "
                    f"as it was written ({error}); run `evosearch check {self.directory}`"
                )
        raise AssertionError("every row reads well")

    def damaged_rows(self) -> dict[str, int]:
        """How many rows of each table are not as they were written; tables without any left out.

        Raises:
            EvosearchError: the file cannot be read at all.
        """
        found = {}
        for table in TABLES:
            with self._explained():
                stored = self._db.execute(table.selection).fetchall()
            damaged = sum(not table.is_whole(one) for one in stored)
            if damaged:
                found[table.name] = damaged
        return found

    def integrity(self) -> list[str]:
        """What SQLite finds wrong with the file; empty if nothing."""
        with self._explained():
            rows = self._db.execute("pragma integrity_check(20)").fetchall()
        return [row[0] for row in rows if row[0] != "ok"]

    def reindex(self) -> None:
        """Makes the indexes anew from the tables."""
        with self._explained():
            self._db.execute("reindex")

    def count(self, table: Table[Any]) -> int:
        """How many rows a table has; counted in itself, for an index may be damaged."""
        query = f"select count(*) from {table.name} not indexed"
        with self._explained():
            found = self._db.execute(query).fetchone()[0]
        return int(found)

    def largest(self, table: Table[Any], column: str) -> int | None:
        """The largest value in a column of whole numbers; None if there is no row."""
        with self._explained():
            found = self._db.execute(f"select max({column}) from {table.name}").fetchone()[0]
        return found if isinstance(found, int) else None

    def meta(self, key: str) -> str | None:
        """An entry of the run's description."""
        rows = self.select(META, "where +key = ?", key)
        return rows[0].value if rows else None

    def progress(self) -> ProgressRow | None:
        """The counts as last written."""
        rows = self.select(PROGRESS)
        return rows[0] if rows else None

    def progress_or_guess(self) -> ProgressRow:
        """The counts as last written; where the row is lost, a guess from the programs.

        The guess takes the last program for the last that a limit allowed.
        """
        rows = self.readable(PROGRESS)
        if rows:
            return rows[0]
        generated, request = self.largest(PROGRAMS, "id"), self.largest(PROGRAMS, "request")
        return EMPTY_PROGRESS._replace(generated=generated or 0, limited_from=request or 0)

    def check_complete(self) -> None:
        """Whether all rows are there that were when the counts were last written.

        Raises:
            EvosearchError: some are gone, or there are more.
        """
        with self.snapshot():
            progress = self.progress()
            if progress is None and self.count(PROGRAMS):
                raise EvosearchError(
                    f"{self.path} is damaged: its counts are gone; `evosearch check "
                    f"{self.directory} --repair` counts again, but the time spent and why the "
                    "search ended are lost"
                )
            progress = progress or EMPTY_PROGRESS
            counted: tuple[tuple[Table[Any], int], ...] = (
                (MEASUREMENTS, progress.measurements),
                (PROGRAMS, progress.programs),
                (TESTS, progress.tests),
                (CHAMPIONS, progress.champions),
            )
            for table, count in counted:
                if self.count(table) != count:
                    raise EvosearchError(
                        f"{self.path} is damaged: table {table.name} has {self.count(table):,} "
                        f"rows and had {count:,}; run `evosearch check {self.directory}`"
                    )

    def rates(self) -> dict[str, float]:
        """The baseline's learning rate by task."""
        return {row.task: row.rate for row in self.select(TUNING)}

    def has_all_validations(self) -> bool:
        """Whether no row of a validation is gone, as far as the run keeps their number."""
        number = self.meta(_VALIDATED)
        return number is None or number == str(self.count(VALIDATIONS))

    def validations(self) -> dict[int, list[Validation]]:
        """What champions gave on validation tasks, by the program's id, the first one first."""
        found: dict[int, list[Validation]] = {}
        for row in self.select(VALIDATIONS, "order by champion, task, seed"):
            found.setdefault(row.program, []).append(validation_of(row))
        return found

    def trainings(self, requests: int) -> int:
        """Trainings for the first so many requests, with the baseline's, one for each seed."""
        rows = self.select(MEASUREMENTS, "where request <= ?", requests)
        return len(rows) + len({(row.task, row.stream, row.seed) for row in rows})

    def inject(self, source: str) -> int:
        """Puts in a program, to be the next child; its number."""
        with self._explained():
            self._db.execute("begin immediate")
            try:
                number = (self.largest(INJECTIONS, "id") or 0) + 1
                self.write(INJECTIONS, [InjectionRow(number, source, None, None)])
            except BaseException:
                self._db.rollback()
                raise
            self._db.commit()
        return number

    def withdraw(self, number: int, why: str) -> None:
        """Sets an injection aside, which the search then never takes up.

        Raises:
            UsageError: there is none of that number, or the search has taken it up.
        """
        with self._explained():
            self._db.execute("begin immediate")
            try:
                self._withdraw(number, why)
            except BaseException:
                self._db.rollback()
                raise
            self._db.commit()

    def _withdraw(self, number: int, why: str) -> None:
        rows = self.select(INJECTIONS, "where id = ?", number)
        if not rows:
            raise UsageError(f"{self.directory} has no injected program i{number}")
        if rows[0].request is not None:
            raise UsageError(
                f"i{number} cannot be withdrawn: the search in {self.directory} has taken it up "
                f"at request {rows[0].request}"
            )
        self.write(INJECTIONS, [rows[0]._replace(withdrawn=why)])
