"""The backend that trains on threads of this process: the default.

JAX releases Python's lock while a compiled training runs, so threads keep all cores busy and share
one compiled machine per task.
"""

from __future__ import annotations

import os
import threading
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor

from evosearch.measuring.batching import Batching
from evosearch.measuring.contenders import Contender
from evosearch.measuring.engines import Trainers
from evosearch.measuring.job import Job, JobResult, TaskSetup
from evosearch.measuring.measurement import Engine


class LocalBackend:
    """Runs jobs on threads; see `evosearch.measuring.job.Backend`.

    Args:
        workers: jobs at a time; None for one per core.
        batching: how jobs of a task are trained side by side; None for one on each thread. In a
            batch, a job's thread only waits.
    """

    def __init__(self, workers: int | None = None, *, batching: Batching | None = None):
        self.capacity = workers or os.cpu_count() or 1
        self._trainers = Trainers(batching)
        self._executor = ThreadPoolExecutor(self.capacity, thread_name_prefix="training")
        self._slots = threading.Semaphore(self.capacity)
        self._closed = False

    def engine(self, setup: TaskSetup, contender: Contender, runs: int) -> Engine:
        """The cheapest engine for about `runs` trainings with `contender`."""
        return self._trainers.of(setup).choose_engine(contender, runs)

    def prepare(self, setup: TaskSetup, contender: Contender, engine: Engine) -> None:
        """Compiles what such jobs will need, on the calling thread."""
        self._trainers.of(setup).prepare(contender, engine)

    def submit(self, job: Job) -> Future[JobResult]:
        """Runs `job` as soon as a thread is free, in the order of calls."""
        return self._executor.submit(self.train, job)

    def train(self, job: Job) -> JobResult:
        """Runs `job` on the calling thread, once fewer jobs run than may at a time."""
        with self._slots:
            if self._closed:
                raise CancelledError
            return self._trainers.of(job.setup).train(job)

    def close(self, *, wait: bool = True) -> None:
        """Gives up what has not begun; a training that has cannot be cut short."""
        self._closed = True
        self._executor.shutdown(wait=wait, cancel_futures=True)
