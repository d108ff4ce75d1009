"""Tests of the properties of a task that searches, funnels and evaluations rely on."""

from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import proxies
from proxies import StepSchedule, TrainingResult
from proxies.training.loop import _distinct_keys
from proxies.training.schedules import cosine, rates_of
from tests.proxies.compiling import FAST_COMPILATION, quick_jit

STEPS = {
    **dict.fromkeys(("photos-denoise", "photos-diffusion", "topics-lstm"), 10),
    **dict.fromkeys(("topics-transformer", "numbers-translate"), 10),
    **dict.fromkeys(("digits-resnet", "digits-smoothing"), 20),
    "digits-gan": 300,
}
"""Training steps of slow tasks, and of `digits-gan`, whose loss first rises; 40 for other tasks."""

LEARNING_RATES = {
    **dict.fromkeys(("topics-transformer", "topics-lstm"), 0.02),
    **dict.fromkeys(("plateau", "curvature-flat", "digits-smoothing"), 0.1),
    "chain-vanishing": 0.05,
    "deep-delayed": 0.002,
    "digits-gan": 0.02,
    "curvature-slope": 0.5,
}
"""Learning rates of tasks for which the default, 0.005, is too small or too large."""

VARIANTS = {*proxies.names("validation"), "deep-naive", "deep-lecun", "deep-xavier"}
"""Tasks that differ from others only in sizes and constants; tested with `-m slow`."""


def _test_cases(names: Iterable[str]) -> list[Any]:
    """Return the names of tasks as test parameters; variants are marked as slow."""
    return [
        pytest.param(name, marks=[pytest.mark.slow] if name in VARIANTS else []) for name in names
    ]


each_task = pytest.mark.parametrize("name", _test_cases(proxies.names()))
each_task_with_data = pytest.mark.parametrize(
    "name", _test_cases(name for name in proxies.names() if proxies.load(name).source != "none")
)


def _adam() -> optax.GradientTransformationExtraArgs:
    """Return Adam with its learning rate as an operand, so that tests can share a compilation.

    If an array has no finite, nonzero gradient in the first step, the weights become NaN.
    """
    adam = optax.scale_by_adam()

    def init(params: Any, learning_rate: jax.Array) -> Any:
        return adam.init(params), learning_rate

    def update(updates: Any, state: Any, params: Any = None, *, lr: Any, t: Any) -> Any:
        adam_state, learning_rate = state
        has_gradient = [
            jnp.any(leaf) & jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(updates)
        ]
        is_valid = jnp.all(jnp.stack(has_gradient)) | (t > 1)
        factor = jnp.where(is_valid, -lr * learning_rate, jnp.nan)
        updates, adam_state = adam.update(updates, adam_state, params)
        return jax.tree.map(lambda leaf: factor * leaf, updates), (adam_state, learning_rate)

    return optax.GradientTransformationExtraArgs(init, update)


ADAM = _adam()


class _TrainingParts(NamedTuple):
    """The result of a training, with its initial weights, partition of the items and batches."""

    params: Any
    partition: Any
    samples: Any
    result: TrainingResult


@cache
def _compiled_training(name: str) -> Any:
    """Return the executable that trains a task with any seed, learning rate and data."""
    task, steps = proxies.load(name), STEPS.get(name, 40)

    @jax.jit
    def train_with_parts(data: Any, key: jax.Array, learning_rate: jax.Array) -> _TrainingParts:
        keys = _distinct_keys(key, 3 + 2 * steps)  # the keys that `compiled_train` uses
        params, partition = task.init(keys[0]), task.partition(data, keys[1])
        samples = jax.vmap(lambda key: task.sample(partition, key))(keys[3::2])
        schedule = StepSchedule.plain(rates_of(cosine(steps), steps), steps)
        result = proxies.compiled_train(task, ADAM, data, key, schedule, (learning_rate,))
        return _TrainingParts(params, partition, samples, result)

    example = task.data, jax.random.key(0), jnp.float32(0.0)
    return train_with_parts.lower(*example).compile(compiler_options=FAST_COMPILATION)


def _training_parts(
    name: str, seed: int, updates_weights: bool = True, repetition: int = 0
) -> _TrainingParts:
    """Train a task, or return the earlier training with the same arguments."""
    return _cached_training_parts(name, seed, updates_weights, repetition)


@cache
def _cached_training_parts(
    name: str, seed: int, updates_weights: bool, repetition: int
) -> _TrainingParts:
    del repetition  # part of the cache's key: a call with another number trains again
    learning_rate = LEARNING_RATES.get(name, 5e-3) if updates_weights else 0.0
    parts: _TrainingParts = _compiled_training(name)(
        proxies.load(name).data, jax.random.key(seed), jnp.float32(learning_rate)
    )
    return parts


def _train(
    name: str, seed: int, updates_weights: bool = True, repetition: int = 0
) -> TrainingResult:
    return _training_parts(name, seed, updates_weights, repetition).result


