"""Search and funnel use no held-out data, tasks or evaluation seeds."""

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
from evosearch.verdicts import format_loss_change
from primitives import zoo

SCRIPT = """
import json, sys
from proxies.data import Source

read = []
part_of_source = Source.part

def part(source, name):
    read.append((source.name, name))
    return part_of_source(source, name)

Source.part = part
sys.argv = ["evosearch", "search", "config.toml", "--out", "run", "--workers", "2"]
from evosearch.cli.app import main
try:
    main()
finally:
    json.dump(read, open("read.json", "w"))
"""
EVALUATION = {Stream.EVAL_TUNE, Stream.EVAL}


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A search with validation and funnel in a process that records which data it reads."""
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
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], cwd=path, check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return path


def rows(path: Path, query: str) -> list[Any]:
    with sqlite3.connect(path) as db:
        return [row[0] for row in db.execute(query)]


def test_no_held_out_array_is_read(searched: Path) -> None:
    read = {part for _, part in json.loads((searched / "read.json").read_text())}
    assert read == {"search", "validation"}


def test_no_held_out_task_or_evaluation_seed_is_trained(searched: Path) -> None:
    held_out = set(proxies.names("held-out"))
    run, ledger = searched / "run" / "run.db", searched / "evaluations.db"
    assert set(rows(run, "select distinct task from measurements")) == {"points-teacher"}
    assert set(rows(run, "select distinct task from validations")) == {"points-teacher-10x"}
    streams = set(map(Stream, rows(run, "select distinct stream from measurements")))
    assert streams <= {Stream.SEARCH, Stream.TEST, Stream.CONFIRM}
    trained = rows(ledger, "select description from trainings")
    assert len(trained) > 20
    for description in trained:
        assert description.split()[0] in ("points-teacher-10x", "points-teacher-100x")
        assert not any(repr(stream) in description for stream in EVALUATION)
        assert any(repr(stream) in description for stream in Stream)
    assert set(rows(ledger, "select distinct split from evaluations")) == {"validation"}
    assert not held_out & set(rows(ledger, "select distinct tasks from evaluations"))


def test_the_funnel_is_stored_with_its_entrants(searched: Path) -> None:
    funnel = Run(searched / "run").funnel()
    assert funnel is not None
    document = funnel.model_dump()
    written = json.loads((searched / "run" / "funnel.json").read_text())
    assert written == {**document, CHECKSUM: checksum(document)}
    stages = document["stages"]
    assert stages[0]["scale"] == "10x"
    for stage in stages:
        ranks = [(e["fitness_low"] > 0, e["fitness"]) for e in stage["entrants"]]
        assert ranks == sorted(ranks, reverse=True)
        ahead = sum(is_better for is_better, _ in ranks)
        assert stage["through"] == (min(ahead, 1) if stage["scale"] == "100x" else ahead)
    if document["winner"]:
        assert set(document["winner"]["per_task"]) == {"points-teacher-100x"}


def test_the_status_reports_validation_and_funnel(
    searched: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    standing = overview(Run(searched / "run"))
    best, validation = standing.status.best, standing.status.validation
    assert best is not None
    assert validation is not None
    assert set(validation.per_task) == {"points-teacher-10x"}
    print_status(replace(standing, status=replace(standing.status, best=replace(best, id=7))))
    text = " ".join(capsys.readouterr().out.split())  # independent of the terminal width
    change = format_loss_change(validation.fitness.mean)
    assert "On the same tasks at ten times the work: " in text
    assert f"By task: points-teacher-10x {change}" in text
    winner = json.loads((searched / "run" / "funnel.json").read_text())["winner"]
    assert ("No program passed" if winner is None else f"funnel is {winner['name']}") in text


def test_weight_decay_is_tuned_for_all_contenders(searched: Path) -> None:
    """In validation and in the funnel, for champions and for the baseline."""
    trained = rows(searched / "evaluations.db", "select description from trainings")
    tried: dict[str, set[float]] = {}
    for description in trained:
        if repr(Stream.VALIDATE_TUNE) in description:
            program = description.split("\n", 1)[1]
            decay = float(description.split("decay=")[1].split(")")[0])
            tried.setdefault(program, set()).add(decay)
    assert str(zoo.load(BASELINE)) in {f"{program.strip()}\n" for program in tried}
    assert len(tried) > 1
    for program, decays in tried.items():
        assert decays >= {0.0, *VALIDATION_DECAYS}, program


def test_counterparts_are_validation_tasks() -> None:
    for scale in SCALES:
        names = counterparts(proxies.names("search"), scale)
        assert len(names) == len(proxies.names("search"))
        assert {proxies.load(name).split for name in names} == {"validation"}
    assert counterparts(["my_task.py:task"], "10x") == []
    assert counterparts_10x_or_same(["digits-mlp", "my_task.py:task"]) == [
        "digits-mlp-10x",
        "my_task.py:task",
    ]
