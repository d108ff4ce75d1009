"""Tests of Ctrl-C, which ends a command at any time.

If a command must wait for a training, the first Ctrl-C prints what the command waits for, and the
second Ctrl-C ends the process.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from evosearch.cli.status import print_status
from evosearch.report.run import overview
from evosearch.runs.activity import ACTIVITY, ActivityWriter, read_activity
from evosearch.runs.database import LOG
from evosearch.runs.run import Run
from tests.evosearch.test_search import small_config

TASKS_THAT_HANG = """
import time
from dataclasses import replace
import jax, jax.numpy as jnp, numpy as np, proxies

def sleep():
    time.sleep(3600)
    return np.float32(0)

def loop():
    while True:
        pass

def hanging(callback):
    base = proxies.load("digits-mlp")
    wait = lambda: jax.pure_callback(callback, jax.ShapeDtypeStruct((), jnp.float32))
    return replace(base, loss=lambda *args: base.loss(*args) + wait())

def sleeps():
    return hanging(sleep)

def loops():
    return hanging(loop)
"""


class RunningCommand:
    """A command that runs in a folder and prints to files of this folder."""

    def __init__(self, folder: Path, *arguments: str):
        self.stderr_path, self.stdout_path = folder / "stderr", folder / "stdout"
        code = "import sys; from evosearch.cli import main; print('begun', file=sys.stderr); main()"
        with self.stderr_path.open("w") as stderr, self.stdout_path.open("w") as stdout:
            self.process = subprocess.Popen(
                [sys.executable, "-c", code, *arguments],
                cwd=folder,
                stderr=stderr,
                stdout=stdout,
                env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
            )

    def stderr(self) -> str:
        return self.stderr_path.read_text()

    def stdout(self) -> str:
        return self.stdout_path.read_text()

    def wait_for(self, text: str, seconds: float = 90, path: Path | None = None) -> None:
        """Wait until a file, by default that of standard error, contains `text`."""
        deadline = time.monotonic() + seconds
        path = path or self.stderr_path
        while not path.exists() or text not in path.read_text():
            assert time.monotonic() < deadline, self.stderr()
            assert self.process.poll() is None, self.stderr()
            time.sleep(0.05)

    def interrupt(self) -> None:
        self.process.send_signal(signal.SIGINT)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a file of tasks whose loss never ends, and a configuration with such a task."""
    (tmp_path / "hanging.py").write_text(TASKS_THAT_HANG)
    (tmp_path / "c.toml").write_text(
        small_config(tasks=["hanging.py:sleeps"]).to_toml(), encoding="utf-8"
    )
    return tmp_path


def test_ctrl_c_ends_a_search_whose_loss_is_computed_forever_in_a_worker_process(
    folder: Path,
) -> None:
    command = RunningCommand(folder, "search", "c.toml", "--trust", "--out", "run")
    try:
        command.wait_for("tuning the baseline on", 120, folder / "run" / ACTIVITY)
        time.sleep(1.0)
        command.interrupt()
        assert command.process.wait(timeout=20) == 130
    finally:
        command.process.kill()
    assert "interrupted; continue with `evosearch resume run`" in command.stderr()
    assert "Traceback" not in command.stderr()


