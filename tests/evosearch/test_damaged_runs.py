"""Tests that a damaged run gives an error of one line or unchanged results, never a traceback.

The tests flip bits, change values and their types, and delete, truncate or replace files.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evosearch.cli.programs import load_program
from evosearch.errors import EvosearchError
from evosearch.pipeline.checking import check
from evosearch.pipeline.pipeline import resume, search
from evosearch.runs.database import DATABASE
from evosearch.runs.lineage import lineage
from evosearch.runs.rows import CHAMPIONS
from evosearch.runs.run import Run
from evosearch.runs.store import Store
from evosearch.runs.validations import Validation
from primitives import ProgramError
from tests.evosearch import fake_losses

DAMAGED_COPIES = 250
"""Number of damaged copies of the run that are read."""


@pytest.fixture(scope="module")
def undamaged_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a finished run; tests damage copies of the directory."""
    directory = tmp_path_factory.mktemp("damaged") / "run"
    with pytest.MonkeyPatch.context() as patch:
        fake_losses.use_fake_scorer(patch)
        search(fake_losses.config(programs=20), directory)
    return directory


def reported_results(directory: Path) -> dict[str, Any]:
    """Return what commands report about a run."""
    run = Run(directory)
    best = run.top(1)[0].id
    return {
        **fake_losses.reported_results(run),
        "program": str(load_program(f"{directory}#7")),
        "lineage": [ancestor.document() for ancestor in lineage(run, best)],
        "tests": run.tests(),
        "validations": run.validations(),
    }


def _flip_bits(run: Path, rng: np.random.Generator) -> None:
    """Flip one to three bits of the database."""
    path = run / DATABASE
    content = bytearray(path.read_bytes())
    for _ in range(int(rng.integers(1, 4))):
        content[int(rng.integers(len(content)))] ^= 1 << int(rng.integers(8))
    path.write_bytes(content)


SQL_VALUES = ("null", "'x'", "-1", "1e999", "x'00ff'", "9223372036854775807", "''", "0.5", "'[[[['")


def _change_value(run: Path, rng: np.random.Generator) -> None:
    """Change a value of a random row, or delete a row if a constraint forbids the change."""
    with sqlite3.connect(run / DATABASE) as db:
        table_names = "select name from sqlite_master where type = 'table'"
        tables = [row[0] for row in db.execute(table_names)]
        table = str(rng.choice(tables))
        columns = [row[1] for row in db.execute(f"pragma table_info({table})")]
        column, value = str(rng.choice(columns)), str(rng.choice(SQL_VALUES))
        random_row = f"rowid in (select rowid from {table} order by random() limit 1)"
        try:
            db.execute(f"update or replace {table} set {column} = {value} where {random_row}")
        except sqlite3.IntegrityError:
            db.execute(f"delete from {table} where {random_row}")


def _delete_row(run: Path, rng: np.random.Generator) -> None:
    with sqlite3.connect(run / DATABASE) as db:
        tables = ["programs", "measurements", "tests", "champions", "tuning", "progress", "meta"]
        table = str(rng.choice(tables))
        db.execute(f"delete from {table} where rowid = {int(rng.integers(1, 30))}")


