"""Exported files are the optimizers that people know, and the programs they come from.

Whole trajectories: each side keeps its own state and moves its own weights.
"""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch

from primitives import initial_state, step, zoo
from tests.primitives.export.files import MOST_IN_SLOW, alias, optimizer_class

SHAPES = {"matrix": (4, 3), "vector": (5,), "scalar": (), "stacked": (2, 3, 4)}
STEPS = 100

RNG = np.random.default_rng(0)
START = {key: RNG.normal(size=shape) for key, shape in SHAPES.items()}
GRADS = {key: RNG.normal(size=(STEPS, *shape)) for key, shape in SHAPES.items()}


def single(tree):
    return jax.tree.map(np.float32, tree)


def in_optax(optimizer, weights, grads):
    """The weights after each step."""

    def train_step(carry, g):
        weights, state = carry
        updates, state = optimizer.update(g, state, weights)
        weights = optax.apply_updates(weights, updates)
        return (weights, state), weights

    @jax.jit
    def trajectory(weights, grads):
        return jax.lax.scan(train_step, (weights, optimizer.init(weights)), grads)[1]

    return jax.tree.map(np.asarray, trajectory(jax.tree.map(jnp.asarray, weights), grads))


def in_torch(make, weights, grads):
    """The weights after each step."""
    params = {key: torch.tensor(x) for key, x in weights.items()}
    optimizer, found = make(params.values()), []
    for number in range(STEPS):
        for key, p in params.items():
            p.grad = torch.tensor(grads[key][number])
        optimizer.step()
        found.append({key: p.numpy().copy() for key, p in params.items()})
    return jax.tree.map(lambda *x: np.stack(x), *found)


@cache
def in_reference(name):
    """The weights after each step, in float32."""
    program, weights, grads = zoo.load(name), single(START), single(GRADS)

    def train_step(carry, inputs):
        weights, state = carry
        t, g = inputs
        update, state = step(program, state, weights, g, t=t)
        weights = jax.tree.map(lambda w, u: w - u, weights, update)
        return (weights, state), weights

    @jax.jit
    def trajectory(weights, grads):
        times = jnp.arange(1.0, STEPS + 1)
        start = (weights, initial_state(program, weights))
        return jax.lax.scan(train_step, start, (times, grads))[1]

    return jax.tree.map(np.asarray, trajectory(jax.tree.map(jnp.asarray, weights), grads))


def assert_same(found, wanted, rtol, atol):
    for key in SHAPES:
        assert found[key].dtype == wanted[key].dtype
        np.testing.assert_allclose(found[key], wanted[key], rtol=rtol, atol=atol)
        assert not np.allclose(wanted[key][0], wanted[key][-1], rtol=1e-6)


def adafactor(**options):
    return optax.adafactor(min_dim_size_to_factor=1, eps=1e-30, clipping_threshold=1.0, **options)


KNOWN_IN_OPTAX = {
    "adam": (lambda: optax.adam(1e-3), {}),
    "adamw": (lambda: optax.adamw(1e-3, weight_decay=0.01), {}),
    "momentum": (lambda: optax.sgd(0.1, momentum=0.9), {"learning_rate": 0.1}),
    "nesterov": (lambda: optax.sgd(0.1, momentum=0.9, nesterov=True), {"learning_rate": 0.1}),
    "rmsprop": (lambda: optax.rmsprop(1e-3, decay=0.9, eps=1e-8), {}),
    "adagrad": (lambda: optax.adagrad(0.01, 0.1, eps=1e-7), {}),
    "adadelta": (lambda: optax.adadelta(1.0, rho=0.9, eps=1e-6), {}),
    "amsgrad": (lambda: optax.amsgrad(1e-3), {}),
    "adafactor_external": (
        lambda: adafactor(learning_rate=1e-3, multiply_by_parameter_scale=False),
        {},
    ),
    "lion": (lambda: optax.lion(1e-4, 0.9, 0.99, weight_decay=0.1), {}),
}
"""Optax's own, and the arguments of ours where they are not the defaults."""

