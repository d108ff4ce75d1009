"""Exceptions of a user's task in a training are one line with task, program and exception."""

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


def raising(error: BaseException) -> Any:
    def host(x: Any) -> Any:
        raise error

    return host


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
    """JAX's own error has 18 lines."""
    call = jax.pure_callback if kind == "pure" else jax.experimental.io_callback
    shape = jax.ShapeDtypeStruct((), jnp.float32)

    @jax.jit
    def loop(x: jax.Array) -> jax.Array:
        return jax.lax.fori_loop(0, 3, lambda i, x: x + call(raising(error), shape, x), x)

    with pytest.raises(jax.errors.JaxRuntimeError) as caught:
        loop(jnp.float32(0)).block_until_ready()
    assert len(str(caught.value).splitlines()) > 5
    assert describe_error(caught.value).startswith(expected)
    assert "\n" not in describe_error(caught.value)


def test_a_callback_that_returns_a_wrong_shape_is_reported() -> None:
    shape = jax.ShapeDtypeStruct((), jnp.float32)
    host = jax.jit(lambda x: jax.pure_callback(lambda x: jnp.zeros(3), shape, x))
    with pytest.raises(jax.errors.JaxRuntimeError) as caught:
        host(jnp.float32(0)).block_until_ready()
    assert describe_error(caught.value).startswith("RuntimeError: Incorrect output shape")


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ValueError("one\ntwo"), "ValueError: one"),
        (ValueError("\n\n  two"), "ValueError: two"),
        (ValueError(), "ValueError"),
        (UsageError("what\nand how"), "what and how"),
        (RuntimeError("INTERNAL: Traceback (most recent call last):\n  File"), "RuntimeError: IN"),
    ],
)
def test_other_exceptions_are_reported_by_type_and_first_line(
    error: Exception, expected: str
) -> None:
    assert describe_error(error).startswith(expected)
    assert "\n" not in describe_error(error)


TASK = """
import dataclasses, pathlib
import jax, jax.numpy as jnp
import proxies

BOWL = proxies.load("quadratic")
FLAG = pathlib.Path(__file__).with_name("fail")

class BadBatchError(Exception): pass

def host(x):
    if FLAG.exists():
        raise BadBatchError("no picture 7")
    return x

def in_callback(params, batch, key):
    loss = BOWL.loss(params, batch, key)
    with_tangent = jax.lax.stop_gradient(loss)
    seen = jax.pure_callback(
        host, jax.ShapeDtypeStruct((), jnp.float32), with_tangent, vmap_method="sequential")
    return loss + 0 * seen

def while_traced(params, batch, key):
    raise BadBatchError("no picture 7")

def bad_init(key):
    raise BadBatchError("no picture 7")

def task():
    return dataclasses.replace(BOWL, split="search", steps=8, loss=in_callback)

def traced():
    return dataclasses.replace(BOWL, split="search", steps=8, loss=while_traced)

def initial():
    return dataclasses.replace(BOWL, split="search", steps=8, init=bad_init)
"""


@pytest.fixture
def task(tmp_path: Path) -> Path:
    """A task file whose loss raises in a callback while a file called `fail` is in its folder."""
    (tmp_path / "task.py").write_text(TASK)
    (tmp_path / "fail").touch()
    return tmp_path / "task.py"


@pytest.mark.parametrize("engine", list(Engine))
@pytest.mark.parametrize("function", ["task", "traced"])
def test_every_engine_names_task_program_and_exception(
    task: Path, engine: Engine, function: str
) -> None:
    batching = Batching(2) if engine is Engine.BATCHED else None
    trainer = Trainer(proxies.load(f"{task}:{function}"), batching=batching)
    with pytest.raises(TrainingError) as caught:
        trainer.run(zoo.load("lion"), 1.0, seed_key(0, Seed(Stream.EVAL, 0)), engine)
    line = {"task": 13, "traced": 24}[function]
    assert str(caught.value) == (
        f"task '{task}:{function}' fails in a training with lion: BadBatchError: no picture 7 "
        f"(line {line} of task.py)"
    )
    assert caught.value.__cause__ is not None


def test_an_exception_in_a_bundled_task_is_not_converted() -> None:
    from dataclasses import replace

    task = replace(proxies.load("quadratic"), loss=lambda *given: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        Trainer(task).prepare(zoo.load("lion"), Engine.INTERPRETER)


@pytest.mark.parametrize("function", ["task", "traced", "initial"])
@pytest.mark.parametrize("command", ["eval", "simplify", "tasks --snr", "tasks", "search"])
def test_commands_report_failures_in_one_line(
    run: Any, task: Path, tmp_path: Path, command: str, function: str
) -> None:
    name = f"{task}:{function}"
    (tmp_path / "mine.txt").write_text(zoo.text("lion").replace("0.99", "0.98"))
    words = {
        "eval": ("eval", tmp_path / "mine.txt", "--task", name, "--seeds", "2", "--workers", "1"),
        "simplify": ("simplify", "lion", "--task", name, "--workers", "1"),
        "tasks --snr": ("tasks", "--snr", "--task", name, "--seeds", "2"),
        "tasks": ("tasks", name),
        "search": (
            *("search", "--tasks", name, "--programs", "5", "--workers", "1"),
            *("--out", tmp_path / "out"),
        ),
    }[command]
    said = run(*words)
    if command == "tasks" and function != "initial":
        assert said.status == 0
        return
    assert said.status == 1
    assert "Traceback" not in said.err
    last = said.err.splitlines()[-1]
    assert last.startswith("evosearch: ")
    assert f"task {name!r}" in last
    assert "BadBatchError: no picture 7 (line " in last
    if command == "eval" and function != "initial":
        names = ("mine.txt", "adamw", "lion")
        assert any(f"{name} on eval-tune seed " in last for name in names)


def test_an_audit_names_the_champion_that_failed(run: Any, task: Path, tmp_path: Path) -> None:
    directory = tmp_path / "run"
    make_run_with_champions(directory, [(HALF_LEARNING_RATE, 0.3)], task=f"{task}:task")
    said = run("audit", directory, "--seeds", "2", "--trust")
    assert said.status == 1
    last = said.err.splitlines()[-1]
    assert "BadBatchError: no picture 7 (line 13 of task.py)" in last
    names = ("adamw_paper", f"{directory}#1")
    assert any(f"{name} on audit seed " in last for name in names)


def test_a_real_process_prints_one_line_without_logs_of_jax(task: Path) -> None:
    words = ["eval", "lion", "--task", "task.py:task", "--seeds", "2"]
    done = subprocess.run(
        [sys.executable, "-c", "from evosearch.cli import main; main()", *words],
        cwd=task.parent,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    lines = done.stderr.splitlines()
    assert len(lines) == 2, done.stderr  # progress, and the error
    assert "BadBatchError: no picture 7 (line 13 of task.py)" in lines[1]


def test_a_training_error_is_an_error_for_users() -> None:
    error = TrainingError("t", None, "ValueError: x")
    assert isinstance(error, EvosearchError)
    assert str(error) == "task 't' cannot be set up: ValueError: x"
    assert "with mine: " in str(TrainingError("t", zoo.load("lion"), "x").named("mine"))
