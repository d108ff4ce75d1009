"""The ledger is stored beside the run, has checksums, and never stops a search."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from evosearch.cli.programs import ledger_of
from evosearch.errors import EvosearchError
from evosearch.measuring import ledger as module
from evosearch.measuring.job import Job, JobResult
from evosearch.measuring.ledger import Ledger
from evosearch.measuring.measurement import Engine
from evosearch.pipeline.observers import Observer
from evosearch.pipeline.search import Search
from evosearch.runs.directory import make_run_directory
from evosearch.runs.run import Run
from evosearch.simplification import simplify
from primitives import zoo
from tests.evosearch.test_search import small_config

RESULT = JobResult(
    0.5, 100, Engine.INTERPRETER, np.arange(3, dtype=np.float32), False, np.zeros(0, np.float32)
)


def _corrupt(path: Path) -> None:
    path.write_bytes(b"no database " * 1000)


def _directory(path: Path) -> None:
    path.mkdir()


def _locked(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path)
    connection.execute("create table other (x)")
    connection.execute("begin exclusive")
    return connection


MAKE_UNUSABLE: dict[str, Callable[[Path], object]] = {
    "corrupt": _corrupt,
    "a directory": _directory,
    "locked": _locked,
}


@pytest.mark.parametrize("name", MAKE_UNUSABLE)
def test_an_unusable_ledger_is_a_notice_and_the_search_still_validates(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_SECONDS_LOCKED", 0.1)
    lock = MAKE_UNUSABLE[name](tmp_path / "evaluations.db")
    notices: list[str] = []

    class Listener(Observer):
        def notice(self, text: str) -> None:
            notices.append(text)

    config = small_config(programs=20, validation_seeds=2)
    make_run_directory(tmp_path / "run", config, {})
    assert Search(tmp_path / "run", config, observer=Listener()).run() == "programs"
    assert [text for text in notices if text.startswith("trainings are not stored")]
    assert Run(tmp_path / "run").validations()
    del lock


def test_without_on_error_an_unusable_ledger_is_an_error(tmp_path: Path) -> None:
    _corrupt(tmp_path / "evaluations.db")
    with pytest.raises(EvosearchError, match="damaged"):
        Ledger(tmp_path / "evaluations.db")


def test_the_ledger_lies_beside_the_run_wherever_the_command_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_run_directory(tmp_path / "runs" / "one", small_config(), {})
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    for words in (["../runs/one"], ["lion", "../runs/one#3"], ["../runs/one#0:simplified"]):
        path = ledger_of(words).path
        assert path is not None
        assert path.resolve() == tmp_path / "runs" / "evaluations.db"
    assert ledger_of(["lion"]).path == module.LEDGER


def test_a_damaged_training_is_not_found_and_is_named_by_check(tmp_path: Path) -> None:
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


def test_a_second_simplification_trains_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from evosearch.measuring.engines import Trainer

    train, jobs = Trainer.train, []

    def count(self: Trainer, job: Job) -> JobResult:
        jobs.append(job)
        return train(self, job)

    monkeypatch.setattr(Trainer, "train", count)
    results = []
    for _ in range(2):
        ledger = Ledger(tmp_path / "evaluations.db")
        program = zoo.load("signum")
        results.append(simplify(program, ["points-teacher"], minutes=1e-3, ledger=ledger))
        ledger.close()
        if not results[1:]:
            assert len(jobs) > 50
            jobs.clear()
    assert not jobs
    assert results[0].document() == results[1].document()
