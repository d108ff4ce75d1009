"""Tests that the task file of a run or a configuration is executed only if the user permits it."""

from __future__ import annotations

import io
import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import evosearch
import proxies
from evosearch import trust
from evosearch.runs.directory import make_run_directory
from proxies.user_tasks.files import _load
from tests.evosearch.test_audit import HALF_LEARNING_RATE, make_run_with_champions
from tests.evosearch.test_search import small_config

TASK_THAT_EXITS = """
from pathlib import Path
import helper
Path(__file__).with_name("executed").touch()
raise SystemExit(7)
"""
"""A task file that leaves a file `executed` in its folder and then ends the process."""
VALID_TASK = """
import dataclasses, proxies, helper
def task():
    return dataclasses.replace(proxies.load("quadratic"), split="search", steps=helper.STEPS)
"""
"""A task file that imports a module of its folder."""


@pytest.fixture(autouse=True)
def list_of_trusted_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The path of the list of trusted files; no file exists there at first."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "state" / "evosearch" / "trusted.json"


def make_untrusted_run(folder: Path, text: str = TASK_THAT_EXITS) -> Path:
    """Make a run with one champion, whose only task is a Python file in the run's directory."""
    directory = folder / "run"
    task = f"{directory}/untrusted.py:task"
    make_run_with_champions(directory, [(HALF_LEARNING_RATE, 0.3)], task=task)
    write_task_file(directory, text)
    return directory


def make_untrusted_run_without_measurements(folder: Path, text: str) -> Path:
    """Make a new run, whose only task is a Python file in the run's directory."""
    directory = folder / "run"
    make_run_directory(directory, small_config(tasks=[f"{directory}/untrusted.py:task"]), {})
    write_task_file(directory, text)
    return directory


def write_task_file(directory: Path, text: str) -> None:
    """Write `untrusted.py`, and the module that it imports, into a directory."""
    (directory / "untrusted.py").write_text(text)
    (directory / "helper.py").write_text("STEPS = 8\n")


def clear_cache_of_tasks() -> None:
    """Clear the cache of loaded tasks, so that the next command loads its tasks from files."""
    _load.cache_clear()


COMMANDS_THAT_LOAD_TASKS = {
    "resume": ("resume", "RUN"),
    "audit": ("audit", "RUN"),
    "simplify": ("simplify", "RUN"),
    "simplify by id": ("simplify", "RUN", "1"),
    "search": ("search", "RUN/config.toml", "--out", "RUN/new"),
}
"""Arguments of commands that load the tasks of a run or a configuration, by name of the test case.

`RUN` means the run's directory.
"""
COMMANDS_THAT_LOAD_NO_TASKS = {
    "status": ("status", "RUN"),
    "check": ("check", "RUN"),
    "top": ("top", "RUN"),
    "show": ("show", "RUN"),
    "lineage": ("lineage", "RUN"),
    "compare": ("compare", "RUN"),
    "funnel": ("funnel", "RUN", "--to", "10x"),
    "inject": ("inject", "RUN", "lion"),
    "export": ("export", "RUN", "--to", "optax"),
    "eval": ("eval", "RUN", "--task", "quadratic", "--seeds", "2", "--steps", "5"),
    "init": ("search", "--init", "RUN", "--tasks", "nothing"),
    "algebra": ("simplify", "RUN", "--algebra-only"),
    "other tasks": ("simplify", "RUN", "--task", "nothing"),
}
"""Arguments of commands that take a run and do not load its tasks, by name of the test case."""


@pytest.mark.parametrize("command", COMMANDS_THAT_LOAD_TASKS)
def test_no_command_executes_a_runs_task_file_without_permission(
    run: Any, tmp_path: Path, command: str
) -> None:
    directory = make_untrusted_run(tmp_path)
    name, *arguments = (
        argument.replace("RUN", str(directory)) for argument in COMMANDS_THAT_LOAD_TASKS[command]
    )
    result = run(name, *arguments)
    assert result.status == 2
    (line,) = result.err.splitlines()
    assert line.startswith(f"evosearch: {directory}/untrusted.py is Python code")
    assert f"`evosearch {name} --trust {arguments[0]}" in line
    assert not (directory / "executed").exists()
    assert not (directory / "new").exists()
    result = run(name, "--trust", *arguments)
    assert (directory / "executed").exists()
    assert result.status == 2
    assert "untrusted.py calls sys.exit(7)" in result.err


