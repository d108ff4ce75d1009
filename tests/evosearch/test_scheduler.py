"""The scheduler of batches: which batch advances next, and what happens when it is closed."""

from __future__ import annotations

import threading
from collections import deque

import pytest

from evosearch.measuring.scheduler import Scheduler

PROMPTLY = 10.0
"""Seconds within which the scheduler's thread does what a test waits for."""


class Batch:
    """A batch that advances when the test allows it, and then has the next number of trainings.

    Attributes:
        trainings: number of trainings, out of ten lanes, for each further advance.
    """

    def __init__(self, name: str, trainings: list[int], log: list[str]):
        self.trainings = deque(trainings)
        self.is_cancelled = threading.Event()
        self.is_empty = threading.Event()
        self._name = name
        self._log = log

    @property
    def fill(self) -> float:
        return min(1.0, self.trainings[0] / 10) if self.trainings else 0.0

    def start(self) -> bool:
        self._log.append(f"start {self._name}")
        return True

    def collect(self) -> None:
        self._log.append(f"collect {self._name}")
        self.trainings.popleft()
        if not self.trainings:
            self.is_empty.set()

    def cancel(self) -> None:
        self.is_cancelled.set()


def run(trainings: dict[str, list[int]]) -> list[str]:
    """Advance batches until all are empty; return the starts and collections in order."""
    scheduler, log = Scheduler(), list[str]()
    batches = [Batch(name, numbers, log) for name, numbers in trainings.items()]
    for batch in batches:
        scheduler.add(batch)
    scheduler.wake()
    assert all(batch.is_empty.wait(PROMPTLY) for batch in batches)
    scheduler.close()
    return log


def starts(log: list[str]) -> str:
    """Return the names of the started batches in order."""
    return "".join(line.removeprefix("start ") for line in log if line.startswith("start "))


def test_full_batches_take_turns_and_the_next_starts_before_the_last_is_collected() -> None:
    log = run({"a": [10, 10], "b": [9, 9], "c": [20, 10]})
    assert starts(log) == "abcabc"
    assert log[:4] == ["start a", "start b", "start c", "collect a"]


def test_a_batch_that_is_not_full_waits_while_a_full_one_runs() -> None:
    log = run({"sparse": [5], "full": [10, 10, 10]})
    assert log[-2:] == ["start sparse", "collect sparse"]


def test_if_no_batch_is_full_the_fullest_starts_alone() -> None:
    log = run({"a": [3], "b": [7, 2], "c": [5]})
    assert starts(log) == "bcab"
    assert log[0::2] == [line.replace("collect", "start") for line in log[1::2]]


def test_a_batch_that_fails_to_start_is_not_collected() -> None:
    scheduler, log = Scheduler(), list[str]()
    batch = Batch("a", [10], log)

    def fails() -> bool:
        batch.trainings.clear()
        batch.is_empty.set()
        return False

    batch.start = fails  # type: ignore[method-assign]
    scheduler.add(batch)
    scheduler.wake()
    assert batch.is_empty.wait(PROMPTLY)
    scheduler.close()
    assert log == []


@pytest.mark.parametrize("trainings", [[], [10] * 10**6])
def test_closing_gives_up_all_trainings(trainings: list[int]) -> None:
    scheduler = Scheduler()
    batch = Batch("a", trainings, [])
    scheduler.add(batch)
    scheduler.wake()
    scheduler.close()
    assert batch.is_cancelled.wait(PROMPTLY)


def test_work_that_comes_after_the_thread_has_ended_starts_a_new_thread(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("evosearch.measuring.scheduler._IDLE_SECONDS", 0.01)
    scheduler = Scheduler()
    batch = Batch("a", [10], [])
    scheduler.add(batch)
    for _ in range(3):
        batch.trainings = deque([10])
        batch.is_empty.clear()
        scheduler.wake()
        assert batch.is_empty.wait(PROMPTLY)
        thread = scheduler._thread
        if thread is not None:
            thread.join(PROMPTLY)
        assert scheduler._thread is None
    scheduler.close()
