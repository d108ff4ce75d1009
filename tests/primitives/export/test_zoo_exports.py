"""Tests that exported files of the zoo compute the programs' updates, are formatted and safe."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from primitives import parse, zoo
from primitives.export import Exported, ExportError, OptimizerNameError, check, export
from primitives.export.check import TOLERANCE
from tests.primitives.export.files import exported

TARGETS = ("optax", "torch")
STORED_FILES = Path(__file__).parent / "goldens"


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", zoo.names())
def test_an_exported_file_computes_the_updates_of_the_program_in_float64(name, target):
    result = check(exported(name, target))
    assert result.steps == 100
    assert result.largest_difference <= TOLERANCE == 1e-9


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", ["lion", "adamw"])
def test_exported_files_equal_the_stored_files(name, target):
    """`evosearch export NAME --to TARGET` writes a new file to store."""
    stored = STORED_FILES / f"{name}_{target}.py.txt"
    assert exported(name, target).source == stored.read_text(encoding="utf-8")


def test_exported_files_pass_ruff(tmp_path):
    for name in zoo.names():
        for target in TARGETS:
            path = tmp_path / f"{name}_{target}.py"
            path.write_text(exported(name, target).source, encoding="utf-8")
    ruff = [sys.executable, "-m", "ruff"]
    for command in (
        ["format", "--check", "--isolated", "--line-length", "100"],
        ["check", "--isolated", "--line-length", "100", "--select", "E,F,W,I,B,UP,SIM,C4"],
    ):
        result = subprocess.run(
            [*ruff, *command, str(tmp_path)], capture_output=True, text=True, check=False
        )
        assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize("target", TARGETS)
def test_the_error_about_a_file_that_computes_other_updates_names_step_and_array(target):
    file = exported("momentum", target)
    wrong = Exported(
        parse(str(file.program).replace("0.9", "0.8")),
        file.target,
        file.name,
        file.source.replace("+ g", "+ 1.01 * g").replace("(grad)", "(1.01 * grad)"),
        file.states,
        file.hyperparameters,
    )
    assert wrong.source != file.source
    with pytest.raises(ExportError, match=r"step 1, (update|m)"):
        check(wrong)


@pytest.mark.parametrize("name", ["", "a;b", "Adam W", "class", "jax", "1st", "x" * 41, 'a"""b'])
def test_an_invalid_name_is_rejected(name):
    with pytest.raises(OptimizerNameError):
        export(zoo.load("sgd"), "optax", name)


def test_quotes_in_a_summary_do_not_end_the_docstring_of_the_file():
    summary = 'Idea. """ + __import__("os").system("exit 3") + """ \\'
    for target in TARGETS:
        file = export(zoo.load("sgd"), target, "mine", summary)
        compile(file.source, "mine.py", "exec")
        check(file)
        assert file.source.count('"""') % 2 == 0
        calls = [node for node in ast.walk(ast.parse(file.source)) if isinstance(node, ast.Call)]
        assert not any(getattr(call.func, "id", "") == "__import__" for call in calls)
