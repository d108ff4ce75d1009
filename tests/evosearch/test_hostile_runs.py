"""Attacks by an untrusted run: links, swapped files, lost rows and invalid values."""

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
    fake_losses.use_fake_scorer(monkeypatch)
    return search(fake_losses.config(), tmp_path / "run").directory


@pytest.mark.parametrize("where", ["request > 20", "1", "request = (select max(request) from m)"])
def test_a_repair_with_lost_measurements_is_refused_and_drops_nothing(
    where: str, run_directory: Path
) -> None:
    with sqlite3.connect(run_directory / DATABASE) as db:
        db.execute(f"delete from measurements where {where.replace(' m)', ' measurements)')}")
    before = (run_directory / DATABASE).read_bytes()
    for repair in (False, True):
        findings = check(run_directory, repair=repair)
        wrong = {finding.subject: finding.text for finding in findings if not finding.ok}
        assert wrong["rows"]
        assert not any(finding.repaired for finding in check(run_directory, repair=repair))
    assert "measurements are lost" in wrong["rows"] + wrong.get("replay", "")
    assert (run_directory / DATABASE).read_bytes() == before
    with pytest.raises(EvosearchError, match="table measurements has"):
        Run(run_directory)


@pytest.mark.parametrize("table", ["programs", "measurements", "tests", "champions"])
def test_a_lost_row_is_detected_when_a_run_is_read(table: str, run_directory: Path) -> None:
    with sqlite3.connect(run_directory / DATABASE) as db:
        db.execute(f"delete from {table} where rowid = (select max(rowid) from {table})")
    with pytest.raises(EvosearchError, match=rf"table {table} has \d+ rows and had"):
        Run(run_directory)


def test_nothing_is_written_through_a_linked_database_or_folder(
    run_directory: Path, tmp_path: Path
) -> None:
    outside = tmp_path / "outside.db"
    shutil.move(run_directory / DATABASE, outside)
    (run_directory / DATABASE).symlink_to(outside)
    before = outside.read_bytes()
    with pytest.raises(UsageError, match="is a link"):
        Store.open(run_directory, "inject")
    assert outside.read_bytes() == before
    (tmp_path / "elsewhere").mkdir()
    (run_directory / "derivations").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(EvosearchError, match="is a link"):
        save_derivation(run_directory, 0, simplify_by_algebra(zoo.load("lion")))
    assert not list((tmp_path / "elsewhere").iterdir())


def test_only_trusted_bytes_are_executed_even_if_the_file_is_swapped_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The digest is of the bytes that are compiled, not of a second read."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    good = "import dataclasses, proxies\ndef task():\n    return proxies.load('quadratic')\n"
    evil = f"open({str(tmp_path / 'executed')!r}, 'w').close()\n{good}"
    path = tmp_path / "my.py"
    path.write_text(good)
    trusted = trust.Trust(["check"])
    trusted.trust_tasks([f"{path}:task"])
    trust.enable([])
    monkeypatch.setattr(trust, "_current", trusted)
    proxies.load(f"{path}:task")
    monkeypatch.setattr(trust, "_current", trust.Trust(["check"]))
    stop = threading.Event()

    def swap() -> None:
        texts = [evil, good]
        while not stop.is_set():
            (tmp_path / "new").write_text(texts[0])
            os.replace(tmp_path / "new", path)
            texts.reverse()

    swapping = threading.Thread(target=swap)
    swapping.start()
    try:
        refused = 0
        for _ in range(300):
            proxies.user_tasks.files._load.cache_clear()
            try:
                proxies.load(f"{path}:task")
            except proxies.UserTaskError:
                refused += 1
    finally:
        stop.set()
        swapping.join()
    assert 0 < refused < 300
    assert not (tmp_path / "executed").exists()


def test_the_record_of_trusted_files_is_not_part_of_a_tasks_digest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    (tmp_path / "my.py").write_text(
        "import proxies\ndef task():\n    return proxies.load('quadratic')\n"
    )
    trusted = trust.Trust(["check"])
    trusted.trust_tasks([f"{tmp_path}/my.py:task"])
    trust.enable([])
    monkeypatch.setattr(trust, "_current", trusted)
    task = proxies.load(f"{tmp_path}/my.py:task")
    assert (tmp_path / "home" / ".local" / "state" / "evosearch" / "trusted.json").exists()
    assert not [name for name in proxies.digest(task) if "trusted" in name]


def test_a_fork_keeps_task_digests_and_a_failed_fork_leaves_nothing(
    tmp_path: Path,
) -> None:
    run = search(small_config(programs=6), tmp_path / "run").directory
    fork(run, tmp_path / "fork")
    tasks = [Store.open(path).meta("tasks") for path in (run, tmp_path / "fork")]
    assert tasks[0]
    assert tasks[0] == tasks[1]
    assert all(finding.ok for finding in check(tmp_path / "fork"))
    store = Store.open(run, "search")
    store.write(META, [MetaRow("tasks", tasks[0].replace("a", "b"))])
    store.close()
    fork(run, tmp_path / "other")
    with pytest.raises(UsageError, match="has changed since"):
        resume(tmp_path / "other", programs=8)
    (run / DATABASE).write_bytes((run / DATABASE).read_bytes()[:9000])
    with pytest.raises(EvosearchError):
        fork(run, tmp_path / "failed")
    assert not [path.name for path in tmp_path.iterdir() if "failed" in path.name]


def _seeds(text: str) -> Callable[[Store], None]:
    def damage(store: Store) -> None:
        store.write(TESTS, [row._replace(seeds=text) for row in store.select(TESTS)])

    return damage


def _meta(key: str, text: str) -> Callable[[Store], None]:
    return lambda store: store.set_meta(key, text)


@pytest.mark.parametrize(
    "damage",
    [
        _seeds("[1e400]"),
        _seeds("[" * 100_000),
        _meta("tasks", "[" * 100_000),
        _meta("tasks", '{"digits-mlp": 3}'),
        _meta("tasks", "[1]"),
        _meta("config", "a=["),
        _meta("config", "a=" + "[" * 5000),
        _meta("limits", '{"programs": "many"}'),
        _meta("limits", "[" * 100_000),
        lambda store: store._db.execute("create view more as select * from rejects, rejects"),
    ],
)
def test_invalid_values_with_valid_checksums_are_errors_for_users(
    damage: Callable[[Store], Any], run_directory: Path
) -> None:
    store = Store.open(run_directory, "search")
    damage(store)
    store.close()
    refused = 0
    for read in (
        lambda: Run(run_directory).status(),
        lambda: Run(run_directory).champions(),
        lambda: resume(run_directory),
        lambda: resume(run_directory, programs=30),
        lambda: fork(run_directory, run_directory.parent / "fork"),
    ):
        try:
            read()
        except EvosearchError:
            refused += 1
    failed = [finding for finding in check(run_directory) if not finding.ok]
    assert refused or failed


def test_a_run_directory_can_have_any_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_losses.use_fake_scorer(monkeypatch)
    for name in ("a b", "q'uote\"", "new\nline", os.fsdecode(b"\xff"), "x" * 200, "50%?#"):
        search(fake_losses.config(programs=4), tmp_path / name)
        assert Run(tmp_path / name).status().generated == 4
        assert resume(tmp_path / name, programs=6).status().generated == 6


def test_an_emptied_database_of_a_started_run_is_damage(
    run_directory: Path,
) -> None:
    (run_directory / DATABASE).write_bytes(b"")
    with pytest.raises(EvosearchError, match="damaged"):
        Run(run_directory)
    with pytest.raises(UsageError, match="holds a run already"):
        search(fake_losses.config(), run_directory)
