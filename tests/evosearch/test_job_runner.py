"""The job runner trains equal jobs once, reports failures and reuses results of the ledger."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import CancelledError, Future
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


def job(number: int = 0, steps: int = 8) -> Job:
    seed = Seed(Stream.SEARCH, number)
    return Job(SETUP, zoo.load("lion"), Engine.INTERPRETER, Conditions(steps), 0, seed)


class ManualBackend:
    """A backend whose jobs end when the test sets their results."""

    capacity = 2

    def __init__(self) -> None:
        self.jobs: list[tuple[Job, Future[JobResult]]] = []

    def engine(self, *given: object) -> Engine:
        return Engine.INTERPRETER

    def prepare(self, *given: object) -> None:
        pass

    def submit(self, job: Job) -> Future[JobResult]:
        self.jobs.append((job, Future()))
        return self.jobs[-1][1]

    def train(self, job: Job) -> JobResult:
        return result(0.25)

    def close(self, *, wait: bool = True) -> None:
        pass


def result(loss: float = 0.5) -> JobResult:
    return JobResult(loss, 8, Engine.INTERPRETER, np.zeros(8, np.float32), False, np.zeros(0))


def test_equal_jobs_run_once_and_others_run_again() -> None:
    backend = ManualBackend()
    runner = JobRunner(backend)
    first, second = runner.submit_once(job()), runner.submit_once(job())
    assert len(backend.jobs) == 1
    backend.jobs[0][1].set_result(result())
    assert first.result() is second.result() is runner.submit_once(job()).result()
    runner.submit_once(job(1))
    assert len(backend.jobs) == 2
    assert runner.run(job()).loss == 0.25


@pytest.mark.parametrize("error", [MemoryError("out of memory"), CancelledError()])
def test_an_error_reaches_all_waiting_callers_and_the_next_call_tries_again(
    error: BaseException,
) -> None:
    backend = ManualBackend()
    runner = JobRunner(backend)
    waiting = [runner.submit_once(job()), runner.submit_once(job())]
    backend.jobs[0][1].set_exception(error)
    for future in waiting:
        with pytest.raises(type(error)):
            future.result()
    runner.submit_once(job())
    assert len(backend.jobs) == 2


def test_a_failed_training_is_reported_and_not_stored(tmp_path: Path) -> None:
    backend, messages = ManualBackend(), list[str]()
    for _ in range(2):
        runner = JobRunner(backend, Ledger(tmp_path / "evaluations.db"), messages.append)
        future = runner.submit_once(job())
        backend.jobs[-1][1].set_result(failed(job(), Failure.TIMEOUT, "it took too long"))
        assert future.result().loss == np.inf
    assert len(backend.jobs) == 2
    assert messages == ["quadratic on search seed 0 timeout: it took too long"] * 2


def test_trainings_in_the_ledger_are_not_repeated(tmp_path: Path) -> None:
    backend = LocalBackend(1)
    first = (
        JobRunner(backend, Ledger(tmp_path / "evaluations.db"))
        .submit_once(job(steps=SETUP.steps))
        .result()
    )
    idle = ManualBackend()
    again = (
        JobRunner(idle, Ledger(tmp_path / "evaluations.db"))
        .submit_once(job(steps=SETUP.steps))
        .result()
    )
    assert not idle.jobs
    assert (again.loss, again.steps) == (first.loss, first.steps)
    assert np.array_equal(again.train_loss, first.train_loss)
    assert first.train_loss.shape == (CURVE_POINTS,)
    backend.close()


def test_after_an_error_jobs_that_have_not_begun_are_cancelled() -> None:
    futures = []

    def fail() -> None:
        with open_job_runner(1) as runner:
            futures.extend(runner.submit_once(job(number, SETUP.steps)) for number in range(500))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    errors = [future.exception() for future in futures]
    assert sum(isinstance(error, CancelledError) for error in errors) > 400


@pytest.fixture(scope="module", params=["threads", "batches", "processes"])
def backend(request: pytest.FixtureRequest) -> Iterator[Backend]:
    made: dict[str, Backend] = {
        "threads": LocalBackend(2),
        "batches": LocalBackend(4, batching=Batching(4)),
        "processes": ProcessBackend(1),
    }
    yield made[request.param]
    for one in made.values():
        one.close()


def test_every_backend_gives_the_same_losses(backend: Backend) -> None:
    """Exactly the same in threads and processes; a batch rounds differently."""
    engine = backend.engine(SETUP, zoo.load("lion"), trainings=1)
    reference = LocalBackend(1)
    for number in range(3):
        seed = Seed(Stream.SEARCH, number)
        actual = backend.submit(
            Job(SETUP, zoo.load("lion"), engine, Conditions(20), 0, seed)
        ).result()
        expected = reference.submit(job(number, steps=20)).result()
        is_exact = engine is not Engine.BATCHED
        assert actual.loss == pytest.approx(expected.loss, rel=0 if is_exact else 1e-4, abs=0)
        assert actual.engine is engine
    reference.close()
