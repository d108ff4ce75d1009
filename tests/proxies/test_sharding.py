"""Trainings over several devices, and the memory that they need."""

import math
from functools import cache
from typing import Any

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

NAMES = ("topics-attention", "digits-gan")
"""A transformer, and a custom gradient."""
STEPS = 12
WIDE = proxies.tasks.digits.mlp(hidden=(512,) * 4)


def two_devices() -> jax.sharding.Mesh:
    return jax.sharding.Mesh(np.array(jax.devices()[:2]), ("device",))


def trained(task: proxies.Task) -> proxies.TrainingResult:
    schedule = StepSchedule.plain(rates_of(cosine(STEPS), STEPS), STEPS)
    train = quick_jit(
        lambda data, key: compiled_train(
            task, optax.adamw(3e-3), data, key, schedule, (), observe=True
        )
    )
    return train(task.data, jax.random.key(0))


@cache
def train_on_one_and_two(name: str) -> dict[str, Any]:
    """Run the same training on one device and on two devices."""
    task = proxies.load(name)
    one, two = trained(task), trained(proxies.over_devices(task, two_devices()))
    return {
        "one": [*one.train_loss.tolist(), float(one.loss)],
        "two": [*two.train_loss.tolist(), float(two.loss)],
        "weights": [
            {
                "shape": leaf.shape,
                "devices": len({shard.device for shard in leaf.addressable_shards}),
                "fraction": leaf.addressable_shards[0].data.size / leaf.size,
            }
            for leaf in jax.tree.leaves(two.params)
        ],
        "same_weights": all(
            map(
                lambda a, b: bool(np.allclose(a, b, rtol=1e-3, atol=1e-5)),
                jax.tree.leaves(one.params),
                jax.tree.leaves(two.params),
            )
        ),
    }


@pytest.mark.parametrize("name", NAMES)
def test_a_training_over_two_devices_has_the_losses_of_one_device(name: str) -> None:
    trainings = train_on_one_and_two(name)
    np.testing.assert_allclose(trainings["two"], trainings["one"], rtol=1e-4)
    assert trainings["same_weights"]
    assert len(set(trainings["one"])) == len(
        trainings["one"]
    )  # the losses change, so the task was trained


@pytest.mark.parametrize("name", NAMES)
def test_large_weights_are_split_between_the_devices(name: str) -> None:
    weights = train_on_one_and_two(name)["weights"]
    assert all(leaf["devices"] == 2 for leaf in weights)
    large = [leaf for leaf in weights if math.prod(leaf["shape"]) >= sharding.MIN_SPLIT_SIZE]
    assert large
    assert all(leaf["fraction"] == 0.5 for leaf in large)


def test_each_of_two_devices_needs_less_memory_than_a_single_device() -> None:
    adam = optax.adam(1e-3)
    tasks = WIDE, proxies.over_devices(WIDE, two_devices())
    one, two = (proxies.memory(task, adam, steps=3) for task in tasks)
    state_bytes = 4 * WIDE.params * 3  # weights and Adam's two averages, in bytes
    assert state_bytes < one
    assert state_bytes / 2 < two < 0.7 * one


@given(st.lists(st.integers(1, 300), max_size=4), st.integers(1, 16))
def test_the_axis_to_split_is_the_largest_divisible_one(sizes: list[int], devices: int) -> None:
    axis = sharding.axis_to_split(tuple(sizes), devices)
    divisible = [size for size in sizes if size % devices == 0]
    if axis is None:
        assert not divisible or math.prod(sizes) < sharding.MIN_SPLIT_SIZE
    else:
        assert sizes[axis] == max(divisible)
        assert math.prod(sizes) >= sharding.MIN_SPLIT_SIZE


def test_a_mesh_of_two_axes_is_an_error_and_equal_meshes_give_one_task() -> None:
    task, devices = proxies.load("digits-mlp"), np.array(jax.devices()[:1])
    with pytest.raises(ValueError, match="the axes 'a', 'b'; make it with one axis"):
        proxies.over_devices(task, jax.sharding.Mesh(devices.reshape(1, 1), ("a", "b")))
    mesh = jax.sharding.Mesh(devices, ("a",))
    assert proxies.over_devices(task, mesh) is proxies.over_devices(task, mesh)
    assert proxies.over_devices(task, mesh).name == task.name


def test_a_training_fits_a_device_with_more_memory_than_it_needs() -> None:
    task, rule = proxies.load("quadratic"), optax.sgd(0.1)
    needed = proxies.memory(task, rule, steps=1000)
    assert needed > 4 * (1000 + task.params)  # the batch losses and the weights
    assert proxies.fits(task, rule, steps=1000)
    assert proxies.fits(task, rule, steps=1000, capacity=2 * needed)
    assert not proxies.fits(task, rule, steps=1000, capacity=needed)
