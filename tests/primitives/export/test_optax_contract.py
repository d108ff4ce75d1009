"""Exported optax files meet optax's requirements on an optimizer; convergence is tested apart.

Tests of structure and types only trace, so most run on the whole zoo. Tests that compile run on a
few programs with states of every kind, and on the whole zoo with `-m slow`.
"""

import inspect
from functools import cache
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from primitives import zoo
from primitives.graph.analysis import live
from tests.primitives.export.files import MOST_IN_SLOW, alias, exported

SHAPES = {"matrix": (4, 3), "vector": (5,), "scalar": (), "stacked": (2, 3, 4)}
STEPS = 3
EVERY = pytest.mark.parametrize("name", zoo.names())
MOST = pytest.mark.parametrize("name", MOST_IN_SLOW)


def with_argument(argument):
    """Return the names of the programs whose exported optimizer has the argument."""
    return [name for name in zoo.names() if argument in inspect.signature(alias(name)).parameters]


class Model(NamedTuple):
    """A container that is not a dict."""

    layers: list
    rest: dict


def random_arrays(seed, dtype=jnp.float32):
    rng = np.random.default_rng(seed)
    return {key: jnp.asarray(rng.normal(size=shape), dtype) for key, shape in SHAPES.items()}


WEIGHTS, GRADS = random_arrays(0), [random_arrays(seed) for seed in range(1, STEPS + 1)]


def run(optimizer, weights=WEIGHTS, grads=GRADS, wrap=lambda update: update, **extra):
    """Return the updates of a few steps at the same weights, and the last state."""
    update, state, all_updates = wrap(optimizer.update), optimizer.init(weights), []
    for g in grads:
        updates, state = update(g, state, weights, **extra)
        all_updates.append(updates)
    return all_updates, state


def compiled(optimizer, weights=WEIGHTS, grads=GRADS):
    return run(optimizer, weights, grads, jax.jit)[0]


@cache
def default_updates(name):
    """Return the updates with default arguments, compiled, for comparison with other updates."""
    return compiled(alias(name)())


def assert_close(actual, expected, rtol=1e-5):
    """Assert that structures are equal, and numbers up to float32 rounding."""
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    for a, b in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        largest = np.abs(np.asarray(b, np.float64)).max(initial=0.0)
        np.testing.assert_allclose(
            np.asarray(a, np.float64), np.asarray(b, np.float64), rtol=rtol, atol=rtol * largest
        )


def float_types(tree):
    return {x.dtype for x in jax.tree.leaves(tree) if jnp.issubdtype(x.dtype, jnp.floating)}


# -- structure and types: traced only -------------------------------------------------------------


@MOST
def test_the_state_keeps_its_structure_and_types(name):
    optimizer = alias(name)()

    def states():
        state = optimizer.init(WEIGHTS)
        return state, optimizer.update(GRADS[0], state, WEIGHTS)[1]

    first, second = jax.eval_shape(states)
    assert jax.tree.structure(first) == jax.tree.structure(second)
    for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True):
        assert (a.shape, a.dtype, a.weak_type) == (b.shape, b.dtype, b.weak_type)


@MOST
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float32])
def test_updates_have_the_weights_type_and_states_are_float32(name, dtype):
    weights, grads = random_arrays(0, dtype), random_arrays(1, dtype)
    (updates, *_), state = jax.eval_shape(lambda: run(alias(name)(), weights, [grads]))
    assert jax.tree.map(lambda x: (x.shape, x.dtype), updates) == jax.tree.map(
        lambda x: (x.shape, x.dtype), weights
    )
    assert float_types(state) <= {jnp.dtype(jnp.float32)}


@MOST
def test_float64_weights_have_float64_updates_and_states(name):
    with jax.enable_x64(True):
        weights, grads = random_arrays(0, jnp.float64), random_arrays(1, jnp.float64)
        (updates, *_), state = jax.eval_shape(lambda: run(alias(name)(), weights, [grads]))
    assert float_types(updates) == {jnp.dtype(jnp.float64)}
    assert float_types(state) <= {jnp.dtype(jnp.float64)}


