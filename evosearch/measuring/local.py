"""The default backend, which trains on threads of this process.

JAX releases Python's global interpreter lock (GIL) while a compiled training runs. So threads
keep all cores busy, and share the interpreter, which is compiled once per task.
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
        workers: maximum number of jobs that threads run at a time; None for one per core.
        batching: settings of batches; None for one training on each thread. Any number of jobs can
            be in batches.
    """

    def __init__(self, workers: int | None = None, *, batching: Batching | None = None):
        self.capacity = workers or os.cpu_count() or 1
        self._trainers = Trainers(batching)
        self._scheduler = None if batching is None else batching.scheduler
        self._executor = ThreadPoolExecutor(self.capacity, thread_name_prefix="training")
        self._slots = threading.Semaphore(self.capacity)
        self._closed = False

    def engine(self, setup: TaskSetup, contender: Contender, trainings: int) -> Engine:
        """Return the cheapest engine for about `trainings` trainings with `contender`."""
        return self._trainers.of(setup).choose_engine(contender, trainings)

    def prepare(self, setup: TaskSetup, contender: Contender, engine: Engine) -> None:
        """Compile for later jobs with these arguments, on the calling thread."""
        self._trainers.of(setup).prepare(contender, engine)

    def submit(self, job: Job) -> Future[JobResult]:
        """Queue `job` in a batch, or for the threads, which run jobs in the order of submission."""
        if job.engine is Engine.BATCHED and job.output == "losses":
            if self._closed:
                raise CancelledError
            return self._trainers.of(job.setup).submit(job)
        return self._executor.submit(self.train, job)

    def train(self, job: Job) -> JobResult:
        """Run `job` on the calling thread, as soon as fewer than `capacity` jobs are running."""
        with self._slots:
            if self._closed:
                raise CancelledError
            return self._trainers.of(job.setup).train(job)

    def close(self, *, wait: bool = True) -> None:
        """Cancel jobs that have not begun; a running training cannot be ended."""
        self._closed = True
        if self._scheduler is not None:
            self._scheduler.close(wait=wait)
        self._executor.shutdown(wait=wait, cancel_futures=True)
