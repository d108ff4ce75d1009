"""Code from files that a run or a configuration names runs only where the user agreed to it."""

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
from tests.evosearch.test_search import small

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
def record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where trust is remembered: nothing is, at first."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "state" / "evosearch" / "trusted.json"


def stranger(folder: Path, text: str = EVIL) -> Path:
    """A run of somebody's, whose only task is a Python file of its own."""
    directory = folder / "run"
    champions(directory, [(HALF_AS_FAST, 0.3)], task=f"{directory}/evil.py:task")
    (directory / "evil.py").write_text(text)
    (directory / "helper.py").write_text("STEPS = 8\n")
    return directory


def unsearched(folder: Path, text: str) -> Path:
    """A run of somebody's that has measured nothing yet."""
    directory = folder / "run"
    make_run_directory(directory, small(tasks=[f"{directory}/evil.py:task"]), {})
    (directory / "evil.py").write_text(text)
    (directory / "helper.py").write_text("STEPS = 8\n")
    return directory


def again() -> None:
    """As if another process ran the next command."""
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
"""Commands that take a run and have no use for its tasks."""


@pytest.mark.parametrize("command", EXECUTING)
def test_no_command_executes_a_file_that_a_run_names_unless_told_to(
    run: Any, tmp_path: Path, command: str
) -> None:
    directory = stranger(tmp_path)
    words = [word.replace("RUN", str(directory)) for word in EXECUTING[command]]
    said = run(*words)
    assert said.status == 2
    (line,) = said.err.splitlines()
    assert line.startswith(f"evosearch: {directory}/evil.py is Python code")
    assert f"`evosearch {words[0]} --trust {words[1]}" in line
    assert not (directory / "executed").exists()
    assert not (directory / "new").exists()
    said = run(words[0], "--trust", *words[1:])
    assert (directory / "executed").exists()
    assert said.status == 2
    assert "evil.py calls sys.exit(7)" in said.err


