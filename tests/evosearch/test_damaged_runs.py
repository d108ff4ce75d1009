"""Damaged run directories: an error in one line or the same figures, never a traceback.

Bytes are flipped, values take other types, files are cut, missing, foreign or no files at all.
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
from tests.evosearch import planted

MUTATIONS = 250


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("damaged") / "run"
    with pytest.MonkeyPatch.context() as patch:
        planted.plant(patch)
        search(planted.config(programs=20), directory)
    return directory


def reported(directory: Path) -> dict[str, Any]:
    """What commands say of a run: `status`, `top`, `show`, `lineage`, `compare`."""
    run = Run(directory)
    best = run.top(1)[0].id
    return {
        **planted.result(run),
        "program": str(load_program(f"{directory}#7")),
        "lineage": [one.document() for one in lineage(run, best)],
        "tests": run.tests(),
        "validations": run.validations(),
    }


def _flip_bytes(run: Path, rng: np.random.Generator) -> None:
    path = run / DATABASE
    content = bytearray(path.read_bytes())
    for _ in range(int(rng.integers(1, 4))):
        content[int(rng.integers(len(content)))] ^= 1 << int(rng.integers(8))
    path.write_bytes(content)


VALUES = ("null", "'x'", "-1", "1e999", "x'00ff'", "9223372036854775807", "''", "0.5", "'[[[['")


def _change_a_value(run: Path, rng: np.random.Generator) -> None:
    with sqlite3.connect(run / DATABASE) as db:
        names = "select name from sqlite_master where type = 'table'"
        tables = [row[0] for row in db.execute(names)]
        table = str(rng.choice(tables))
        columns = [row[1] for row in db.execute(f"pragma table_info({table})")]
        column, value = str(rng.choice(columns)), str(rng.choice(VALUES))
        some = f"rowid in (select rowid from {table} order by random() limit 1)"
        try:
            db.execute(f"update or replace {table} set {column} = {value} where {some}")
        except sqlite3.IntegrityError:
            db.execute(f"delete from {table} where {some}")


def _change_a_row(run: Path, rng: np.random.Generator) -> None:
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
    _change_a_row,
    _damage_a_file,
)


def test_no_damage_to_a_run_is_a_traceback_or_another_figure(sound: Path, tmp_path: Path) -> None:
    whole = reported(sound)
    refused = unchanged = 0
    for number in range(MUTATIONS):
        rng = np.random.default_rng(number)
        directory = tmp_path / "run"
        shutil.rmtree(directory, ignore_errors=True)
        shutil.copytree(sound, directory)
        damage = DAMAGE[number % len(DAMAGE)]
        damage(directory, rng)
        try:
            found = reported(directory)
        except (EvosearchError, ProgramError):
            refused += 1
        else:
            missing_rows = damage in (_change_a_row, _change_a_value)
            assert found == whole or (missing_rows and _is_found(directory)), number
            unchanged += 1
    assert refused > MUTATIONS / 4
    assert unchanged > MUTATIONS / 10


LEAF = 13
"""The type of a page of SQLite's that holds rows of a table."""


def test_a_page_that_has_lost_a_row_is_another_figure_nowhere(
    sound: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its count of rows is one less, so nothing that is left is damaged; each page in turn."""
    directory = tmp_path / "run"
    shutil.copytree(sound, directory)
    store = Store.open(directory, "search")
    champions = store.select(CHAMPIONS)
    for champion in champions:
        found = [
            Validation(f"{task}-10x", seed, 0.1, 1.0, 1.1)
            for task in planted.TASKS
            for seed in range(2)
        ]
        store.add_validation(champion.number, champion.program, found)
    store.close()
    with sqlite3.connect(directory / DATABASE) as db:
        db.execute("pragma journal_mode = delete")
        size = db.execute("pragma page_size").fetchone()[0]
    planted.plant(monkeypatch)
    path, whole = directory / DATABASE, reported(directory)
    assert len(whole["validations"]) == len(champions)
    content, refused = path.read_bytes(), 0
    for start in range(0, len(content), size):
        header = start or 100  # the first page begins with the file's own header
        rows = int.from_bytes(content[header + 3 : header + 5], "big")
        if content[header] != LEAF or not rows:
            continue
        damaged = bytearray(content)
        damaged[header + 3 : header + 5] = (rows - 1).to_bytes(2, "big")
        path.write_bytes(damaged)
        refused += _is_refused_or(whole, directory)
        with suppress(EvosearchError):
            resume(directory)
        _is_refused_or(whole, directory)
    assert refused > 8


def test_a_validation_that_is_gone_is_missed(sound: Path, tmp_path: Path) -> None:
    directory = tmp_path / "run"
    shutil.copytree(sound, directory)
    store = Store.open(directory, "search")
    found = [Validation("digits-mlp-10x", seed, 0.1, 1.0, 1.1) for seed in range(2)]
    found += [Validation("points-teacher-10x", seed, 0.1, 1.0, 1.1) for seed in range(2)]
    champion = store.select(CHAMPIONS)[-1]
    store.add_validation(champion.number, champion.program, found)
    store.close()
    assert list(Run(directory).validations()) == [champion.number]
    with sqlite3.connect(directory / DATABASE) as db:
        db.execute("delete from validations")
    with pytest.raises(EvosearchError, match=r"missing; `evosearch resume .* repeats it"):
        Run(directory).validations()
    assert "rows" in {one.subject for one in check(directory) if not one.ok}
    store = Store.open(directory, "search")
    store.add_validation(champion.number, champion.program, found)
    store.close()
    assert list(Run(directory).validations()) == [champion.number]


def _is_refused_or(whole: dict[str, Any], directory: Path) -> bool:
    """Whether commands refuse the run; if they do not, they say what they said of it before."""
    try:
        found = reported(directory)
    except (EvosearchError, ProgramError):
        return True
    assert found == whole
    return False


def _is_found(directory: Path) -> bool:
    """Whether `check` tells of the damage: a row that is gone has no checksum that could tell."""
    return any(not one.ok for one in check(directory))


@pytest.mark.parametrize("seed", range(25))
def test_check_and_its_repair_survive_any_damage(seed: int, sound: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng([seed, 1])
    directory = tmp_path / "run"
    shutil.copytree(sound, directory)
    DAMAGE[seed % len(DAMAGE)](directory, rng)
    found = check(directory)
    repaired = check(directory, repair=True)
    assert len(found) == len(repaired) > 5
    if all(one.ok for one in repaired):
        assert _derived(directory) == _derived(sound)


def _derived(directory: Path) -> dict[str, Any]:
    """What is reported, without why the search ended, which nothing derives again."""
    found = reported(directory)
    del found["status"]["stop_reason"]
    return found
