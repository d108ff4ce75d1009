"""The backend that trains in worker processes, where a crash or endless loop costs one job only.

User tasks are trained here, since the code of a user task can do anything: cause a segmentation
fault, call `os._exit`, exhaust the memory or loop forever. A worker is a new Python interpreter
(never a fork) that does not import the caller's main module, so scripts need no
`if __name__ == "__main__"`. A worker takes some seconds and memory to
start JAX, and compiles separately from other workers.
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
"""Default time limit of a job of a user task, in seconds, compilation included."""
ATTEMPTS = 3
"""Maximum number of attempts at a job whose worker dies."""
_SECONDS_TO_START = 300.0
_SECONDS_TO_END = 10.0
"""Seconds to wait for the end of a worker that has closed its connection."""
_COMMAND = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[2]); "
    "from evosearch.measuring.worker import main; main(int(sys.argv[1]))"
)


class _WorkerDiedError(Exception):
    """A worker process ended unexpectedly; the message says how the process ended."""


class _Worker:
    """A process that trains one job at a time."""

    def __init__(self) -> None:
        self._connection, worker_connection = Pipe()
        paths = json.dumps([os.path.abspath(path) for path in sys.path])
        self._process = subprocess.Popen(
            [sys.executable, "-c", _COMMAND, str(worker_connection.fileno()), paths],
            stdin=subprocess.PIPE,  # closes when this process ends; the worker then ends too
            stdout=sys.__stderr__,  # keeps output of user tasks off standard output
            pass_fds=[worker_connection.fileno()],
            env={**os.environ, "JAX_PLATFORMS": "cpu"},
            process_group=0,  # so that Ctrl-C does not reach the worker
        )
        worker_connection.close()
        try:
            self._receive(_SECONDS_TO_START)
        except TimeoutError:
            self.end()
            message = f"did not start within {_SECONDS_TO_START:g} seconds"
            raise _WorkerDiedError(message) from None
        except _WorkerDiedError:
            self.end()
            raise

    def train(self, job: Job, timeout: float | None) -> JobResult:
        """Send a job to the worker and wait for its result.

        Raises:
            TimeoutError: there is no result after `timeout` seconds.
            _WorkerDiedError: the worker ended.
            Exception: an exception of the training.
        """
        with suppress(BrokenPipeError):  # `_receive` raises the error
            self._connection.send(job)
        result: JobResult = self._receive(timeout)
        return result

    def end(self) -> None:
        """Kill the process."""
        self._process.kill()
        self._process.wait()
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._connection.close()

    def _describe_end(self) -> str:
        """Return a phrase that says how the process ended."""
        try:
            status = self._process.wait(_SECONDS_TO_END)
        except subprocess.TimeoutExpired:
            return "closed its connection"
        if status >= 0:
            return f"ended with exit status {status}"
        with suppress(ValueError):
            return f"was ended by signal {-status} ({signal.Signals(-status).name})"
        return f"was ended by signal {-status}"

    def _receive(self, timeout: float | None) -> Any:
        try:
            if not self._connection.poll(timeout):
                raise TimeoutError
            result, error = self._connection.recv()
        except (EOFError, ConnectionError):
            raise _WorkerDiedError(self._describe_end()) from None
        if error is not None:
            raise error
        return result


class ProcessBackend:
    """Runs jobs in worker processes on CPU; see `evosearch.measuring.job.Backend`.

    Args:
        workers: maximum number of jobs at a time; None for one per core. A process is started
            when no other worker is idle.
        timeout: time limit of a job in seconds; None for no limit.
    """

    def __init__(self, workers: int | None = None, *, timeout: float | None = TIMEOUT):
        self.capacity = workers or os.cpu_count() or 1
        self._timeout = timeout
        self._trainers = Trainers()  # only used to choose engines
        self._executor = ThreadPoolExecutor(self.capacity, thread_name_prefix="process")
        self._slots = threading.Semaphore(self.capacity)
        self._idle: list[_Worker] = []
        self._workers: set[_Worker] = set()
        self._lock = threading.Lock()
        self._closed = False

    def engine(self, setup: TaskSetup, contender: Contender, trainings: int) -> Engine:
        """Return the cheapest engine for about `trainings` trainings with `contender`."""
        return self._trainers.of(setup).choose_engine(contender, trainings)

    def prepare(self, setup: TaskSetup, contender: Contender, engine: Engine) -> None:
        """Do nothing; a worker compiles when it runs its first job."""

    def submit(self, job: Job) -> Future[JobResult]:
        """Queue `job`; workers run jobs in the order of submission."""
        return self._executor.submit(self.train, job)

    def train(self, job: Job) -> JobResult:
        """Run `job` as soon as a worker is free, and wait for its result."""
        with self._slots:
            return self._run(job)

    def close(self, *, wait: bool = True) -> None:
        """Cancel jobs that have not begun; if `wait`, wait for running jobs, else kill them."""
        self._executor.shutdown(wait=wait, cancel_futures=True)
        with self._lock:
            self._closed = True
            workers, self._workers = self._workers, set()
            self._idle.clear()
        for worker in workers:
            worker.end()

    def _run(self, job: Job) -> JobResult:
        cause = ""
        for _ in range(ATTEMPTS):
            try:
                worker = self._acquire()
            except _WorkerDiedError as error:
                cause = f"{error}, before it trained"
                continue
            try:
                result = worker.train(job, self._timeout)
            except TimeoutError:
                self._discard(worker)
                reason = f"the training took more than {self._timeout:g} seconds"
                return failed(job, Failure.TIMEOUT, reason)
            except _WorkerDiedError as error:
                self._discard(worker)
                cause = str(error)
            except BaseException:
                self._release(worker)
                raise
            else:
                self._release(worker)
                return result
        return failed(job, Failure.CRASHED, f"its process {cause}, {ATTEMPTS} times")

    def _acquire(self) -> _Worker:
        """Return an idle worker, or start one."""
        with self._lock:
            if self._closed:
                raise CancelledError
            if self._idle:
                return self._idle.pop()
        worker = _Worker()
        with self._lock:
            if not self._closed:
                self._workers.add(worker)
                return worker
        worker.end()
        raise CancelledError

    def _release(self, worker: _Worker) -> None:
        with self._lock:
            if not self._closed:
                self._idle.append(worker)

    def _discard(self, worker: _Worker) -> None:
        with self._lock:
            is_open = worker in self._workers
            self._workers.discard(worker)
        if not is_open:  # `close` has ended the worker
            raise CancelledError
        worker.end()
