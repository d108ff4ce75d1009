"""Ctrl-C: the first ends a command or says what it waits for, the second ends the process."""

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
from evosearch.runs.activity import ACTIVITY, Activity
from evosearch.runs.database import LOG
from evosearch.runs.run import Run
from tests.evosearch.test_search import small_config

HANGING = """
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
    return replace(base, loss=lambda *words: base.loss(*words) + wait())

def sleeps():
    return hanging(sleep)

def loops():
    return hanging(loop)
"""


class Process:
    """A running command, whose output goes to files."""

    def __init__(self, folder: Path, *words: str):
        self.stderr, self.printed = folder / "stderr", folder / "stdout"
        code = "import sys; from evosearch.cli import main; print('begun', file=sys.stderr); main()"
        with self.stderr.open("w") as err, self.printed.open("w") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-c", code, *words],
                cwd=folder,
                stderr=err,
                stdout=out,
                env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
            )

    def wait_for(self, text: str, seconds: float = 90, of: Path | None = None) -> None:
        """Wait until `text` is in the file `of`, by default standard error."""
        deadline = time.monotonic() + seconds
        path = of or self.stderr
        while not path.exists() or text not in path.read_text():
            assert time.monotonic() < deadline, self.stderr.read_text()
            assert self.process.poll() is None, self.stderr.read_text()
            time.sleep(0.05)

    def interrupt(self) -> None:
        self.process.send_signal(signal.SIGINT)


@pytest.fixture
def hanging(tmp_path: Path) -> Path:
    (tmp_path / "hanging.py").write_text(HANGING)
    (tmp_path / "c.toml").write_text(
        small_config(tasks=["hanging.py:sleeps"]).to_toml(), encoding="utf-8"
    )
    return tmp_path


def test_ctrl_c_ends_a_search_whose_loss_never_ends(hanging: Path) -> None:
    """The loss is computed in a worker process, which is killed."""
    command = Process(hanging, "search", "c.toml", "--trust", "--out", "run")
    try:
        deadline = time.monotonic() + 120
        board = hanging / "run" / ACTIVITY
        while not (board.exists() and "tuning the baseline on" in board.read_text()):
            assert time.monotonic() < deadline, command.stderr.read_text()
            time.sleep(0.05)
        time.sleep(1.0)
        command.interrupt()
        assert command.process.wait(timeout=20) == 130
    finally:
        command.process.kill()
    assert "interrupted; continue with `evosearch resume run`" in command.stderr.read_text()
    assert "Traceback" not in command.stderr.read_text()


def test_a_search_whose_loss_never_ends_says_what_it_waits_for_and_ends_at_the_second_ctrl_c(
    hanging: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In a batch the loss is computed in the search's own process, where it cannot be ended."""
    command = Process(hanging, "search", "c.toml", "--trust", "--batch", "2", "--out", "run")
    try:
        deadline = time.monotonic() + 120
        board = hanging / "run" / ACTIVITY
        while not (board.exists() and "tuning the baseline on" in board.read_text()):
            assert time.monotonic() < deadline, command.stderr.read_text()
            time.sleep(0.05)
        time.sleep(1.0)
        status = Run(hanging / "run").status()
        assert status.running
        assert any("tuning the baseline on" in one.doing for one in status.workers)
        print_status(overview(Run(hanging / "run")))
        screen = capsys.readouterr().out
        assert "still running" in screen
        assert "hanging.py:sleeps, for 0:0" in screen
        command.interrupt()
        command.wait_for("stopping after the trainings in flight; Ctrl-C again to quit now", 5)
        command.wait_for("waiting for running trainings (start-up_0: ", 10)
        command.interrupt()
        assert command.process.wait(timeout=2) == -signal.SIGINT
    finally:
        command.process.kill()
    assert "Traceback" not in command.stderr.read_text()
    assert "FATAL" not in command.stderr.read_text()
    assert not Run(hanging / "run").status().running


@pytest.mark.parametrize(
    ("moment", "shown"),
    [
        ("loading tasks", "Nothing has been measured yet."),
        ("searching", "On the search tasks: "),
        ("validating champions on 10x the work", "On the search tasks: "),
    ],
)
def test_ctrl_c_at_any_time_ends_a_search_with_its_last_screen(
    moment: str, shown: str, tmp_path: Path
) -> None:
    programs = 30 if "validating" in moment else 100_000
    config = small_config(programs=programs, validation_seeds=64)
    (tmp_path / "c.toml").write_text(config.to_toml(), encoding="utf-8")
    command = Process(tmp_path, "search", "c.toml", "--out", "run")
    try:
        if moment == "searching":
            command.wait_for('"event": "champion"', of=tmp_path / "run" / LOG)
            while Run(tmp_path / "run").best() is None:
                assert command.process.poll() is None
                time.sleep(0.05)
        else:
            command.wait_for(moment)
        command.interrupt()
        assert command.process.wait(timeout=60) == 130
    finally:
        command.process.kill()
    printed, stderr = command.printed.read_text(), command.stderr.read_text()
    assert shown in printed
    assert "interrupted; continue with `evosearch resume run`" in printed
    assert stderr.rstrip().endswith("interrupted; continue with `evosearch resume run`")
    assert "Traceback" not in stderr
    assert ("\n  evosearch resume run\n" in printed) == ("tasks" in shown)


def test_an_evaluation_whose_loss_never_ends_ends_at_the_first_ctrl_c(hanging: Path) -> None:
    command = Process(hanging, "eval", "lion", "--task", "hanging.py:loops", "--seeds", "2")
    try:
        command.wait_for("tuning (0 of")
        command.interrupt()
        assert command.process.wait(timeout=5) == 130
    finally:
        command.process.kill()
    assert command.stderr.read_text().rstrip().endswith("interrupted")


@pytest.mark.parametrize("moment", range(4))
def test_ctrl_c_while_a_command_starts_ends_it_with_one_line(moment: int, tmp_path: Path) -> None:
    """At four moments of its first two seconds, while it imports, compiles and trains."""
    command = Process(tmp_path, "eval", "lion", "--task", "points-teacher", "--seeds", "64")
    try:
        command.wait_for("begun")
        time.sleep(0.02 + moment / 2)
        command.interrupt()
        assert command.process.wait(timeout=5) == 130
    finally:
        command.process.kill()
    stderr = command.stderr.read_text()
    assert stderr.rstrip().endswith("interrupted")
    assert "Traceback" not in stderr


def test_activity_is_shown_in_a_file_and_never_stops_a_search(tmp_path: Path) -> None:
    """The file appears within a second, is deleted at the end, and may be unwritable."""
    with Activity(tmp_path) as activity:
        activity.note("program 7 on digits-mlp")
        deadline = time.monotonic() + 10
        while not (tmp_path / ACTIVITY).exists():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        (one,) = activity.now()
        assert one.doing == "program 7 on digits-mlp"
        assert time.time() - one.since < 20
        activity.note("")
        assert activity.now() == []
    assert not (tmp_path / ACTIVITY).exists()
    with Activity(Path("/proc/nowhere")) as activity:
        activity.note("x")


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b'[{"worker": 1}]', b"\xff", b"[" * 9999])
def test_a_damaged_activity_file_reads_as_empty(content: bytes, tmp_path: Path) -> None:
    from evosearch.runs.activity import read_activity

    (tmp_path / ACTIVITY).write_bytes(content)
    assert read_activity(tmp_path) == []
