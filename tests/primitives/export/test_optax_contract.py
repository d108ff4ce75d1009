"""Every exported optax file does what optax asks of an optimizer, beside converging.

Laws about structure and types are traced only, so all of the zoo is tried. Laws that compile are
tried on a few programs with states of every kind; on the whole zoo with `-m slow`.
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


def taking(argument):
    """The programs whose file has an argument of this name."""
    return [name for name in zoo.names() if argument in inspect.signature(alias(name)).parameters]


class Model(NamedTuple):
    """A container that is not a dict."""

    layers: list
    rest: dict


def drawn(seed, dtype=jnp.float32):
    rng = np.random.default_rng(seed)
    return {key: jnp.asarray(rng.normal(size=shape), dtype) for key, shape in SHAPES.items()}


WEIGHTS, GRADS = drawn(0), [drawn(seed) for seed in range(1, STEPS + 1)]


def run(optimizer, weights=WEIGHTS, grads=GRADS, wrap=lambda update: update, **extra):
    """The updates of a few steps at the same weights, and the last state."""
    update, state, found = wrap(optimizer.update), optimizer.init(weights), []
    for g in grads:
        updates, state = update(g, state, weights, **extra)
        found.append(updates)
    return found, state


def compiled(optimizer, weights=WEIGHTS, grads=GRADS):
    return run(optimizer, weights, grads, jax.jit)[0]


@cache
def plain(name):
    """The updates that the others are compared with."""
    return compiled(alias(name)())


def assert_close(found, wanted, rtol=1e-5):
    """Equal structures, and numbers that are equal but for float32's rounding."""
    assert jax.tree.structure(found) == jax.tree.structure(wanted)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        largest = np.abs(np.asarray(b, np.float64)).max(initial=0.0)
        np.testing.assert_allclose(
            np.asarray(a, np.float64), np.asarray(b, np.float64), rtol=rtol, atol=rtol * largest
        )


def floats(tree):
    return {x.dtype for x in jax.tree.leaves(tree) if jnp.issubdtype(x.dtype, jnp.floating)}


# -- laws about structure and types: the whole zoo ------------------------------------------------


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
    weights, grads = drawn(0, dtype), drawn(1, dtype)
    (updates, *_), state = jax.eval_shape(lambda: run(alias(name)(), weights, [grads]))
    assert jax.tree.map(lambda x: (x.shape, x.dtype), updates) == jax.tree.map(
        lambda x: (x.shape, x.dtype), weights
    )
    assert floats(state) <= {jnp.dtype(jnp.float32)}


@MOST
def test_float64_weights_have_float64_updates_and_states(name):
    with jax.enable_x64(True):
        weights, grads = drawn(0, jnp.float64), drawn(1, jnp.float64)
        (updates, *_), state = jax.eval_shape(lambda: run(alias(name)(), weights, [grads]))
    assert floats(updates) == {jnp.dtype(jnp.float64)}
    assert floats(state) <= {jnp.dtype(jnp.float64)}


@EVERY
def test_each_array_of_a_mixed_tree_keeps_its_own_type(name):
    weights = {"low": jnp.ones((3, 2), jnp.bfloat16), "high": jnp.ones((3, 2), jnp.float32)}
    (updates, *_), state = jax.eval_shape(lambda: run(alias(name)(), weights, [weights]))
    assert {key: x.dtype for key, x in updates.items()} == {"low": jnp.bfloat16, "high": "float32"}
    assert floats(state) <= {jnp.dtype(jnp.float32)}


@MOST
def test_extra_arguments_are_taken_and_change_nothing(name):
    def traced(**extra):
        return str(
            jax.make_jaxpr(lambda w, g: run(alias(name)(), w, [g], **extra))(WEIGHTS, GRADS[0])
        )

    assert traced(value=1.0, unknown="whatever") == traced()


@MOST
@pytest.mark.parametrize("empty", [{}, [], {"frozen": {}, "layers": [(), None]}], ids=repr)
def test_a_model_without_weights_is_trained_without_effect(name, empty):
    (updates, *_), _ = run(alias(name)(), empty, [empty])
    assert updates == empty


@EVERY
def test_the_update_asks_for_the_weights_just_if_the_program_reads_them(name):
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
def test_every_argument_has_the_default_that_the_export_names(name):
    arguments = inspect.signature(alias(name)).parameters
    found = {key: one.default for key, one in arguments.items() if key not in ("schedule", "mask")}
    assert found == exported(name, "optax").hyperparameters
    assert next(iter(arguments)) == "learning_rate"


# -- laws that compile ----------------------------------------------------------------------------


@MOST
def test_the_update_is_the_same_without_jit(name):
    found, _ = run(alias(name)())
    assert_close(found, plain(name))


@MOST
def test_models_of_a_batch_are_trained_one_by_one(name):
    other = drawn(9), GRADS[::-1]
    weights, grads = jax.tree.map(lambda *x: jnp.stack(x), (WEIGHTS, GRADS), other)
    update, state = jax.jit(jax.vmap(alias(name)().update)), jax.vmap(alias(name)().init)(weights)
    found = []
    for g in grads:
        updates, state = update(g, state, weights)
        found.append(updates)
    assert_close(jax.tree.map(lambda x: x[0], found), plain(name))
    assert_close(jax.tree.map(lambda x: x[1], found), compiled(alias(name)(), *other))