ROUNDED_IN_OPTAX = {"adafactor_external": 1e-6}
"""Optax computes the decay 1 - t^-0.8 in float32, whatever the weights are."""

KNOWN_IN_TORCH = {
    "adam": (lambda p: torch.optim.Adam(p, 1e-3), {}),
    "adamw": (lambda p: torch.optim.AdamW(p, 1e-3, weight_decay=0.01), {}),
    "momentum": (lambda p: torch.optim.SGD(p, 0.1, momentum=0.9), {"lr": 0.1}),
    "nesterov": (lambda p: torch.optim.SGD(p, 0.1, momentum=0.9, nesterov=True), {"lr": 0.1}),
    "adadelta": (lambda p: torch.optim.Adadelta(p, 1.0, rho=0.9, eps=1e-6), {}),
    "adam_l2": (lambda p: torch.optim.Adam(p, 1e-3, weight_decay=0.01), {}),
}
"""PyTorch's own where they have the formulas of the zoo, which has optax's."""


@pytest.mark.parametrize("name", KNOWN_IN_OPTAX)
def test_the_exported_optax_file_is_optaxs_own_optimizer(name):
    known, options = KNOWN_IN_OPTAX[name]
    bound = ROUNDED_IN_OPTAX.get(name, 1e-9)
    with jax.enable_x64(True):
        wanted = in_optax(known(), START, GRADS)
        assert_same(in_optax(alias(name)(**options), START, GRADS), wanted, bound, bound)


@pytest.mark.parametrize("name", KNOWN_IN_OPTAX)
def test_the_exported_torch_file_is_optaxs_own_optimizer(name):
    known, options = KNOWN_IN_OPTAX[name]
    bound = ROUNDED_IN_OPTAX.get(name, 1e-9)
    with jax.enable_x64(True):
        wanted = in_optax(known(), START, GRADS)
    own = {"lr" if key == "learning_rate" else key: x for key, x in options.items()}
    found = in_torch(lambda p: optimizer_class(name)(p, **own), START, GRADS)
    assert_same(found, wanted, bound, bound)


@pytest.mark.parametrize("name", KNOWN_IN_TORCH)
def test_the_exported_torch_file_is_pytorchs_own_optimizer(name):
    known, options = KNOWN_IN_TORCH[name]
    wanted = in_torch(known, START, GRADS)
    found = in_torch(lambda p: optimizer_class(name)(p, **options), START, GRADS)
    assert_same(found, wanted, 1e-9, 1e-9)


TINY = {"ours": 1e-60, "theirs": 1e-30}
"""PyTorch adds epsilon to the root and the zoo, like optax, below it: too small to matter here."""


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("rmsprop", lambda p: torch.optim.RMSprop(p, 1e-3, alpha=0.9, eps=TINY["theirs"])),
        (
            "adagrad",
            lambda p: torch.optim.Adagrad(
                p, 0.01, initial_accumulator_value=0.1, eps=TINY["theirs"]
            ),
        ),
    ],
)
def test_the_exported_torch_file_is_pytorchs_own_optimizer_but_for_epsilon(name, known):
    found = in_torch(lambda p: optimizer_class(name)(p, eps=TINY["ours"]), START, GRADS)
    assert_same(found, in_torch(known, START, GRADS), 1e-9, 1e-9)


@pytest.mark.parametrize("target", ["optax", "torch"])
@pytest.mark.parametrize("name", MOST_IN_SLOW)
def test_float32_trajectories_are_the_reference_interpreters(name, target):
    weights, grads = single(START), single(GRADS)
    wanted = in_reference(name)
    if target == "optax":
        found = in_optax(alias(name)(), weights, grads)
    else:
        found = in_torch(optimizer_class(name), weights, grads)
    assert_same(found, wanted, 1e-4, 1e-4)
