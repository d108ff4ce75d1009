"""Migration of older databases to the current schema.

Version 2 added `measurements.stopped`, `tests.seeds` and `validations`. Version 3 added a checksum
to every row, `processes`, `spares`, `injections.withdrawn` and new columns of `progress`, and
renamed `rejects.count` to `drafts`. Every older version can be read; a newer version is refused.
"""

from __future__ import annotations

import sqlite3
from typing import Any

from evosearch.runs.rows import META, PROGRESS, TABLES, MetaRow, Table

SCHEMA_VERSION = 3

_DEFAULTS: dict[tuple[str, str], Any] = {
    ("measurements", "stopped"): 0,
    ("tests", "seeds"): "[]",
    ("injections", "withdrawn"): None,
}
"""Values of columns that older versions do not have, by table and column; None if not listed."""
_OLD_NAMES = {("rejects", "drafts"): "count"}
"""Old names of renamed columns, by table and column."""


def create(connection: sqlite3.Connection) -> None:
    """Create all tables in the current transaction."""
    for table in TABLES:
        connection.execute(table.schema)


def migrate(connection: sqlite3.Connection) -> None:
    """Migrate a database to the current schema in one transaction.

    Raises:
        sqlite3.Error: The database cannot be read or written.
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
    """Create a table with the current schema and copy the rows of the old table."""
    old_columns = {row[1] for row in connection.execute(f"pragma table_info({table.name})")}
    if not old_columns:
        connection.execute(table.schema)
        return
    connection.execute(f"alter table {table.name} rename to old_{table.name}")
    connection.execute(table.schema)
    names = {column: _OLD_NAMES.get((table.name, column), column) for column in table.columns}
    old_names = {column: name for column, name in names.items() if name in old_columns}
    defaults = {
        column: _DEFAULTS.get((table.name, column))
        for column in table.columns
        if column not in old_names
    }
    if table is PROGRESS:
        # A limit cannot have decided requests before the request of the last program.
        defaults["limited_from"] = _last_programs_request(connection)
        defaults |= {name: _count(connection, name) for name in ("programs", "tests", "champions")}
    query = f"select {', '.join(old_names.values())} from old_{table.name}"
    for values in connection.execute(query).fetchall():
        row = dict(zip(old_names, values, strict=True)) | defaults
        if table is PROGRESS:
            row = {
                name: 0 if value is None and name != "stop_reason" else value
                for name, value in row.items()
            }
        connection.execute(table.insertion, table.stored(table.row(**row)))
    connection.execute(f"drop table old_{table.name}")


def _count(connection: sqlite3.Connection, table: str) -> int:
    return int(connection.execute(f"select count(*) from {table}").fetchone()[0])


def _last_programs_request(connection: sqlite3.Connection) -> int:
    request = connection.execute("select max(request) from programs").fetchone()[0]
    return int(request or 0)
