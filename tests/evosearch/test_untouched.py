"""Tests that a search with validation and funnel uses no held-out data, tasks or seeds."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import proxies
from evosearch.cli.status import print_status
from evosearch.config import make_config
from evosearch.evaluation.funnel import SCALES
from evosearch.fixed import VALIDATION_DECAYS
from evosearch.measuring.scorer import BASELINE
from evosearch.report.run import overview
from evosearch.runs.documents import CHECKSUM, checksum
from evosearch.runs.run import Run
from evosearch.runs.validations import counterparts, counterparts_10x_or_same
from evosearch.seeds import Stream
from evosearch.verdicts import fitness_as_loss_percent
from primitives import zoo

SCRIPT = """
import json, sys
from proxies.data import Source

parts_read = []
original_part = Source.part

def record_and_read_part(source, name):
    parts_read.append((source.name, name))
    return original_part(source, name)

Source.part = record_and_read_part
sys.argv = ["evosearch", "search", "config.toml", "--out", "run", "--workers", "2"]
from evosearch.cli.app import main
try:
    main()
finally:
    json.dump(parts_read, open("read.json", "w"))
"""
"""Runs a search, and writes the source and the part of all data that were read to `read.json`."""
EVALUATION_STREAMS = {Stream.EVAL_TUNE, Stream.EVAL}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of `SCRIPT` after a search with validation and funnel."""
    path = tmp_path_factory.mktemp("untouched")
    config = make_config(
        {
            "tasks": ["points-teacher"],
            "init": str(zoo.load("adamw_paper")),
            "programs": 40,
            "population": 10,
            "validation_seeds": 2,
            "measurement": {"challenge_seeds": 2, "test_seeds": 3, "confirm_seeds": 2},
            "funnel": {
                "at_end": True,
                "entrants": [2, 1],
                "seeds": [2, 2],
                "confirm_seeds": 2,
            },
        }
    )
    (path / "config.toml").write_text(config.to_toml())
    process = subprocess.run(
        [sys.executable, "-c", SCRIPT], cwd=path, check=False, capture_output=True, text=True
    )
    assert process.returncode == 0, process.stderr
    return path


def select_column(database: Path, query: str) -> list[Any]:
    """Return the values of the only column that the query selects."""
    with sqlite3.connect(database) as db:
        return [row[0] for row in db.execute(query)]


def test_only_the_search_and_validation_parts_of_data_are_read(folder: Path) -> None:
    parts_read = {part for _, part in json.loads((folder / "read.json").read_text())}
    assert parts_read == {"search", "validation"}


def test_no_program_is_trained_on_a_held_out_task_or_an_evaluation_seed(folder: Path) -> None:
    run, ledger = folder / "run" / "run.db", folder / "evaluations.db"
    search_tasks = select_column(run, "select distinct task from measurements")
    assert search_tasks == ["points-teacher"]
    validation_tasks = select_column(run, "select distinct task from validations")
    assert validation_tasks == ["points-teacher-10x"]
    streams = set(map(Stream, select_column(run, "select distinct stream from measurements")))
    assert streams <= {Stream.SEARCH, Stream.TEST, Stream.CONFIRM}
    trainings = select_column(ledger, "select description from trainings")
    assert len(trainings) > 20
    for training in trainings:
        assert training.split()[0] in ("points-teacher-10x", "points-teacher-100x")
        assert not any(repr(stream) in training for stream in EVALUATION_STREAMS)
        assert any(repr(stream) in training for stream in Stream)
    splits = select_column(ledger, "select distinct split from evaluations")
    assert splits == ["validation"]
    evaluated_tasks = select_column(ledger, "select distinct tasks from evaluations")
    assert not set(evaluated_tasks) & set(proxies.names("held-out"))


def test_the_result_of_the_funnel_is_stored_with_ranked_entrants(folder: Path) -> None:
    """Entrants that beat the baseline come first and are promoted; after 100x at most one is."""
    funnel = Run(folder / "run").funnel()
    assert funnel is not None
    document = funnel.model_dump()
    stored = json.loads((folder / "run" / "funnel.json").read_text())
    assert stored == {**document, CHECKSUM: checksum(document)}
    stages = document["stages"]
    assert stages[0]["scale"] == "10x"
    for stage in stages:
        entrants = stage["entrants"]
        ranks = [(entrant["fitness_low"] > 0, entrant["fitness"]) for entrant in entrants]
        assert ranks == sorted(ranks, reverse=True)
        better = sum(is_better for is_better, _ in ranks)
        assert stage["through"] == (min(better, 1) if stage["scale"] == "100x" else better)
    if document["winner"]:
        assert set(document["winner"]["per_task"]) == {"points-teacher-100x"}


def test_the_status_reports_validation_and_funnel(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_overview = overview(Run(folder / "run"))
    status = run_overview.status
    assert status.best is not None
    assert status.validation is not None
    assert set(status.validation.per_task) == {"points-teacher-10x"}
    # The champion may be the initial program, id 0, for which less is printed.
    print_status(replace(run_overview, status=replace(status, best=replace(status.best, id=7))))
    text = " ".join(capsys.readouterr().out.split())
    change = fitness_as_loss_percent(status.validation.fitness.mean)
    assert "On the same tasks at ten times the work: " in text
    assert f"By task: points-teacher-10x {change}" in text
    winner = json.loads((folder / "run" / "funnel.json").read_text())["winner"]
    assert ("No program passed" if winner is None else f"funnel is {winner['name']}") in text


def test_validation_and_funnel_tune_the_weight_decay_of_champions_and_of_the_baseline(
    folder: Path,
) -> None:
    trainings = select_column(folder / "evaluations.db", "select description from trainings")
    decays_of_programs: dict[str, set[float]] = {}
    for training in trainings:
        if repr(Stream.VALIDATE_TUNE) in training:
            program = training.split("\n", 1)[1].strip()
            decay = float(training.split("decay=")[1].split(")")[0])
            decays_of_programs.setdefault(program, set()).add(decay)
    assert str(zoo.load(BASELINE)).strip() in decays_of_programs
    assert len(decays_of_programs) > 1
    for program, decays in decays_of_programs.items():
        assert decays >= {0.0, *VALIDATION_DECAYS}, program


def test_the_10x_and_100x_counterparts_of_search_tasks_are_validation_tasks() -> None:
    for scale in SCALES:
        names = counterparts(proxies.names("search"), scale)
        assert len(names) == len(proxies.names("search"))
        assert {proxies.load(name).split for name in names} == {"validation"}
    assert counterparts(["my_task.py:task"], "10x") == []
    assert counterparts_10x_or_same(["digits-mlp", "my_task.py:task"]) == [
        "digits-mlp-10x",
        "my_task.py:task",
    ]
