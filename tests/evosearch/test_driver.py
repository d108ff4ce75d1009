"""Tests of the benchmark of a search's driver, in which a fake device replaces the trainings."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import proxies
from evosearch.benchmarking.benchmark import quick
from evosearch.benchmarking.driver import measure_driver
from evosearch.benchmarking.fake_device import FakeDevice
from evosearch.benchmarking.plan import mutants
from evosearch.config import make_config
from evosearch.pipeline.observers import Observer, Snapshot
from evosearch.pipeline.search import Search
from evosearch.report.benchmark import batches_report
from evosearch.report.terminal import plain_text
from evosearch.runs.directory import make_run_directory
from evosearch.runs.rows import MEASUREMENTS, PROGRAMS
from evosearch.runs.store import Store
from primitives import encode, interpreter, zoo
from proxies.training.lanes import Entry, Lanes
from proxies.training.loop import Loop, StepSchedule, TrainingResult

OPS = zoo.load("adamw_paper").ops
STEPS = 40


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    """The document of a benchmark with 16 lanes and half a second for each search."""
    return measure_driver(lanes=16, seconds=0.5, step_seconds=0.002)


def entry(number: int, limit: float = np.inf) -> Entry:
    """Return a training of mutant `number`."""
    rates = proxies.relative_rates("cosine", STEPS, STEPS)
    schedule = StepSchedule.plain(rates, STEPS)._replace(limits=np.full(STEPS, limit, np.float32))
    program = mutants(number + 1, OPS)[number]
    return Entry(np.array([0, 7], np.uint32), schedule, (encode(program, OPS), np.float32(1)))


def fake_lanes(device: FakeDevice, task: str = "digits-mlp") -> Lanes:
    """Return 16 lanes of a fake device."""
    loop = Loop(proxies.load(task), interpreter(OPS))
    return device.lanes(loop, None, entry(0), 16, [None], STEPS)


def train(lanes: Lanes, numbers: list[int], limit: float = np.inf) -> list[TrainingResult]:
    """Train the mutants with these numbers in the first lanes, and return their results."""
    for lane, number in enumerate(numbers):
        lanes.load([lane], [entry(number, limit)])
    lanes.advance()
    lanes.ended()
    return [result for lane in range(len(numbers)) for result in lanes.finish([lane])]


def test_on_an_instant_device_the_figures_are_the_speed_of_the_driver(
    document: dict[str, Any],
) -> None:
    instant = document["instant"]
    assert instant["generated_per_second"] > 20
    assert instant["measured_per_second"] > 5
    assert 0 < instant["main_thread_us"] < instant["driver_us"]
    json.dumps(document, allow_nan=False)


def test_a_slow_device_limits_the_search_and_shows_how_full_its_lanes_are(
    document: dict[str, Any],
) -> None:
    instant, slow = document["instant"], document["slow"]
    assert slow["measured_per_second"] < instant["measured_per_second"]
    assert instant["lanes_filled"] is None
    assert 0 < slow["lanes_filled"] <= 1


class InterruptingObserver(Observer):
    """Interrupts a search after 60 programs."""

    def __init__(self) -> None:
        self.interrupt: Callable[[], None] = lambda: None

    def update(self, snapshot: Snapshot) -> None:
        if snapshot.counts.generated >= 60:
            self.interrupt()


def test_neither_the_speed_of_the_device_nor_an_interruption_changes_a_search(
    tmp_path: Path,
) -> None:
    """The number of requests in flight grows from 20, the size of the population."""
    settings: dict[str, Any] = quick().model_dump() | {"batch": 16, "population": 20}
    settings |= {"validation_seeds": 0, "tune_first": 0, "programs": 300}
    settings["mutation"]["op_set"] = "paper"
    config = make_config(settings)
    assert config.max_in_flight(200) > config.population

    def search(name: str, device: FakeDevice, observer: Observer | None = None) -> Search:
        return Search(tmp_path / name, config, make_lanes=device.lanes, observer=observer)

    for name in ("instant", "slow", "interrupted"):
        make_run_directory(tmp_path / name, config, {})
    assert search("instant", FakeDevice()).run() == "programs"
    assert search("slow", FakeDevice(step_seconds=0.0002)).run() == "programs"
    observer = InterruptingObserver()
    interrupted = search("interrupted", FakeDevice(step_seconds=0.0002), observer)
    observer.interrupt = interrupted.interrupt
    assert interrupted.run() == "interrupted"
    assert search("interrupted", FakeDevice()).run() == "programs"
    records = []
    for name in ("instant", "slow", "interrupted"):
        store = Store.open(tmp_path / name)
        records.append((store.select(MEASUREMENTS, "order by request"), store.select(PROGRAMS)))
        store.close()
    assert records[0] == records[1] == records[2]
    assert len(records[0][0]) > 150


def test_a_loss_on_the_fake_device_depends_on_program_and_task_but_not_on_the_lane() -> None:
    results = train(fake_lanes(FakeDevice()), [0, 1, 2, 3])
    reversed_results = train(fake_lanes(FakeDevice()), [3, 2, 1, 0])
    losses = [float(result.loss) for result in results]
    assert losses == [float(result.loss) for result in reversed(reversed_results)]
    assert len(set(losses)) == 4
    (other_task,) = train(fake_lanes(FakeDevice(), "points-teacher"), [0])
    assert float(other_task.loss) != losses[0]


def test_some_trainings_on_the_fake_device_stop_at_their_limit() -> None:
    results = train(fake_lanes(FakeDevice()), list(range(16)), limit=1.0)
    stopped = [result for result in results if result.stopped]
    assert 2 <= len(stopped) <= 14
    assert all(result.steps < STEPS and result.loss > np.e for result in stopped)
    assert all(result.steps == STEPS for result in results if not result.stopped)
    unlimited = train(fake_lanes(FakeDevice()), list(range(16)))
    assert not any(result.stopped for result in unlimited)


def test_a_slow_device_runs_one_batch_after_another() -> None:
    device = FakeDevice(step_seconds=0.001)
    both = [fake_lanes(device), fake_lanes(device)]
    start = time.perf_counter()
    for lanes in both:
        lanes.load([0], [entry(0)])
        lanes.advance()
    for batches, lanes in enumerate(both, 1):
        assert lanes.ended()[0]
        assert time.perf_counter() - start >= batches * STEPS * 0.001


def test_the_report_states_the_speed_and_the_fraction_of_full_lanes(
    document: dict[str, Any],
) -> None:
    batches = {"device": "TPU", "jax": "1", "date": "today", "batches": [], "throughput": []}
    rates = {"flops_per_second": {"float32": 1e9}, "bytes_per_second": 1e9}
    empty_parts = {"paper": [], "abstract_us": None, "search": None, "skipped": []}
    report = batches_report(batches | empty_parts | {"rates": rates, "driver": document})
    text = plain_text(report)
    assert "With 16 lanes per task on a fake device" in text
    assert f"generates {document['instant']['generated_per_second']:,.0f} and measures" in text
    assert f"If a step takes 2 ms, {document['slow']['lanes_filled']:.0%} of the lanes" in text
