"""Tests that a training may use several devices, and how much memory a training needs."""

import math
from functools import cache

import jax
import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st

import proxies
from proxies import StepSchedule, compiled_train, sharding
from proxies.training.schedules import cosine, rates_of
from tests.proxies.compiling import quick_jit

TASK_NAMES = ("topics-attention", "digits-gan")
"""Tasks with a transformer, and with a custom gradient."""
STEP_COUNT = 12
WIDE_MLP = proxies.tasks.digits.mlp(hidden=(512,) * 4)


def two_devices() -> jax.sharding.Mesh:
    return jax.sharding.Mesh(np.array(jax.devices()[:2]), ("device",))


def train(task: proxies.Task) -> proxies.TrainingResult:
    schedule = StepSchedule.plain(rates_of(cosine(STEP_COUNT), STEP_COUNT), STEP_COUNT)
    rule = optax.adamw(3e-3)
    compiled = quick_jit(
        lambda data, key: compiled_train(task, rule, data, key, schedule, (), observe=True)
    )
    return compiled(task.data, jax.random.key(0))


@cache
def train_on_one_and_two_devices(
    name: str,
) -> tuple[proxies.TrainingResult, proxies.TrainingResult]:
    """Return the results of the same training on one device and on two devices."""
    task = proxies.load(name)
    return train(task), train(proxies.over_devices(task, two_devices()))


@pytest.mark.parametrize("name", TASK_NAMES)
def test_a_training_over_two_devices_has_the_losses_of_one_device(name: str) -> None:
    expected, actual = train_on_one_and_two_devices(name)
    np.testing.assert_allclose(actual.train_loss, expected.train_loss, rtol=1e-4)
    np.testing.assert_allclose(actual.loss, expected.loss, rtol=1e-4)
    for actual_leaf, expected_leaf in zip(
        jax.tree.leaves(actual.params), jax.tree.leaves(expected.params), strict=True
    ):
        np.testing.assert_allclose(actual_leaf, expected_leaf, rtol=1e-3, atol=1e-5)
    losses = expected.train_loss.tolist()
    all_losses_differ = len(set(losses)) == len(losses)
    assert all_losses_differ


@pytest.mark.parametrize("name", TASK_NAMES)
def test_large_weights_are_split_between_the_devices(name: str) -> None:
    _, on_two_devices = train_on_one_and_two_devices(name)
    leaves = jax.tree.leaves(on_two_devices.params)
    for leaf in leaves:
        assert len({shard.device for shard in leaf.addressable_shards}) == 2
    large = [leaf for leaf in leaves if leaf.size >= sharding.MIN_SPLIT_SIZE]
    assert large
    for leaf in large:
        assert leaf.addressable_shards[0].data.size == leaf.size / 2


def test_each_of_two_devices_needs_less_memory_than_a_single_device() -> None:
    adam = optax.adam(1e-3)
    on_one_device = proxies.memory(WIDE_MLP, adam, steps=3)
    on_each_of_two = proxies.memory(proxies.over_devices(WIDE_MLP, two_devices()), adam, steps=3)
    state_bytes = 4 * WIDE_MLP.params * 3  # weights and Adam's two averages, in float32
    assert state_bytes < on_one_device
    assert state_bytes / 2 < on_each_of_two < 0.7 * on_one_device


@given(st.lists(st.integers(1, 300), max_size=4), st.integers(1, 16))
def test_the_axis_to_split_is_the_largest_that_the_number_of_devices_divides(
    sizes: list[int], device_count: int
) -> None:
    axis = sharding.axis_to_split(tuple(sizes), device_count)
    divisible = [size for size in sizes if size % device_count == 0]
    if axis is None:
        assert not divisible or math.prod(sizes) < sharding.MIN_SPLIT_SIZE
    else:
        assert sizes[axis] == max(divisible)
        assert math.prod(sizes) >= sharding.MIN_SPLIT_SIZE


def test_a_mesh_of_two_axes_is_an_error() -> None:
    device = np.array(jax.devices()[:1])
    mesh = jax.sharding.Mesh(device.reshape(1, 1), ("a", "b"))
    with pytest.raises(ValueError, match="the axes 'a', 'b'; make it with one axis"):
        proxies.over_devices(proxies.load("digits-mlp"), mesh)


def test_over_devices_returns_the_same_task_for_the_same_mesh() -> None:
    task = proxies.load("digits-mlp")
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:1]), ("a",))
    assert proxies.over_devices(task, mesh) is proxies.over_devices(task, mesh)
    assert proxies.over_devices(task, mesh).name == task.name


def test_a_training_fits_a_device_with_more_memory_than_it_needs() -> None:
    task, rule = proxies.load("quadratic"), optax.sgd(0.1)
    needed_bytes = proxies.memory(task, rule, steps=1000)
    assert needed_bytes > 4 * (1000 + task.params)  # the batch losses and the weights
    assert proxies.fits(task, rule, steps=1000)
    assert proxies.fits(task, rule, steps=1000, capacity=2 * needed_bytes)
    assert not proxies.fits(task, rule, steps=1000, capacity=needed_bytes)
