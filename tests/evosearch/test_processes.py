"""Tests that a training that crashes or hangs ends only its own job, not the search.

The task of these tests crashes, hangs or raises an exception on command.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

import proxies
from evosearch.config import make_config
from evosearch.errors import EvosearchError
from evosearch.measuring import processes
from evosearch.measuring.contenders import find
from evosearch.measuring.failures import TrainingError
from evosearch.measuring.job import Job, JobResult, TaskSetup
from evosearch.measuring.job_runner import JobRunner, open_backend
from evosearch.measuring.local import LocalBackend
from evosearch.measuring.measurement import Engine, Failure
from evosearch.measuring.processes import ProcessBackend
from evosearch.pipeline.pipeline import resume, search
from evosearch.runs.rows import MEASUREMENTS
from evosearch.runs.store import Store
from evosearch.seeds import Conditions, Seed, Stream
from evosearch.statistics import LARGEST_SCORE
from primitives import zoo

TASK = '''
import ctypes, dataclasses, os, pathlib, signal, time
import jax, jax.numpy as jnp
import proxies

BASE = proxies.load("quadratic")
FOLDER = pathlib.Path(__file__).parent

def fail_on_command(loss):
    """Fail as the name of a command file in this folder says, and otherwise return the loss."""
    for file in FOLDER.glob("do-*"):
        failure = file.name.removeprefix("do-")
        if failure.startswith("once-"):
            file.unlink()
            failure = failure.removeprefix("once-")
        if failure == "raise":
            raise ValueError("no picture 7")
        if failure == "exit":
            os._exit(3)
        if failure == "segfault":
            ctypes.string_at(0)
        if failure == "out-of-memory":  # the kernel kills a process that exhausts the memory
            os.kill(os.getpid(), signal.SIGKILL)
        if failure == "hang":
            time.sleep(1000)
        if failure == "exit-at-first-large-loss" and not float(loss) < 1e3:
            file.unlink()
            os._exit(3)
    return loss

def loss(params, batch, key):
    base_loss = BASE.loss(params, batch, key)
    returned = jax.pure_callback(
        fail_on_command, jax.ShapeDtypeStruct((), jnp.float32),
        jax.lax.stop_gradient(base_loss), vmap_method="sequential")
    return base_loss + 0 * returned

def task():
    return dataclasses.replace(BASE, split="search", steps=8, loss=loss)
'''
SEED = Seed(Stream.SEARCH, 0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the task, which all tests share so that they share worker processes."""
    directory = tmp_path_factory.mktemp("task")
    (directory / "task.py").write_text(TASK)
    return directory


@pytest.fixture(scope="module")
def backend() -> Iterator[ProcessBackend]:
    """A backend with one worker process and a time limit of 30 seconds."""
    process_backend = ProcessBackend(1, timeout=30)
    yield process_backend
    process_backend.close()


def make_job(
    folder: Path, program: str = "lion", engine: Engine = Engine.INTERPRETER, **fields: Any
) -> Job:
    """Return a job of eight steps on the task in `folder`; `fields` are further fields of `Job`."""
    setup = TaskSetup.of(proxies.load(f"{folder}/task.py:task"))
    return Job(setup, find(program), engine, Conditions(8), 0, SEED, **fields)


def command_failure(folder: Path, failure: str) -> Path:
    """Make the task fail from its next step on; return the command file, which the test deletes."""
    file = folder / f"do-{failure}"
    file.touch()
    return file


def are_equal(first: JobResult, second: JobResult) -> bool:
    """Whether two results have the same losses, steps, engine and stop, to the bit."""
    return (
        (first.loss, first.steps, first.engine, first.stopped)
        == (second.loss, second.steps, second.engine, second.stopped)
    ) and np.array_equal(first.train_loss, second.train_loss, equal_nan=True)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"program": "optax:muon", "engine": Engine.COMPILED},
        {"loss_limits": np.full(8, 1e-9, np.float32).tobytes()},
    ],
    ids=["program", "optimizer of optax", "loss limits"],
)
def test_a_worker_process_gives_exactly_the_result_of_a_thread(
    folder: Path, backend: ProcessBackend, fields: dict[str, Any]
) -> None:
    threads = LocalBackend(1)
    job = make_job(folder, **fields)
    assert are_equal(backend.submit(job).result(), threads.submit(job).result())
    threads.close()


@pytest.mark.parametrize("failure", ["segfault", "out-of-memory"])
def test_a_job_is_repeated_if_its_worker_dies(
    folder: Path, backend: ProcessBackend, failure: str
) -> None:
    expected = backend.submit(make_job(folder)).result()
    command_failure(folder, f"once-{failure}")
    assert are_equal(backend.submit(make_job(folder)).result(), expected)
    assert not list(folder.glob("do-*"))


def test_a_job_whose_worker_dies_three_times_has_crashed(
    folder: Path, backend: ProcessBackend
) -> None:
    command_file = command_failure(folder, "exit")
    messages: list[str] = []
    result = JobRunner(backend, notify=messages.append).run(make_job(folder))
    command_file.unlink()
    assert result.failure is Failure.CRASHED
    assert result.loss == np.inf
    assert result.reason == "its process ended with exit status 3, 3 times"
    assert messages == [f"{folder}/task.py:task on search seed 0 crashed: {result.reason}"]
    assert backend.submit(make_job(folder)).result().failure is None


