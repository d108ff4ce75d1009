"""Older databases brought to the present schema.

Version 1 was the first. Version 2 added `measurements.stopped`, `tests.seeds` and `validations`.
Version 3 added a checksum to every row, `processes`, `spares`, `injections.withdrawn` and
new columns of `progress`, and named `rejects.count` `drafts`. A newer evosearch reads every older
version; an older one refuses a newer database.
"""

from __future__ import annotations

import sqlite3
from typing import Any

from evosearch.runs.rows import META, PROGRESS, TABLES, MetaRow, Table

SCHEMA_VERSION = 3

_ABSENT: dict[tuple[str, str], Any] = {
    ("measurements", "stopped"): 0,
    ("tests", "seeds"): "[]",
    ("injections", "withdrawn"): None,
}
"""What a row holds in a column that its version did not have."""
_RENAMED = {("rejects", "drafts"): "count"}
"""What a column was called before."""


def create(connection: sqlite3.Connection) -> None:
    """Makes the tables, in the transaction that is open."""
    for table in TABLES:
        connection.execute(table.schema)


def migrate(connection: sqlite3.Connection) -> None:
    """Brings an older database to the present schema; all of it or, on an error, nothing.

    Raises:
        sqlite3.Error: it cannot be read or written.
    """
    connection.execute("begin immediate")
    try:
        for table in TABLES:
            _migrate(connection, table)
        version = MetaRow("schema_version", str(SCHEMA_VERSION))
        connection.execute(META.insertion, META.stored(version))
        connection.commit()
    except BaseException:
        connection.rollback()
        raise


def _migrate(connection: sqlite3.Connection, table: Table[Any]) -> None:
    old = {row[1] for row in connection.execute(f"pragma table_info({table.name})")}
    if not old:
        connection.execute(table.schema)
        return
    connection.execute(f"alter table {table.name} rename to old_{table.name}")
    connection.execute(table.schema)
    kept = {column: _RENAMED.get((table.name, column), column) for column in table.columns}
    kept = {column: before for column, before in kept.items() if before in old}
    absent = {
        column: _ABSENT.get((table.name, column)) for column in table.columns if column not in kept
    }
    if (
        table is PROGRESS
    ):  # what a limit decided is not known: at most what follows the last program
        absent["limited_from"] = _last_programs_request(connection)
        absent |= {name: _count(connection, name) for name in ("programs", "tests", "champions")}
    query = f"select {', '.join(kept.values())} from old_{table.name}"
    for values in connection.execute(query).fetchall():
        row = dict(zip(kept, values, strict=True)) | absent
        if table is PROGRESS:
            row = {k: 0 if v is None and k != "stop_reason" else v for k, v in row.items()}
        connection.execute(table.insertion, table.stored(table.row(**row)))
    connection.execute(f"drop table old_{table.name}")


def _count(connection: sqlite3.Connection, table: str) -> int:
    return int(connection.execute(f"select count(*) from {table}").fetchone()[0])


def _last_programs_request(connection: sqlite3.Connection) -> int:
    found = connection.execute("select max(request) from programs").fetchone()[0]
    return int(found or 0)
