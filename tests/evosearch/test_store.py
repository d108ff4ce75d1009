"""Tests of the database of runs: file errors name a remedy in one line; committed rows are kept."""

from __future__ import annotations

import fcntl
import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from evosearch.errors import EvosearchError, UsageError
from evosearch.evolution.evolution import Evolution
from evosearch.runs.database import DATABASE, create
from evosearch.runs.directory import make_run_directory
from evosearch.runs.rows import PROGRAMS
from evosearch.runs.run import Run
from evosearch.runs.store import Store
from tests.evosearch.stored_runs import config, evolve, short_with_signs_is_better


@pytest.fixture
def run_directory(tmp_path: Path) -> Path:
    """The directory of a run without measurements."""
    directory = tmp_path / "run"
    make_run_directory(directory, config(), {})
    return directory


def test_creating_a_second_run_in_a_directory_is_refused_with_the_command_to_resume_the_first(
    run_directory: Path,
) -> None:
    with pytest.raises(UsageError, match=f"evosearch resume {run_directory}"):
        create(run_directory, {})


def test_during_a_search_a_second_search_is_refused_but_the_run_can_be_read(
    run_directory: Path,
) -> None:
    store = Store.open(run_directory, "search")
    with pytest.raises(EvosearchError, match="another process is searching"):
        Store.open(run_directory, "search")
    assert Run(run_directory).status().generated == 0
    store.close()
    Store.open(run_directory, "search").close()


def test_the_lock_is_released_when_its_process_is_killed(run_directory: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path; from evosearch.runs.store import Store; "
        "Store.open(Path(sys.argv[1]), 'search'); os.kill(os.getpid(), 9)"
    )
    killed = subprocess.run([sys.executable, "-c", code, str(run_directory)], check=False)
    assert killed.returncode == -9
    Store.open(run_directory, "search").close()


def _set_schema_version_99(path: Path) -> None:
    with sqlite3.connect(path) as db:
        db.execute("update meta set value = '99' where key = 'schema_version'")


def _overwrite_with_text(path: Path) -> None:
    path.write_bytes(b"this is not a database " * 500)


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:5000])


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _remove(path: Path) -> None:
    path.unlink()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_set_schema_version_99, "newer version .*upgrade"),
        (_overwrite_with_text, "not a database or is damaged"),
        (_truncate, "damaged"),
        (_empty, "holds no run.*interrupted"),
        (_remove, "holds no run"),
    ],
)
@pytest.mark.parametrize("mode", ["read", "search"])
def test_an_unreadable_database_is_a_one_line_error(
    run_directory: Path, damage: Callable[[Path], None], message: str, mode: str
) -> None:
    damage(run_directory / DATABASE)
    with pytest.raises((EvosearchError, UsageError), match=message) as caught:
        Store.open(run_directory, mode)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


def test_a_full_disk_is_an_error_and_committed_data_are_kept(run_directory: Path) -> None:
    evolution = Evolution(config())
    evolve(evolution, 300, short_with_signs_is_better)
    store = Store.open(run_directory, "search")
    store.add_births(evolution.births[:10])
    store.commit()
    pages = store._db.execute("pragma page_count").fetchone()[0]
    store._db.execute(f"pragma max_page_count = {pages + 2}")
    with pytest.raises(EvosearchError, match=r"disk .*full.*evosearch resume"):
        store.add_births(evolution.births[10:])
    store.rollback()
    store.close()
    assert [row.id for row in Store.open(run_directory).select(PROGRAMS)] == list(range(10))


_WRITE_WITHOUT_ROOT = """
import os, sys
from pathlib import Path
from evosearch.errors import EvosearchError
from evosearch.runs.run import Run
from evosearch.runs.store import Store
directory = Path(sys.argv[1])
Run(directory).status()  # imports that happen on first use
if os.geteuid() == 0:
    os.setuid(65534)  # a user without rights; root can write to read-only files
for mode in ("search", "inject"):
    try:
        Store.open(directory, mode).inject("")
    except EvosearchError as error:
        print(error)
print(Run(directory).status().generated)
"""


def test_writing_a_read_only_run_is_an_error_but_it_can_be_read(run_directory: Path) -> None:
    for path in (*run_directory.iterdir(), run_directory):
        path.chmod(0o555 if path.is_dir() else 0o444)
    # Without root, the process needs the permission to read the parent directories.
    for path in run_directory.parents:
        if path.stat().st_uid == os.geteuid() and path != Path("/"):
            path.chmod(path.stat().st_mode | 0o055)
    command_line = [sys.executable, "-c", _WRITE_WITHOUT_ROOT, str(run_directory)]
    output = subprocess.run(command_line, capture_output=True, text=True, check=True).stdout
    run_directory.chmod(0o755)
    search_error, inject_error, generated = output.splitlines()
    for error in (search_error, inject_error):
        assert "read-only" in error or "Permission denied" in error
    assert generated == "0"


def test_an_unwritable_run_directory_is_an_error() -> None:
    with pytest.raises(EvosearchError, match="/proc/"):
        make_run_directory(Path("/proc/no/run"), config(), {})


def test_commits_older_than_ten_seconds_survive_a_power_failure(
    run_directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Old commits are in the database file; a power failure may lose the whole write-ahead log.

    The test sets the time between two syncs, and copies only the database file.
    """
    evolution = Evolution(config())
    evolve(evolution, 50, short_with_signs_is_better)
    store = Store.open(run_directory, "search")

    def ids_after_power_failure(name: str) -> list[int]:
        copy = tmp_path / name
        copy.mkdir()
        for file_name in ("config.toml", DATABASE):
            (copy / file_name).write_bytes((run_directory / file_name).read_bytes())
        return [row.id for row in Store.open(copy).select(PROGRAMS)]

    monkeypatch.setattr("evosearch.runs.store._SECONDS_BETWEEN_SYNCS", 3600.0)
    store.add_births(evolution.births[:10])
    store.commit()
    assert ids_after_power_failure("before-sync") == []
    monkeypatch.setattr("evosearch.runs.store._SECONDS_BETWEEN_SYNCS", 0.0)
    store.commit()
    assert ids_after_power_failure("after-sync") == list(range(10))
    store.close()


def test_a_brief_lock_by_a_status_query_does_not_prevent_a_search(tmp_path: Path) -> None:
    """A status query locks a run briefly; a search locks a run until the search ends."""
    make_run_directory(tmp_path / "run", config(), {})
    status_lock = os.open(tmp_path / "run" / "lock", os.O_RDONLY)
    fcntl.flock(status_lock, fcntl.LOCK_SH)
    threading.Timer(0.06, os.close, [status_lock]).start()
    store = Store.open(tmp_path / "run", "search")
    with pytest.raises(EvosearchError, match="another process is searching"):
        Store.open(tmp_path / "run", "search")
    store.close()