@MOST
def test_one_compilation_serves_all_steps_and_donated_memory_is_used_again(name):
    optimizer = alias(name)()
    step = jax.jit(optimizer.update, donate_argnums=(0, 1))
    state = jax.jit(optimizer.init)(WEIGHTS)
    for g, wanted in zip(GRADS, plain(name), strict=True):
        entering = jax.tree.leaves(state)
        updates, state = step(jax.tree.map(jnp.copy, g), state, WEIGHTS)
        assert all(x.is_deleted() for x in entering)
        assert_close(updates, wanted)
    assert step._cache_size() == 1


@MOST
def test_injected_hyperparameters_are_the_defaults_and_can_be_set(name):
    defaults = exported(name, "optax").hyperparameters
    optimizer = optax.inject_hyperparams(alias(name))(**defaults)
    step = jax.jit(optimizer.update)
    state = optimizer.init(WEIGHTS)
    assert set(state.hyperparams) >= set(defaults)
    for g, wanted in zip(GRADS, plain(name), strict=True):
        updates, following = step(g, state, WEIGHTS)
        assert_close(updates, wanted, 1e-4)
        doubled = state.hyperparams | {"learning_rate": 2 * state.hyperparams["learning_rate"]}
        twice, _ = step(g, state._replace(hyperparams=doubled), WEIGHTS)
        assert_close(twice, jax.tree.map(lambda x: 2 * x, updates))
        state = following


@MOST
def test_gradients_are_accumulated_by_multi_steps(name):
    optimizer = optax.MultiSteps(alias(name)(), every_k_schedule=2)
    apart = jax.tree.map(lambda g: 0.5 * jnp.ones_like(g), WEIGHTS)
    halves = [
        jax.tree.map(lambda g, d, s=sign: g + s * d, g, apart) for g in GRADS for sign in (1, -1)
    ]
    found = compiled(optimizer, grads=halves)
    assert all(not np.any(x) for x in jax.tree.leaves(found[::2]))
    assert_close(found[1::2], plain(name), 1e-4)


@MOST
def test_it_is_a_link_of_a_chain(name):
    chain = optax.chain(optax.scale(0.25), optax.scale(4.0), alias(name)(), optax.scale(0.5))
    assert_close(compiled(chain), jax.tree.map(lambda x: x / 2, plain(name)))


@MOST
def test_multi_transform_gives_it_the_arrays_with_its_label(name):
    own = {"matrix": "own", "vector": "own", "scalar": "none", "stacked": "none"}
    parts = {"own": alias(name)(), "none": optax.set_to_zero()}

    def restricted(tree):
        return {key: tree[key] for key in own if own[key] == "own"}

    found = compiled(optax.multi_transform(parts, own))
    alone = compiled(alias(name)(), restricted(WEIGHTS), [restricted(g) for g in GRADS])
    assert_close([restricted(updates) for updates in found], alone)
    assert not any(np.any(updates[key]) for updates in found for key in ("scalar", "stacked"))


@MOST
def test_the_containers_of_the_arrays_do_not_matter(name):
    def nested(tree):
        rest = {"inner": (tree["scalar"], None), "empty": {}, "stacked": tree["stacked"]}
        return Model([tree["matrix"], tree["vector"]], rest)

    found = compiled(alias(name)(), nested(WEIGHTS), [nested(g) for g in GRADS])
    assert_close(found, [nested(updates) for updates in plain(name)])


@MOST
def test_the_learning_rate_is_a_factor_that_a_schedule_gives_from_step_0(name):
    rate = exported(name, "optax").hyperparameters["learning_rate"]
    found = compiled(alias(name)(lambda count: rate / (1 + count)))
    wanted = [
        jax.tree.map(lambda x, n=n: x / n, updates) for n, updates in enumerate(plain(name), 1)
    ]
    assert_close(found, wanted)


@MOST
def test_bfloat16_updates_are_those_of_float32_rounded(name):
    weights, *grads = [drawn(seed, jnp.bfloat16) for seed in range(STEPS + 1)]
    found = compiled(alias(name)(), weights, grads)
    single = jax.tree.map(lambda x: x.astype(jnp.float32), (weights, grads))
    assert_close(found, compiled(alias(name)(), *single), 2**-6)


@pytest.mark.parametrize("name", taking("schedule"))
def test_the_schedule_inside_is_a_number_or_a_function_of_the_steps_done(name):
    assert_close(compiled(alias(name)(schedule=lambda count: 1.0)), plain(name))
    fallen, half = (
        compiled(alias(name)(schedule=schedule), grads=GRADS[:1])
        for schedule in (lambda count: 0.5 / (1 + count), 0.5)
    )
    assert_close(fallen, half)
    assert not np.allclose(half[0]["matrix"], plain(name)[0]["matrix"], rtol=1e-2)


@pytest.mark.parametrize("name", taking("mask"))
def test_the_mask_says_which_arrays_decay(name):
    mask = {key: len(shape) >= 2 for key, shape in SHAPES.items()}
    with_decay = plain(name)
    without = compiled(alias(name)(weight_decay=0.0))
    wanted = [
        {key: (a if mask[key] else b)[key] for key in mask}
        for a, b in zip(with_decay, without, strict=True)
    ]
    for given in (mask, lambda params: jax.tree.map(lambda p: p.ndim >= 2, params)):
        assert_close(compiled(alias(name)(mask=given)), wanted)
    assert not np.allclose(with_decay[0]["matrix"], without[0]["matrix"], rtol=1e-6)
