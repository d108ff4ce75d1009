"""Tests of runs from untrusted sources: links, changing files, lost rows and invalid values."""

from __future__ import annotations

import os
import shutil
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import proxies
from evosearch import trust
from evosearch.errors import EvosearchError, UsageError
from evosearch.pipeline.checking import check
from evosearch.pipeline.pipeline import resume, search
from evosearch.runs.database import DATABASE
from evosearch.runs.recovery import fork
from evosearch.runs.rows import META, TESTS, MetaRow
from evosearch.runs.run import Run
from evosearch.runs.store import Store
from evosearch.simplification import simplify_by_algebra
from evosearch.simplification.derivation_files import save_derivation
from primitives import zoo
from tests.evosearch import fake_losses
from tests.evosearch.test_search import small_config


@pytest.fixture
def run_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory of a finished search with fake losses."""
    fake_losses.use_fake_scorer(monkeypatch)
    return search(fake_losses.config(), tmp_path / "run").directory


@pytest.mark.parametrize(
    "lost_rows", ["request > 20", "1", "request = (select max(request) from measurements)"]
)
def test_check_repairs_nothing_if_measurements_are_lost(
    lost_rows: str, run_directory: Path
) -> None:
    with sqlite3.connect(run_directory / DATABASE) as db:
        db.execute(f"delete from measurements where {lost_rows}")
    database_before = (run_directory / DATABASE).read_bytes()
    assert "rows" in {finding.subject for finding in check(run_directory) if not finding.ok}
    findings = check(run_directory, repair=True)
    assert not any(finding.repaired for finding in findings)
    messages = {finding.subject: finding.text for finding in findings if not finding.ok}
    assert "measurements are lost" in messages["rows"] + messages.get("replay", "")
    assert (run_directory / DATABASE).read_bytes() == database_before
    with pytest.raises(EvosearchError, match="table measurements has"):
        Run(run_directory)


@pytest.mark.parametrize("table", ["programs", "measurements", "tests", "champions"])
def test_a_lost_row_is_detected_when_a_run_is_read(table: str, run_directory: Path) -> None:
    with sqlite3.connect(run_directory / DATABASE) as db:
        db.execute(f"delete from {table} where rowid = (select max(rowid) from {table})")
    with pytest.raises(EvosearchError, match=rf"table {table} has \d+ rows and had"):
        Run(run_directory)


def test_no_file_is_written_through_a_link_in_place_of_the_database_or_of_a_folder(
    run_directory: Path, tmp_path: Path
) -> None:
    outside = tmp_path / "outside.db"
    shutil.move(run_directory / DATABASE, outside)
    (run_directory / DATABASE).symlink_to(outside)
    database_before = outside.read_bytes()
    with pytest.raises(UsageError, match="is a link"):
        Store.open(run_directory, "inject")
    assert outside.read_bytes() == database_before
    (tmp_path / "outside").mkdir()
    (run_directory / "derivations").symlink_to(tmp_path / "outside")
    with pytest.raises(EvosearchError, match="is a link"):
        save_derivation(run_directory, 0, simplify_by_algebra(zoo.load("lion")))
    assert not list((tmp_path / "outside").iterdir())


TASK_FILE = "import proxies\ndef task():\n    return proxies.load('quadratic')\n"


def test_only_trusted_bytes_are_executed_even_if_another_process_replaces_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bytes whose digest is trusted are the bytes that are compiled: the file is read once."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    untrusted_text = f"open({str(tmp_path / 'executed')!r}, 'w').close()\n{TASK_FILE}"
    path = tmp_path / "my.py"
    path.write_text(TASK_FILE)
    _trust_and_load(path, monkeypatch)
    monkeypatch.setattr(trust, "_current", trust.Trust(["check"]))
    stop = threading.Event()

    def replace_file_repeatedly() -> None:
        new_path = tmp_path / "new"
        while not stop.is_set():
            for text in (untrusted_text, TASK_FILE):
                new_path.write_text(text)
                os.replace(new_path, path)

    thread = threading.Thread(target=replace_file_repeatedly)
    thread.start()
    try:
        refused_loads = 0
        for _ in range(300):
            proxies.user_tasks.files._load.cache_clear()
            try:
                proxies.load(f"{path}:task")
            except proxies.UserTaskError:
                refused_loads += 1
    finally:
        stop.set()
        thread.join()
    assert 0 < refused_loads < 300
    assert not (tmp_path / "executed").exists()


def _trust_and_load(path: Path, monkeypatch: pytest.MonkeyPatch) -> proxies.Task:
    """Trust a task file, as if the user named it on a command line, and load its task."""
    trust_of_command = trust.Trust(["check"])
    trust_of_command.trust_tasks([f"{path}:task"])
    trust.start_checks([])
    monkeypatch.setattr(trust, "_current", trust_of_command)
    return proxies.load(f"{path}:task")


def test_the_list_of_trusted_files_is_not_part_of_a_tasks_digest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    (tmp_path / "my.py").write_text(TASK_FILE)
    task = _trust_and_load(tmp_path / "my.py", monkeypatch)
    assert (tmp_path / "home" / ".local" / "state" / "evosearch" / "trusted.json").exists()
    assert not [name for name in proxies.digest(task) if "trusted" in name]


def test_a_fork_keeps_the_digests_of_tasks(tmp_path: Path) -> None:
    run = search(small_config(programs=6), tmp_path / "run").directory
    fork(run, tmp_path / "fork")
    digests = Store.open(run).meta("tasks")
    assert digests
    assert Store.open(tmp_path / "fork").meta("tasks") == digests
    assert all(finding.ok for finding in check(tmp_path / "fork"))
    store = Store.open(run, "search")
    changed_digests = digests.replace("a", "b")
    store.write(META, [MetaRow("tasks", changed_digests)])
    store.close()
    fork(run, tmp_path / "fork-with-changed-digests")
    with pytest.raises(UsageError, match="has changed since"):
        resume(tmp_path / "fork-with-changed-digests", programs=8)


def test_a_failed_fork_leaves_no_files(tmp_path: Path) -> None:
    run = search(small_config(programs=6), tmp_path / "run").directory
    (run / DATABASE).write_bytes((run / DATABASE).read_bytes()[:9000])
    with pytest.raises(EvosearchError):
        fork(run, tmp_path / "failed")
    assert not [path.name for path in tmp_path.iterdir() if "failed" in path.name]


def _write_test_seeds(text: str) -> Callable[[Store], None]:
    """Return a function that writes `text` as the seeds of every champion test."""

    def damage(store: Store) -> None:
        store.write(TESTS, [row._replace(seeds=text) for row in store.select(TESTS)])

    return damage


def _write_meta(key: str, text: str) -> Callable[[Store], None]:
    """Return a function that writes `text` as the value of `key` in the table `meta`."""
    return lambda store: store.set_meta(key, text)


@pytest.mark.parametrize(
    "damage",
    [
        _write_test_seeds("[1e400]"),
        _write_test_seeds("[" * 100_000),
        _write_meta("tasks", "[" * 100_000),
        _write_meta("tasks", '{"digits-mlp": 3}'),
        _write_meta("tasks", "[1]"),
        _write_meta("config", "a=["),
        _write_meta("config", "a=" + "[" * 5000),
        _write_meta("limits", '{"programs": "many"}'),
        _write_meta("limits", "[" * 100_000),
        lambda store: store._db.execute("create view more as select * from rejects, rejects"),
    ],
)
def test_an_invalid_value_with_a_valid_checksum_is_an_error_for_users_or_a_finding_of_check(
    damage: Callable[[Store], Any], run_directory: Path
) -> None:
    store = Store.open(run_directory, "search")
    damage(store)
    store.close()
    errors = []
    for read in (
        lambda: Run(run_directory).status(),
        lambda: Run(run_directory).champions(),
        lambda: resume(run_directory),
        lambda: resume(run_directory, programs=30),
        lambda: fork(run_directory, run_directory.parent / "fork"),
    ):
        try:
            read()
        except EvosearchError as error:
            errors.append(error)
    problems = [finding for finding in check(run_directory) if not finding.ok]
    assert errors or problems


def test_a_run_directory_can_have_any_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_losses.use_fake_scorer(monkeypatch)
    for name in ("a b", "q'uote\"", "new\nline", os.fsdecode(b"\xff"), "x" * 200, "50%?#"):
        search(fake_losses.config(programs=4), tmp_path / name)
        assert Run(tmp_path / name).status().generated == 4
        assert resume(tmp_path / name, programs=6).status().generated == 6


def test_a_run_whose_database_is_empty_is_damaged_and_is_not_replaced(run_directory: Path) -> None:
    (run_directory / DATABASE).write_bytes(b"")
    with pytest.raises(EvosearchError, match="damaged"):
        Run(run_directory)
    with pytest.raises(UsageError, match="holds a run already"):
        search(fake_losses.config(), run_directory)
