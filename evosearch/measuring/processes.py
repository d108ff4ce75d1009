"""The backend that trains in processes of their own: what crashes or hangs there ends one job.

Users' tasks are trained so, since their code can do anything: a segmentation fault, `os._exit`,
running out of memory, a loop without end. A process is started anew (never forked) with Python's
interpreter and this project, not with the caller's main module, so no script needs a guard. It
costs some seconds and memory for JAX, and compiles for itself what threads would share.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import suppress
from multiprocessing import Pipe
from typing import Any

from evosearch.measuring.contenders import Contender
from evosearch.measuring.engines import Trainers
from evosearch.measuring.job import Job, JobResult, TaskSetup, failed
from evosearch.measuring.measurement import Engine, Failure

TIMEOUT = 600.0
"""Seconds that a job of a user's task may take by default, compiling included."""
ATTEMPTS = 3
"""A job whose worker dies is tried again, at most so many times in all."""
_SECONDS_TO_START = 300.0
_SECONDS_TO_END = 10.0
"""A worker that has closed its connection is given so long to end."""
_COMMAND = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[2]); "
    "from evosearch.measuring.worker import main; main(int(sys.argv[1]))"
)


class _DeathError(Exception):
    """A worker process ended while it was at work; says how."""


class _Worker:
    """A process that trains one job at a time."""

    def __init__(self) -> None:
        self._connection, other = Pipe()
        paths = json.dumps([os.path.abspath(path) for path in sys.path])
        self._process = subprocess.Popen(
            [sys.executable, "-c", _COMMAND, str(other.fileno()), paths],
            stdin=subprocess.PIPE,  # closes when this process ends, which the worker watches
            stdout=sys.__stderr__,  # standard output is this process's alone
            pass_fds=[other.fileno()],
            env={**os.environ, "JAX_PLATFORMS": "cpu"},
            process_group=0,  # Ctrl-C is for this process
        )
        other.close()
        try:
            self._answer(_SECONDS_TO_START)
        except TimeoutError:
            self.end()
            text = f"did not start within {_SECONDS_TO_START:g} seconds"
            raise _DeathError(text) from None
        except _DeathError:
            self.end()
            raise

    def train(self, job: Job, timeout: float | None) -> JobResult:
        """Raises TimeoutError, _DeathError, or what the training raised."""
        with suppress(BrokenPipeError):  # `_answer` sees that it has ended
            self._connection.send(job)
        result: JobResult = self._answer(timeout)
        return result

    def end(self) -> None:
        """Ends it at once."""
        self._process.kill()
        self._process.wait()
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._connection.close()

    def _ending(self) -> str:
        """How the process ended, in words."""
        try:
            status = self._process.wait(_SECONDS_TO_END)
        except subprocess.TimeoutExpired:
            return "closed its connection"
        if status >= 0:
            return f"ended with exit status {status}"
        with suppress(ValueError):
            return f"was ended by signal {-status} ({signal.Signals(-status).name})"
        return f"was ended by signal {-status}"

    def _answer(self, timeout: float | None) -> Any:
        try:
            if not self._connection.poll(timeout):
                raise TimeoutError
            result, error = self._connection.recv()
        except (EOFError, ConnectionError):
            raise _DeathError(self._ending()) from None
        if error is not None:
            raise error
        return result


class ProcessBackend:
    """Runs jobs in worker processes on CPU; see `evosearch.measuring.job.Backend`.

    Args:
        workers: jobs at a time; None for one per core. Processes start when they are needed.
        timeout: seconds after which a job is given up; None for no limit.
    """

    def __init__(self, workers: int | None = None, *, timeout: float | None = TIMEOUT):
        self.capacity = workers or os.cpu_count() or 1
        self._timeout = timeout
        self._trainers = Trainers()  # which choose engines, and train nothing
        self._executor = ThreadPoolExecutor(self.capacity, thread_name_prefix="process")
        self._slots = threading.Semaphore(self.capacity)
        self._idle: list[_Worker] = []
        self._all: set[_Worker] = set()
        self._lock = threading.Lock()
        self._closed = False

    def engine(self, setup: TaskSetup, contender: Contender, runs: int) -> Engine:
        """The cheapest engine for about `runs` trainings with `contender`."""
        return self._trainers.of(setup).choose_engine(contender, runs)

    def prepare(self, setup: TaskSetup, contender: Contender, engine: Engine) -> None:
        """Nothing: a worker compiles what its first job needs."""

    def submit(self, job: Job) -> Future[JobResult]:
        """Runs `job` as soon as a worker is free, in the order of calls."""
        return self._executor.submit(self.train, job)

    def train(self, job: Job) -> JobResult:
        """Runs `job` once a worker is free, and waits."""
        with self._slots:
            return self._run(job)

    def close(self, *, wait: bool = True) -> None:
        """Gives up what has not begun, and, unless it shall `wait`, ends what has."""
        self._executor.shutdown(wait=wait, cancel_futures=True)
        with self._lock:
            self._closed = True
            workers, self._all = self._all, set()
            self._idle.clear()
        for worker in workers:
            worker.end()

    def _run(self, job: Job) -> JobResult:
        how = ""
        for _ in range(ATTEMPTS):
            try:
                worker = self._take()
            except _DeathError as death:
                how = f"{death}, before it trained"
                continue
            try:
                result = worker.train(job, self._timeout)
            except TimeoutError:
                self._drop(worker)
                reason = f"the training took more than {self._timeout:g} seconds"
                return failed(job, Failure.TIMEOUT, reason)
            except _DeathError as death:
                self._drop(worker)
                how = str(death)
            except BaseException:
                self._give_back(worker)
                raise
            else:
                self._give_back(worker)
                return result
        return failed(job, Failure.CRASHED, f"its process {how}, {ATTEMPTS} times")

    def _take(self) -> _Worker:
        with self._lock:
            if self._closed:
                raise CancelledError
            if self._idle:
                return self._idle.pop()
        worker = _Worker()
        with self._lock:
            if not self._closed:
                self._all.add(worker)
                return worker
        worker.end()
        raise CancelledError

    def _give_back(self, worker: _Worker) -> None:
        with self._lock:
            if not self._closed:
                self._idle.append(worker)

    def _drop(self, worker: _Worker) -> None:
        with self._lock:
            ours = worker in self._all
            self._all.discard(worker)
        if not ours:  # `close` ended it
            raise CancelledError
        worker.end()
