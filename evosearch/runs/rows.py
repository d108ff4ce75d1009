"""The tables of a run's database: one type for the rows of each, checked when they are read.

A row carries a CRC-32 of its values, so that a changed byte is an error and never another figure.
"""

from __future__ import annotations

import types
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Generic, NamedTuple, TypeVar, get_args, get_origin, get_type_hints


class MetaRow(NamedTuple):
    """One fact about the whole run, such as its configuration as it was made."""

    key: str
    value: str


class ProcessRow(NamedTuple):
    """A process that searched in the run.

    Attributes:
        number: 1 for the process that began the run.
        started: UTC.
        first_request: the first request that it measured.
        version: of evosearch.
        code: digest of the code that decides (`evosearch.runs.provenance`).
        libraries: name and version, in one line.
        machine: processor and device, in one line.
    """

    number: int
    started: str
    first_request: int
    version: str
    code: str
    libraries: str
    machine: str


class ProgramRow(NamedTuple):
    """A generated program."""

    id: int
    request: int
    parent: int | None
    mutation: str
    key: str
    source: str
    statements: int
    live_statements: int


class MeasurementRow(NamedTuple):
    """One program on one task and seed, for one request; None is a loss that diverged."""

    request: int
    reason: str
    program: int
    key: str
    stream: str
    seed: int
    task: str
    steps: int
    schedule: str
    engine: str
    loss: float | None
    baseline: float | None
    score: float
    stopped: bool


class TuningRow(NamedTuple):
    """The baseline's learning rate on a task; `trials` is JSON, the mean log loss by rate."""

    task: str
    params: int
    rate: float
    trials: str


class RejectRow(NamedTuple):
    """How many drafts of a program were rejected for one reason."""

    request: int
    program: int
    reason: str
    drafts: int


class TestRow(NamedTuple):
    """A test of a challenger against the champion; `seeds` is JSON, `won` None while open."""

    number: int
    challenger: int
    defender: int
    seeds: str
    difference: float | None
    low: float | None
    won: bool | None


class ChampionRow(NamedTuple):
    """Champion `number`, the initial program being 0; `confirmed_on` is JSON, the seeds."""

    number: int
    program: int
    key: str
    test: int | None
    confirmed_on: str


class ValidationRow(NamedTuple):
    """A champion on one validation task and seed."""

    champion: int
    program: int
    task: str
    seed: int
    lr: float
    loss: float | None
    baseline: float | None
    score: float


class InjectionRow(NamedTuple):
    """A program put in by hand: taken up at `request`, or set aside for the reason `withdrawn`."""

    id: int
    source: str
    request: int | None
    withdrawn: str | None


class ProgressRow(NamedTuple):
    """The counts as of the last commit.

    Attributes:
        one: 1.
        limited_from: the first request that a limit on programs, trainings or minutes decided;
            None while no limit has been reached.
        programs, tests, champions: how many rows these tables have: a row that is gone has no
            checksum that could tell.
    """

    one: int
    generated: int
    invalid: int
    cache_hits: int
    evaluated: int
    measurements: int
    statements: int
    live_statements: int
    elapsed_seconds: float
    stop_reason: str | None
    limited_from: int | None
    programs: int
    tests: int
    champions: int


EMPTY_PROGRESS = ProgressRow(1, 0, 0, 0, 0, 0, 0, 0, 0.0, None, None, 0, 0, 0)
"""The counts of a run that has not begun."""

R = TypeVar("R", bound=tuple[Any, ...])

_SQL_TYPES = {int: "integer", bool: "integer", float: "real", str: "text"}
_READ_AS = {int: (int,), bool: (int,), float: (float, int), str: (str,)}


class RowError(ValueError):
    """A row is not as it was written."""