@EVERY
def test_each_array_of_a_mixed_tree_keeps_its_own_type(name):
    weights = {"low": jnp.ones((3, 2), jnp.bfloat16), "high": jnp.ones((3, 2), jnp.float32)}
    (updates, *_), state = jax.eval_shape(lambda: run(alias(name)(), weights, [weights]))
    assert {key: x.dtype for key, x in updates.items()} == {"low": jnp.bfloat16, "high": "float32"}
    assert float_types(state) <= {jnp.dtype(jnp.float32)}


@MOST
def test_extra_arguments_are_ignored(name):
    def traced(**extra):
        return str(
            jax.make_jaxpr(lambda w, g: run(alias(name)(), w, [g], **extra))(WEIGHTS, GRADS[0])
        )

    assert traced(value=1.0, unknown="whatever") == traced()


@MOST
@pytest.mark.parametrize("empty", [{}, [], {"frozen": {}, "layers": [(), None]}], ids=repr)
def test_a_model_without_weights_has_empty_updates(name, empty):
    (updates, *_), _ = run(alias(name)(), empty, [empty])
    assert updates == empty


@EVERY
def test_params_are_required_only_if_the_program_reads_the_weights(name):
    optimizer = alias(name)()
    reads = any("w" in statement.args for statement in live(zoo.load(name)).statements)

    def update():
        return optimizer.update(GRADS[0], optimizer.init(WEIGHTS))

    if reads:
        with pytest.raises(ValueError, match="params"):
            jax.eval_shape(update)
    else:
        jax.eval_shape(update)


@EVERY
def test_every_hyperparameter_has_the_default_that_the_export_reports(name):
    arguments = inspect.signature(alias(name)).parameters
    defaults = {
        key: argument.default
        for key, argument in arguments.items()
        if key not in ("schedule", "mask")
    }
    assert defaults == exported(name, "optax").hyperparameters
    assert next(iter(arguments)) == "learning_rate"


# -- tests that compile ---------------------------------------------------------------------------


@MOST
def test_the_update_is_the_same_without_jit(name):
    actual, _ = run(alias(name)())
    assert_close(actual, default_updates(name))


@MOST
def test_under_vmap_each_model_has_its_own_updates(name):
    other = random_arrays(9), GRADS[::-1]
    weights, grads = jax.tree.map(lambda *x: jnp.stack(x), (WEIGHTS, GRADS), other)
    update, state = jax.jit(jax.vmap(alias(name)().update)), jax.vmap(alias(name)().init)(weights)
    actual = []
    for g in grads:
        updates, state = update(g, state, weights)
        actual.append(updates)
    assert_close(jax.tree.map(lambda x: x[0], actual), default_updates(name))
    assert_close(jax.tree.map(lambda x: x[1], actual), compiled(alias(name)(), *other))


@MOST
def test_all_steps_share_one_compilation_and_reuse_donated_memory(name):
    optimizer = alias(name)()
    step = jax.jit(optimizer.update, donate_argnums=(0, 1))
    state = jax.jit(optimizer.init)(WEIGHTS)
    for g, expected in zip(GRADS, default_updates(name), strict=True):
        old_state = jax.tree.leaves(state)
        updates, state = step(jax.tree.map(jnp.copy, g), state, WEIGHTS)
        assert all(x.is_deleted() for x in old_state)
        assert_close(updates, expected)
    assert step._cache_size() == 1


@MOST
def test_injected_hyperparameters_are_the_defaults_and_can_be_set(name):
    defaults = exported(name, "optax").hyperparameters
    optimizer = optax.inject_hyperparams(alias(name))(**defaults)
    step = jax.jit(optimizer.update)
    state = optimizer.init(WEIGHTS)
    assert set(state.hyperparams) >= set(defaults)
    for g, expected in zip(GRADS, default_updates(name), strict=True):
        updates, next_state = step(g, state, WEIGHTS)
        assert_close(updates, expected, 1e-4)
        doubled = state.hyperparams | {"learning_rate": 2 * state.hyperparams["learning_rate"]}
        doubled_updates, _ = step(g, state._replace(hyperparams=doubled), WEIGHTS)
        assert_close(doubled_updates, jax.tree.map(lambda x: 2 * x, updates))
        state = next_state


