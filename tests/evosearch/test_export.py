"""Tests of `evosearch export`, which writes only files that compute the program's updates."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from evosearch.cli.export import default_name
from primitives import zoo
from primitives.export import ExportError, export


def test_export_prints_the_file_or_writes_it(run: Any, tmp_path: Path) -> None:
    source = export(zoo.load("lion"), "optax", "lion", zoo.summary("lion")).source
    assert run("export", "lion", "--to", "optax").out == source
    path = tmp_path / "lion.py"
    result = run("export", "lion", "--to", "optax", "-o", path)
    assert result.status == 0
    assert str(path) in result.out
    assert path.read_text() == source


def test_export_as_json_is_one_document(run: Any, tmp_path: Path) -> None:
    path = tmp_path / "a.py"
    result = run("export", "adamw", "--to", "torch", "--name", "mine", "-o", path, "--json")
    document = json.loads(result.out)
    assert document["path"] == str(path)
    assert document["hyperparameters"]["weight_decay"] == 0.01
    assert document["states"] == {"m": "exp_avg", "v": "exp_avg_sq"}
    assert document["largest_difference"] < 1e-9
    assert "class Mine(torch.optim.Optimizer)" in path.read_text()


def test_an_existing_file_is_overwritten_only_with_force(run: Any, tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text("file of the user")
    result = run("export", "sgd", "--to", "optax", "-o", path)
    assert result.status == 2
    assert "--force" in result.err
    assert path.read_text() == "file of the user"
    assert run("export", "sgd", "--to", "optax", "-o", path, "--force").status == 0
    assert "file of the user" not in path.read_text()


def test_a_file_that_computes_other_updates_is_not_written(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail_check(file: Any) -> None:
        raise ExportError("step 3, update['matrix'], number 0: differs")

    monkeypatch.setattr("primitives.export.check", fail_check)
    path = tmp_path / "mine.py"
    result = run("export", "sgd", "--to", "optax", "-o", path)
    assert result.status == 1
    assert "step 3" in result.err
    assert not path.exists()


def test_the_error_for_missing_torch_says_how_to_install_it(
    run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    result = run("export", "sgd", "--to", "torch")
    assert result.status == 1
    assert "pip install torch" in result.err
    assert "\n" not in result.err.strip()


@pytest.mark.parametrize("name", ["a;b", "Lion", "1st"])
def test_an_invalid_optimizer_name_is_refused(run: Any, name: str) -> None:
    result = run("export", "lion", "--to", "optax", "--name", name)
    assert result.status == 2
    assert "cannot name an optimizer" in result.err


@pytest.mark.parametrize(
    ("program", "name"),
    [
        ("lion", "lion"),
        ("runs/My-Run", "my_run"),
        ("runs/quick#42", "quick"),
        ("ideas/new rule.txt", "new_rule"),
        ("runs/2026", "optimizer_2026"),
        ("-", "found_optimizer"),
    ],
)
def test_the_default_name_is_made_from_the_name_of_the_program_or_run(
    program: str, name: str
) -> None:
    assert default_name(program) == name
