"""Tests that a training in a lane has the result of the same training without lanes."""

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
LANE_COUNT = 8
TRAINING_COUNT = 12
OPS = frozenset(["add", "divide", "interp", "multiply", "sign", "sqrt", "square"])
PROGRAMS = ("adamw_paper", "lion", "momentum", "sgd")


@cache
def loop():
    return Loop(proxies.load("digits-mlp"), interpreter(OPS))


def entry(number):
    """Return the arguments of one of `TRAINING_COUNT` example trainings.

    `number` is the seed, and determines the program, the number of steps, whether there are loss
    limits, and whether the training diverges.
    """
    learning_rates = proxies.relative_rates("cosine", STEPS, STEPS)
    schedule = StepSchedule.plain(learning_rates, [STEPS, 5, 9][number % 3])
    has_loss_limits, diverges = number % 5 == 3, number % 7 == 5
    if has_loss_limits:
        schedule = schedule._replace(limits=np.full(STEPS, 0.5, np.float32))
    factor = np.float32(1e30 if diverges else 1.0)
    key_data = np.asarray(jax.random.key_data(jax.random.key(number)))
    return Entry(key_data, schedule, (encode(zoo.load(PROGRAMS[number % 4]), OPS), factor))


@cache
def train_without_lanes(number):
    """Return the result of an example training that was not run in a lane."""
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
def lanes_on(device_count):
    devices = jax.devices()[:device_count]
    return Lanes(
        loop(),
        loop().task.data,
        entry(0),
        LANE_COUNT,
        devices,
        steps_per_advance=2,
        compiler_options=FAST_COMPILATION,
    )


def assert_same_result(result, number):
    """Assert that an example training in a lane has the result of the training without lanes."""
    expected = train_without_lanes(number)
    assert result.diverged == expected.diverged
    assert result.stopped == expected.stopped
    assert result.steps == expected.steps
    np.testing.assert_allclose(result.train_loss, expected.train_loss, rtol=2e-4)
    if not expected.diverged:
        np.testing.assert_allclose(result.loss, expected.loss, rtol=2e-4)


def test_the_example_trainings_end_in_different_ways():
    results = [train_without_lanes(number) for number in range(TRAINING_COUNT)]
    completed = [result for result in results if not result.diverged and not result.stopped]
    assert {int(result.steps) for result in completed} == {5, 9, STEPS}
    assert any(result.diverged for result in results)
    assert any(result.stopped for result in results)


@pytest.mark.parametrize("device_count", [1, 2])
@settings(max_examples=4)
@given(order=st.permutations(range(TRAINING_COUNT)), advances=st.integers(1, 4))
def test_trainings_in_refilled_lanes_have_the_results_of_single_trainings(
    device_count, order, advances
):
    lanes, waiting = lanes_on(device_count), list(order)
    training_in, results = {}, {}  # the number of the training in each lane that is in use
    while waiting or training_in:
        empty = [lane for lane in range(LANE_COUNT) if lane not in training_in]
        refilled = lanes.next_group(empty)[: len(waiting)]
        training_in |= {lane: waiting.pop() for lane in refilled}
        lanes.load(refilled, [entry(training_in[lane]) for lane in refilled])
        for _ in range(advances):
            lanes.advance()
        has_ended = lanes.ended()
        ended = lanes.next_group([lane for lane in training_in if has_ended[lane]])
        for lane, result in zip(ended, lanes.finish(ended), strict=True):
            results[training_in.pop(lane)] = result
    assert sorted(results) == list(range(TRAINING_COUNT))
    for number, result in results.items():
        assert_same_result(result, number)


def test_two_devices_hold_equally_many_lanes():
    leaves = jax.tree.leaves(lanes_on(2)._state)
    assert {len(leaf.addressable_shards) for leaf in leaves} == {2}
    lanes_per_device = {leaf.addressable_shards[0].data.shape[0] for leaf in leaves}
    assert lanes_per_device == {LANE_COUNT // 2}


def test_the_result_of_a_lane_does_not_depend_on_empty_lanes_before_it():
    """Run one training in lane 2 and then in lane 0, and compare the losses.

    The program takes a norm of row means, which have fewer numbers than the weights. Its sum needs
    the model's factors (`ArrayLayout.sum_factors`), which every lane must have, even after empty
    lanes.
    """
    key_data, schedule, _ = entry(0)
    program = parse(
        "def train(w, g, lr):\n    u = g / norm(row_mean(abs(g)))\n    u = u * lr\n    return u"
    )
    ops = frozenset(["abs", "divide", "multiply", "norm", "row_mean"])
    task, rule = loop().task, interpreter(ops)
    training = Entry(key_data, schedule, (encode(program, ops), np.float32(0.1)))
    devices = jax.devices()[:1]
    lanes = Lanes(
        Loop(task, rule),
        task.data,
        training,
        4,
        devices,
        steps_per_advance=STEPS,
        compiler_options=FAST_COMPILATION,
    )
    results = []
    for lane in (2, 0):
        lanes.load([lane], [training])
        lanes.advance()
        results += lanes.finish([lane])
    np.testing.assert_array_equal(results[0].train_loss, results[1].train_loss)
    train = jax.jit(
        proxies.compiled_train, static_argnums=(0, 1), compiler_options=FAST_COMPILATION
    )
    key = jax.random.wrap_key_data(key_data)
    expected = train(task, rule, task.data, key, schedule, training.operands)
    np.testing.assert_allclose(results[0].train_loss, expected.train_loss, rtol=1e-3)


def test_lanes_that_devices_cannot_share_equally_are_refused():
    with pytest.raises(ValueError, match="3 lanes cannot be shared equally by 2 devices"):
        Lanes(loop(), loop().task.data, entry(0), 3, jax.devices()[:2], steps_per_advance=1)


def test_lanes_for_a_rule_that_averages_weights_are_refused():
    averaging_loop = Loop(loop().task, loop().rule, weights=lambda params, state: params)
    with pytest.raises(ValueError, match="cannot train in a batch"):
        Lanes(averaging_loop, loop().task.data, entry(0), 2, jax.devices()[:1], steps_per_advance=1)
