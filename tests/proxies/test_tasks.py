"""One table test over every task: what a search, a funnel and an evaluation rely on."""

from collections.abc import Iterable
from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import proxies
from proxies import Curve
from proxies.schedules import cosine, shape
from proxies.training import _streams

STEPS = {"photos-denoise": 20, "digits-resnet": 20, "digits-smoothing": 20, "digits-gan": 200}
"""Training steps of the costly tasks and of one that is worse at first; 40 for the others."""

RATES = {"digits-smoothing": 0.1, "plateau": 0.05, "curvature-slope": 0.5, "digits-gan": 1e-3}
"""Learning rates where 0.005 moves too little in so few steps."""

QUICKLY = {"xla_backend_optimization_level": "0"}
"""Compiling takes most of the time here."""


def _rows(names: Iterable[str]) -> list[Any]:
    """The validation tasks are the search's with other numbers; `-m slow` tries them too."""
    validation = proxies.names("validation")
    return [
        pytest.param(name, marks=[pytest.mark.slow] if name in validation else []) for name in names
    ]


each_task = pytest.mark.parametrize("name", _rows(proxies.names()))
each_task_with_data = pytest.mark.parametrize(
    "name", _rows(name for name in proxies.names() if proxies.load(name).source != "none")
)


def _adam() -> optax.GradientTransformationExtraArgs:
    """Adam with its rate as operand: all tests of a task, moving or not, share a compilation."""
    adam = optax.scale_by_adam()

    def init(params: Any, rate: jax.Array) -> Any:
        return adam.init(params), rate

    def update(updates: Any, state: Any, params: Any = None, *, lr: Any, **extra: Any) -> Any:
        inner, rate = state
        updates, inner = adam.update(updates, inner, params)
        return jax.tree.map(lambda leaf: -lr * rate * leaf, updates), (inner, rate)

    return optax.GradientTransformationExtraArgs(init, update)


ADAM = _adam()


class _Anatomy(NamedTuple):
    """A training with what it is made of: the start, the batches, the first gradient."""

    params: Any
    partition: Any
    samples: Any
    gradients: Any
    curve: Curve


@cache
def _dissector(name: str) -> Any:
    """Compiled once for each task, for all seeds, rates and data."""
    task, steps = proxies.load(name), STEPS.get(name, 40)

    @jax.jit
    def dissect(data: Any, key: jax.Array, rate: jax.Array) -> _Anatomy:
        keys = _streams(key, 3 + 2 * steps)  # the training's own, so that nothing is done twice
        params, partition = task.init(keys[0]), task.partition(data, keys[1])
        samples = jax.vmap(lambda key: task.sample(partition, key))(keys[3::2])
        batch = task.batch(data, jax.tree.map(lambda draws: draws[0], samples))
        _, gradients = (task.gradient or jax.value_and_grad(task.loss))(params, batch, keys[4])
        lrs = shape(cosine(steps), steps)
        curve = proxies.compiled_train(task, ADAM, data, key, lrs, jnp.int32(steps), (rate,))
        return _Anatomy(params, partition, samples, gradients, curve)

    example = task.data, jax.random.key(0), jnp.float32(0.0)
    return dissect.lower(*example).compile(compiler_options=QUICKLY)


@cache
def _dissect(name: str, seed: int, moving: bool = True, repetition: int = 0) -> _Anatomy:
    del repetition  # tells apart two runs that the cache would make one
    rate = RATES.get(name, 5e-3) if moving else 0.0
    anatomy: _Anatomy = _dissector(name)(
        proxies.load(name).data, jax.random.key(seed), jnp.float32(rate)
    )
    return anatomy


def _train(name: str, seed: int, moving: bool = True, repetition: int = 0) -> Curve:
    return _dissect(name, seed, moving, repetition).curve


@each_task
def test_initial_weights_are_finite_float32_of_the_stated_number(name: str) -> None:
    leaves = jax.tree.leaves(_dissect(name, 0).params)
    assert sum(leaf.size for leaf in leaves) == proxies.load(name).params
    assert all(leaf.dtype == jnp.float32 for leaf in leaves)
    assert all(np.isfinite(leaf).all() for leaf in leaves)


