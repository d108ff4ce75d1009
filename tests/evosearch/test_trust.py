"""Python files that a run or a configuration names are executed only with the user's permission."""

from __future__ import annotations

import io
import json
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import evosearch
import proxies
from evosearch import trust
from evosearch.runs.directory import make_run_directory
from proxies.user_tasks.files import _load
from tests.evosearch.test_audit import HALF_AS_FAST, champions
from tests.evosearch.test_search import small_config

EVIL = """
from pathlib import Path
import helper
Path(__file__).with_name("executed").touch()
raise SystemExit(7)
"""
GOOD = """
import dataclasses, proxies, helper
def task():
    return dataclasses.replace(proxies.load("quadratic"), split="search", steps=helper.STEPS)
"""


@pytest.fixture(autouse=True)
def trusted_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The path of the list of trusted files, which does not exist at first."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "state" / "evosearch" / "trusted.json"


def untrusted_run(folder: Path, text: str = EVIL) -> Path:
    """Create a run whose only task is a Python file in its directory."""
    directory = folder / "run"
    champions(directory, [(HALF_AS_FAST, 0.3)], task=f"{directory}/evil.py:task")
    (directory / "evil.py").write_text(text)
    (directory / "helper.py").write_text("STEPS = 8\n")
    return directory


def untrusted_new_run(folder: Path, text: str) -> Path:
    """Create a run without measurements whose only task is a Python file in its directory."""
    directory = folder / "run"
    make_run_directory(directory, small_config(tasks=[f"{directory}/evil.py:task"]), {})
    (directory / "evil.py").write_text(text)
    (directory / "helper.py").write_text("STEPS = 8\n")
    return directory


def forget_loaded_tasks() -> None:
    """Clear the cache of loaded tasks, as if another process ran the next command."""
    _load.cache_clear()