def test_a_job_whose_worker_cannot_start_has_crashed_with_the_exit_status_as_reason(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "_COMMAND", "raise SystemExit(4)")
    backend = ProcessBackend(1)
    result = backend.train(make_job(folder))
    assert result.failure is Failure.CRASHED
    assert result.reason == "its process ended with exit status 4, before it trained, 3 times"
    backend.close()


def test_the_worker_of_a_job_that_takes_too_long_is_killed_and_the_result_is_a_timeout(
    folder: Path,
) -> None:
    backend = ProcessBackend(1, timeout=30)
    assert backend.submit(make_job(folder)).result().failure is None
    backend._timeout = 0.5
    (worker,) = backend._workers
    command_file = command_failure(folder, "hang")
    result = backend.submit(make_job(folder)).result()
    command_file.unlink()
    assert result.failure is Failure.TIMEOUT
    assert result.reason == "the training took more than 0.5 seconds"
    assert worker._process.poll() is not None
    backend.close()


def test_an_exception_in_a_training_names_task_program_and_seed(
    folder: Path, backend: ProcessBackend
) -> None:
    command_file = command_failure(folder, "raise")
    with pytest.raises(TrainingError) as caught:
        backend.submit(make_job(folder)).result()
    command_file.unlink()
    assert str(caught.value).startswith(
        f"task '{folder}/task.py:task' fails in a training with lion on search seed 0: "
        "ValueError: no picture 7 (line "
    )
    # The worker process can train again.
    assert backend.submit(make_job(folder)).result().failure is None


def test_a_file_that_changed_since_the_task_was_loaded_is_not_executed(tmp_path: Path) -> None:
    (tmp_path / "task.py").write_text(TASK)
    job = make_job(tmp_path)
    (tmp_path / "task.py").write_text(f"open({str(tmp_path / 'executed')!r}, 'w')\n{TASK}")
    backend = ProcessBackend(1)
    with pytest.raises((EvosearchError, proxies.UserTaskError), match="changed"):
        backend.submit(job).result()
    backend.close()
    assert not (tmp_path / "executed").exists()


def test_user_tasks_and_trainings_with_a_time_limit_run_in_processes_and_others_in_threads(
    folder: Path,
) -> None:
    user_task = make_job(folder).setup
    bundled_task = TaskSetup.of(proxies.load("quadratic"))
    unlimited: Any = open_backend(1)
    limited: Any = open_backend(1, timeout=5)
    assert isinstance(unlimited._backend_for(user_task), ProcessBackend)
    assert isinstance(unlimited._backend_for(bundled_task), LocalBackend)
    assert isinstance(limited._backend_for(bundled_task), ProcessBackend)
    unlimited.close()
    limited.close()


def test_on_an_accelerator_all_tasks_are_trained_in_this_process_and_in_batches(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A worker process would train on the CPU."""
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    for timeout in (None, 5.0):
        backend = open_backend(1, timeout=timeout)
        assert isinstance(backend, LocalBackend)
        for trainings in (1, 1000):
            setup, program = TaskSetup.of(proxies.load("quadratic")), zoo.load("lion")
            assert backend.engine(setup, program, trainings) is Engine.BATCHED
        backend.close()


def test_a_search_continues_after_a_program_has_crashed_its_task_and_can_be_resumed(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "ATTEMPTS", 1)
    command_file = command_failure(folder, "exit-at-first-large-loss")
    config = make_config(
        {
            "tasks": [f"{folder}/task.py:task"],
            "init": str(zoo.load("adamw_paper")),
            "programs": 30,
            "population": 10,
            "in_flight": 4,
        }
    )
    run = search(config, tmp_path / "run", workers=1)
    assert run.status().stop_reason == "programs"
    store = Store.open(tmp_path / "run")
    (crashed,) = [row for row in store.select(MEASUREMENTS) if row.engine == "crashed"]
    store.close()
    assert crashed.loss is None
    assert crashed.score == -LARGEST_SCORE
    log = (tmp_path / "run" / "log.jsonl").read_text()
    assert "crashed: its process ended with exit status 3" in log
    assert not command_file.exists()
    assert resume(tmp_path / "run", programs=32, workers=1).status().generated == 32


def test_workers_end_with_the_process_that_started_them(folder: Path) -> None:
    command_file = command_failure(folder, "hang")
    code = (
        "import sys; sys.path[:] = sys.argv[2:]\n"
        "from pathlib import Path\n"
        "from tests.evosearch.test_processes import ProcessBackend, make_job\n"
        "backend = ProcessBackend(1)\n"
        "backend.submit(make_job(Path(sys.argv[1])))\n"
        "while not backend._workers: pass\n"
        "(worker,) = backend._workers\n"
        "print(worker._process.pid, flush=True)\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", code, str(folder), *sys.path], stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    worker_id = int(parent.stdout.readline())
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    command_file.unlink()
    deadline = time.monotonic() + 20
    while _is_alive(worker_id):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _is_alive(process_id: int) -> bool:
    """Whether a process exists and is not a zombie (state `Z`)."""
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    path = Path(f"/proc/{process_id}/stat")
    if not path.exists():  # not on Linux
        return True
    state = path.read_text().rpartition(")")[2].split()[0]
    return state != "Z"