def _damage_file(run: Path, rng: np.random.Generator) -> None:
    """Truncate, overwrite or delete a file, or replace it by something that is not a file."""
    path = run / str(rng.choice(["run.db", "config.toml", "environment.json", "lock", "log.jsonl"]))
    content = path.read_bytes()
    damage = ("truncate", "overwrite", "directory", "pipe", "link", "delete")[int(rng.integers(6))]
    path.unlink()
    if damage == "truncate":
        path.write_bytes(content[: len(content) // 2])
    elif damage == "overwrite":
        path.write_bytes(rng.bytes(300))
    elif damage == "directory":
        path.mkdir()
    elif damage == "pipe":
        os.mkfifo(path)
    elif damage == "link":
        path.symlink_to(path.name)


DAMAGE: tuple[Callable[[Path, np.random.Generator], None], ...] = (
    _flip_bits,
    _flip_bits,
    _change_value,
    _delete_row,
    _damage_file,
)


def test_damage_to_a_run_is_an_error_or_changes_no_result(
    undamaged_run: Path, tmp_path: Path
) -> None:
    """Lost rows may change results, since no checksum covers them; `check` then detects the loss.

    Changing a value may also delete a row.
    """
    expected = reported_results(undamaged_run)
    refused_copies = readable_copies = 0
    for number in range(DAMAGED_COPIES):
        rng = np.random.default_rng(number)
        directory = tmp_path / "run"
        shutil.rmtree(directory, ignore_errors=True)
        shutil.copytree(undamaged_run, directory)
        damage = DAMAGE[number % len(DAMAGE)]
        damage(directory, rng)
        try:
            results = reported_results(directory)
        except (EvosearchError, ProgramError):
            refused_copies += 1
            continue
        readable_copies += 1
        if results != expected:
            assert damage in (_delete_row, _change_value), number
            assert _is_detected_by_check(directory), number
    assert refused_copies > DAMAGED_COPIES / 4
    assert readable_copies > DAMAGED_COPIES / 10


LEAF_PAGE = 13
"""Type of the pages of an SQLite database that hold the rows of tables."""
FILE_HEADER_SIZE = 100
"""Number of bytes before the header of the first page of an SQLite database."""


def test_a_page_that_lost_a_row_is_an_error_or_changes_no_result(
    undamaged_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For each page, the row count in its header is decreased; the other rows are undamaged."""
    directory = tmp_path / "run"
    shutil.copytree(undamaged_run, directory)
    store = Store.open(directory, "search")
    champions = store.select(CHAMPIONS)
    for champion in champions:
        store.add_validation(champion.number, champion.program, _validations())
    store.close()
    with sqlite3.connect(directory / DATABASE) as db:
        db.execute("pragma journal_mode = delete")
        page_size = db.execute("pragma page_size").fetchone()[0]
    fake_losses.use_fake_scorer(monkeypatch)
    path, expected = directory / DATABASE, reported_results(directory)
    assert len(expected["validations"]) == len(champions)
    content = path.read_bytes()
    refused_pages = 0
    for page in range(0, len(content), page_size):
        header = FILE_HEADER_SIZE if page == 0 else page
        row_count_bytes = slice(header + 3, header + 5)
        row_count = int.from_bytes(content[row_count_bytes], "big")
        if content[header] != LEAF_PAGE or row_count == 0:
            continue
        damaged = bytearray(content)
        damaged[row_count_bytes] = (row_count - 1).to_bytes(2, "big")
        path.write_bytes(damaged)
        refused_pages += _is_refused(expected, directory)
        with suppress(EvosearchError):
            resume(directory)
        _is_refused(expected, directory)
    assert refused_pages > 8


def _validations() -> list[Validation]:
    """Return the validations of a champion on two tasks with two seeds each."""
    return [
        Validation(f"{task}-10x", seed, 0.1, 1.0, 1.1)
        for task in fake_losses.TASKS
        for seed in range(2)
    ]


def test_a_lost_validation_is_detected(undamaged_run: Path, tmp_path: Path) -> None:
    directory = tmp_path / "run"
    shutil.copytree(undamaged_run, directory)
    store = Store.open(directory, "search")
    validations = _validations()
    champion = store.select(CHAMPIONS)[-1]
    store.add_validation(champion.number, champion.program, validations)
    store.close()
    assert list(Run(directory).validations()) == [champion.number]
    with sqlite3.connect(directory / DATABASE) as db:
        db.execute("delete from validations")
    with pytest.raises(EvosearchError, match=r"missing; `evosearch resume .* repeats it"):
        Run(directory).validations()
    assert "rows" in {finding.subject for finding in check(directory) if not finding.ok}
    store = Store.open(directory, "search")
    store.add_validation(champion.number, champion.program, validations)
    store.close()
    assert list(Run(directory).validations()) == [champion.number]


def _is_refused(expected: dict[str, Any], directory: Path) -> bool:
    """Whether commands refuse a run; if commands accept it, assert that they report `expected`."""
    try:
        results = reported_results(directory)
    except (EvosearchError, ProgramError):
        return True
    assert results == expected
    return False


def _is_detected_by_check(directory: Path) -> bool:
    return any(not finding.ok for finding in check(directory))


@pytest.mark.parametrize("seed", range(25))
def test_check_of_a_damaged_run_raises_no_exception_and_a_complete_repair_restores_the_results(
    seed: int, undamaged_run: Path, tmp_path: Path
) -> None:
    rng = np.random.default_rng([seed, 1])
    directory = tmp_path / "run"
    shutil.copytree(undamaged_run, directory)
    DAMAGE[seed % len(DAMAGE)](directory, rng)
    findings = check(directory)
    findings_of_repair = check(directory, repair=True)
    assert len(findings) == len(findings_of_repair) > 5
    if all(finding.ok for finding in findings_of_repair):
        assert _derived_results(directory) == _derived_results(undamaged_run)


def _derived_results(directory: Path) -> dict[str, Any]:
    """Return the reported results without the stop reason, which cannot be derived again."""
    results = reported_results(directory)
    del results["status"]["stop_reason"]
    return results
