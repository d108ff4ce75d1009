"""Damaged run directories give a one-line error or the same figures, never a traceback.

Bytes are flipped, values get other types, files are truncated, missing, replaced or not files.
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

NUM_DAMAGED = 250


@pytest.fixture(scope="module")
def undamaged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("damaged") / "run"
    with pytest.MonkeyPatch.context() as patch:
        fake_losses.use_fake_scorer(patch)
        search(fake_losses.config(programs=20), directory)
    return directory


def reported_figures(directory: Path) -> dict[str, Any]:
    """Return the figures that commands report about a run."""
    run = Run(directory)
    best = run.top(1)[0].id
    return {
        **fake_losses.reported_results(run),
        "program": str(load_program(f"{directory}#7")),
        "lineage": [ancestor.document() for ancestor in lineage(run, best)],
        "tests": run.tests(),
        "validations": run.validations(),
    }


def _flip_bytes(run: Path, rng: np.random.Generator) -> None:
    path = run / DATABASE
    content = bytearray(path.read_bytes())
    for _ in range(int(rng.integers(1, 4))):
        content[int(rng.integers(len(content)))] ^= 1 << int(rng.integers(8))
    path.write_bytes(content)


SQL_VALUES = ("null", "'x'", "-1", "1e999", "x'00ff'", "9223372036854775807", "''", "0.5", "'[[[['")


def _change_a_value(run: Path, rng: np.random.Generator) -> None:
    with sqlite3.connect(run / DATABASE) as db:
        names = "select name from sqlite_master where type = 'table'"
        tables = [row[0] for row in db.execute(names)]
        table = str(rng.choice(tables))
        columns = [row[1] for row in db.execute(f"pragma table_info({table})")]
        column, value = str(rng.choice(columns)), str(rng.choice(SQL_VALUES))
        one_row = f"rowid in (select rowid from {table} order by random() limit 1)"
        try:
            db.execute(f"update or replace {table} set {column} = {value} where {one_row}")
        except sqlite3.IntegrityError:
            db.execute(f"delete from {table} where {one_row}")


def _delete_a_row(run: Path, rng: np.random.Generator) -> None:
    with sqlite3.connect(run / DATABASE) as db:
        tables = ["programs", "measurements", "tests", "champions", "tuning", "progress", "meta"]
        table = str(rng.choice(tables))
        db.execute(f"delete from {table} where rowid = {int(rng.integers(1, 30))}")


def _damage_a_file(run: Path, rng: np.random.Generator) -> None:
    path = run / str(rng.choice(["run.db", "config.toml", "environment.json", "lock", "log.jsonl"]))
    content = path.read_bytes()
    kind = int(rng.integers(6))
    path.unlink()
    if kind == 0:
        path.write_bytes(content[: len(content) // 2])
    elif kind == 1:
        path.write_bytes(rng.bytes(300))
    elif kind == 2:
        path.mkdir()
    elif kind == 3:
        os.mkfifo(path)
    elif kind == 4:
        path.symlink_to(path.name)


DAMAGE: tuple[Callable[[Path, np.random.Generator], None], ...] = (
    _flip_bytes,
    _flip_bytes,
    _change_a_value,
    _delete_a_row,
    _damage_a_file,
)


def test_damage_to_a_run_is_an_error_or_changes_no_figure(undamaged: Path, tmp_path: Path) -> None:
    expected = reported_figures(undamaged)
    refused = unchanged = 0
    for number in range(NUM_DAMAGED):
        rng = np.random.default_rng(number)
        directory = tmp_path / "run"
        shutil.rmtree(directory, ignore_errors=True)
        shutil.copytree(undamaged, directory)
        damage = DAMAGE[number % len(DAMAGE)]
        damage(directory, rng)
        try:
            figures = reported_figures(directory)
        except (EvosearchError, ProgramError):
            refused += 1
        else:
            missing_rows = damage in (_delete_a_row, _change_a_value)
            assert figures == expected or (missing_rows and _is_detected_by_check(directory)), (
                number
            )
            unchanged += 1
    assert refused > NUM_DAMAGED / 4
    assert unchanged > NUM_DAMAGED / 10


LEAF_PAGE = 13
"""Type of the pages of SQLite that hold the rows of tables."""


def test_a_page_that_lost_a_row_changes_no_figure(
    undamaged: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For each page: decrease its row count, so that all remaining rows are undamaged."""
    directory = tmp_path / "run"
    shutil.copytree(undamaged, directory)
    store = Store.open(directory, "search")
    champions = store.select(CHAMPIONS)
    for champion in champions:
        validations = [
            Validation(f"{task}-10x", seed, 0.1, 1.0, 1.1)
            for task in fake_losses.TASKS
            for seed in range(2)
        ]
        store.add_validation(champion.number, champion.program, validations)
    store.close()
    with sqlite3.connect(directory / DATABASE) as db:
        db.execute("pragma journal_mode = delete")
        size = db.execute("pragma page_size").fetchone()[0]
    fake_losses.use_fake_scorer(monkeypatch)
    path, expected = directory / DATABASE, reported_figures(directory)
    assert len(expected["validations"]) == len(champions)
    content, refused = path.read_bytes(), 0
    for start in range(0, len(content), size):
        header = start or 100  # the first page starts with the header of the file
        rows = int.from_bytes(content[header + 3 : header + 5], "big")
        if content[header] != LEAF_PAGE or not rows:
            continue
        damaged = bytearray(content)
        damaged[header + 3 : header + 5] = (rows - 1).to_bytes(2, "big")
        path.write_bytes(damaged)
        refused += _is_refused(expected, directory)
        with suppress(EvosearchError):
            resume(directory)
        _is_refused(expected, directory)
    assert refused > 8


def test_a_lost_validation_is_detected(undamaged: Path, tmp_path: Path) -> None:
    directory = tmp_path / "run"
    shutil.copytree(undamaged, directory)
    store = Store.open(directory, "search")
    validations = [Validation("digits-mlp-10x", seed, 0.1, 1.0, 1.1) for seed in range(2)]
    validations += [Validation("points-teacher-10x", seed, 0.1, 1.0, 1.1) for seed in range(2)]
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
    """Whether commands refuse a run; if they do not, check that the figures are as expected."""
    try:
        figures = reported_figures(directory)
    except (EvosearchError, ProgramError):
        return True
    assert figures == expected
    return False


def _is_detected_by_check(directory: Path) -> bool:
    """Whether `check` detects the damage; a lost row has no checksum that could differ."""
    return any(not finding.ok for finding in check(directory))


@pytest.mark.parametrize("seed", range(25))
def test_check_and_repair_survive_any_damage(seed: int, undamaged: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng([seed, 1])
    directory = tmp_path / "run"
    shutil.copytree(undamaged, directory)
    DAMAGE[seed % len(DAMAGE)](directory, rng)
    findings = check(directory)
    repaired = check(directory, repair=True)
    assert len(findings) == len(repaired) > 5
    if all(finding.ok for finding in repaired):
        assert _derived_figures(directory) == _derived_figures(undamaged)


def _derived_figures(directory: Path) -> dict[str, Any]:
    """Return the reported figures without the stop reason, which cannot be derived again."""
    figures = reported_figures(directory)
    del figures["status"]["stop_reason"]
    return figures
