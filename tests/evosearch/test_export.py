"""`evosearch export`: a file is written only if it is the program."""

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
    said = run("export", "lion", "--to", "optax", "-o", path)
    assert said.status == 0
    assert str(path) in said.out
    assert path.read_text() == source


def test_export_as_json_is_one_document(run: Any, tmp_path: Path) -> None:
    path = tmp_path / "a.py"
    said = run("export", "adamw", "--to", "torch", "--name", "mine", "-o", path, "--json")
    document = json.loads(said.out)
    assert document["path"] == str(path)
    assert document["hyperparameters"]["weight_decay"] == 0.01
    assert document["states"] == {"m": "exp_avg", "v": "exp_avg_sq"}
    assert document["largest_difference"] < 1e-9
    assert "class Mine(torch.optim.Optimizer)" in path.read_text()


def test_an_existing_file_is_kept_unless_forced(run: Any, tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text("precious")
    said = run("export", "sgd", "--to", "optax", "-o", path)
    assert said.status == 2
    assert "--force" in said.err
    assert path.read_text() == "precious"
    assert run("export", "sgd", "--to", "optax", "-o", path, "--force").status == 0
    assert "precious" not in path.read_text()


def test_a_mismatch_is_not_written(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import primitives.export

    def refuse(file: Any) -> None:
        raise ExportError("step 3, update['matrix'], number 0: differs")

    monkeypatch.setattr(primitives.export, "check", refuse)
    path = tmp_path / "mine.py"
    said = run("export", "sgd", "--to", "optax", "-o", path)
    assert said.status == 1
    assert "step 3" in said.err
    assert not path.exists()


def test_torch_that_is_not_installed_is_named_with_the_remedy(
    run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    said = run("export", "sgd", "--to", "torch")
    assert said.status == 1
    assert "pip install torch" in said.err
    assert "\n" not in said.err.strip()


@pytest.mark.parametrize("name", ["a;b", "Lion", "1st"])
def test_a_bad_name_is_used_wrongly(run: Any, name: str) -> None:
    said = run("export", "lion", "--to", "optax", "--name", name)
    assert said.status == 2
    assert "cannot name an optimizer" in said.err


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
def test_the_default_name_follows_the_program(program: str, name: str) -> None:
    assert default_name(program) == name