@pytest.mark.parametrize("command", READING)
def test_other_commands_do_not_touch_it(
    run: Any, tmp_path: Path, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    directory = stranger(tmp_path)
    said = run(*(word.replace("RUN", str(directory)) for word in READING[command]))
    assert "Python code" not in said.err
    assert not (directory / "executed").exists()


def test_every_command_is_in_one_of_the_two_tables(run: Any) -> None:
    from evosearch.cli.app import app

    run("--help")
    known = {words[0] for words in (*EXECUTING.values(), *READING.values())}
    known |= {"tasks", "ops", "zoo", "bench"}  # take no run
    assert {one.name or one.callback.__name__ for one in app.registered_commands} == known


def test_a_file_that_the_user_names_is_trusted_and_remembered(
    run: Any, tmp_path: Path, record: Path
) -> None:
    """So that one's own run goes on without a question."""
    (tmp_path / "mine.py").write_text(GOOD)
    (tmp_path / "helper.py").write_text("STEPS = 8\n")
    out = tmp_path / "out"
    name = f"{tmp_path}/mine.py:task"
    words = ("--programs", "5", "--out", out, "--search-only", "--workers", "1")
    said = run("search", "--tasks", name, *words)
    assert said.status == 0, said.err
    assert {Path(path).name for path in json.loads(record.read_text())} == {"mine.py", "helper.py"}
    assert stat.S_IMODE(record.stat().st_mode) == 0o600
    again()
    # An optimizer that is exported beside the task asks nothing; an edited sibling does.
    (tmp_path / "my_optimizer.py").write_text("x = 1\n")
    said = run("resume", out, "--programs", "6", "--workers", "1")
    assert said.status == 0, said.err
    again()
    (tmp_path / "helper.py").write_text("STEPS = 9 \n")
    said = run("resume", out, "--programs", "7")
    assert said.status == 2
    assert f"{tmp_path}/helper.py is Python code" in said.err
    assert "changed" in said.err


@pytest.mark.parametrize(
    "words",
    [("tasks", "TASK"), ("eval", "lion", "--seeds", "2", "--task", "TASK", "--workers", "1")],
)
def test_other_commands_that_name_a_task_remember_it_too(
    run: Any, tmp_path: Path, record: Path, words: tuple[str, ...]
) -> None:
    (tmp_path / "mine.py").write_text(GOOD)
    (tmp_path / "helper.py").write_text("STEPS = 3\n")
    said = run(*(word.replace("TASK", f"{tmp_path}/mine.py:task") for word in words))
    assert said.status == 0, said.err
    assert str(tmp_path / "mine.py") in json.loads(record.read_text())


def test_naming_one_file_trusts_no_other_below_it(run: Any, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(GOOD)
    (tmp_path / "helper.py").write_text("STEPS = 3\n")
    assert run("tasks", f"{tmp_path}/mine.py:task").status == 0
    assert run("resume", stranger(tmp_path)).status == 2


def test_the_api_asks_nothing(tmp_path: Path) -> None:
    directory = unsearched(tmp_path, GOOD)
    assert evosearch.resume(directory, programs=3, workers=1).status().generated == 3


class Terminal(io.StringIO):
    """Standard input or error of somebody who sits there."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Somebody who answers so when asked; returns what they were shown."""

    def answering(text: str) -> Terminal:
        shown = Terminal()
        monkeypatch.setattr(sys, "stdin", Terminal(text))
        monkeypatch.setattr(sys, "stderr", shown)
        return shown

    return answering


def test_a_yes_at_the_prompt_is_remembered(
    run: Any, tmp_path: Path, terminal: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = stranger(tmp_path)
    shown = terminal("y\n")
    run("resume", directory)
    assert "evil.py is Python code" in shown.getvalue()
    assert "you have not run it before" in shown.getvalue()
    assert shown.getvalue().count("[y/N]") == 1  # its siblings go with it
    assert (directory / "executed").exists()
    (directory / "executed").unlink()
    monkeypatch.undo()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    again()
    assert "calls sys.exit(7)" in run("resume", directory).err
    (directory / "evil.py").write_text(EVIL + "\n")
    shown = terminal("n\n")
    again()
    assert run("resume", directory).status == 2
    assert "it changed since you trusted it" in shown.getvalue()


@pytest.mark.parametrize("answer", ["n\n", "\n", "", "yess\n", "no\ny\n"])
def test_anything_else_is_a_no_and_nothing_is_asked_twice(
    run: Any, tmp_path: Path, terminal: Any, record: Path, answer: str
) -> None:
    directory = stranger(tmp_path)
    shown = terminal(answer)
    assert run("resume", directory).status == 2
    assert shown.getvalue().count("[y/N]") == 1
    assert "was declined" in shown.getvalue()
    assert not (directory / "executed").exists()
    assert not record.exists()


def test_a_declined_file_is_not_asked_for_again_by_the_same_command(
    tmp_path: Path, terminal: Any
) -> None:
    path = tmp_path / "evil.py"
    path.write_text(EVIL)
    shown = terminal("n\ny\n")
    asked = trust.Trust(["resume", "run"])
    for _ in range(2):
        with pytest.raises(proxies.UntrustedTaskError):
            asked.check(str(path), str(path))
    assert shown.getvalue().count("[y/N]") == 1


def test_ctrl_c_at_the_prompt_ends_the_command(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from evosearch.cli.interrupts import Interrupted

    class Interrupting(Terminal):
        def readline(self, *_: Any) -> str:
            raise Interrupted

    directory = stranger(tmp_path)
    monkeypatch.setattr(sys, "stdin", Interrupting())
    monkeypatch.setattr(sys, "stderr", Terminal())
    assert run("resume", directory).status == 130
    assert not (directory / "executed").exists()


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff", b"[" * 100_000, b'{"a": 3}'])
def test_a_damaged_record_trusts_nothing_and_is_replaced(
    run: Any, tmp_path: Path, record: Path, content: bytes
) -> None:
    directory = stranger(tmp_path)
    record.parent.mkdir(parents=True)
    record.write_bytes(content)
    said = run("resume", directory)
    assert said.status == 2
    assert "Traceback" not in said.err
    if content != b'{"a": 3}':
        assert "record of trusted files cannot be read" in said.err
    assert "sys.exit(7)" in run("resume", "--trust", directory).err
    assert set(json.loads(record.read_text())) == {
        f"{directory}/{n}.py" for n in ("evil", "helper")
    }
    assert [path.name for path in record.parent.iterdir()] == ["trusted.json"]


def test_a_record_that_cannot_be_written_is_a_notice(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    directory = stranger(tmp_path, GOOD)
    said = run("tasks", f"{directory}/evil.py:task")
    assert said.status == 0
    assert "the trusted file cannot be recorded" in said.err


def test_a_relative_state_folder_is_ignored_as_its_standard_says(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", "state")
    monkeypatch.setenv("HOME", "/home/me")
    assert trust.state_file() == Path("/home/me/.local/state/evosearch/trusted.json")


def test_code_that_a_trusted_file_runs_by_other_means_is_asked_for_too(
    run: Any, tmp_path: Path
) -> None:
    """A package, a module on a path of its own, a file run by its name."""
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
    directory = unsearched(tmp_path, text)
    names = ["lib/onpath.py", "pack/inner.py", "located.py", "run.py", "text.py"]
    for name in names:
        (directory / name).parent.mkdir(exist_ok=True)
        (directory / name).write_text("x = 1\n")
    words = ("--programs", "2", "--workers", "1")
    assert run("resume", "--trust", directory, *words).status == 0
    for name in names:
        (directory / name).write_text("x = 2\n")
        again()
        said = run("resume", directory, "--programs", "2")
        assert said.status == 2
        assert f"{directory}/{name} is Python code" in said.err
        (directory / name).write_text("x = 1\n")


def test_a_name_with_escapes_is_shown_without_them(run: Any, tmp_path: Path) -> None:
    name = "\x1b[2Jevil.py"
    (tmp_path / name).write_text(EVIL)
    path = tmp_path / "c.toml"
    path.write_text(small(tasks=[f"{tmp_path}/{name}:task"]).to_toml())
    said = run("search", path, "--out", tmp_path / "out")
    assert said.status == 2
    assert "\\x1b[2Jevil.py" in said.err
    assert "\x1b" not in said.err


def test_help_says_what_trust_is_for(run: Any) -> None:
    for command in ("search", "resume", "audit", "simplify"):
        assert "--trust" in run(command, "--help").out


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="takes a pseudoterminal")
def test_on_a_real_terminal_the_question_is_asked_and_answered(tmp_path: Path) -> None:
    directory = stranger(tmp_path)
    ours, theirs = os.openpty()
    code = "from evosearch.cli import main; main()"
    process = subprocess.Popen(
        [sys.executable, "-c", code, "audit", str(directory)],
        stdin=theirs,
        stderr=theirs,
        stdout=subprocess.PIPE,
    )
    os.close(theirs)
    os.write(ours, b"y\n")
    shown = b""
    while b"sys.exit(7)" not in shown:
        shown += os.read(ours, 1000)
    assert process.wait(60) == 2
    assert b"[y/N]" in shown
    assert (directory / "executed").exists()
    os.close(ours)
