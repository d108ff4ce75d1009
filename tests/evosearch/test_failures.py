"""Tests that an exception in a user task is reported in one line.

The line names the task, the program, the exception and the line of the task file.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import pytest

import proxies
from evosearch.errors import EvosearchError, UsageError, describe_error
from evosearch.measuring.batching import Batching
from evosearch.measuring.engines import Trainer, seed_key
from evosearch.measuring.failures import TrainingError
from evosearch.measuring.measurement import Engine
from evosearch.seeds import Seed, Stream
from primitives import zoo
from tests.evosearch.test_audit import HALF_LEARNING_RATE, make_run_with_champions

ROOT = Path(__file__).parents[2]


class BadBatchError(Exception):
    pass


def callback_that_raises(error: BaseException) -> Any:
    """Return a function that raises `error`, to be called by JAX on the host."""

    def callback(x: Any) -> Any:
        raise error

    return callback


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ValueError("bad batch 7"), "ValueError: bad batch 7"),
        (BadBatchError("first\nsecond: line"), "BadBatchError: first"),
        (KeyError("width"), "KeyError: 'width'"),
        (ZeroDivisionError(), "ZeroDivisionError"),
        (SystemExit(3), "SystemExit: 3"),
        (ValueError("Traceback (most recent call last):\nx"), "ValueError: Traceback (most recent"),
    ],
)
@pytest.mark.parametrize("kind", ["pure", "io"])
def test_an_exception_in_a_callback_is_reported_as_the_user_raised_it(
    error: BaseException, expected: str, kind: str
) -> None:
    """The error that JAX raises has 18 lines."""
    call = jax.pure_callback if kind == "pure" else jax.experimental.io_callback
    callback = callback_that_raises(error)
    shape = jax.ShapeDtypeStruct((), jnp.float32)

    @jax.jit
    def loop(x: jax.Array) -> jax.Array:
        return jax.lax.fori_loop(0, 3, lambda i, x: x + call(callback, shape, x), x)

    with pytest.raises(jax.errors.JaxRuntimeError) as caught:
        loop(jnp.float32(0)).block_until_ready()
    assert len(str(caught.value).splitlines()) > 5
    assert describe_error(caught.value).startswith(expected)
    assert "\n" not in describe_error(caught.value)


def test_a_callback_that_returns_a_wrong_shape_is_reported() -> None:
    shape = jax.ShapeDtypeStruct((), jnp.float32)
    function = jax.jit(lambda x: jax.pure_callback(lambda x: jnp.zeros(3), shape, x))
    with pytest.raises(jax.errors.JaxRuntimeError) as caught:
        function(jnp.float32(0)).block_until_ready()
    assert describe_error(caught.value).startswith("RuntimeError: Incorrect output shape")


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ValueError("first\nsecond"), "ValueError: first"),
        (ValueError("\n\n  third"), "ValueError: third"),
        (ValueError(), "ValueError"),
        (UsageError("what\nand how"), "what and how"),
        (RuntimeError("INTERNAL: Traceback (most recent call last):\n  File"), "RuntimeError: IN"),
    ],
)
def test_an_exception_outside_callbacks_is_reported_in_one_line(
    error: Exception, expected: str
) -> None:
    """The line has the type and the first line of text; an error for users has its whole text."""
    assert describe_error(error).startswith(expected)
    assert "\n" not in describe_error(error)


TASK = """
import dataclasses, pathlib
import jax, jax.numpy as jnp
import proxies

BASE = proxies.load("quadratic")
FAIL_FILE = pathlib.Path(__file__).with_name("fail")

class BadBatchError(Exception): pass

def callback(loss):
    if FAIL_FILE.exists():
        raise BadBatchError("no picture 7")
    return loss

def loss_with_callback(params, batch, key):
    loss = BASE.loss(params, batch, key)
    returned = jax.pure_callback(
        callback, jax.ShapeDtypeStruct((), jnp.float32),
        jax.lax.stop_gradient(loss), vmap_method="sequential")
    return loss + 0 * returned

def loss_that_cannot_be_traced(params, batch, key):
    raise BadBatchError("no picture 7")

def failing_init(key):
    raise BadBatchError("no picture 7")

def fails_in_callback():
    return dataclasses.replace(BASE, split="search", steps=8, loss=loss_with_callback)

def fails_in_tracing():
    return dataclasses.replace(BASE, split="search", steps=8, loss=loss_that_cannot_be_traced)

def fails_in_init():
    return dataclasses.replace(BASE, split="search", steps=8, init=failing_init)
