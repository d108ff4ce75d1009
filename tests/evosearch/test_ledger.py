"""Tests of the ledger: it is stored beside the run, has checksums, and never stops a search."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from evosearch.cli.programs import ledger_of
from evosearch.errors import EvosearchError
from evosearch.measuring import ledger as ledger_module
from evosearch.measuring.engines import Trainer
from evosearch.measuring.job import Job, JobResult
from evosearch.measuring.ledger import Ledger
from evosearch.measuring.measurement import Engine
from evosearch.pipeline.observers import Observer
from evosearch.pipeline.search import Search
from evosearch.runs.directory import make_run_directory
from evosearch.runs.run import Run
from evosearch.simplification import Simplification, simplify
from primitives import zoo
from tests.evosearch.test_search import small_config

RESULT = JobResult(
    0.5, 100, Engine.INTERPRETER, np.arange(3, dtype=np.float32), False, np.zeros(0, np.float32)
)


def _write_text(path: Path) -> None:
    path.write_bytes(b"no database " * 1000)


def _make_directory(path: Path) -> None:
    path.mkdir()


def _lock_database(path: Path) -> sqlite3.Connection:
    """Return a connection that locks the database until the connection is deleted."""
    connection = sqlite3.connect(path)
    connection.execute("create table other (x)")
    connection.execute("begin exclusive")
    return connection


@pytest.mark.parametrize("make_unusable", [_write_text, _make_directory, _lock_database])
def test_an_unusable_ledger_is_a_notice_and_the_search_still_validates(
    make_unusable: Callable[[Path], object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger_module, "_SECONDS_LOCKED", 0.1)
    lock = make_unusable(tmp_path / "evaluations.db")
    notices: list[str] = []

    class NoticeObserver(Observer):
        def notice(self, text: str) -> None:
            notices.append(text)

    config = small_config(programs=20, validation_seeds=2)
    make_run_directory(tmp_path / "run", config, {})
    assert Search(tmp_path / "run", config, observer=NoticeObserver()).run() == "programs"
    assert [text for text in notices if text.startswith("trainings are not stored")]
    assert Run(tmp_path / "run").validations()
    del lock


def test_without_on_error_an_unusable_ledger_is_an_error(tmp_path: Path) -> None:
    _write_text(tmp_path / "evaluations.db")
    with pytest.raises(EvosearchError, match="damaged"):
        Ledger(tmp_path / "evaluations.db")


def test_the_ledger_is_in_the_parent_directory_of_the_first_run_that_a_command_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_run_directory(tmp_path / "runs" / "mine", small_config(), {})
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    for programs in (
        ["../runs/mine"],
        ["lion", "../runs/mine#3"],
        ["../runs/mine#0:simplified"],
    ):
        path = ledger_of(programs).path
        assert path is not None
        assert path.resolve() == tmp_path / "runs" / "evaluations.db"
    assert ledger_of(["lion"]).path == ledger_module.LEDGER


def test_a_damaged_training_is_not_returned_and_is_listed_as_damaged(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "evaluations.db")
    ledger.put("key", "digits-mlp lr 1", RESULT)
    stored = ledger.get("key")
    assert stored is not None
    assert stored.loss == RESULT.loss
    with sqlite3.connect(tmp_path / "evaluations.db") as db:
        db.execute("update trainings set loss = 0.4")
    assert ledger.get("key") is None
    assert ledger.damaged() == ["digits-mlp lr 1"]
    ledger.put("key", "digits-mlp lr 1", RESULT)
    assert ledger.damaged() == []


def test_trainings_of_an_older_schema_are_set_aside_and_evaluations_are_kept(
    tmp_path: Path,
) -> None:
    path = tmp_path / "evaluations.db"
    with sqlite3.connect(path) as db:
        db.execute("create table trainings (key text primary key, loss real)")
        db.execute("insert into trainings values ('old', 0.5)")
        db.execute(
            "create table evaluations (id integer primary key, written text, split text, "
            "tasks text, contenders text, command text)"
        )
        db.execute("insert into evaluations values (1, '', 'held-out', '', '', '')")
    ledger = Ledger(path)
    assert ledger.get("old") is None
    assert ledger.count_evaluations("held-out") == 1
    ledger.close()
    with sqlite3.connect(path) as db:
        tables = {row[0] for row in db.execute("select name from sqlite_master")}
    assert any(name.startswith("trainings_until_") for name in tables)


def test_a_repeated_simplification_takes_all_trainings_from_the_ledger(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original_train = Trainer.train
    trained_jobs: list[Job] = []

    def train_and_record(self: Trainer, job: Job) -> JobResult:
        trained_jobs.append(job)
        return original_train(self, job)

    monkeypatch.setattr(Trainer, "train", train_and_record)

    def simplify_with_ledger() -> Simplification:
        ledger = Ledger(tmp_path / "evaluations.db")
        program = zoo.load("signum")
        result = simplify(program, ["points-teacher"], minutes=1e-3, ledger=ledger)
        ledger.close()
        return result

    first = simplify_with_ledger()
    assert len(trained_jobs) > 50
    trained_jobs.clear()
    second = simplify_with_ledger()
    assert not trained_jobs
    assert first.document() == second.document()
