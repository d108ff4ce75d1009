"""Trainings side by side come to what they come to alone, whenever and beside whomever."""

from functools import cache

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import proxies
from primitives import encode, interpreter, parse, zoo
from proxies import StepSchedule
from proxies.training.lanes import Entry, Lanes
from proxies.training.loop import Loop
from tests.proxies.compiling import QUICKLY

BUDGET = 12
OPS = frozenset(["add", "divide", "interp", "multiply", "sign", "sqrt", "square"])
PROGRAMS = ("adamw_paper", "lion", "momentum", "sgd")


@cache
def loop():
    return Loop(proxies.load("digits-mlp"), interpreter(OPS))


def entry(number):
    """A training by number: program, seed, length, and whether it diverges or meets its limits."""
    shape = proxies.named_shape("cosine", BUDGET, BUDGET)
    course = StepSchedule.plain(shape, [BUDGET, 5, 9][number % 3])
    if number % 5 == 3:
        course = course._replace(limits=np.full(BUDGET, 0.5, np.float32))
    factor = np.float32(1e30 if number % 7 == 5 else 1.0)
    words = np.asarray(jax.random.key_data(jax.random.key(number)))
    return Entry(words, course, (encode(zoo.load(PROGRAMS[number % 4]), OPS), factor))


@cache
def alone(number):
    words, course, operands = entry(number)
    key = jax.random.wrap_key_data(words)
    return jax.device_get(compiled()(loop().task.data, key, course, operands))


@cache
def compiled():
    words, course, operands = entry(0)
    return proxies.compiled_train.lower(
        loop().task,
        loop().rule,
        loop().task.data,
        jax.random.wrap_key_data(words),
        course,
        operands,
    ).compile(compiler_options=QUICKLY)


@cache
def lanes(devices):
    data = loop().task.data
    return Lanes(loop(), data, entry(0), 8, jax.devices()[:devices], compiler_options=QUICKLY)


def assert_same(found, number):
    want = alone(number)
    assert found.diverged == want.diverged
    assert found.stopped == want.stopped
    assert found.steps == want.steps
    np.testing.assert_allclose(found.train_loss, want.train_loss, rtol=2e-4)
    if not want.diverged:
        np.testing.assert_allclose(found.loss, want.loss, rtol=2e-4)


def test_the_trainings_differ_in_how_they_end():
    ends = {(bool(a.diverged), bool(a.stopped), int(a.steps)) for a in map(alone, range(12))}
    assert {(False, False, 12), (False, False, 5), (False, False, 9)} < ends
    assert any(diverged for diverged, _, _ in ends)
    assert any(stopped for _, stopped, _ in ends)


@pytest.mark.parametrize("devices", [1, 2])
@settings(max_examples=4)
@given(order=st.permutations(range(12)), steps=st.integers(1, 7))
def test_lanes_that_are_filled_as_they_come_free(devices, order, steps):
    batch, waiting, active, found = lanes(devices), list(order), {}, {}
    while waiting or active:
        slots = batch.room([slot for slot in range(8) if slot not in active])[: len(waiting)]
        active |= {slot: waiting.pop() for slot in slots}
        batch.load(slots, [entry(active[slot]) for slot in slots])
        ended = batch.advance(steps)
        done = batch.room([slot for slot in active if ended[slot]])
        for slot, curve in zip(done, batch.finish(done), strict=True):
            found[active.pop(slot)] = curve
    assert sorted(found) == list(range(12))
    for number, curve in found.items():
        assert_same(curve, number)


def test_each_device_holds_its_share_of_the_lanes():
    leaves = jax.tree.leaves(lanes(2)._state)
    assert {len(leaf.addressable_shards) for leaf in leaves} == {2}
    assert {leaf.addressable_shards[0].data.shape[0] for leaf in leaves} == {4}


def test_a_lane_needs_none_of_the_lanes_before_it():
    """A norm of rows, which have fewer numbers than the weights, while the first lane is empty."""
    words, course, _ = entry(0)
    program = parse(
        "def train(w, g, lr):\n    u = g / norm(row_mean(abs(g)))\n    u = u * lr\n    return u"
    )
    ops = frozenset(["abs", "divide", "multiply", "norm", "row_mean"])
    rows = Loop(loop().task, interpreter(ops))
    one = Entry(words, course, (encode(program, ops), np.float32(0.1)))
    batch = Lanes(rows, rows.task.data, one, 4, jax.devices()[:1], compiler_options=QUICKLY)
    found = []
    for slot in (2, 0):
        batch.load([slot], [one])
        batch.advance(BUDGET)
        found += batch.finish([slot])
    np.testing.assert_array_equal(found[0].train_loss, found[1].train_loss)
    key = jax.random.wrap_key_data(words)
    alone = jax.jit(proxies.compiled_train, static_argnums=(0, 1), compiler_options=QUICKLY)
    want = alone(rows.task, rows.rule, rows.task.data, key, course, one.operands)
    np.testing.assert_allclose(found[0].train_loss, want.train_loss, rtol=1e-3)


def test_what_cannot_be_a_batch_is_refused():
    data = loop().task.data
    with pytest.raises(ValueError, match="3 lanes on 2 devices"):
        Lanes(loop(), data, entry(0), 3, jax.devices()[:2])
    averaging = Loop(loop().task, loop().rule, weights=lambda params, state: params)
    with pytest.raises(ValueError, match="train it alone"):
        Lanes(averaging, data, entry(0), 2, jax.devices()[:1])
