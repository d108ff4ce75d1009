"""The job runner, which trains equal jobs once and reuses results of the ledger."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import replace

import jax
import numpy as np
from numpy.typing import NDArray

import proxies
from evosearch.measuring.batching import Batching
from evosearch.measuring.contenders import Contender
from evosearch.measuring.job import Backend, Job, JobResult, TaskSetup
from evosearch.measuring.ledger import Ledger, training_key
from evosearch.measuring.local import LocalBackend
from evosearch.measuring.measurement import Engine
from evosearch.measuring.processes import TIMEOUT, ProcessBackend

CURVE_POINTS = 64
"""Number of evenly spaced steps at which the ledger keeps a training's curves."""


class JobRunner:
    """Runs jobs on a backend. Safe to use from several threads.

    Args:
        backend: the backend.
        ledger: stores results for reuse; None for no storage. With a ledger, `train_loss` and
            `update_rms` of results are condensed to `CURVE_POINTS` points.
        notify: called with a message when a job fails, from any thread.
    """

    def __init__(
        self,
        backend: Backend,
        ledger: Ledger | None = None,
        notify: Callable[[str], None] = lambda text: None,
    ):
        self.backend = backend
        self.ledger = ledger
        self._notify = notify
        self._futures: dict[Job, Future[JobResult]] = {}
        self._lock = threading.Lock()

    def run(self, job: Job) -> JobResult:
        """Run a job and wait; the result is neither cached nor stored in the ledger."""
        return self._report_failure(job, self.backend.train(job))

    def submit(self, job: Job) -> Future[JobResult]:
        """Queue a job; the result is neither cached nor stored, and failures are not reported."""
        return self.backend.submit(job)

    def submit_once(self, job: Job) -> Future[JobResult]:
        """Run a job unless an equal one has run or is running; return the future of its result."""
        with self._lock:
            existing = self._futures.get(job)
            if existing is not None:
                return existing
            future: Future[JobResult] = Future()
            self._futures[job] = future
        try:
            self._begin(job, future)
        except BaseException as error:
            self._fail(job, future, error)
        return future

    def _begin(self, job: Job, future: Future[JobResult]) -> None:
        """Set the future's result from the ledger, or submit the job to the backend."""
        key = ""
        if self.ledger is not None and job.output == "losses":
            key = _key(job)
            stored = self.ledger.get(key)
            if stored is not None:
                future.set_result(stored)
                return

        def finish(done: Future[JobResult]) -> None:
            try:
                result = self._report_failure(job, done.result())
                future.set_result(self._store(job, key, result) if key else result)
            except BaseException as error:  # includes CancelledError
                self._fail(job, future, error)

        self.backend.submit(job).add_done_callback(finish)

    def _fail(self, job: Job, future: Future[JobResult], error: BaseException) -> None:
        """Set `error` as the future's exception; `submit_once` of an equal job runs it again."""
        with self._lock:
            del self._futures[job]
        future.set_exception(error)

    def _store(self, job: Job, key: str, result: JobResult) -> JobResult:
        """Condense the curves of a result, store it in the ledger and return it."""
        steps = job.conditions.steps
        result = replace(
            result,
            train_loss=condense(result.train_loss[:steps]),
            update_rms=condense(result.update_rms[:steps]),
        )
        if result.failure is None and self.ledger is not None:
            self.ledger.put(key, _description(job), result)
        return result

    def _report_failure(self, job: Job, result: JobResult) -> JobResult:
        """Call `notify` if the training failed; return `result`."""
        if result.failure is not None:
            seed = f"{job.seed.stream} seed {job.seed.number}"
            self._notify(f"{job.setup.task} on {seed} {result.failure}: {result.reason}")
        return result


def _key(job: Job) -> str:
    """Return the key of the job in the ledger."""
    return training_key(
        proxies.load(job.setup.task),
        job.contender,
        job.learning_rate_factor,
        job.conditions,
        job.run_seed,
        *job.seed,
        job.engine,
    )


def _description(job: Job) -> str:
    learning_rate = f"lr {job.learning_rate_factor:g}"
    return f"{job.setup.task} {job.conditions} {learning_rate} {job.seed}\n{job.contender}"


def condense(curve: NDArray[np.float32]) -> NDArray[np.float32]:
    """Smooth a curve and return it at `CURVE_POINTS` evenly spaced steps, the last included.

    Args:
        curve: `[steps]` batch losses or root mean squares of updates, NaN after the training
            stopped; or an empty array.
    """
    if not len(curve):
        return curve
    indices = np.linspace(0, len(curve) - 1, CURVE_POINTS).round().astype(int)
    points: NDArray[np.float32] = proxies.smoothed(curve)[indices].astype(np.float32)
    return points


ACCELERATOR_LANES = 64
"""Number of lanes per task on a GPU or TPU, for evaluations and searches without `batch`.

An evaluation of one program has about this many trainings at a time.
"""


class _CpuBackend:
    """Trains user tasks in worker processes and bundled tasks on threads.

    With a time limit, all tasks are trained in processes, since a thread cannot be ended. Threads
    and processes are started when they are needed.
    """

    def __init__(self, workers: int | None, timeout: float | None):
        self._threads = LocalBackend(workers)
        self._processes = ProcessBackend(workers, timeout=timeout or TIMEOUT)
        self._has_time_limit = timeout is not None
        self.capacity = self._threads.capacity

    def engine(self, setup: TaskSetup, contender: Contender, trainings: int) -> Engine:
        return self._backend_for(setup).engine(setup, contender, trainings)

    def prepare(self, setup: TaskSetup, contender: Contender, engine: Engine) -> None:
        self._backend_for(setup).prepare(setup, contender, engine)

    def submit(self, job: Job) -> Future[JobResult]:
        return self._backend_for(job.setup).submit(job)

    def train(self, job: Job) -> JobResult:
        return self._backend_for(job.setup).train(job)

    def close(self, *, wait: bool = True) -> None:
        self._threads.close(wait=wait)
        self._processes.close(wait=wait)

    def _backend_for(self, setup: TaskSetup) -> Backend:
        return self._processes if setup.files or self._has_time_limit else self._threads


def open_backend(
    workers: int | None = None,
    *,
    timeout: float | None = None,
    batching: Batching | None = None,
) -> Backend:
    """Open the backend for this machine.

    On a GPU or TPU, which processes cannot share, all tasks are trained in this process without a
    time limit, and programs in batches. With batches on a CPU, too, all tasks are trained in this
    process without a time limit.

    Args:
        workers: maximum number of jobs at a time; None for one per core.
        timeout: time limit of a job in seconds; None for ten minutes for user tasks and no limit
            for bundled ones.
        batching: settings of batches; None for one training at a time in each worker, or for
            batches of `ACCELERATOR_LANES` lanes on a GPU or TPU.
    """
    if batching is None and jax.default_backend() == "cpu":
        return _CpuBackend(workers, timeout)
    return LocalBackend(workers, batching=batching or Batching(ACCELERATOR_LANES))


@contextmanager
def open_job_runner(
    workers: int | None = None,
    ledger: Ledger | None = None,
    *,
    timeout: float | None = None,
    notify: Callable[[str], None] = lambda text: None,
) -> Iterator[JobRunner]:
    """Open a job runner with its own backend, and close the backend at the end of the block.

    After an error or Ctrl-C, jobs that have not begun are cancelled, and those that run on threads
    are not waited for.
    """
    backend = open_backend(workers, timeout=timeout)
    try:
        yield JobRunner(backend, ledger, notify)
    except BaseException:
        backend.close(wait=False)
        raise
    backend.close()
