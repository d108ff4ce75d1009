"""The tables of a run's database and the types of their rows.

Each row has a CRC-32 checksum of its values, which is checked when the row is read. A changed byte
is therefore an error and cannot change a result without notice.
"""

from __future__ import annotations

import types
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Generic, NamedTuple, TypeVar, get_args, get_origin, get_type_hints


class MetaRow(NamedTuple):
    """An entry of the run's description, such as its original configuration."""

    key: str
    value: str


class ProcessRow(NamedTuple):
    """A process that searched in the run.

    Attributes:
        number: 1 for the process that began the run, then 2, 3, ...
        started: Time at which the process started, in UTC.
        first_request: The first request that the process measured.
        version: Version of evosearch.
        code: Digest of the code that determines a search (`evosearch.runs.provenance`).
        libraries: Names and versions of libraries, on one line.
        machine: Processor and device, on one line.
    """

    number: int
    started: str
    first_request: int
    version: str
    code: str
    libraries: str
    machine: str


class ProgramRow(NamedTuple):
    """A generated program.

    Attributes:
        id: Number of the program; 0 is the initial program.
        request: The request for which the program was generated.
        parent: Id of the parent; None for an initial or injected program.
        mutation: Description of the mutation; `initial` or `injected` for a program without parent.
        key: The semantic key.
        source: Text of the program.
        statements: Number of statements.
        live_statements: Number of statements on which the update depends.
    """

    id: int
    request: int
    parent: int | None
    mutation: str
    key: str
    source: str
    statements: int
    live_statements: int


class MeasurementRow(NamedTuple):
    """A measurement of one program on one task and seed.

    Attributes:
        request: Number of the request.
        reason: Reason of the request: `child`, `again`, `test` or `confirm`.
        program: Id of the program.
        key: The program's semantic key.
        stream: Name of the stream of seeds.
        seed: Number of the seed in its stream.
        task: Name of the task.
        steps: Number of steps that the training made.
        schedule: Name of the learning-rate schedule.
        engine: How updates were computed, or why there is no result.
        loss, baseline: Final loss of the program and of the baseline; None if it is infinite.
        score: Log ratio of the baseline's loss to the program's, clipped.
        stopped: Whether the hurdle stopped the training.
    """

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
    """The baseline's learning rate on a task.

    Attributes:
        task: Name of the task.
        params: Number of the task's weights.
        rate: The tuned learning rate.
        trials: JSON object with the mean log loss for each learning rate that was tried.
    """

    task: str
    params: int
    rate: float
    trials: str


class RejectRow(NamedTuple):
    """Count of drafts that were rejected before a child of a mutation was valid.

    Attributes:
        request: The request for which the child was generated.
        program: Id of the child.
        reason: Kind of the edit that made the drafts.
        drafts: Number of rejected drafts.
    """

    request: int
    program: int
    reason: str
    drafts: int


class TestRow(NamedTuple):
    """A test of a challenger against the champion.

    Attributes:
        number: Number of the test, from 1.
        challenger, defender: Ids of the challenger and of the champion.
        seeds: JSON array of the numbers of the seeds.
        difference: Mean score difference, challenger minus champion; None before the first pair.
        low: Lower confidence bound of the difference at the last finished stage.
        won: Whether the challenger won; None before the test is decided.
    """

    number: int
    challenger: int
    defender: int
    seeds: str
    difference: float | None
    low: float | None
    won: bool | None


class ChampionRow(NamedTuple):
    """A champion of the search.

    Attributes:
        number: 0 for the initial program, then 1, 2, ...
        program: Id of the program.
        key: The program's semantic key.
        test: Number of the test that the champion won; None if the champion won no test.
        confirmed_on: JSON array of the numbers of the confirming seeds.
    """

    number: int
    program: int
    key: str
    test: int | None
    confirmed_on: str


class ValidationRow(NamedTuple):
    """A validation of one champion on one validation task and seed.

    Attributes:
        champion: Number of the champion.
        program: Id of the champion's program.
        task: Name of the validation task.
        seed: Number of the seed.
        lr: Tuned multiplier of the program's own learning rate.
        loss, baseline: Final loss of the program and of the baseline; None if it is infinite.
        score: Log ratio of the baseline's loss to the program's, clipped.
    """

    champion: int
    program: int
    task: str
    seed: int
    lr: float
    loss: float | None
    baseline: float | None
    score: float


class InjectionRow(NamedTuple):
    """A program that a user injected.

    Attributes:
        id: Number of the injection, from 1.
        source: Text of the program.
        request: The request for which the search used the program; None if it has not been used.
        withdrawn: Why the program was withdrawn or set aside; None if it was not.
    """

    id: int
    source: str
    request: int | None
    withdrawn: str | None


