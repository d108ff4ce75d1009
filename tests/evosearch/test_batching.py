"""Continuous batching: every training gets its result, whatever happens to others or the memory."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import jax
import numpy as np
import pytest

import proxies
from evosearch.config import make_config
from evosearch.errors import EvosearchError
from evosearch.evaluation.evaluation import evaluate
from evosearch.measuring import batching, engines
from evosearch.measuring.batching import Batch, Batching, Occupancy, lanes_that_fit
from evosearch.measuring.engines import Trainer
from evosearch.measuring.job_runner import JobRunner
from evosearch.measuring.local import LocalBackend
from evosearch.measuring.measurement import Engine, Measurement
from evosearch.measuring.scorer import scorer_of, setups_of
from evosearch.pipeline.pipeline import search
from evosearch.runs.conversion import measurement_of
from evosearch.runs.rows import MEASUREMENTS, PROGRAMS
from evosearch.runs.store import Store
from evosearch.seeds import Seed, Stream
from primitives import parse, zoo
from proxies.training.loop import Loop


class FakeResult(int):
    """The result of a training of (number modulo 4) + 1 rounds of two steps."""

    @property
    def steps(self):
        return 2 * (self % 4 + 1)


class Lanes:
    """Lanes without trainings; the training of a number lasts (number modulo 4) + 1 rounds."""

    capacity = 100
    sizes: list[int] = []

    def __init__(self, *_, lanes, steps_per_advance, **__):
        self.sizes.append(lanes)
        if lanes > 2 * self.capacity:
            raise RuntimeError("RESOURCE_EXHAUSTED: Out of memory while compiling")
        self.lanes, self.active = lanes, {}
        self.steps_per_advance = steps_per_advance

    def next_group(self, lanes):
        return list(lanes)[:3]

    def load(self, lanes, entries):
        for lane, entry in zip(lanes, entries, strict=True):
            assert lane not in self.active
            self.active[lane] = [entry.number, entry.number % 4]

    def advance(self):
        if len(self.active) > self.capacity:
            raise RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 1 bytes")
        if any(number == 666 for number, _ in self.active.values()):
            raise RuntimeError("the device fell off the bus")
        for training in self.active.values():
            training[1] -= 1

    def ended(self):
        return np.array([self.active.get(lane, [0, -1])[1] < 0 for lane in range(self.lanes)])

    def finish(self, lanes):
        return [FakeResult(self.active.pop(lane)[0]) for lane in lanes]


class NumberEntry:
    """An entry that consists of a number."""

    def __init__(self, number):
        self.number = number
        self.schedule = proxies.StepSchedule.plain(np.ones(32, np.float32), 32)


@pytest.fixture
def messages(monkeypatch):
    """Removes the limit of the memory; the list of messages of the batch."""
    monkeypatch.setattr(batching, "lanes_that_fit", lambda *_: None)
    monkeypatch.setattr(Lanes, "sizes", [])
    return []


def make_batch(settings):
    loop = Loop(proxies.load("digits-mlp"), None)
    return Batch(loop, None, NumberEntry(0), replace(settings, make_lanes=Lanes))


def batch(lanes, messages):
    return make_batch(Batching(lanes, devices=jax.devices()[:1], notify=messages.append))


def train_all(batch, numbers):
    with ThreadPoolExecutor(len(numbers)) as threads:
        return [f.result() for f in [threads.submit(batch.train, NumberEntry(n)) for n in numbers]]


def test_each_training_gets_its_own_result(messages):
    numbers = list(range(60))
    eight = batch(8, messages)
    assert train_all(eight, numbers) == numbers
    assert train_all(eight, [7, 5]) == [7, 5]  # after its thread has ended
    assert messages == []


def test_the_occupancy_is_the_fraction_of_lane_steps_that_belonged_to_a_training(messages):
    full, half = Occupancy(), Occupancy()
    settings = Batching(1, devices=jax.devices()[:1], notify=messages.append, occupancy=full)
    train_all(make_batch(settings), [1, 2, 3, 4])
    train_all(make_batch(replace(settings, lanes=2, occupancy=half)), [3])
    assert (full.fraction(), half.fraction()) == (1.0, 0.5)
    assert math.isnan(Occupancy().fraction())


def test_running_out_of_memory_halves_the_batch_and_loses_no_training(messages, monkeypatch):
    monkeypatch.setattr(Lanes, "capacity", 5)
    numbers = list(range(60))
    assert train_all(batch(32, messages), numbers) == numbers
    assert Lanes.sizes == [32, 16, 8, 4]  # 32 and 16 fail when created, 8 when loaded
    assert messages[0] == "digits-mlp: 32 trainings do not fit in memory side by side; using 16"
    assert len(messages) == 3


def test_too_little_memory_for_one_training_is_an_error_with_a_remedy(messages, monkeypatch):
    monkeypatch.setattr(Lanes, "capacity", 0)
    with pytest.raises(EvosearchError, match=r"one training does not fit .*; use --device cpu"):
        batch(4, messages)


def test_another_error_fails_all_waiting_trainings_and_the_batch_continues(messages):
    four = batch(4, messages)
    with pytest.raises(RuntimeError, match="fell off the bus"):
        train_all(four, [1, 666, 2])
    assert train_all(four, [3, 4]) == [3, 4]


def test_the_memory_of_the_devices_bounds_the_lanes():
    class Device:
        def __init__(self, limit):
            self.limit = limit

        def memory_stats(self):
            return self.limit and {"bytes_limit": self.limit}

    from tests.proxies.test_lanes import entry, loop

    data = loop().task.data
    count = lanes_that_fit(loop(), data, entry(0), [Device(2**30)] * 2)
    assert count is not None
    assert 2 * count == pytest.approx(
        lanes_that_fit(loop(), data, entry(0), [Device(2**31)] * 2), rel=0.05
    )
    assert count % 2 == 0
    weights = loop().task.params
    assert 2 * 2**30 / count > 24 * 4 * weights  # a lane holds at least the registers
    assert lanes_that_fit(loop(), data, entry(0), [Device(None)]) is None


def test_a_search_in_batches_gives_the_scores_of_a_search_without(tmp_path):
    """The same programs diverge or are stopped; the losses of all others agree within 1e-3."""
    config = make_config(
        {
            "tasks": ["digits-mlp"],
            "init": str(zoo.load("adamw_paper")),
            "programs": 100,
            "population": 300,
            "batch": 64,
            "seed": 5,
            "measurement": {"tuning_seeds": 1, "budgets": [0.1]},
        }
    )
    assert config.requests == 128
    search(config, tmp_path / "run")
    store = Store.open(tmp_path / "run", "read")
    rates, rows = store.rates(), store.select(MEASUREMENTS, "order by rowid")
    sources = {row.key: row.source for row in store.select(PROGRAMS, "order by id desc")}
    store.close()
    results: dict[tuple[str, Seed], dict[str, Measurement]] = {}
    for row in rows:
        measurements = results.setdefault((row.key, Seed(Stream(row.stream), row.seed)), {})
        measurements[row.task] = measurement_of(row)
    unbatched_config = config.model_copy(update={"batch": 1})
    runner = JobRunner(LocalBackend(1))
    scorer = scorer_of(unbatched_config, runner, setups_of(unbatched_config), rates)
    compared = stopped = 0
    for (key, seed), measurements in list(results.items())[:80]:
        unbatched = scorer.measure(parse(sources[key]), seed)
        for task, batched in measurements.items():
            assert batched.engine is Engine.BATCHED
            assert unbatched[task].engine is not Engine.BATCHED
            assert batched.stopped == unbatched[task].stopped
            assert np.isfinite(batched.loss) == np.isfinite(unbatched[task].loss)
            if batched.stopped or not np.isfinite(batched.loss):
                stopped += 1
            else:
                assert batched.loss == pytest.approx(unbatched[task].loss, rel=1e-3)
                compared += 1
    assert compared > 40
    assert stopped > 1


def test_programs_are_compiled_on_a_task_that_does_not_fit_in_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    engines_by_limit = {None: Engine.BATCHED, 1: Engine.BATCHED, 0: Engine.COMPILED}
    for limit, engine in engines_by_limit.items():
        monkeypatch.setattr(engines, "lanes_that_fit", lambda *_, limit=limit: limit)
        batching_of_four = Batching(4, devices=jax.devices()[:1])
        trainer = Trainer(proxies.load("quadratic"), batching=batching_of_four)
        assert trainer.choose_engine(zoo.load("lion"), trainings=1000) is engine


def test_an_evaluation_on_an_accelerator_trains_in_batches_with_the_same_losses(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lion = zoo.load("lion")

    def losses() -> list[float]:
        evaluation = evaluate(
            [lion],
            "quadratic",
            against={"sgd": zoo.load("sgd")},
            seeds=2,
            tuning_seeds=1,
            lrs=(1.0, 4.0),
            steps=20,
            ops=lion.ops | zoo.load("sgd").ops,
        )
        return [loss for result in evaluation.tasks[0].results for loss in result.losses]

    unbatched = losses()
    batched = list[str]()
    original_submit = Batch.submit

    def submit(batch: Batch, *args: Any) -> None:
        batched.append(batch._name)
        original_submit(batch, *args)

    monkeypatch.setattr(Batch, "submit", submit)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert losses() == pytest.approx(unbatched, rel=1e-3)
    assert len(batched) >= len(unbatched)