@pytest.mark.parametrize("command", COMMANDS_THAT_LOAD_NO_TASKS)
def test_commands_that_load_no_tasks_do_not_execute_a_runs_task_file(
    run: Any, tmp_path: Path, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    directory = make_untrusted_run(tmp_path)
    arguments = COMMANDS_THAT_LOAD_NO_TASKS[command]
    result = run(*(argument.replace("RUN", str(directory)) for argument in arguments))
    assert "Python code" not in result.err
    assert not (directory / "executed").exists()


def test_this_file_lists_every_command_that_takes_a_run(run: Any) -> None:
    from evosearch.cli.app import app

    run("--help")
    tables = (COMMANDS_THAT_LOAD_TASKS, COMMANDS_THAT_LOAD_NO_TASKS)
    listed = {arguments[0] for table in tables for arguments in table.values()}
    commands_without_a_run = {"tasks", "ops", "zoo", "bench"}
    commands = {command.name or command.callback.__name__ for command in app.registered_commands}
    assert commands == listed | commands_without_a_run


def test_a_task_file_named_by_the_user_stays_trusted_until_the_file_or_an_import_changes(
    run: Any, tmp_path: Path, list_of_trusted_files: Path
) -> None:
    """Users can therefore resume their own runs without a question."""
    (tmp_path / "mine.py").write_text(VALID_TASK)
    (tmp_path / "helper.py").write_text("STEPS = 8\n")
    out = tmp_path / "out"
    name = f"{tmp_path}/mine.py:task"
    arguments = ("--programs", "5", "--out", out, "--search-only", "--workers", "1")
    result = run("search", "--tasks", name, *arguments)
    assert result.status == 0, result.err
    trusted_paths = json.loads(list_of_trusted_files.read_text())
    assert {Path(path).name for path in trusted_paths} == {"mine.py", "helper.py"}
    assert stat.S_IMODE(list_of_trusted_files.stat().st_mode) == 0o600
    clear_cache_of_tasks()
    # The task does not import this file, so the file needs no permission.
    (tmp_path / "my_optimizer.py").write_text("x = 1\n")
    result = run("resume", out, "--programs", "6", "--workers", "1")
    assert result.status == 0, result.err
    clear_cache_of_tasks()
    (tmp_path / "helper.py").write_text("STEPS = 9 \n")
    result = run("resume", out, "--programs", "7")
    assert result.status == 2
    assert f"{tmp_path}/helper.py is Python code" in result.err
    assert "changed" in result.err


@pytest.mark.parametrize(
    "arguments",
    [("tasks", "TASK"), ("eval", "lion", "--seeds", "2", "--task", "TASK", "--workers", "1")],
)
def test_a_task_file_in_the_arguments_of_tasks_or_eval_is_trusted(
    run: Any, tmp_path: Path, list_of_trusted_files: Path, arguments: tuple[str, ...]
) -> None:
    (tmp_path / "mine.py").write_text(VALID_TASK)
    (tmp_path / "helper.py").write_text("STEPS = 3\n")
    task = f"{tmp_path}/mine.py:task"
    result = run(*(argument.replace("TASK", task) for argument in arguments))
    assert result.status == 0, result.err
    assert str(tmp_path / "mine.py") in json.loads(list_of_trusted_files.read_text())


def test_trusting_a_task_file_does_not_trust_files_in_subfolders(run: Any, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(VALID_TASK)
    (tmp_path / "helper.py").write_text("STEPS = 3\n")
    assert run("tasks", f"{tmp_path}/mine.py:task").status == 0
    assert run("resume", make_untrusted_run(tmp_path)).status == 2


def test_the_python_api_asks_no_questions(tmp_path: Path) -> None:
    directory = make_untrusted_run_without_measurements(tmp_path, VALID_TASK)
    assert evosearch.resume(directory, programs=3, workers=1).status().generated == 3


class Terminal(io.StringIO):
    """A stream that claims to be a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def type_at_terminal(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Terminal]:
    """A function that takes what the user will type, and returns what the terminal shows."""

    def replace_streams(text: str) -> Terminal:
        output = Terminal()
        monkeypatch.setattr(sys, "stdin", Terminal(text))
        monkeypatch.setattr(sys, "stderr", output)
        return output

    return replace_streams


def test_a_file_accepted_at_the_prompt_is_trusted_until_it_changes(
    run: Any,
    tmp_path: Path,
    type_at_terminal: Callable[[str], Terminal],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    directory = make_untrusted_run(tmp_path)
    output = type_at_terminal("y\n")
    run("resume", directory)
    assert "untrusted.py is Python code" in output.getvalue()
    assert "you have not run it before" in output.getvalue()
    # Modules in the folder of the task file are trusted without a further question.
    assert output.getvalue().count("[y/N]") == 1
    assert (directory / "executed").exists()
    (directory / "executed").unlink()
    monkeypatch.undo()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    clear_cache_of_tasks()
    assert "calls sys.exit(7)" in run("resume", directory).err
    (directory / "untrusted.py").write_text(TASK_THAT_EXITS + "\n")
    output = type_at_terminal("n\n")
    clear_cache_of_tasks()
    assert run("resume", directory).status == 2
    assert "it has changed since you trusted it" in output.getvalue()


@pytest.mark.parametrize("answer", ["n\n", "\n", "", "yess\n", "no\ny\n"])
def test_any_answer_but_yes_declines_the_file_and_is_not_asked_for_again(
    run: Any,
    tmp_path: Path,
    type_at_terminal: Callable[[str], Terminal],
    list_of_trusted_files: Path,
    answer: str,
) -> None:
    directory = make_untrusted_run(tmp_path)
    output = type_at_terminal(answer)
    assert run("resume", directory).status == 2
    assert output.getvalue().count("[y/N]") == 1
    assert "was declined" in output.getvalue()
    assert not (directory / "executed").exists()
    assert not list_of_trusted_files.exists()


def test_a_command_does_not_ask_again_about_a_declined_file(
    tmp_path: Path, type_at_terminal: Callable[[str], Terminal]
) -> None:
    path = tmp_path / "untrusted.py"
    path.write_text(TASK_THAT_EXITS)
    output = type_at_terminal("n\ny\n")
    trust_of_command = trust.Trust(["resume", "run"])
    for _ in range(2):
        with pytest.raises(proxies.UntrustedTaskError):
            trust_of_command.check(str(path), str(path))
    assert output.getvalue().count("[y/N]") == 1


def test_ctrl_c_at_the_prompt_ends_the_command(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from evosearch.cli.interrupts import Interrupted

    class InterruptedTerminal(Terminal):
        def readline(self, *_: Any) -> str:
            raise Interrupted

    directory = make_untrusted_run(tmp_path)
    monkeypatch.setattr(sys, "stdin", InterruptedTerminal())
    monkeypatch.setattr(sys, "stderr", Terminal())
    assert run("resume", directory).status == 130
    assert not (directory / "executed").exists()


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff", b"[" * 100_000, b'{"a": 3}'])
def test_a_damaged_list_of_trusted_files_trusts_no_file_and_is_replaced(
    run: Any, tmp_path: Path, list_of_trusted_files: Path, content: bytes
) -> None:
    directory = make_untrusted_run(tmp_path)
    list_of_trusted_files.parent.mkdir(parents=True)
    list_of_trusted_files.write_bytes(content)
    result = run("resume", directory)
    assert result.status == 2
    assert "Traceback" not in result.err
    if content != b'{"a": 3}':
        assert "list of trusted files cannot be read" in result.err
    assert "sys.exit(7)" in run("resume", "--trust", directory).err
    trusted_paths = json.loads(list_of_trusted_files.read_text())
    assert set(trusted_paths) == {f"{directory}/untrusted.py", f"{directory}/helper.py"}
    assert [path.name for path in list_of_trusted_files.parent.iterdir()] == ["trusted.json"]


def test_a_list_of_trusted_files_that_cannot_be_written_is_a_notice_not_an_error(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    directory = make_untrusted_run(tmp_path, VALID_TASK)
    result = run("tasks", f"{directory}/untrusted.py:task")
    assert result.status == 0
    assert "cannot save that you trust this file" in result.err


def test_a_relative_path_in_xdg_state_home_is_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", "state")
    monkeypatch.setenv("HOME", "/home/me")
    assert trust.state_file() == Path("/home/me/.local/state/evosearch/trusted.json")


def test_all_files_that_a_task_file_executes_need_permission_again_when_they_change(
    run: Any, tmp_path: Path
) -> None:
    """The files are packages, modules on another path, and files run by `runpy` or `exec`."""
    text = """
import importlib.util, runpy, sys, dataclasses, proxies
from pathlib import Path
HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "lib"))
import onpath
import pack.inner
spec = importlib.util.spec_from_file_location("located", HERE / "located.py")
spec.loader.exec_module(importlib.util.module_from_spec(spec))
runpy.run_path(str(HERE / "run.py"))
exec(compile((HERE / "text.py").read_text(), str(HERE / "text.py"), "exec"))
def task():
    return dataclasses.replace(proxies.load("quadratic"), split="search")