@each_task
def test_initial_weights_are_finite_float32_and_counted_by_params(name: str) -> None:
    leaves = jax.tree.leaves(_training_parts(name, 0).params)
    assert sum(leaf.size for leaf in leaves) == proxies.load(name).params
    assert all(leaf.dtype == jnp.float32 for leaf in leaves)
    assert all(np.isfinite(leaf).all() for leaf in leaves)


@each_task
def test_loss_is_positive_and_its_gradient_reaches_every_array(name: str) -> None:
    result = _train(name, 0, updates_weights=False)
    for loss in (*result.train_loss, result.loss):
        assert loss.dtype == jnp.float32
        assert 0 < float(loss) < np.inf  # `ADAM` makes the loss NaN if an array has no gradient
    assert not result.diverged


@pytest.mark.parametrize("name", _test_cases(name for name in proxies.names() if name != "reddi"))
def test_training_lowers_the_evaluation_loss(name: str) -> None:
    trained, untrained = _train(name, 0), _train(name, 0, updates_weights=False)
    steps = STEPS.get(name, 40)
    assert 0 < float(trained.loss) < 0.95 * float(untrained.loss) < np.inf
    assert not trained.diverged
    assert trained.steps == steps
    assert trained.train_loss.shape == (steps,)
    assert np.isfinite(trained.train_loss).all()


@each_task
def test_equal_keys_give_bitwise_equal_losses(name: str) -> None:
    first, second = _train(name, 0), _train(name, 0, repetition=1)
    assert first is not second
    assert np.array_equal(first.train_loss, second.train_loss)
    assert first.loss == second.loss


@each_task_with_data
def test_different_keys_give_different_losses(name: str) -> None:
    first, second = _train(name, 0), _train(name, 1)
    assert not np.any(np.equal(first.train_loss, second.train_loss))
    assert first.loss != second.loss


@pytest.mark.parametrize("name", ["digits-mlp", "photos-autoencoder", "quadratic"])
def test_trainings_under_vmap_have_the_losses_of_single_trainings(name: str) -> None:
    def train(key: jax.Array) -> TrainingResult:
        operands = (jnp.float32(5e-3),)
        return proxies.train(proxies.load(name), ADAM, steps=40, key=key, operands=operands)

    under_vmap = quick_jit(jax.vmap(train))(jnp.stack([jax.random.key(0), jax.random.key(1)]))
    for seed in (0, 1):
        single = _train(name, seed)
        np.testing.assert_allclose(under_vmap.train_loss[seed], single.train_loss, rtol=1e-3)
        np.testing.assert_allclose(under_vmap.loss[seed], single.loss, rtol=1e-3)


@each_task_with_data
def test_a_seed_partitions_the_items_into_training_and_evaluation(name: str) -> None:
    item_count = len(proxies.load(name).data[0])
    train, evaluation, _ = _training_parts(name, 0).partition
    assert sorted([*train.tolist(), *evaluation.tolist()]) == list(range(item_count))
    assert not np.array_equal(train, _training_parts(name, 1).partition.train)


@each_task_with_data
def test_batches_are_drawn_from_training_items_only(name: str) -> None:
    parts = _training_parts(name, 0)
    drawn_indices = jax.tree.leaves(parts.samples)[0]
    assert set(np.ravel(drawn_indices).tolist()) <= set(parts.partition.train.tolist())


@each_task_with_data
def test_evaluation_never_reads_a_training_item(name: str) -> None:
    """Exchanging training items changes the batch losses, but not the evaluation."""
    original = _training_parts(name, 0, updates_weights=False)
    data = proxies.load(name).data
    items, *other_arrays = data
    changed_items, train_indices = np.array(items), np.asarray(original.partition.train)
    changed_items[train_indices] = np.roll(changed_items[train_indices], 1, axis=0)
    changed_data = type(data)(changed_items, *other_arrays)
    changed = _compiled_training(name)(changed_data, jax.random.key(0), jnp.float32(0.0))
    assert not np.array_equal(changed.result.train_loss, original.result.train_loss)
    assert changed.result.loss == original.result.loss


def test_the_benchmarked_mlps_have_the_documented_numbers_of_weights() -> None:
    mlp = proxies.tasks.digits.mlp
    assert mlp(hidden=(40,)).params == 3_010
    assert mlp(hidden=(256,)).params == 19_210
    assert mlp(hidden=(400, 400)).params == 190_410
    assert mlp(hidden=(400, 400)).name == "digits-mlp-400x400"


def test_the_documentation_lists_every_task_and_source() -> None:
    page = (Path(proxies.__file__).parents[1] / "docs" / "tasks.md").read_text()
    for task in map(proxies.load, proxies.names()):
        assert f"| `{task.name}` | {task.params:,} | {task.steps:,} |" in page
        assert f"| {task.description} | {task.metric} |" in page
    for name, source in proxies.data.SOURCES.items():
        part_sizes = " / ".join(f"{len(source().part(part)[0]):,}" for part in proxies.data.PARTS)
        assert f"| `{name}` | {source().provenance} | {part_sizes} |" in page