class ProgressRow(NamedTuple):
    """Counts and state of the search at the last commit; see `RunStatus` for the other attributes.

    Attributes:
        one: Always 1: the primary key of the only row.
        limited_from: The first request that a limit on programs, trainings or minutes decided;
            None if no limit has been reached.
        programs, tests, champions: Number of rows in these tables, to detect lost rows.
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
"""The counts of a run without measurements."""

R = TypeVar("R", bound=tuple[Any, ...])

_SQL_TYPES = {int: "integer", bool: "integer", float: "real", str: "text"}
_STORED_TYPES = {int: (int,), bool: (int,), float: (float, int), str: (str,)}
"""The types in which SQLite may return a value."""


class RowError(ValueError):
    """Raised for a row that was damaged after it was written."""


@dataclass(frozen=True)
class Table(Generic[R]):
    """A table of the database.

    Attributes:
        name: Name in SQL.
        row: Type of the rows, a named tuple.
        key: Columns of the primary key; empty if there is none.
    """

    name: str
    row: type[R]
    key: tuple[str, ...] = ()

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns, without the checksum."""
        return self.row._fields  # type: ignore[attr-defined, no-any-return]

    @cached_property
    def _types(self) -> tuple[tuple[type, bool], ...]:
        """For each column its Python type, and whether its values may be None."""
        result = []
        for hint in get_type_hints(self.row).values():
            members = get_args(hint) or (hint,)
            python_type = next(member for member in members if member is not types.NoneType)
            result.append((python_type, get_origin(hint) is types.UnionType))
        return tuple(result)

    @cached_property
    def _allowed_types(self) -> tuple[tuple[type, ...], ...]:
        """For each column the types in which SQLite may return its values."""
        return tuple(
            (*_STORED_TYPES[python_type], *((types.NoneType,) if nullable else ()))
            for python_type, nullable in self._types
        )

    @cached_property
    def _conversions(self) -> tuple[Callable[[Any], Any], ...]:
        """For each column the function that converts its values to the type that SQLite returns."""
        return tuple(_CONVERSIONS[python_type] for python_type, _ in self._types)

    @cached_property
    def _boolean_columns(self) -> tuple[int, ...]:
        """Indices of the boolean columns."""
        return tuple(
            index for index, (python_type, _) in enumerate(self._types) if python_type is bool
        )

    @cached_property
    def schema(self) -> str:
        """SQL statement that creates the table."""
        columns = [
            f"{name} {_SQL_TYPES[python_type]}{'' if nullable else ' not null'}"
            for name, (python_type, nullable) in zip(self.columns, self._types, strict=True)
        ]
        if self.key:
            columns.append(f"primary key ({', '.join(self.key)})")
        columns.insert(len(self.columns), "checksum integer not null")
        return f"create table {self.name} ({', '.join(columns)})"

    @cached_property
    def insertion(self) -> str:
        """SQL statement that inserts a row or replaces the row with the same primary key."""
        names = ", ".join((*self.columns, "checksum"))
        placeholders = ", ".join("?" * (len(self.columns) + 1))
        return f"insert or replace into {self.name} ({names}) values ({placeholders})"

    @cached_property
    def selection(self) -> str:
        """SQL statement that selects rows; conditions and an order may be appended."""
        return f"select {', '.join((*self.columns, 'checksum'))} from {self.name}"

    def stored(self, row: R) -> tuple[Any, ...]:
        """Return the values of a row as SQLite stores them, followed by their checksum."""
        values = tuple(
            value if value is None else convert(value)
            for value, convert in zip(row, self._conversions, strict=True)
        )
        return (*values, _checksum(values))

    def read(self, stored: Sequence[Any]) -> R:
        """Return the row of stored values, of which the last is the checksum.

        Raises:
            RowError: A value has the wrong type, or the checksum does not match.
        """
        *values, checksum = stored
        value_types = tuple(map(type, values))
        if value_types not in self._checked_types:
            self._check_types(value_types)
        if _checksum(tuple(values)) != checksum:
            raise RowError("the checksum differs")
        for index in self._boolean_columns:
            if values[index] is not None:
                values[index] = bool(values[index])
        return self.row(*values)

    @cached_property
    def _checked_types(self) -> set[tuple[type, ...]]:
        """Valid combinations of value types that have occurred, cached for speed."""
        return set()

    def _check_types(self, value_types: tuple[type, ...]) -> None:
        columns = zip(self.columns, value_types, self._allowed_types, strict=True)
        for name, value_type, allowed_types in columns:
            if value_type not in allowed_types:
                raise RowError(f"{name} is {value_type.__name__}")
        self._checked_types.add(value_types)

    def is_undamaged(self, stored: Sequence[Any]) -> bool:
        """Whether `read` accepts the stored values of a row."""
        try:
            self.read(stored)
        except RowError:
            return False
        return True


def _plain_float(value: Any) -> float:
    """Convert to float, and -0.0 to 0.0 as SQLite does."""
    return float(value) + 0.0


_CONVERSIONS: dict[type, Callable[[Any], Any]] = {
    int: int,
    bool: int,
    float: _plain_float,
    str: str,
}


def _checksum(values: tuple[Any, ...]) -> int:
    return zlib.crc32(repr(values).encode())


_MEASUREMENT_KEY = ("key", "stream", "seed", "task")

META = Table("meta", MetaRow, ("key",))
PROCESSES = Table("processes", ProcessRow, ("number",))
PROGRAMS = Table("programs", ProgramRow, ("id",))
MEASUREMENTS = Table("measurements", MeasurementRow, _MEASUREMENT_KEY)
SPARES = Table("spares", MeasurementRow, _MEASUREMENT_KEY)
"""Measurements that a search made after a limit and that the resumed search has not requested."""
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
