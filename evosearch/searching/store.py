"""The run store: one SQLite database a run, written by the searching process alone.

The record is the truth: a search is resumed by replaying its measurements, and every figure that is
shown is computed from them. (The one other writer is `evosearch inject`, which adds a row to
`injections`.)
"""

from __future__ import annotations

import fcntl
import json
import os
import sqlite3
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

from evosearch.errors import EvosearchError, UsageError
from evosearch.files import explained
from evosearch.searching.evolution import Birth, Counts, Request
from evosearch.searching.measurement import Measurement
from evosearch.searching.records import Champion, Test
from evosearch.searching.validation import Validation
from evosearch.training.engines import Engine
from evosearch.training.seeds import Seed, Stream
from evosearch.training.tuning import Tuner

SCHEMA_VERSION = 2
DATABASE = "run.db"
_MAXIMUM_SECONDS_LOCKED = 10

_SCHEMA = """
create table meta (key text primary key, value text not null);
create table programs (
    id integer primary key, request integer not null, parent integer, mutation text not null,
    key text not null, source text not null, statements integer not null,
    live_statements integer not null);
create index programs_by_key on programs (key);
create table measurements (
    request integer not null, reason text not null, program integer not null, key text not null,
    stream text not null, seed integer not null, task text not null, steps integer not null,
    schedule text not null, engine text not null, loss real, baseline real, score real not null,
    stopped integer not null, primary key (key, stream, seed, task));
create table tuning (
    task text primary key, params integer not null, rate real not null, trials text not null);
create table rejects (request integer not null, program integer not null, reason text not null,
    count integer not null);
create table tests (
    number integer primary key, challenger integer not null, defender integer not null,
    seeds text not null, difference real, low real, won integer);
create table champions (
    number integer primary key, program integer not null, key text not null, test integer,
    confirmed_on text not null);
create table validations (
    champion integer not null, program integer not null, task text not null, seed integer not null,
    lr real not null, loss real, baseline real, score real not null,
    primary key (program, task, seed));
create table injections (id integer primary key, source text not null, request integer);
create table progress (
    one integer primary key check (one = 1), generated integer, invalid integer,
    cache_hits integer, evaluated integer, measurements integer, statements integer,
    live_statements integer, elapsed_seconds real, stop_reason text);
"""
_REPLAYED = ("programs", "measurements", "rejects", "tests", "champions")


