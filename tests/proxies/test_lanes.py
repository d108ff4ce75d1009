"""A training in a lane gives the result of the same training alone."""

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
from tests.proxies.compiling import FAST_COMPILATION

STEPS = 12
OPS = frozenset(["add", "divide", "interp", "multiply", "sign", "sqrt", "square"])
PROGRAMS = ("adamw_paper", "lion", "momentum", "sgd")


@cache
def loop():
    return Loop(proxies.load("digits-mlp"), interpreter(OPS))


def entry(number):
    """Return the arguments of a training.

    Its program, seed, length, divergence and loss limits follow from `number`.
    """
    rates = proxies.relative_rates("cosine", STEPS, STEPS)
    schedule = StepSchedule.plain(rates, [STEPS, 5, 9][number % 3])
    if number % 5 == 3:
        schedule = schedule._replace(limits=np.full(STEPS, 0.5, np.float32))
    factor = np.float32(1e30 if number % 7 == 5 else 1.0)
    key_data = np.asarray(jax.random.key_data(jax.random.key(number)))
    return Entry(key_data, schedule, (encode(zoo.load(PROGRAMS[number % 4]), OPS), factor))


@cache
def train_alone(number):
    key_data, schedule, operands = entry(number)
    key = jax.random.wrap_key_data(key_data)
    return jax.device_get(compiled_training()(loop().task.data, key, schedule, operands))


@cache
def compiled_training():
    key_data, schedule, operands = entry(0)
    return proxies.compiled_train.lower(
        loop().task,
        loop().rule,
        loop().task.data,
        jax.random.wrap_key_data(key_data),
        schedule,
        operands,
    ).compile(compiler_options=FAST_COMPILATION)


@cache
def lanes(devices):
    data = loop().task.data
    return Lanes(
        loop(), data, entry(0), 8, jax.devices()[:devices], 2, compiler_options=FAST_COMPILATION
    )


def assert_same(result, number):
    expected = train_alone(number)
    assert result.diverged == expected.diverged
    assert result.stopped == expected.stopped
    assert result.steps == expected.steps
    np.testing.assert_allclose(result.train_loss, expected.train_loss, rtol=2e-4)
    if not expected.diverged:
        np.testing.assert_allclose(result.loss, expected.loss, rtol=2e-4)


def test_the_example_trainings_end_in_different_ways():
    ends = {(bool(a.diverged), bool(a.stopped), int(a.steps)) for a in map(train_alone, range(12))}
    assert {(False, False, 12), (False, False, 5), (False, False, 9)} < ends
    assert any(diverged for diverged, _, _ in ends)
    assert any(stopped for _, stopped, _ in ends)


@pytest.mark.parametrize("devices", [1, 2])
@settings(max_examples=4)
@given(order=st.permutations(range(12)), advances=st.integers(1, 4))
def test_lanes_refilled_in_any_order_give_the_results_of_single_trainings(devices, order, advances):
    batch, waiting, active, results = lanes(devices), list(order), {}, {}
    while waiting or active:
        empty = [lane for lane in range(8) if lane not in active]
        loaded = batch.next_group(empty)[: len(waiting)]
        active |= {lane: waiting.pop() for lane in loaded}
        batch.load(loaded, [entry(active[lane]) for lane in loaded])
        ended = [batch.advance() for _ in range(advances)][-1]
        done = batch.next_group([lane for lane in active if ended[lane]])
        for lane, result in zip(done, batch.finish(done), strict=True):
            results[active.pop(lane)] = result
    assert sorted(results) == list(range(12))
    for number, result in results.items():
        assert_same(result, number)


def test_each_device_holds_equally_many_lanes():
    leaves = jax.tree.leaves(lanes(2)._state)
    assert {len(leaf.addressable_shards) for leaf in leaves} == {2}
    assert {leaf.addressable_shards[0].data.shape[0] for leaf in leaves} == {4}


def test_a_lane_does_not_depend_on_empty_lanes_before_it():
    """The program takes a norm of row means, which have fewer numbers than the weights."""
    key_data, schedule, _ = entry(0)
    program = parse(
        "def train(w, g, lr):\n    u = g / norm(row_mean(abs(g)))\n    u = u * lr\n    return u"
    )
    ops = frozenset(["abs", "divide", "multiply", "norm", "row_mean"])
    row_loop = Loop(loop().task, interpreter(ops))
    example = Entry(key_data, schedule, (encode(program, ops), np.float32(0.1)))
    batch = Lanes(
        row_loop,
        row_loop.task.data,
        example,
        4,
        jax.devices()[:1],
        steps_per_advance=STEPS,
        compiler_options=FAST_COMPILATION,
    )
    results = []
    for lane in (2, 0):
        batch.load([lane], [example])
        batch.advance()
        results += batch.finish([lane])
    np.testing.assert_array_equal(results[0].train_loss, results[1].train_loss)
    key = jax.random.wrap_key_data(key_data)
    compiled_alone = jax.jit(
        proxies.compiled_train, static_argnums=(0, 1), compiler_options=FAST_COMPILATION
    )
    expected = compiled_alone(
        row_loop.task, row_loop.rule, row_loop.task.data, key, schedule, example.operands
    )
    np.testing.assert_allclose(results[0].train_loss, expected.train_loss, rtol=1e-3)


def test_lanes_that_devices_cannot_share_equally_and_weight_averaging_are_refused():
    data = loop().task.data
    with pytest.raises(ValueError, match="3 lanes cannot be shared equally by 2 devices"):
        Lanes(loop(), data, entry(0), 3, jax.devices()[:2], 1)
    averaging = Loop(loop().task, loop().rule, weights=lambda params, state: params)
    with pytest.raises(ValueError, match="cannot train in a batch"):
        Lanes(averaging, data, entry(0), 2, jax.devices()[:1], 1)
