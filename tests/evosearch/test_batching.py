"""Continuous batching: everybody is served, whatever happens to the others or to the memory."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import jax
import numpy as np
import pytest

import proxies
from evosearch.config import make_config
from evosearch.errors import EvosearchError
from evosearch.measuring import batching
from evosearch.measuring.batching import Batch, Batching, Occupancy, lanes_that_fit
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


class Ended(int):
    """The result of a training that lasted as many rounds of two steps as `Lanes` says."""

    @property
    def steps(self):
        return 2 * (self % 4 + 1)


class Lanes:
    """Lanes that count; a training lasts as many rounds as its number modulo 4."""

    memory = 100
    made: list[int] = []

    def __init__(self, *_, lanes, **__):
        self.made.append(lanes)
        if lanes > 2 * self.memory:
            raise RuntimeError("RESOURCE_EXHAUSTED: Out of memory while compiling")
        self.lanes, self.now = lanes, {}

    def room(self, slots):
        return list(slots)[:3]

    def load(self, slots, entries):
        for slot, one in zip(slots, entries, strict=True):
            assert slot not in self.now
            self.now[slot] = [one.number, one.number % 4]

    def advance(self, steps):
        if len(self.now) > self.memory:
            raise RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 1 bytes")
        if any(number == 666 for number, _ in self.now.values()):
            raise RuntimeError("the device fell off the bus")
        for one in self.now.values():
            one[1] -= 1
        return np.array([self.now.get(slot, [0, -1])[1] < 0 for slot in range(self.lanes)])

    def finish(self, slots):
        return [Ended(self.now.pop(slot)[0]) for slot in slots]


class Numbered:
    """An entry that is only a number."""

    def __init__(self, number):
        self.number = number
        self.course = proxies.StepSchedule.plain(np.ones(32, np.float32), 32)


@pytest.fixture
def told(monkeypatch):
    monkeypatch.setattr(batching, "Lanes", Lanes)
    monkeypatch.setattr(batching, "lanes_that_fit", lambda *_: None)
    monkeypatch.setattr(Lanes, "made", [])
    return []


def batch(lanes, told):
    how = Batching(lanes, devices=jax.devices()[:1], notify=told.append)
    return Batch(Loop(proxies.load("digits-mlp"), None), None, Numbered(0), how)


def trained(batch, numbers):
    with ThreadPoolExecutor(len(numbers)) as threads:
        return [f.result() for f in [threads.submit(batch.train, Numbered(n)) for n in numbers]]


def test_each_gets_its_own_result(told):
    numbers = list(range(60))
    one = batch(8, told)
    assert trained(one, numbers) == numbers
    assert trained(one, [7, 5]) == [7, 5]  # after a rest
    assert told == []


def test_the_occupancy_is_the_share_of_steps_that_lanes_trained(told):
    full, half = Occupancy(), Occupancy()
    how = Batching(1, devices=jax.devices()[:1], notify=told.append, occupancy=full)
    trained(Batch(Loop(proxies.load("digits-mlp"), None), None, Numbered(0), how), [1, 2, 3, 4])
    how = replace(how, lanes=2, occupancy=half)
    trained(Batch(Loop(proxies.load("digits-mlp"), None), None, Numbered(0), how), [3])
    assert (full.share, half.share) == (1.0, 0.5)
    assert math.isnan(Occupancy().share)


def test_memory_that_runs_out_halves_the_batch_and_loses_nobody(told, monkeypatch):
    monkeypatch.setattr(Lanes, "memory", 5)
    numbers = list(range(60))
    assert trained(batch(32, told), numbers) == numbers
    assert Lanes.made == [32, 16, 8, 4]  # two at once when they are made, one when they are full
    message = "digits-mlp: 32 trainings do not fit in memory side by side; using 16"
    assert told[0] == message
    assert len(told) == 3


def test_memory_for_not_even_one_is_an_error_with_a_remedy(told, monkeypatch):
    monkeypatch.setattr(Lanes, "memory", 0)
    with pytest.raises(EvosearchError, match="does not hold one training; use --device cpu"):
        batch(4, told)


def test_another_error_reaches_all_who_wait_and_the_batch_serves_on(told):
    one = batch(4, told)
    with pytest.raises(RuntimeError, match="fell off the bus"):
        trained(one, [1, 666, 2])
    assert trained(one, [3, 4]) == [3, 4]


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
    assert 2 * 2**30 / count > 24 * 4 * weights  # at least the registers
    assert lanes_that_fit(loop(), data, entry(0), [Device(None)]) is None


def test_a_search_in_batches_scores_as_one_without(tmp_path):
    """The same verdict on every program; losses within 1e-3, of all that do not diverge."""
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
    assert config.requests == 64
    search(config, tmp_path / "run")
    store = Store.open(tmp_path / "run", "read")
    rates, rows = store.rates(), store.select(MEASUREMENTS, "order by rowid")
    sources = {row.key: row.source for row in store.select(PROGRAMS, "order by id desc")}
    store.close()
    results: dict[tuple[str, Seed], dict[str, Measurement]] = {}
    for row in rows:
        of_seed = results.setdefault((row.key, Seed(Stream(row.stream), row.seed)), {})
        of_seed[row.task] = measurement_of(row)
    apart = config.model_copy(update={"batch": 1})
    runner = JobRunner(LocalBackend(1))
    scorer = scorer_of(apart, runner, setups_of(apart), rates)
    compared = stopped = 0
    for (key, seed), found in list(results.items())[:80]:
        again = scorer.measure(parse(sources[key]), seed)
        for task, one in found.items():
            assert one.engine is Engine.BATCHED
            assert again[task].engine is not Engine.BATCHED
            assert one.stopped == again[task].stopped
            assert np.isfinite(one.loss) == np.isfinite(again[task].loss)
            if one.stopped or not np.isfinite(one.loss):
                stopped += 1
            else:
                assert one.loss == pytest.approx(again[task].loss, rel=1e-3)
                compared += 1
    assert compared > 40
    assert stopped > 1