@dataclass(frozen=True)
class Table(Generic[R]):
    """A table of the database.

    Attributes:
        name: its name in SQL.
        row: the type of its rows, a named tuple.
        key: the columns of its primary key; empty for a table that has none.
    """

    name: str
    row: type[R]
    key: tuple[str, ...] = ()

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """The names of the columns, without the checksum."""
        return self.row._fields  # type: ignore[attr-defined, no-any-return]

    @cached_property
    def _types(self) -> tuple[tuple[type, bool], ...]:
        """For each column its Python type, and whether it may be None."""
        found = []
        for hint in get_type_hints(self.row).values():
            plain = [one for one in get_args(hint) or (hint,) if one is not types.NoneType]
            found.append((plain[0], get_origin(hint) is types.UnionType))
        return tuple(found)

    @cached_property
    def _allowed(self) -> tuple[tuple[type, ...], ...]:
        return tuple(
            (*_READ_AS[plain], *((types.NoneType,) if nullable else ()))
            for plain, nullable in self._types
        )

    @cached_property
    def _conversions(self) -> tuple[Callable[[Any], Any], ...]:
        """How values become what SQLite gives back: of a plain type, not of an enumeration."""
        return tuple(_CONVERSIONS[plain] for plain, _ in self._types)

    @cached_property
    def _booleans(self) -> tuple[int, ...]:
        return tuple(n for n, (plain, _) in enumerate(self._types) if plain is bool)

    @cached_property
    def schema(self) -> str:
        """The statement that makes the table."""
        columns = [
            f"{name} {_SQL_TYPES[plain]}{'' if nullable else ' not null'}"
            for name, (plain, nullable) in zip(self.columns, self._types, strict=True)
        ]
        if self.key:
            columns.append(f"primary key ({', '.join(self.key)})")
        columns.insert(len(self.columns), "checksum integer not null")
        return f"create table {self.name} ({', '.join(columns)})"

    @cached_property
    def insertion(self) -> str:
        """The statement that writes a row, in place of one with the same primary key."""
        names = ", ".join((*self.columns, "checksum"))
        marks = ", ".join("?" * (len(self.columns) + 1))
        return f"insert or replace into {self.name} ({names}) values ({marks})"

    @cached_property
    def selection(self) -> str:
        """The statement that reads rows; conditions and order may follow."""
        return f"select {', '.join((*self.columns, 'checksum'))} from {self.name}"

    def stored(self, row: R) -> tuple[Any, ...]:
        """The values of `row` as SQLite keeps them, the checksum last."""
        values = tuple(
            value if value is None else convert(value)
            for value, convert in zip(row, self._conversions, strict=True)
        )
        return (*values, _checksum(values))

    def read(self, stored: Sequence[Any]) -> R:
        """The row whose stored values, with the checksum, are `stored`.

        Raises:
            RowError: a value is of another type, or the checksum is that of other values.
        """
        *values, checksum = stored
        of_types = tuple(map(type, values))
        if of_types not in self._seen:
            self._check_types(of_types)
        if _checksum(tuple(values)) != checksum:
            raise RowError("the checksum differs")
        for place in self._booleans:
            if values[place] is not None:
                values[place] = bool(values[place])
        return self.row(*values)

    @cached_property
    def _seen(self) -> set[tuple[type, ...]]:
        """Types of rows that were found right; a table has few."""
        return set()

    def _check_types(self, of_types: tuple[type, ...]) -> None:
        for name, of_type, allowed in zip(self.columns, of_types, self._allowed, strict=True):
            if of_type not in allowed:
                raise RowError(f"{name} is {of_type.__name__}")
        self._seen.add(of_types)

    def is_whole(self, stored: Sequence[Any]) -> bool:
        """Whether `read` would give a row."""
        try:
            self.read(stored)
        except RowError:
            return False
        return True


def _number(value: Any) -> float:
    """SQLite gives -0.0 back as 0.0."""
    return float(value) + 0.0


_CONVERSIONS: dict[type, Callable[[Any], Any]] = {int: int, bool: int, float: _number, str: str}


def _checksum(values: tuple[Any, ...]) -> int:
    return zlib.crc32(repr(values).encode())


_MEASURED = ("key", "stream", "seed", "task")

META = Table("meta", MetaRow, ("key",))
PROCESSES = Table("processes", ProcessRow, ("number",))
PROGRAMS = Table("programs", ProgramRow, ("id",))
MEASUREMENTS = Table("measurements", MeasurementRow, _MEASURED)
SPARES = Table("spares", MeasurementRow, _MEASURED)
"""Measurements that a search made after a limit, and that a longer search has not asked for yet."""
TUNING = Table("tuning", TuningRow, ("task",))
REJECTS = Table("rejects", RejectRow)
TESTS = Table("tests", TestRow, ("number",))
CHAMPIONS = Table("champions", ChampionRow, ("number",))
VALIDATIONS = Table("validations", ValidationRow, ("program", "task", "seed"))
INJECTIONS = Table("injections", InjectionRow, ("id",))
PROGRESS = Table("progress", ProgressRow, ("one",))

TABLES: tuple[Table[Any], ...] = (
    META,
    PROCESSES,
    PROGRAMS,
    MEASUREMENTS,
    SPARES,
    TUNING,
    REJECTS,
    TESTS,
    CHAMPIONS,
    VALIDATIONS,
    INJECTIONS,
    PROGRESS,
)