EXECUTING = {
    "resume": ("resume", "RUN"),
    "audit": ("audit", "RUN"),
    "simplify": ("simplify", "RUN"),
    "simplify by id": ("simplify", "RUN", "1"),
    "search": ("search", "RUN/config.toml", "--out", "RUN/new"),
}
"""Commands that load the tasks of a run or a configuration."""
READING = {
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
"""Commands that take a run and do not load its tasks."""


@pytest.mark.parametrize("command", EXECUTING)
def test_no_command_executes_a_runs_task_file_without_permission(
    run: Any, tmp_path: Path, command: str
) -> None:
    directory = untrusted_run(tmp_path)
    arguments = [word.replace("RUN", str(directory)) for word in EXECUTING[command]]
    result = run(*arguments)
    assert result.status == 2
    (line,) = result.err.splitlines()
    assert line.startswith(f"evosearch: {directory}/evil.py is Python code")
    assert f"`evosearch {arguments[0]} --trust {arguments[1]}" in line
    assert not (directory / "executed").exists()
    assert not (directory / "new").exists()
    result = run(arguments[0], "--trust", *arguments[1:])
    assert (directory / "executed").exists()
    assert result.status == 2
    assert "evil.py calls sys.exit(7)" in result.err


@pytest.mark.parametrize("command", READING)
def test_commands_that_only_read_a_run_do_not_execute_its_task_file(
    run: Any, tmp_path: Path, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    directory = untrusted_run(tmp_path)
    result = run(*(word.replace("RUN", str(directory)) for word in READING[command]))
    assert "Python code" not in result.err
    assert not (directory / "executed").exists()


def test_every_command_is_in_one_of_the_two_tables(run: Any) -> None:
    from evosearch.cli.app import app

    run("--help")
    listed = {arguments[0] for arguments in (*EXECUTING.values(), *READING.values())}
    listed |= {"tasks", "ops", "zoo", "bench"}  # take no run
    commands = {command.name or command.callback.__name__ for command in app.registered_commands}
    assert commands == listed


def test_a_file_that_the_user_names_is_trusted_and_remembered(
    run: Any, tmp_path: Path, trusted_list: Path
) -> None:
    """A user can then resume their own run without a question."""
    (tmp_path / "mine.py").write_text(GOOD)
    (tmp_path / "helper.py").write_text("STEPS = 8\n")
    out = tmp_path / "out"
    name = f"{tmp_path}/mine.py:task"
    arguments = ("--programs", "5", "--out", out, "--search-only", "--workers", "1")
    result = run("search", "--tasks", name, *arguments)
    assert result.status == 0, result.err
    assert {Path(path).name for path in json.loads(trusted_list.read_text())} == {
        "mine.py",
        "helper.py",
    }
    assert stat.S_IMODE(trusted_list.stat().st_mode) == 0o600
    forget_loaded_tasks()
    # An optimizer exported beside the task needs no permission; an edited module does.
    (tmp_path / "my_optimizer.py").write_text("x = 1\n")
    result = run("resume", out, "--programs", "6", "--workers", "1")
    assert result.status == 0, result.err
    forget_loaded_tasks()
    (tmp_path / "helper.py").write_text("STEPS = 9 \n")
    result = run("resume", out, "--programs", "7")
    assert result.status == 2
    assert f"{tmp_path}/helper.py is Python code" in result.err
    assert "changed" in result.err


@pytest.mark.parametrize(
    "arguments",
    [("tasks", "TASK"), ("eval", "lion", "--seeds", "2", "--task", "TASK", "--workers", "1")],
)
def test_a_task_named_to_other_commands_is_trusted_too(
    run: Any, tmp_path: Path, trusted_list: Path, arguments: tuple[str, ...]
) -> None:
    (tmp_path / "mine.py").write_text(GOOD)
    (tmp_path / "helper.py").write_text("STEPS = 3\n")
    result = run(*(word.replace("TASK", f"{tmp_path}/mine.py:task") for word in arguments))
    assert result.status == 0, result.err
    assert str(tmp_path / "mine.py") in json.loads(trusted_list.read_text())


def test_naming_a_file_does_not_trust_files_in_subfolders(run: Any, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(GOOD)
    (tmp_path / "helper.py").write_text("STEPS = 3\n")
    assert run("tasks", f"{tmp_path}/mine.py:task").status == 0
    assert run("resume", untrusted_run(tmp_path)).status == 2


def test_the_python_api_asks_no_questions(tmp_path: Path) -> None:
    directory = untrusted_new_run(tmp_path, GOOD)
    assert evosearch.resume(directory, programs=3, workers=1).status().generated == 3


class Terminal(io.StringIO):
    """A stream that claims to be a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A function that prepares the answer at the prompt and returns the terminal's output."""

    def answer(text: str) -> Terminal:
        shown = Terminal()
        monkeypatch.setattr(sys, "stdin", Terminal(text))
        monkeypatch.setattr(sys, "stderr", shown)
        return shown

    return answer


def test_a_file_accepted_at_the_prompt_is_recorded(
    run: Any, tmp_path: Path, terminal: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = untrusted_run(tmp_path)
    shown = terminal("y\n")
    run("resume", directory)
    assert "evil.py is Python code" in shown.getvalue()
    assert "you have not run it before" in shown.getvalue()
    assert shown.getvalue().count("[y/N]") == 1  # modules in its folder need no further question
    assert (directory / "executed").exists()
    (directory / "executed").unlink()
    monkeypatch.undo()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    forget_loaded_tasks()
    assert "calls sys.exit(7)" in run("resume", directory).err
    (directory / "evil.py").write_text(EVIL + "\n")
    shown = terminal("n\n")
    forget_loaded_tasks()
    assert run("resume", directory).status == 2
    assert "it has changed since you trusted it" in shown.getvalue()


@pytest.mark.parametrize("answer", ["n\n", "\n", "", "yess\n", "no\ny\n"])
def test_any_other_answer_is_a_no_and_is_asked_for_once(
    run: Any, tmp_path: Path, terminal: Any, trusted_list: Path, answer: str
) -> None:
    directory = untrusted_run(tmp_path)
    shown = terminal(answer)
    assert run("resume", directory).status == 2
    assert shown.getvalue().count("[y/N]") == 1
    assert "was declined" in shown.getvalue()
    assert not (directory / "executed").exists()
    assert not trusted_list.exists()


def test_a_command_asks_about_a_declined_file_only_once(tmp_path: Path, terminal: Any) -> None:
    path = tmp_path / "evil.py"
    path.write_text(EVIL)
    shown = terminal("n\ny\n")
    trusted = trust.Trust(["resume", "run"])
    for _ in range(2):
        with pytest.raises(proxies.UntrustedTaskError):
            trusted.check(str(path), str(path))
    assert shown.getvalue().count("[y/N]") == 1


def test_ctrl_c_at_the_prompt_ends_the_command(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from evosearch.cli.interrupts import Interrupted

    class Interrupting(Terminal):
        def readline(self, *_: Any) -> str:
            raise Interrupted

    directory = untrusted_run(tmp_path)
    monkeypatch.setattr(sys, "stdin", Interrupting())
    monkeypatch.setattr(sys, "stderr", Terminal())
    assert run("resume", directory).status == 130
    assert not (directory / "executed").exists()


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff", b"[" * 100_000, b'{"a": 3}'])
def test_a_damaged_record_trusts_no_file_and_is_replaced(
    run: Any, tmp_path: Path, trusted_list: Path, content: bytes
) -> None:
    directory = untrusted_run(tmp_path)
    trusted_list.parent.mkdir(parents=True)
    trusted_list.write_bytes(content)
    result = run("resume", directory)
    assert result.status == 2
    assert "Traceback" not in result.err
    if content != b'{"a": 3}':
        assert "list of trusted files cannot be read" in result.err
    assert "sys.exit(7)" in run("resume", "--trust", directory).err
    assert set(json.loads(trusted_list.read_text())) == {
        f"{directory}/{n}.py" for n in ("evil", "helper")
    }
    assert [path.name for path in trusted_list.parent.iterdir()] == ["trusted.json"]


def test_an_unwritable_list_of_trusted_files_is_a_notice(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    directory = untrusted_run(tmp_path, GOOD)
    result = run("tasks", f"{directory}/evil.py:task")
    assert result.status == 0
    assert "cannot save that you trust this file" in result.err


def test_a_relative_state_folder_is_ignored(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", "state")
    monkeypatch.setenv("HOME", "/home/me")
    assert trust.state_file() == Path("/home/me/.local/state/evosearch/trusted.json")


def test_code_that_a_trusted_file_runs_indirectly_is_checked_too(run: Any, tmp_path: Path) -> None:
    """Examples are packages, modules on another path, and files run by `runpy` or `exec`."""
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
    directory = untrusted_new_run(tmp_path, text)
    names = ["lib/onpath.py", "pack/inner.py", "located.py", "run.py", "text.py"]
    for name in names:
        (directory / name).parent.mkdir(exist_ok=True)
        (directory / name).write_text("x = 1\n")
    arguments = ("--programs", "2", "--workers", "1")
    assert run("resume", "--trust", directory, *arguments).status == 0
    for name in names:
        (directory / name).write_text("x = 2\n")
        forget_loaded_tasks()
        result = run("resume", directory, "--programs", "2")
        assert result.status == 2
        assert f"{directory}/{name} is Python code" in result.err
        (directory / name).write_text("x = 1\n")


def test_a_file_name_with_control_characters_is_escaped(run: Any, tmp_path: Path) -> None:
    name = "\x1b[2Jevil.py"
    (tmp_path / name).write_text(EVIL)
    path = tmp_path / "c.toml"
    path.write_text(small_config(tasks=[f"{tmp_path}/{name}:task"]).to_toml())
    result = run("search", path, "--out", tmp_path / "out")
    assert result.status == 2
    assert "\\x1b[2Jevil.py" in result.err
    assert "\x1b" not in result.err


def test_help_lists_the_trust_option(run: Any) -> None:
    for command in ("search", "resume", "audit", "simplify"):
        assert "--trust" in run(command, "--help").out


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="takes a pseudoterminal")
def test_the_question_can_be_answered_on_a_real_terminal(tmp_path: Path) -> None:
    directory = untrusted_run(tmp_path)
    master, slave = os.openpty()
    code = "from evosearch.cli import main; main()"
    process = subprocess.Popen(
        [sys.executable, "-c", code, "audit", str(directory)],
        stdin=slave,
        stderr=slave,
        stdout=subprocess.PIPE,
    )
    os.close(slave)
    os.write(master, b"y\n")
    shown = b""
    while b"sys.exit(7)" not in shown:
        shown += os.read(master, 1000)
    assert process.wait(60) == 2
    assert b"[y/N]" in shown
    assert (directory / "executed").exists()
    os.close(master)