"""
    directory = make_untrusted_run_without_measurements(tmp_path, text)
    names = ["lib/onpath.py", "pack/inner.py", "located.py", "run.py", "text.py"]
    for name in names:
        (directory / name).parent.mkdir(exist_ok=True)
        (directory / name).write_text("x = 1\n")
    arguments = ("--programs", "2", "--workers", "1")
    assert run("resume", "--trust", directory, *arguments).status == 0
    for name in names:
        (directory / name).write_text("x = 2\n")
        clear_cache_of_tasks()
        result = run("resume", directory, "--programs", "2")
        assert result.status == 2
        assert f"{directory}/{name} is Python code" in result.err
        (directory / name).write_text("x = 1\n")


def test_a_file_name_with_control_characters_is_escaped(run: Any, tmp_path: Path) -> None:
    name = "\x1b[2Jtask.py"
    (tmp_path / name).write_text(TASK_THAT_EXITS)
    config_path = tmp_path / "c.toml"
    config_path.write_text(small_config(tasks=[f"{tmp_path}/{name}:task"]).to_toml())
    result = run("search", config_path, "--out", tmp_path / "out")
    assert result.status == 2
    assert "\\x1b[2Jtask.py" in result.err
    assert "\x1b" not in result.err


def test_help_of_commands_that_load_tasks_lists_the_option_trust(run: Any) -> None:
    for command in ("search", "resume", "audit", "simplify"):
        assert "--trust" in run(command, "--help").out


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="needs a pseudoterminal")
def test_the_question_can_be_answered_on_a_real_terminal(tmp_path: Path) -> None:
    directory = make_untrusted_run(tmp_path)
    user_side, command_side = os.openpty()
    code = "from evosearch.cli import main; main()"
    process = subprocess.Popen(
        [sys.executable, "-c", code, "audit", str(directory)],
        stdin=command_side,
        stderr=command_side,
        stdout=subprocess.PIPE,
    )
    os.close(command_side)
    os.write(user_side, b"y\n")
    output = b""
    while b"sys.exit(7)" not in output:
        output += os.read(user_side, 1000)
    assert process.wait(60) == 2
    assert b"[y/N]" in output
    assert (directory / "executed").exists()
    os.close(user_side)