"""
LINE_IN_CALLBACK, LINE_IN_TRACING = 13, 24
"""Numbers of the lines of `TASK` that raise an exception in the loss."""


@pytest.fixture
def task_file(tmp_path: Path) -> Path:
    """A file of three tasks, which fail in different functions.

    The task `fails_in_callback` fails because the folder contains a file `fail`.
    """
    (tmp_path / "task.py").write_text(TASK)
    (tmp_path / "fail").touch()
    return tmp_path / "task.py"


@pytest.mark.parametrize("engine", list(Engine))
@pytest.mark.parametrize(
    ("task", "line"),
    [("fails_in_callback", LINE_IN_CALLBACK), ("fails_in_tracing", LINE_IN_TRACING)],
)
def test_the_error_of_every_engine_names_task_program_exception_and_line(
    task_file: Path, engine: Engine, task: str, line: int
) -> None:
    batching = Batching(2) if engine is Engine.BATCHED else None
    trainer = Trainer(proxies.load(f"{task_file}:{task}"), batching=batching)
    with pytest.raises(TrainingError) as caught:
        trainer.run(zoo.load("lion"), 1.0, seed_key(0, Seed(Stream.EVAL, 0)), engine)
    assert str(caught.value) == (
        f"task '{task_file}:{task}' fails in a training with lion: BadBatchError: no picture 7 "
        f"(line {line} of task.py)"
    )
    assert caught.value.__cause__ is not None


def test_an_exception_in_a_bundled_task_is_not_converted() -> None:
    from dataclasses import replace

    task = replace(proxies.load("quadratic"), loss=lambda *args: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        Trainer(task).prepare(zoo.load("lion"), Engine.INTERPRETER)


@pytest.mark.parametrize("task", ["fails_in_callback", "fails_in_tracing", "fails_in_init"])
@pytest.mark.parametrize("command", ["eval", "simplify", "tasks --snr", "tasks", "search"])
def test_the_error_of_every_command_names_task_exception_and_line(
    run: Any, task_file: Path, tmp_path: Path, command: str, task: str
) -> None:
    task_name = f"{task_file}:{task}"
    program = tmp_path / "mine.txt"
    program.write_text(zoo.text("lion").replace("0.99", "0.98"))
    arguments = {
        "eval": ("eval", program, "--task", task_name, "--seeds", "2", "--workers", "1"),
        "simplify": ("simplify", "lion", "--task", task_name, "--workers", "1"),
        "tasks --snr": ("tasks", "--snr", "--task", task_name, "--seeds", "2"),
        "tasks": ("tasks", task_name),
        "search": (
            *("search", "--tasks", task_name, "--programs", "5", "--workers", "1"),
            *("--out", tmp_path / "out"),
        ),
    }[command]
    result = run(*arguments)
    if command == "tasks" and task != "fails_in_init":  # `tasks` computes no loss
        assert result.status == 0
        return
    assert result.status == 1
    assert "Traceback" not in result.err
    error = result.err.splitlines()[-1]
    assert error.startswith("evosearch: ")
    assert f"task {task_name!r}" in error
    assert "BadBatchError: no picture 7 (line " in error
    if command == "eval" and task != "fails_in_init":
        contenders = ("mine.txt", "adamw", "lion")
        assert any(f"{contender} on eval-tune seed " in error for contender in contenders)


def test_the_error_of_an_audit_names_the_program_that_failed(
    run: Any, task_file: Path, tmp_path: Path
) -> None:
    directory, task = tmp_path / "run", f"{task_file}:fails_in_callback"
    make_run_with_champions(directory, [(HALF_LEARNING_RATE, 0.3)], task=task)
    result = run("audit", directory, "--seeds", "2", "--trust")
    assert result.status == 1
    error = result.err.splitlines()[-1]
    assert f"BadBatchError: no picture 7 (line {LINE_IN_CALLBACK} of task.py)" in error
    programs = ("adamw_paper", f"{directory}#1")
    assert any(f"{program} on audit seed " in error for program in programs)


def test_a_process_prints_only_progress_and_the_error_and_no_logs_of_jax(task_file: Path) -> None:
    arguments = ["eval", "lion", "--task", "task.py:fails_in_callback", "--seeds", "2"]
    process = subprocess.run(
        [sys.executable, "-c", "from evosearch.cli import main; main()", *arguments],
        cwd=task_file.parent,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 1
    _progress, error = process.stderr.splitlines()
    assert f"BadBatchError: no picture 7 (line {LINE_IN_CALLBACK} of task.py)" in error


def test_a_training_error_is_an_error_for_users() -> None:
    error = TrainingError("t", None, "ValueError: x")
    assert isinstance(error, EvosearchError)
    assert str(error) == "task 't' cannot be set up: ValueError: x"
    assert "with mine: " in str(TrainingError("t", zoo.load("lion"), "x").named("mine"))
