"""Where all jobs go: equal ones run once, and what the ledger holds is not trained again."""

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
"""The ledger keeps a training's curve at so many steps, evenly spaced."""


class JobRunner:
    """Runs jobs on a backend; safe to use from several threads.

    Args:
        backend: runs them.
        ledger: where results are kept and found again; None for nowhere. With one, curves are
            condensed to `CURVE_POINTS` points.
        told: told, in words, of a job that failed; from any thread.
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
        self._known: dict[Job, Future[JobResult]] = {}
        self._lock = threading.Lock()

    def run(self, job: Job) -> JobResult:
        """Runs a job that will not come again, and waits; nothing of it is kept."""
        return self._report_failure(job, self.backend.train(job))

    def submit_once(self, job: Job) -> Future[JobResult]:
        """Runs a job, or gives the result of an equal one that was run, or is running, before."""
        with self._lock:
            known = self._known.get(job)
            if known is not None:
                return known
            answer: Future[JobResult] = Future()
            self._known[job] = answer
        try:
            self._begin(job, answer)
        except BaseException as error:
            self._forget(job, answer, error)
        return answer

    def _begin(self, job: Job, answer: Future[JobResult]) -> None:
        key = ""
        if self.ledger is not None and job.output == "losses":
            key = _key(job)
            kept = self.ledger.get(key)
            if kept is not None:
                answer.set_result(kept)
                return

        def ended(done: Future[JobResult]) -> None:
            try:
                result = self._report_failure(job, done.result())
                answer.set_result(self._kept(job, key, result) if key else result)
            except BaseException as error:  # CancelledError is one
                self._forget(job, answer, error)

        self.backend.submit(job).add_done_callback(ended)

    def _forget(self, job: Job, answer: Future[JobResult], error: BaseException) -> None:
        """Passes `error` on to all who wait for the job; the next to ask tries again."""
        with self._lock:
            del self._known[job]
        answer.set_exception(error)

    def _kept(self, job: Job, key: str, result: JobResult) -> JobResult:
        steps = job.conditions.steps
        result = replace(
            result,
            train_loss=condensed(result.train_loss[:steps]),
            update_rms=condensed(result.update_rms[:steps]),
        )
        if result.failure is None and self.ledger is not None:
            self.ledger.put(key, _description(job), result)
        return result

    def _report_failure(self, job: Job, result: JobResult) -> JobResult:
        """`result`, of which it is told if the training failed."""
        if result.failure is not None:
            seed = f"{job.seed.stream} seed {job.seed.number}"
            self._notify(f"{job.setup.task} on {seed} {result.failure}: {result.reason}")
        return result


def _key(job: Job) -> str:
    """What the ledger knows the job by."""
    words = job.contender, job.factor, job.conditions, job.run_seed, *job.seed, job.engine
    return training_key(proxies.load(job.setup.task), *words)


def _description(job: Job) -> str:
    return f"{job.setup.task} {job.conditions} lr {job.factor:g} {job.seed}\n{job.contender}"


def condensed(losses: NDArray[np.float32]) -> NDArray[np.float32]:
    """Batch losses, or sizes of updates, smoothed, at `CURVE_POINTS` evenly spaced steps.

    Args:
        losses: `[steps]`, or `[0]`; NaN after a stop. The last step is among those kept.
    """
    if not len(losses):
        return losses
    places = np.linspace(0, len(losses) - 1, CURVE_POINTS).round().astype(int)
    points: NDArray[np.float32] = proxies.smoothed(losses)[places].astype(np.float32)
    return points


class _Routed:
    """Users' tasks in processes, all others on threads; what is not needed is never started.

    With a time limit given, all tasks are trained in processes, since a thread cannot be ended.
    """

    def __init__(self, workers: int | None, timeout: float | None):
        self._threads = LocalBackend(workers)
        self._processes = ProcessBackend(workers, timeout=timeout or TIMEOUT)
        self._all_in_processes = timeout is not None
        self.capacity = self._threads.capacity

    def engine(self, setup: TaskSetup, contender: Contender, runs: int) -> Engine:
        return self._of(setup).engine(setup, contender, runs)

    def prepare(self, setup: TaskSetup, contender: Contender, engine: Engine) -> None:
        self._of(setup).prepare(setup, contender, engine)

    def submit(self, job: Job) -> Future[JobResult]:
        return self._of(job.setup).submit(job)

    def train(self, job: Job) -> JobResult:
        return self._of(job.setup).train(job)

    def close(self, *, wait: bool = True) -> None:
        self._threads.close(wait=wait)
        self._processes.close(wait=wait)

    def _of(self, setup: TaskSetup) -> Backend:
        return self._processes if setup.files or self._all_in_processes else self._threads


def open_backend(
    workers: int | None = None,
    *,
    timeout: float | None = None,
    batching: Batching | None = None,
) -> Backend:
    """The backend of this machine.

    Args:
        workers: jobs at a time; None for one per core.
        timeout: seconds that a job may take; None for ten minutes for a user's task, and no limit
            for others.
        batching: how jobs of a task are trained side by side; all tasks are trained in this process
            then, without a time limit. So too on a GPU or TPU, which processes do not share.
    """
    if batching is not None or jax.default_backend() != "cpu":
        return LocalBackend(workers, batching=batching)
    return _Routed(workers, timeout)


@contextmanager
def open_job_runner(
    workers: int | None = None,
    ledger: Ledger | None = None,
    *,
    timeout: float | None = None,
    notify: Callable[[str], None] = lambda text: None,
) -> Iterator[JobRunner]:
    """A runner on a backend of its own, which ends with its work.

    After an error or Ctrl-C it ends at once: what has not begun is dropped, and a training that a
    thread has begun is not waited for, since it cannot be cut short.
    """
    backend = open_backend(workers, timeout=timeout)
    try:
        yield JobRunner(backend, ledger, notify)
    except BaseException:
        backend.close(wait=False)
        raise
    backend.close()