@MOST
def test_multi_steps_accumulates_gradients(name):
    optimizer = optax.MultiSteps(alias(name)(), every_k_schedule=2)
    offset = jax.tree.map(lambda g: 0.5 * jnp.ones_like(g), WEIGHTS)
    halves = [
        jax.tree.map(lambda g, d, s=sign: g + s * d, g, offset) for g in GRADS for sign in (1, -1)
    ]
    actual = compiled(optimizer, grads=halves)
    assert all(not np.any(x) for x in jax.tree.leaves(actual[::2]))
    assert_close(actual[1::2], default_updates(name), 1e-4)


@MOST
def test_an_exported_optimizer_works_inside_a_chain(name):
    chain = optax.chain(optax.scale(0.25), optax.scale(4.0), alias(name)(), optax.scale(0.5))
    assert_close(compiled(chain), jax.tree.map(lambda x: x / 2, default_updates(name)))


@MOST
def test_under_multi_transform_an_optimizer_updates_only_arrays_with_its_label(name):
    labels = {"matrix": "trained", "vector": "trained", "scalar": "none", "stacked": "none"}
    transforms = {"trained": alias(name)(), "none": optax.set_to_zero()}

    def restricted(tree):
        return {key: tree[key] for key in labels if labels[key] == "trained"}

    actual = compiled(optax.multi_transform(transforms, labels))
    alone = compiled(alias(name)(), restricted(WEIGHTS), [restricted(g) for g in GRADS])
    assert_close([restricted(updates) for updates in actual], alone)
    assert not any(np.any(updates[key]) for updates in actual for key in ("scalar", "stacked"))


@MOST
def test_updates_do_not_depend_on_the_containers_of_the_arrays(name):
    def nested(tree):
        rest = {"inner": (tree["scalar"], None), "empty": {}, "stacked": tree["stacked"]}
        return Model([tree["matrix"], tree["vector"]], rest)

    actual = compiled(alias(name)(), nested(WEIGHTS), [nested(g) for g in GRADS])
    assert_close(actual, [nested(updates) for updates in default_updates(name)])


@MOST
def test_a_schedule_of_the_learning_rate_scales_the_updates_from_step_0(name):
    rate = exported(name, "optax").hyperparameters["learning_rate"]
    actual = compiled(alias(name)(lambda count: rate / (1 + count)))
    expected = [
        jax.tree.map(lambda x, n=n: x / n, updates)
        for n, updates in enumerate(default_updates(name), 1)
    ]
    assert_close(actual, expected)


@MOST
def test_bfloat16_updates_equal_rounded_float32_updates(name):
    weights, *grads = [random_arrays(seed, jnp.bfloat16) for seed in range(STEPS + 1)]
    actual = compiled(alias(name)(), weights, grads)
    in_float32 = jax.tree.map(lambda x: x.astype(jnp.float32), (weights, grads))
    assert_close(actual, compiled(alias(name)(), *in_float32), 2**-6)


@pytest.mark.parametrize("name", with_argument("schedule"))
def test_schedule_is_a_number_or_a_function_of_the_completed_steps(name):
    assert_close(compiled(alias(name)(schedule=lambda count: 1.0)), default_updates(name))
    by_function, by_number = (
        compiled(alias(name)(schedule=schedule), grads=GRADS[:1])
        for schedule in (lambda count: 0.5 / (1 + count), 0.5)
    )
    assert_close(by_function, by_number)
    assert not np.allclose(by_number[0]["matrix"], default_updates(name)[0]["matrix"], rtol=1e-2)


@pytest.mark.parametrize("name", with_argument("mask"))
def test_mask_selects_the_arrays_with_weight_decay(name):
    mask = {key: len(shape) >= 2 for key, shape in SHAPES.items()}
    with_decay = default_updates(name)
    without = compiled(alias(name)(weight_decay=0.0))
    expected = [
        {key: (a if mask[key] else b)[key] for key in mask}
        for a, b in zip(with_decay, without, strict=True)
    ]
    for argument in (mask, lambda params: jax.tree.map(lambda p: p.ndim >= 2, params)):
        assert_close(compiled(alias(name)(mask=argument)), expected)
    assert not np.allclose(with_decay[0]["matrix"], without[0]["matrix"], rtol=1e-6)
