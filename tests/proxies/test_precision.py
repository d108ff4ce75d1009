"""Tests that compare tasks in bfloat16 with the same tasks in float32."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import proxies
from tests.proxies.compiling import quick_jit

KEY = jax.random.key(0)
REPRESENTATIVE_TASKS = ("digits-mlp", "topics-attention", "topics-recurrent", "digits-gan")
"""Tasks with a fully connected network, attention, recurrence, and a custom gradient."""

RESIZED_SEARCH_TASKS = proxies.names("validation")
"""Validation tasks, which differ from search tasks only in sizes and constants."""


def _loss_and_gradients(task: proxies.Task) -> Any:
    """Return a function from data and a key to weights, batch, loss and gradients."""
    gradient = task.gradient or jax.value_and_grad(task.loss)

    def step(data: Any, key: jax.Array) -> Any:
        params = task.init(key)
        batch = task.batch(data, task.sample(task.partition(data, key), key))
        return params, batch, *gradient(params, batch, key)

    return step


@pytest.mark.parametrize("name", REPRESENTATIVE_TASKS)
def test_gradients_in_bfloat16_and_in_float32_differ_by_less_than_5_percent(name: str) -> None:
    task = proxies.load(name)
    in_float32 = quick_jit(_loss_and_gradients(task))
    in_bfloat16 = quick_jit(_loss_and_gradients(proxies.in_bfloat16(task)))
    *_, expected_loss, expected_gradients = in_float32(task.data, KEY)
    *_, loss, gradients = in_bfloat16(task.data, KEY)
    assert loss == pytest.approx(float(expected_loss), rel=0.02)
    for actual, expected in zip(
        jax.tree.leaves(gradients), jax.tree.leaves(expected_gradients), strict=True
    ):
        error = np.linalg.norm(actual - expected) / np.linalg.norm(expected)
        was_rounded = error > 1e-5
        assert was_rounded
        assert error < 0.05


@pytest.mark.parametrize(
    "name", [name for name in proxies.names() if name not in RESIZED_SEARCH_TASKS]
)
def test_every_task_in_bfloat16_returns_loss_and_gradients_in_float32(name: str) -> None:
    task = proxies.load(name)
    step = _loss_and_gradients(proxies.in_bfloat16(task))
    params, batch, loss, gradients = jax.eval_shape(step, task.data, KEY)
    assert loss.dtype == jnp.float32
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves((params, gradients)))
    assert jnp.bfloat16 not in [leaf.dtype for leaf in jax.tree.leaves(batch)]


@pytest.mark.parametrize("name", ["digits-mlp", "topics-attention"])
def test_the_final_losses_in_bfloat16_and_in_float32_are_close(name: str) -> None:
    def train(task: proxies.Task) -> proxies.TrainingResult:
        return quick_jit(lambda key: proxies.train(task, optax.adam(0.01), steps=40, key=key))(KEY)

    in_float32, in_bfloat16 = train(proxies.load(name)), train(proxies.load(f"{name}+bfloat16"))
    assert in_float32.train_loss[0] > 1.1 * in_float32.train_loss[-1]
    assert in_bfloat16.loss == pytest.approx(float(in_float32.loss), rel=0.02)
    assert not np.array_equal(in_bfloat16.train_loss, in_float32.train_loss)


@pytest.mark.parametrize(
    "name", [*REPRESENTATIVE_TASKS[:3], "digits-vit", "topics-lstm", "digits-resnet"]
)
def test_all_matrix_products_of_a_model_are_in_bfloat16(name: str) -> None:
    """A single float32 operand would make JAX compute all later values in float32."""
    task = proxies.load(name)
    jaxpr = str(jax.make_jaxpr(_loss_and_gradients(proxies.in_bfloat16(task)))(task.data, KEY))
    products = [line for line in jaxpr.splitlines() if " = dot_general" in line]
    assert products
    assert all(":bf16[" in line for line in products)


def test_a_task_in_bfloat16_has_the_weights_and_the_evaluation_of_the_task_in_float32() -> None:
    task = proxies.load("digits-mlp")
    in_bfloat16 = proxies.in_bfloat16(task)
    assert (in_bfloat16.evaluate, in_bfloat16.init) == (task.evaluate, task.init)


def test_loading_a_name_with_the_suffix_bfloat16_returns_the_task_in_bfloat16() -> None:
    task = proxies.load("digits-mlp+bfloat16")
    assert task is proxies.in_bfloat16(proxies.load("digits-mlp"))
    assert task.name == "digits-mlp+bfloat16"
    with pytest.raises(proxies.UnknownTaskError, match="did you mean"):
        proxies.load("digit-mlp+bfloat16")