@each_task
def test_loss_is_positive_and_its_gradient_reaches_every_array(name: str) -> None:
    curve = _train(name, 0, moving=False)
    for loss in (*curve.train_loss, curve.loss):
        assert loss.dtype == jnp.float32
        assert 0 < float(loss) < np.inf
    for gradient in jax.tree.leaves(_dissect(name, 0).gradients):
        assert np.isfinite(gradient).all()
        assert np.any(gradient != 0)


@pytest.mark.parametrize("name", _rows(name for name in proxies.names() if name != "reddi"))
def test_training_lowers_the_evaluation(name: str) -> None:
    trained, untrained = _train(name, 0), _train(name, 0, moving=False)
    steps = STEPS.get(name, 40)
    assert 0 < float(trained.loss) < 0.99 * float(untrained.loss) < np.inf
    assert not trained.diverged
    assert trained.steps == steps
    assert trained.train_loss.shape == (steps,)
    assert np.isfinite(trained.train_loss).all()


@each_task
def test_equal_keys_give_the_same_bits(name: str) -> None:
    once, again = _train(name, 0), _train(name, 0, repetition=1)
    assert once is not again
    assert np.array_equal(once.train_loss, again.train_loss)
    assert once.loss == again.loss


@each_task_with_data
def test_another_key_gives_another_curve(name: str) -> None:
    once, other = _train(name, 0), _train(name, 1)
    assert not np.any(np.equal(once.train_loss, other.train_loss))
    assert once.loss != other.loss


@pytest.mark.parametrize("name", ["digits-mlp", "photos-autoencoder", "quadratic"])
def test_training_under_vmap_agrees_with_training_alone(name: str) -> None:
    def alone(key: jax.Array) -> Curve:
        operands = (jnp.float32(5e-3),)
        return proxies.train(proxies.load(name), ADAM, steps=40, key=key, operands=operands)

    both = jax.vmap(alone)(jnp.stack([jax.random.key(0), jax.random.key(1)]))
    for seed in (0, 1):
        curve = _train(name, seed)
        np.testing.assert_allclose(both.train_loss[seed], curve.train_loss, rtol=1e-3)
        np.testing.assert_allclose(both.loss[seed], curve.loss, rtol=1e-3)


@each_task_with_data
def test_a_seed_cuts_its_part_into_training_and_evaluation_items(name: str) -> None:
    items = len(proxies.load(name).data[0])
    train, evaluation, _ = _dissect(name, 0).partition
    assert sorted([*train.tolist(), *evaluation.tolist()]) == list(range(items))
    assert not np.array_equal(train, _dissect(name, 1).partition.train)


@each_task_with_data
def test_batches_are_drawn_from_training_items_alone(name: str) -> None:
    anatomy = _dissect(name, 0)
    items = jax.tree.leaves(anatomy.samples)[0]
    assert set(np.ravel(items).tolist()) <= set(anatomy.partition.train.tolist())


@each_task_with_data
def test_evaluation_never_reads_a_training_item(name: str) -> None:
    data, clean = proxies.load(name).data, _dissect(name, 0, moving=False)
    items, *rest = data
    poisoned = np.array(items)
    poisoned[np.asarray(clean.partition.train)] = 7
    anatomy = _dissector(name)(type(data)(poisoned, *rest), jax.random.key(0), jnp.float32(0.0))
    assert not np.array_equal(anatomy.curve.train_loss, clean.curve.train_loss)
    assert anatomy.curve.loss == clean.curve.loss


def test_the_benchmark_sizes_of_the_network_are_as_documented() -> None:
    mlp = proxies.tasks.digits.mlp
    assert [mlp(hidden=hidden).params for hidden in [(40,), (256,), (400, 400)]] == [
        3_010,
        19_210,
        190_410,
    ]
    assert mlp(hidden=(400, 400)).name == "digits-mlp-400x400"
