"""The zoo's programs are the optimizers they are named after: optax's, step by step."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree

from primitives import initial_state, step, to_optax, zoo

SHAPES = {"matrix": (6, 5), "vector": (7,), "scalar": (), "stacked": (2, 6, 4)}
STEPS = 50


def adamw_without_correction():
    """m / sqrt(v) + 0.01 w, with 0 / 0 = 0."""

    def init(params):
        zeros = jax.tree.map(jnp.zeros_like, params)
        return optax.ScaleByAdamState(jnp.zeros((), jnp.int32), zeros, zeros)

    def update(grads, state, params):
        mu = optax.tree.update_moment(grads, state.mu, 0.9, 1)
        nu = optax.tree.update_moment(grads, state.nu, 0.999, 2)
        scaled = jax.tree.map(lambda m, v, w: m / jnp.sqrt(v) + 0.01 * w, mu, nu, params)
        return jax.tree.map(lambda x: -1e-3 * x, scaled), optax.ScaleByAdamState(
            state.count + 1, mu, nu
        )

    return optax.GradientTransformation(init, update)


def moments(state):
    adam = next(s for s in jax.tree.leaves(state, is_leaf=is_adam) if is_adam(s))
    return adam.mu, adam.nu


def is_adam(node):
    return isinstance(node, optax.ScaleByAdamState)


def momentum_of(state):
    return (state[0].mu,)


def factors(state):
    """Optax keeps the full second moment of what it does not factor; ours is then its own row."""
    factored = state[0]
    rows, cols = {}, {}
    for name, shape in SHAPES.items():
        if len(shape) < 2:
            rows[name] = factored.v[name]
            cols[name] = jnp.mean(factored.v[name])
        else:
            # optax's v_row averages over the last but one of the two largest axes, the larger
            full = [factored.v_row[name], factored.v_col[name]]
            n, m = shape[-2:]
            by_size = {x.shape[-1]: x for x in full}
            rows[name], cols[name] = by_size[n], by_size[m]
    return rows, cols


def relative_step(count):
    t = count + 1.0
    return jnp.minimum(1e-2, t**-0.5)


OPTAX = {
    "sgd": (optax.sgd(1.0), lambda state: ()),
    "momentum": (optax.sgd(1.0, momentum=0.9), lambda state: (state[0].trace,)),
    "rmsprop": (
        optax.rmsprop(1e-3, decay=0.9, eps=1e-8, eps_in_sqrt=True),
        lambda state: (state[0].nu,),
    ),
    "adam": (optax.adam(1e-3), moments),
    "adamw": (optax.adamw(1e-3, weight_decay=0.01), moments),
    "adamw_paper": (adamw_without_correction(), lambda state: (state.mu, state.nu)),
    "lion": (optax.lion(1e-4, weight_decay=0.1), momentum_of),
    "adafactor": (
        optax.adafactor(
            relative_step,
            min_dim_size_to_factor=1,
            decay_rate=0.8,
            multiply_by_parameter_scale=True,
            clipping_threshold=1.0,
            momentum=None,
            weight_decay_rate=None,
        ),
        factors,
    ),
}


def test_every_zoo_program_is_compared():
    assert set(OPTAX) == set(zoo.names())


def in_our_shapes(trees, like):
    """Optax's states as ours: the same numbers, one list of arrays a state."""
    return tuple(
        [x.reshape(ours.shape) for x, ours in zip(jax.tree.leaves(tree), own, strict=True)]
        for tree, own in zip(trees, like, strict=True)
    )


@pytest.mark.parametrize("name", zoo.names())
def test_zoo_program_is_optax_step_by_step_from_the_same_state(name):
    program = zoo.load(name)
    theirs, states_of = OPTAX[name]
    rng = np.random.default_rng(0)
    weights = {k: jnp.asarray(rng.normal(size=s), jnp.float32) for k, s in SHAPES.items()}
    own = initial_state(program, weights)
    state = theirs.init(weights)
    their_update = jax.jit(theirs.update)
    our_step = jax.jit(lambda s, w, g, t: step(program, s, w, g, t=t))
    for t in range(1, STEPS + 1):
        grads = {k: jnp.asarray(rng.normal(size=s), jnp.float32) for k, s in SHAPES.items()}
        ours, following = our_step(in_our_shapes(states_of(state), own), weights, grads, float(t))
        updates, state = their_update(grads, state, weights)
        assert_close(ravel_pytree(ours)[0], -ravel_pytree(updates)[0])
        kept = in_our_shapes(states_of(state), own)
        assert_close(ravel_pytree(following)[0], ravel_pytree(kept)[0])
        weights = optax.apply_updates(weights, updates)


def assert_close(ours, reference):
    """Within 1e-5 (1 + |reference|), and within 1e-5 of the largest number: updates are small."""
    assert np.isfinite(reference).all()
    largest = np.abs(reference).max(initial=0.0)
    assert (np.abs(ours - reference) <= 1e-5 * np.minimum(1 + np.abs(reference), largest)).all()


@pytest.mark.parametrize("name", zoo.names())
def test_a_program_is_an_optax_optimizer_in_a_chain_under_jit_with_a_schedule(name):
    schedule = optax.linear_schedule(0.02, 0.0, 40)
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), to_optax(zoo.load(name), schedule))
    weights = {"a": jnp.ones((3, 2)), "b": jnp.ones(2)}
    before = weights

    @jax.jit
    def train_step(weights, state):
        grads = jax.tree.map(lambda w: 2 * w, weights)
        updates, state = optimizer.update(grads, state, weights)
        return optax.apply_updates(weights, updates), state

    state = optimizer.init(weights)
    for _ in range(40):
        weights, state = train_step(weights, state)
    assert jax.tree.structure(weights) == jax.tree.structure(before)
    assert all((w > 0).all() and (w <= 1).all() for w in jax.tree.leaves(weights))
    assert ravel_pytree(weights)[0].sum() < ravel_pytree(before)[0].sum()
    ended, _ = train_step(weights, state)  # the schedule has reached 0
    np.testing.assert_array_equal(ravel_pytree(ended)[0], ravel_pytree(weights)[0])


def test_learning_rate_is_a_factor_on_the_update():
    weights, grads = {"a": jnp.ones(3)}, {"a": jnp.arange(3.0)}
    for rate in (0.5, lambda count: 0.5):
        optimizer = to_optax(zoo.load("sgd"), rate)
        updates, _ = optimizer.update(grads, optimizer.init(weights), weights)
        np.testing.assert_allclose(updates["a"], [0.0, -0.5, -1.0])


def test_to_optax_counts_steps_from_one():
    optimizer = to_optax(zoo.load("adam"))
    weights = {"a": jnp.ones(3)}
    updates, state = optimizer.update({"a": jnp.ones(3)}, optimizer.init(weights), weights)
    np.testing.assert_allclose(updates["a"], -1e-3, rtol=1e-5)
    assert int(state.count) == 1


def test_to_optax_needs_the_weights():
    optimizer = to_optax(zoo.load("sgd"))
    with pytest.raises(ValueError, match="pass params"):
        optimizer.update({"a": jnp.ones(2)}, optimizer.init({"a": jnp.ones(2)}))
