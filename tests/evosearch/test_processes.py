"""Jobs in worker processes: a crash or hang ends one job and never a search."""

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
from primitives import zoo

TASK = '''
import ctypes, dataclasses, os, pathlib, signal, time
import jax, jax.numpy as jnp
import proxies

BOWL = proxies.load("quadratic")
FOLDER = pathlib.Path(__file__).parent

def host(x):
    """Does what the name of a file in this folder says; the first use deletes a `once` file."""
    for flag in FOLDER.glob("do-*"):
        what = flag.name.removeprefix("do-")
        if what.startswith("once-"):
            flag.unlink()
            what = what.removeprefix("once-")
        if what == "raise":
            raise ValueError("no picture 7")
        if what == "exit":
            os._exit(3)
        if what == "segfault":
            ctypes.string_at(0)
        if what == "memory":  # as the kernel kills a process that exhausts the memory
            os.kill(os.getpid(), signal.SIGKILL)
        if what == "hang":
            time.sleep(1000)
        if what == "exit-once-large" and not float(x) < 1e3:
            flag.unlink()
            os._exit(3)
    return x

def loss(params, batch, key):
    found = BOWL.loss(params, batch, key)
    seen = jax.pure_callback(
        host, jax.ShapeDtypeStruct((), jnp.float32), jax.lax.stop_gradient(found),
        vmap_method="sequential")
    return found + 0 * seen

def task():
    return dataclasses.replace(BOWL, split="search", steps=8, loss=loss)
'''
SEED = Seed(Stream.SEARCH, 0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the task; shared, so that a worker process serves several tests."""
    made = tmp_path_factory.mktemp("task")
    (made / "task.py").write_text(TASK)
    return made


@pytest.fixture(scope="module")
def backend() -> Iterator[ProcessBackend]:
    made = ProcessBackend(1, timeout=30)
    yield made
    made.close()


def job(folder: Path, program: str = "lion", **others: Any) -> Job:
    setup = TaskSetup.of(proxies.load(f"{folder}/task.py:task"))
    engine = others.pop("engine", Engine.INTERPRETER)
    return Job(setup, find(program), engine, Conditions(8), 0, SEED, **others)


def instruct(folder: Path, what: str) -> Path:
    """Make the task do `what` from its next step on; return the file that says so."""
    flag = folder / f"do-{what}"
    flag.touch()
    return flag


def are_equal(first: JobResult, second: JobResult) -> bool:
    return (
        (first.loss, first.steps, first.engine, first.stopped)
        == (second.loss, second.steps, second.engine, second.stopped)
    ) and np.array_equal(first.train_loss, second.train_loss, equal_nan=True)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"program": "optax:muon", "engine": Engine.COMPILED},
        {"limits": np.full(8, 1e-9, np.float32).tobytes()},
    ],
    ids=["a program", "an optimizer of optax", "with limits"],
)
def test_a_process_trains_as_a_thread_does_to_the_bit(
    folder: Path, backend: ProcessBackend, options: dict[str, Any]
) -> None:
    threads = LocalBackend(1)
    training = job(folder, **options)
    assert are_equal(backend.submit(training).result(), threads.submit(training).result())
    threads.close()


@pytest.mark.parametrize("what", ["segfault", "memory"])
def test_a_job_whose_worker_dies_is_tried_again(
    folder: Path, backend: ProcessBackend, what: str
) -> None:
    expected = backend.submit(job(folder)).result()
    instruct(folder, f"once-{what}")
    assert are_equal(backend.submit(job(folder)).result(), expected)
    assert not list(folder.glob("do-*"))


def test_three_deaths_by_one_job_are_a_recorded_crash(
    folder: Path, backend: ProcessBackend
) -> None:
    flag = instruct(folder, "exit")
    messages: list[str] = []
    result = JobRunner(backend, notify=messages.append).run(job(folder))
    flag.unlink()
    assert result.failure is Failure.CRASHED
    assert result.loss == np.inf
    assert result.reason == "its process ended with exit status 3, 3 times"
    assert messages == [f"{folder}/task.py:task on search seed 0 crashed: {result.reason}"]
    assert backend.submit(job(folder)).result().failure is None


def test_a_worker_that_cannot_start_is_a_crash_with_its_reason(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "_COMMAND", "raise SystemExit(4)")
    backend = ProcessBackend(1)
    result = backend.train(job(folder))
    assert result.failure is Failure.CRASHED
    assert result.reason == "its process ended with exit status 4, before it trained, 3 times"
    backend.close()


def test_a_job_that_takes_too_long_is_a_timeout_and_its_process_is_ended(folder: Path) -> None:
    backend = ProcessBackend(1, timeout=30)
    assert backend.submit(job(folder)).result().failure is None
    backend._timeout = 0.5
    (worker,) = backend._workers
    flag = instruct(folder, "hang")
    result = backend.submit(job(folder)).result()
    flag.unlink()
    assert result.failure is Failure.TIMEOUT
    assert result.reason == "the training took more than 0.5 seconds"
    assert worker._process.poll() is not None
    backend.close()


def test_an_exception_names_task_program_and_seed(folder: Path, backend: ProcessBackend) -> None:
    flag = instruct(folder, "raise")
    with pytest.raises(TrainingError) as caught:
        backend.submit(job(folder)).result()
    flag.unlink()
    assert str(caught.value).startswith(
        f"task '{folder}/task.py:task' fails in a training with lion on search seed 0: "
        "ValueError: no picture 7 (line "
    )
    assert backend.submit(job(folder)).result().failure is None  # the are_equal process goes on


def test_a_file_that_changed_since_the_task_was_loaded_is_not_executed(tmp_path: Path) -> None:
    (tmp_path / "task.py").write_text(TASK)
    changed = job(tmp_path)
    (tmp_path / "task.py").write_text(f"open({str(tmp_path / 'executed')!r}, 'w')\n{TASK}")
    backend = ProcessBackend(1)
    with pytest.raises((EvosearchError, proxies.UserTaskError), match="changed"):
        backend.submit(changed).result()
    backend.close()
    assert not (tmp_path / "executed").exists()


def test_users_tasks_go_to_processes_and_others_to_threads(folder: Path) -> None:
    unlimited = open_backend(1)
    users_task = job(folder).setup
    assert isinstance(unlimited._backend_for(users_task), ProcessBackend)  # type: ignore[attr-defined]
    bundled = TaskSetup.of(proxies.load("quadratic"))
    assert isinstance(unlimited._backend_for(bundled), LocalBackend)  # type: ignore[attr-defined]
    limited = open_backend(1, timeout=5)
    assert isinstance(limited._backend_for(bundled), ProcessBackend)  # type: ignore[attr-defined]
    for backend in (unlimited, limited):
        backend.close()


def test_on_an_accelerator_all_tasks_are_trained_in_this_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A worker process would train on the CPU."""
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    for timeout in (None, 5.0):
        backend = open_backend(1, timeout=timeout)
        assert isinstance(backend, LocalBackend)
        backend.close()


def test_a_search_goes_on_when_programs_crash_its_task_and_replays(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "ATTEMPTS", 1)
    flag = instruct(folder, "exit-once-large")
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
    crashed = [row for row in store.select(MEASUREMENTS) if row.engine == "crashed"]
    store.close()
    assert len(crashed) == 1
    assert crashed[0].loss is None
    assert crashed[0].score < -1.38
    log = (tmp_path / "run" / "log.jsonl").read_text()
    assert "crashed: its process ended with exit status 3" in log
    assert not flag.exists()
    assert resume(tmp_path / "run", programs=32, workers=1).status().generated == 32


def test_workers_end_with_the_process_that_started_them(folder: Path) -> None:
    instruct(folder, "hang")
    code = (
        "import sys; sys.path[:] = sys.argv[2:]\n"
        "from pathlib import Path\n"
        "from tests.evosearch.test_processes import ProcessBackend, job\n"
        "backend = ProcessBackend(1)\n"
        "backend.submit(job(Path(sys.argv[1])))\n"
        "while not backend._workers: pass\n"
        "(worker,) = backend._workers\n"
        "print(worker._process.pid, flush=True)\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", code, str(folder), *sys.path], stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    worker = int(parent.stdout.readline())
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    (folder / "do-hang").unlink()
    deadline = time.monotonic() + 20
    while _is_alive(worker):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    state = Path(f"/proc/{process}/stat")
    return not state.exists() or state.read_text().rpartition(")")[2].split()[0] != "Z"