def test_the_second_ctrl_c_ends_a_search_whose_loss_is_computed_forever_in_its_own_process(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With batches, the loss is computed in the process of the search and cannot be ended."""
    command = RunningCommand(folder, "search", "c.toml", "--trust", "--batch", "2", "--out", "run")
    try:
        command.wait_for("tuning the baseline on", 120, folder / "run" / ACTIVITY)
        time.sleep(1.0)
        status = Run(folder / "run").status()
        assert status.running
        assert any("tuning the baseline on" in worker.doing for worker in status.workers)
        print_status(overview(Run(folder / "run")))
        text = capsys.readouterr().out
        assert "still running" in text
        assert "hanging.py:sleeps, for 0:0" in text
        command.interrupt()
        command.wait_for("stopping after the trainings in flight; Ctrl-C again to quit now", 5)
        command.wait_for("waiting for running trainings (start-up_0: ", 10)
        command.interrupt()
        assert command.process.wait(timeout=2) == -signal.SIGINT
    finally:
        command.process.kill()
    assert "Traceback" not in command.stderr()
    assert "FATAL" not in command.stderr()
    assert not Run(folder / "run").status().running


@pytest.mark.parametrize(
    ("phase", "programs", "status_line", "suggested_resumes"),
    [
        ("loading tasks", 100_000, "Nothing has been measured yet.", 0),
        ("searching", 100_000, "On the search tasks: ", 1),
        ("validating champions on 10x the work", 30, "On the search tasks: ", 1),
    ],
)
def test_ctrl_c_in_any_phase_of_a_search_ends_it_with_status_and_a_message_how_to_resume(
    phase: str, programs: int, status_line: str, suggested_resumes: int, tmp_path: Path
) -> None:
    """The status suggests the command `evosearch resume` if something has been measured."""
    config = small_config(programs=programs, validation_seeds=64)
    (tmp_path / "c.toml").write_text(config.to_toml(), encoding="utf-8")
    command = RunningCommand(tmp_path, "search", "c.toml", "--out", "run")
    try:
        if phase == "searching":
            command.wait_for('"event": "champion"', path=tmp_path / "run" / LOG)
            while Run(tmp_path / "run").best() is None:
                assert command.process.poll() is None
                time.sleep(0.05)
        else:
            command.wait_for(phase)
        command.interrupt()
        assert command.process.wait(timeout=60) == 130
    finally:
        command.process.kill()
    assert status_line in command.stdout()
    assert "interrupted; continue with `evosearch resume run`" in command.stdout()
    assert command.stdout().count("\n  evosearch resume run\n") == suggested_resumes
    assert command.stderr().rstrip().endswith("interrupted; continue with `evosearch resume run`")
    assert "Traceback" not in command.stderr()


def test_the_first_ctrl_c_ends_an_evaluation_whose_loss_is_computed_forever(
    folder: Path,
) -> None:
    command = RunningCommand(folder, "eval", "lion", "--task", "hanging.py:loops", "--seeds", "2")
    try:
        command.wait_for("tuning (0 of")
        command.interrupt()
        assert command.process.wait(timeout=5) == 130
    finally:
        command.process.kill()
    assert command.stderr().rstrip().endswith("interrupted")


@pytest.mark.parametrize("seconds", [0.02, 0.52, 1.02, 1.52])
def test_ctrl_c_while_a_command_starts_ends_it_without_a_traceback(
    seconds: float, tmp_path: Path
) -> None:
    """In its first two seconds a command imports modules, compiles and begins to train."""
    command = RunningCommand(tmp_path, "eval", "lion", "--task", "points-teacher", "--seeds", "64")
    try:
        command.wait_for("begun")
        time.sleep(seconds)
        command.interrupt()
        assert command.process.wait(timeout=5) == 130
    finally:
        command.process.kill()
    assert command.stderr().rstrip().endswith("interrupted")
    assert "Traceback" not in command.stderr()


def test_the_activity_file_appears_and_is_deleted_at_the_end(
    tmp_path: Path,
) -> None:
    with ActivityWriter(tmp_path) as activity:
        activity.note("program 7 on digits-mlp")
        deadline = time.monotonic() + 10
        while not (tmp_path / ACTIVITY).exists():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        (worker,) = activity.now()
        assert worker.doing == "program 7 on digits-mlp"
        assert time.time() - worker.since < 20
        activity.note("")
        assert activity.now() == []
    assert not (tmp_path / ACTIVITY).exists()


def test_an_activity_file_that_cannot_be_written_is_no_error() -> None:
    with ActivityWriter(Path("/proc/nowhere")) as activity:
        activity.note("program 7 on digits-mlp")


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b'[{"worker": 1}]', b"\xff", b"[" * 9999])
def test_a_damaged_activity_file_reads_as_empty(content: bytes, tmp_path: Path) -> None:
    (tmp_path / ACTIVITY).write_bytes(content)
    assert read_activity(tmp_path) == []