class Store:
    """An open run database; use `create` or `open`."""

    def __init__(self, directory: Path, connection: sqlite3.Connection, lock: int | None):
        self.directory = directory
        self.path = directory / DATABASE
        self._db = connection
        self._lock = lock

    @classmethod
    def create(cls, directory: Path, meta: Mapping[str, str]) -> Store:
        """A new run in `directory`.

        Raises:
            UsageError: there is a run already.
            EvosearchError: the directory cannot be written.
        """
        path = directory / DATABASE
        if path.exists():
            raise UsageError(
                f"{directory} holds a run already; go on with it by `evosearch resume {directory}` "
                "or give another --out"
            )
        with explained(path):
            directory.mkdir(parents=True, exist_ok=True)
            lock = _locked(directory)
            connection = _connect(path, read_only=False)
            with connection:
                connection.executescript(_SCHEMA)
                rows = {**meta, "schema_version": str(SCHEMA_VERSION)}
                connection.executemany("insert into meta values (?, ?)", rows.items())
        return cls(directory, connection, lock)

    @classmethod
    def open(cls, directory: Path, mode: Literal["read", "search", "inject"] = "read") -> Store:
        """The run in `directory`; one process at a time may open it to search.

        Raises:
            UsageError: there is no run.
            EvosearchError: another process searches in it, or the database is damaged, cannot be
                written, or was made by another version.
        """
        path = directory / DATABASE
        if not path.exists():
            raise UsageError(f"{directory} holds no run ({DATABASE} is missing); check the path")
        with explained(path):
            lock = _locked(directory) if mode == "search" else None
            store = cls(directory, _connect(path, read_only=mode == "read"), lock)
            version = int(store.meta("schema_version") or 0)
            if version != SCHEMA_VERSION:
                age, remedy = (
                    ("a newer", "upgrade evosearch")
                    if version > SCHEMA_VERSION
                    else ("an older", f"search anew: `evosearch search {directory}/config.toml`")
                )
                raise EvosearchError(
                    f"{path} was written by {age} version (schema {version}, this one reads "
                    f"{SCHEMA_VERSION}); {remedy}"
                )
        return store

    def close(self) -> None:
        """Commits and closes; the run can be opened by others again."""
        with explained(self.path):
            self._db.commit()
            self._db.close()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def commit(self) -> None:
        """Makes everything written so far survive a kill."""
        with explained(self.path):
            self._db.commit()

    def rollback(self) -> None:
        """Forgets what was written since the last commit."""
        self._db.rollback()

    # -- what the search writes ------------------------------------------------------------------

    def begin_replay(self) -> None:
        """Empties what a replay writes anew; until the next commit the old content is safe."""
        with explained(self.path):
            for table in _REPLAYED:
                self._db.execute(f"delete from {table}")

    def add_births(self, births: Iterable[Birth]) -> None:
        """Writes generated programs and the drafts rejected on the way to them."""
        rows, rejects, injected = [], [], []
        for birth in births:
            program = birth.analysis.program
            statements, live = len(program.statements), len(birth.analysis.live_statements)
            rows.append(
                (birth.id, birth.request, birth.parent, birth.mutation)
                + (birth.analysis.key, str(program), statements, live)
            )
            rejects += [(birth.request, birth.id, why, n) for why, n in birth.rejects.items()]
            if birth.injection is not None:
                injected.append((birth.request, birth.injection))
        with explained(self.path):
            self._db.executemany("insert into programs values (?, ?, ?, ?, ?, ?, ?, ?)", rows)
            self._db.executemany("insert into rejects values (?, ?, ?, ?)", rejects)
            self._db.executemany("update injections set request = ? where id = ?", injected)

    def add_measurements(self, request: Request, found: Mapping[str, Measurement]) -> None:
        """Writes what one request measured, a row a task."""
        record, seed = request.record, request.seed
        rows = [
            (request.number, request.reason, record.id, record.key, seed.stream, seed.number)
            + (task, m.steps, m.schedule, m.engine, _finite(m.loss), _finite(m.baseline))
            + (m.score, m.stopped)
            for task, m in found.items()
        ]
        marks = ", ".join("?" * 14)
        with explained(self.path):
            self._db.executemany(f"insert or replace into measurements values ({marks})", rows)

    def add_test(self, test: Test) -> None:
        """Writes a test, or its verdict."""
        seeds = json.dumps([seed.number for seed in test.seeds])
        verdict = (test.difference, test.low, test.won)
        row = (test.number, test.challenger.id, test.defender.id, seeds, *verdict)
        with explained(self.path):
            self._db.execute("insert or replace into tests values (?, ?, ?, ?, ?, ?, ?)", row)

    def add_champion(self, number: int, champion: Champion) -> None:
        """Writes champion `number`, counted from 0."""
        record, test = champion.record, champion.test
        seeds = json.dumps([seed.number for seed in champion.confirmed_on])
        row = (number, record.id, record.key, test.number if test else None, seeds)
        with explained(self.path):
            self._db.execute("insert or replace into champions values (?, ?, ?, ?, ?)", row)

    def add_validation(self, champion: int, program: int, found: Iterable[Validation]) -> None:
        """Writes what champion number `champion` gave on validation tasks."""
        rows = [
            (champion, program, v.task, v.seed, v.lr, _finite(v.loss), _finite(v.baseline), v.score)
            for v in found
        ]
        with explained(self.path):
            self._db.executemany(
                "insert or replace into validations values (?, ?, ?, ?, ?, ?, ?, ?)", rows
            )

    def set_progress(self, counts: Counts, elapsed: float, stop_reason: str | None) -> None:
        """Writes the counts and the seconds spent."""
        row = {"one": 1, **asdict(counts), "elapsed_seconds": elapsed, "stop_reason": stop_reason}
        columns, marks = ", ".join(row), ", ".join(f":{name}" for name in row)
        with explained(self.path):
            self._db.execute(f"insert or replace into progress ({columns}) values ({marks})", row)

    def set_stop_reason(self, reason: str) -> None:
        """Writes why the search stopped before it got anywhere new."""
        if self.progress() is None:
            self.set_progress(Counts(), 0.0, reason)
        with explained(self.path):
            self._db.execute("update progress set stop_reason = ?", (reason,))

    def add_tuning(self, task: str, params: int, tuner: Tuner) -> None:
        """Writes the baseline's learning rate for a task and the trials that chose it."""
        trials = json.dumps({f"{k:g}": _finite(v) for k, v in sorted(tuner.losses.items())})
        with explained(self.path):
            row = (task, params, tuner.best, trials)
            self._db.execute("insert or replace into tuning values (?, ?, ?, ?)", row)

    # -- what anybody reads ----------------------------------------------------------------------

    def meta(self, key: str) -> str | None:
        """An entry of the run's description."""
        row = self._row("select value from meta where key = ?", key)
        return row["value"] if row else None

    def rows(self, query: str, *values: Any) -> list[sqlite3.Row]:
        """All rows of a query."""
        with explained(self.path):
            return self._db.execute(query, values).fetchall()

    def _row(self, query: str, *values: Any) -> sqlite3.Row | None:
        rows = self.rows(query, *values)
        return rows[0] if rows else None

    def progress(self) -> dict[str, Any] | None:
        """The counts as last written."""
        row = self._row("select * from progress")
        return dict(row) if row else None

    def rates(self) -> dict[str, float]:
        """The baseline's learning rate by task."""
        return {row["task"]: row["rate"] for row in self.rows("select task, rate from tuning")}

    def results(self) -> dict[tuple[str, Seed], dict[str, Measurement]]:
        """Every measurement, by semantic key and seed, then by task."""
        found: dict[tuple[str, Seed], dict[str, Measurement]] = {}
        for row in self.rows("select * from measurements order by rowid"):
            seed = Seed(Stream(row["stream"]), row["seed"])
            found.setdefault((row["key"], seed), {})[row["task"]] = Measurement(
                _number(row["loss"]),
                _number(row["baseline"]),
                row["steps"],
                row["schedule"],
                Engine(row["engine"]),
                bool(row["stopped"]),
            )
        return found

    def validations(self) -> dict[int, list[Validation]]:
        """What champions gave on validation tasks, by the program's id, the first one first."""
        found: dict[int, list[Validation]] = {}
        for row in self.rows("select * from validations order by champion, task, seed"):
            found.setdefault(row["program"], []).append(
                Validation(
                    row["task"],
                    row["seed"],
                    row["lr"],
                    _number(row["loss"]),
                    _number(row["baseline"]),
                )
            )
        return found

    def trainings(self, requests: int) -> int:
        """Trainings for the first so many requests, with the baseline's, one for each seed."""
        row = self._row(
            "select count(*) + count(distinct task || ' ' || stream || ' ' || seed) as trainings "
            "from measurements where request <= ?",
            requests,
        )
        return int(row["trainings"]) if row else 0

    def injections(self, *, used: bool) -> list[sqlite3.Row]:
        """Programs put in by hand that the search has, or has not yet, taken up."""
        which = "is not null" if used else "is null"
        return self.rows(f"select * from injections where request {which} order by id")

    def inject(self, source: str) -> int:
        """Puts in a program, to be the next child; its number."""
        with explained(self.path):
            cursor = self._db.execute("insert into injections (source) values (?)", (source,))
            self._db.commit()
        return int(cursor.lastrowid or 0)


def _connect(path: Path, *, read_only: bool) -> sqlite3.Connection:
    mode = "rwc"
    if read_only:  # a closed run is one file, which can be read where nothing can be written
        mode = "ro" if path.with_name(f"{path.name}-wal").exists() else "ro&immutable=1"
    connection = sqlite3.connect(
        f"file:{quote(str(path.absolute()))}?mode={mode}",
        uri=True,
        timeout=_MAXIMUM_SECONDS_LOCKED,
        check_same_thread=False,
    )
    connection.row_factory = sqlite3.Row
    if not read_only:
        connection.execute("pragma journal_mode = wal")
        connection.execute("pragma synchronous = normal")
    return connection


def _locked(directory: Path) -> int:
    """A lock that the operating system drops when the process ends, however it ends."""
    descriptor = os.open(directory / "lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise EvosearchError(
            f"another process is searching in {directory}; watch it with "
            f"`evosearch status {directory}` or stop it first"
        ) from None
    return descriptor


def _finite(value: float) -> float | None:
    """SQLite and JSON have no infinity: a loss that diverged is null."""
    return value if abs(value) < float("inf") else None


def _number(value: float | None) -> float:
    return float("inf") if value is None else value
