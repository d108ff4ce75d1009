"""Trainings over several devices, and the memory that they need."""

import json
import math
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st

import proxies
from proxies import sharding

ROOT = Path(__file__).parents[2]
NAMES = ("topics-attention", "digits-gan")
"""A transformer, and a gradient of the task's own."""


@cache
def on_two_devices() -> dict[str, Any]:
    """What `two_devices.py` found; JAX fixes the number of devices when it starts."""
    command = [sys.executable, "-m", "tests.proxies.two_devices", *NAMES]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("name", NAMES)
def test_a_training_over_two_devices_has_the_curve_of_one(name: str) -> None:
    found = on_two_devices()["tasks"][name]
    np.testing.assert_allclose(found["two"], found["one"], rtol=1e-4)
    assert found["same_weights"]
    assert len(set(found["one"])) == len(found["one"])  # it was trained at all


@pytest.mark.parametrize("name", NAMES)
def test_large_weights_lie_half_on_each_device(name: str) -> None:
    weights = on_two_devices()["tasks"][name]["weights"]
    assert all(leaf["devices"] == 2 for leaf in weights)
    large = [leaf for leaf in weights if math.prod(leaf["shape"]) >= sharding.TINY]
    assert large
    assert all(leaf["share"] == 0.5 for leaf in large)


def test_two_devices_need_less_memory_each_than_one_alone() -> None:
    found = on_two_devices()
    one, two = found["memory"]
    kept = 4 * found["weights"] * 3  # weights and Adam's two averages, in bytes
    assert kept < one
    assert kept / 2 < two < 0.7 * one


@given(st.lists(st.integers(1, 300), max_size=4), st.integers(1, 16))
def test_the_axis_to_split_is_the_largest_that_can_be(sizes: list[int], parts: int) -> None:
    axis = sharding.axis_to_split(tuple(sizes), parts)
    even = [size for size in sizes if size % parts == 0]
    if axis is None:
        assert not even or math.prod(sizes) < sharding.TINY
    else:
        assert sizes[axis] == max(even)
        assert math.prod(sizes) >= sharding.TINY


def test_a_mesh_of_two_axes_is_refused_and_one_task_is_made_once() -> None:
    task, devices = proxies.load("digits-mlp"), np.array(jax.devices()[:1])
    with pytest.raises(ValueError, match="the axes 'a', 'b'; make it of one axis"):
        proxies.over_devices(task, jax.sharding.Mesh(devices.reshape(1, 1), ("a", "b")))
    mesh = jax.sharding.Mesh(devices, ("a",))
    assert proxies.over_devices(task, mesh) is proxies.over_devices(task, mesh)
    assert proxies.over_devices(task, mesh).name == task.name


def test_a_training_fits_what_is_larger_than_it_needs() -> None:
    task, rule = proxies.load("quadratic"), optax.sgd(0.1)
    needed = proxies.memory(task, rule, steps=1000)
    assert needed > 4 * (1000 + task.params)  # the batch losses and the weights
    assert proxies.fits(task, rule, steps=1000)
    assert proxies.fits(task, rule, steps=1000, capacity=2 * needed)
    assert not proxies.fits(task, rule, steps=1000, capacity=needed)
