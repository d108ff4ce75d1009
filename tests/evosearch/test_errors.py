"""Tests that errors for users are short and name a remedy."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import pytest

import evosearch
import proxies
from evosearch.errors import EvosearchError, UsageError
from evosearch.evaluation.funnel import funnel
from evosearch.runs.directory import make_run_directory
from evosearch.runs.run import Run
from evosearch.simplification.simplifier import simplify
from primitives import ProgramError, parse, zoo
from tests.error_sites import error_calls
from tests.evosearch.stored_runs import config, make_stored_run

MESSAGES = [
    pytest.param(call, id=f"{path}:{call.lineno}")
    for path, call in error_calls()
    if call.args and isinstance(call.args[0], ast.Constant | ast.JoinedStr)
]


@pytest.mark.parametrize("call", MESSAGES)
def test_a_message_has_at_most_two_sentences_and_no_full_stop(call: ast.Call) -> None:
    text = "".join(
        part.value
        for part in ast.walk(call.args[0])
        if isinstance(part, ast.Constant) and isinstance(part.value, str)
    )
    assert len(re.findall(r"[.?!] [A-Z]", text)) <= 1
    assert not text.endswith(".")
    assert len(text) < 300


@pytest.fixture(scope="module")
def stored_run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    directory = tmp_path_factory.mktemp("runs") / "run"
    make_stored_run(directory, programs=12)
    return Run(directory)


@pytest.fixture
def empty_run(tmp_path: Path) -> Run:
    """A run without measurements."""
    make_run_directory(tmp_path / "empty", config(), {})
    return Run(tmp_path / "empty")


def test_an_audit_needs_two_seeds(stored_run: Run) -> None:
    with pytest.raises(UsageError, match="use at least 2"):
        evosearch.audit([stored_run], seeds=1)


def test_a_comparison_needs_a_run() -> None:
    with pytest.raises(UsageError, match="name one or more runs"):
        evosearch.compare_runs([])


def test_a_funnel_needs_runs_with_the_same_tasks(stored_run: Run, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="name one or more run directories"):
        funnel([])
    make_run_directory(tmp_path / "other", config(tasks=["one"]), {})
    with pytest.raises(UsageError, match="give runs with the same tasks"):
        funnel([stored_run, Run(tmp_path / "other")])


def test_a_funnel_needs_a_program_that_was_measured_twice(empty_run: Run) -> None:
    with pytest.raises(UsageError, match=r"search further: `evosearch resume .*empty`"):
        funnel([empty_run])


def test_a_run_without_measurements_has_no_champion(empty_run: Run) -> None:
    with pytest.raises(EvosearchError, match=r"no champion yet; run `evosearch resume .*empty`"):
        empty_run.champion()


def test_a_program_that_was_not_injected_is_refused(stored_run: Run) -> None:
    with pytest.raises(UsageError, match="has no injected program i7"):
        stored_run.injected(7)


def test_a_simplification_needs_a_task() -> None:
    with pytest.raises(UsageError, match="list the tasks with `evosearch tasks`"):
        simplify(zoo.load("lion"), [])


@pytest.mark.parametrize("name", [".py", "x.py:", "folder/.txt:a:b@c@d"])
def test_a_task_name_that_is_neither_a_bundled_task_nor_a_file_is_refused(name: str) -> None:
    with pytest.raises((proxies.UserTaskError, proxies.UnknownTaskError)):
        proxies.load(name)


def test_programs_with_type_parameters_or_null_characters_are_refused() -> None:
    with pytest.raises(ProgramError):
        parse("def train[T](w, g):\n    return g\n")
    with pytest.raises(ProgramError):
        parse("def train(w, g):\n    return g\0\n")


def test_the_error_for_a_program_that_is_not_utf_8_names_file_and_line(
    run: Any, tmp_path: Path
) -> None:
    path = tmp_path / "latin.txt"
    path.write_bytes(b"def train(w, g):\n    # \xe9\n    return g\n")
    result = run("show", path)
    assert result.status == 2
    assert f"{path}: line 2: not UTF-8 text; save it as UTF-8" in result.err
