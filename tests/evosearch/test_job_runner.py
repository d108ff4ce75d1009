"""Tests that the job runner trains equal jobs once, reports failures and uses the ledger."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import CancelledError, Future
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import proxies
from evosearch.measuring.batching import Batching
from evosearch.measuring.job import Backend, Job, JobResult, TaskSetup, failed
from evosearch.measuring.job_runner import CURVE_POINTS, JobRunner, open_job_runner
from evosearch.measuring.ledger import Ledger
from evosearch.measuring.local import LocalBackend
from evosearch.measuring.measurement import Engine, Failure
from evosearch.measuring.processes import ProcessBackend
from evosearch.seeds import Conditions, Seed, Stream
from primitives import zoo

SETUP = TaskSetup.of(proxies.load("quadratic"))


def make_job(seed_number: int = 0, steps: int = 8) -> Job:
    seed = Seed(Stream.SEARCH, seed_number)
    return Job(SETUP, zoo.load("lion"), Engine.INTERPRETER, Conditions(steps), 0, seed)


class ManualBackend:
    """A backend whose submitted jobs end when the test sets the results of their futures."""

    capacity = 2

    def __init__(self) -> None:
        self.futures: list[Future[JobResult]] = []

    def engine(self, *args: object) -> Engine:
        return Engine.INTERPRETER

    def prepare(self, *args: object) -> None:
        pass

    def submit(self, job: Job) -> Future[JobResult]:
        future: Future[JobResult] = Future()
        self.futures.append(future)
        return future

    def train(self, job: Job) -> JobResult:
        return result_with(loss=0.25)

    def close(self, *, wait: bool = True) -> None:
        pass


def result_with(loss: float) -> JobResult:
    return JobResult(loss, 8, Engine.INTERPRETER, np.zeros(8, np.float32), False, np.zeros(0))


def test_submit_once_runs_equal_jobs_once() -> None:
    backend = ManualBackend()
    runner = JobRunner(backend)
    first, second = runner.submit_once(make_job()), runner.submit_once(make_job())
    assert len(backend.futures) == 1
    backend.futures[0].set_result(result_with(loss=0.5))
    third = runner.submit_once(make_job())
    assert first.result() is second.result() is third.result()
    runner.submit_once(make_job(seed_number=1))
    assert len(backend.futures) == 2


def test_run_trains_again_even_if_an_equal_job_has_been_run() -> None:
    backend = ManualBackend()
    runner = JobRunner(backend)
    future = runner.submit_once(make_job())
    backend.futures[0].set_result(result_with(loss=0.5))
    assert future.result().loss == 0.5
    assert runner.run(make_job()).loss == 0.25


@pytest.mark.parametrize("error", [MemoryError("out of memory"), CancelledError()])
def test_an_error_is_raised_in_all_waiting_callers_and_the_next_call_trains_again(
    error: BaseException,
) -> None:
    backend = ManualBackend()
    runner = JobRunner(backend)
    waiting = [runner.submit_once(make_job()), runner.submit_once(make_job())]
    backend.futures[0].set_exception(error)
    for future in waiting:
        with pytest.raises(type(error)):
            future.result()
    runner.submit_once(make_job())
    assert len(backend.futures) == 2


def test_a_failed_training_is_reported_and_not_stored_in_the_ledger(tmp_path: Path) -> None:
    backend, messages = ManualBackend(), list[str]()
    for _ in range(2):
        runner = JobRunner(backend, Ledger(tmp_path / "evaluations.db"), messages.append)
        future = runner.submit_once(make_job())
        result = failed(make_job(), Failure.TIMEOUT, "it took too long")
        backend.futures[-1].set_result(result)
        assert future.result().loss == np.inf
    assert len(backend.futures) == 2
    assert messages == ["quadratic on search seed 0 timeout: it took too long"] * 2


def test_trainings_in_the_ledger_are_not_repeated(tmp_path: Path) -> None:
    job = make_job(steps=SETUP.steps)
    backend = LocalBackend(1)
    runner = JobRunner(backend, Ledger(tmp_path / "evaluations.db"))
    trained = runner.submit_once(job).result()
    backend.close()
    unused_backend = ManualBackend()
    second_runner = JobRunner(unused_backend, Ledger(tmp_path / "evaluations.db"))
    stored = second_runner.submit_once(job).result()
    assert not unused_backend.futures
    assert (stored.loss, stored.steps) == (trained.loss, trained.steps)
    assert np.array_equal(stored.train_loss, trained.train_loss)
    assert trained.train_loss.shape == (CURVE_POINTS,)


def test_after_an_error_jobs_that_have_not_begun_are_cancelled() -> None:
    futures = []

    def submit_jobs_and_fail() -> None:
        with open_job_runner(1) as runner:
            jobs = [make_job(number, SETUP.steps) for number in range(500)]
            futures.extend(runner.submit_once(job) for job in jobs)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        submit_jobs_and_fail()
    errors = [future.exception() for future in futures]
    assert sum(isinstance(error, CancelledError) for error in errors) > 400


@pytest.fixture(scope="module", params=["threads", "batches", "processes"])
def backend(request: pytest.FixtureRequest) -> Iterator[Backend]:
    """A backend of each kind."""
    backends: dict[str, Backend] = {
        "threads": LocalBackend(2),
        "batches": LocalBackend(4, batching=Batching(4)),
        "processes": ProcessBackend(1),
    }
    yield backends[request.param]
    for each in backends.values():
        each.close()


def test_every_backend_gives_the_same_losses(backend: Backend) -> None:
    """Losses of threads and processes are exactly equal; a batch rounds differently."""
    engine = backend.engine(SETUP, zoo.load("lion"), trainings=1)
    tolerance = 1e-4 if engine is Engine.BATCHED else 0.0
    reference = LocalBackend(1)
    for seed_number in range(3):
        job = make_job(seed_number, steps=20)
        expected = reference.submit(job).result()
        result = backend.submit(replace(job, engine=engine)).result()
        assert result.loss == pytest.approx(expected.loss, rel=tolerance, abs=0)
        assert result.engine is engine
    reference.close()
