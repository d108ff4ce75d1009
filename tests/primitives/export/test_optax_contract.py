"""Tests that exported optax optimizers meet optax's requirements.

Convergence is tested in `test_optax_convergence.py`. Tests with `@for_representative_programs` run
on a few programs with states of every kind, and with `-m slow` on the whole zoo.
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
from tests.primitives.export.files import REPRESENTATIVE_OR_SLOW, exported, optax_function

SHAPES = {"matrix": (4, 3), "vector": (5,), "scalar": (), "stacked": (2, 3, 4)}
STEPS = 3
for_each_program = pytest.mark.parametrize("name", zoo.names())
for_representative_programs = pytest.mark.parametrize("name", REPRESENTATIVE_OR_SLOW)


def programs_with(argument):
    """Return the names of the programs whose exported optimizer has the argument."""
    return [
        name
        for name in zoo.names()
        if argument in inspect.signature(optax_function(name)).parameters
    ]


class Model(NamedTuple):
    """A container that is not a dict."""

    layers: list
    rest: dict


def random_arrays(seed, dtype=jnp.float32):
    rng = np.random.default_rng(seed)
    return {key: jnp.asarray(rng.normal(size=shape), dtype) for key, shape in SHAPES.items()}


WEIGHTS, GRADIENTS = random_arrays(0), [random_arrays(seed) for seed in range(1, STEPS + 1)]


def run(optimizer, weights=WEIGHTS, gradients=GRADIENTS, wrap=lambda update: update, **extra):
    """Return the updates of a few steps at the same weights, and the state after the last step.

    Args:
        optimizer: an optax optimizer.
        weights: the weights, the same in all steps.
        gradients: the gradients of each step.
        wrap: a transformation of the update function, such as `jax.jit`.
        extra: additional arguments of the update function.
    """
    update, state, all_updates = wrap(optimizer.update), optimizer.init(weights), []
    for gradient in gradients:
        updates, state = update(gradient, state, weights, **extra)
        all_updates.append(updates)
    return all_updates, state


def compiled_updates(optimizer, weights=WEIGHTS, gradients=GRADIENTS):
    """Return the updates of a few steps at the same weights, computed under `jax.jit`."""
    return run(optimizer, weights, gradients, jax.jit)[0]


@cache
def default_updates(name):
    """Return the updates of the optimizer with default arguments, computed under `jax.jit`."""
    return compiled_updates(optax_function(name)())


def assert_close(actual, expected, rtol=1e-5):
    """Assert that structures are equal, and numbers up to float32 rounding."""
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    for actual_leaf, expected_leaf in zip(
        jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True
    ):
        actual_array, expected_array = (
            np.asarray(leaf, np.float64) for leaf in (actual_leaf, expected_leaf)
        )
        largest = np.abs(expected_array).max(initial=0.0)
        np.testing.assert_allclose(actual_array, expected_array, rtol=rtol, atol=rtol * largest)


def float_dtypes(tree):
    dtypes = {leaf.dtype for leaf in jax.tree.leaves(tree)}
    return {dtype for dtype in dtypes if jnp.issubdtype(dtype, jnp.floating)}


# -- structure and types: these tests trace the optimizers but do not compile them ----------------


@for_representative_programs
def test_the_state_keeps_its_structure_and_types(name):
    optimizer = optax_function(name)()

    def states():
        state = optimizer.init(WEIGHTS)
        return state, optimizer.update(GRADIENTS[0], state, WEIGHTS)[1]

    initial_state, next_state = jax.eval_shape(states)
    assert jax.tree.structure(initial_state) == jax.tree.structure(next_state)
    initial_types, next_types = (
        [(leaf.shape, leaf.dtype, leaf.weak_type) for leaf in jax.tree.leaves(state)]
        for state in (initial_state, next_state)
    )
    assert initial_types == next_types


@for_representative_programs
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float32])
def test_updates_have_the_dtype_of_the_weights_and_states_are_float32(name, dtype):
    weights, gradients = random_arrays(0, dtype), random_arrays(1, dtype)
    (updates, *_), state = jax.eval_shape(lambda: run(optax_function(name)(), weights, [gradients]))
    for key, array in weights.items():
        assert (updates[key].shape, updates[key].dtype) == (array.shape, array.dtype)
    assert float_dtypes(state) <= {jnp.dtype(jnp.float32)}


@for_representative_programs
def test_float64_weights_have_float64_updates_and_states(name):
    with jax.enable_x64(True):
        weights, gradients = random_arrays(0, jnp.float64), random_arrays(1, jnp.float64)
        (updates, *_), state = jax.eval_shape(
            lambda: run(optax_function(name)(), weights, [gradients])
        )
    assert float_dtypes(updates) == {jnp.dtype(jnp.float64)}
    assert float_dtypes(state) <= {jnp.dtype(jnp.float64)}


@for_each_program
def test_each_update_has_the_dtype_of_its_array_if_dtypes_are_mixed(name):
    weights = {"low": jnp.ones((3, 2), jnp.bfloat16), "high": jnp.ones((3, 2), jnp.float32)}
    (updates, *_), state = jax.eval_shape(lambda: run(optax_function(name)(), weights, [weights]))
    assert updates["low"].dtype == jnp.bfloat16
    assert updates["high"].dtype == jnp.float32
    assert float_dtypes(state) <= {jnp.dtype(jnp.float32)}


@for_representative_programs
def test_extra_arguments_are_ignored(name):
    def jaxpr(**extra):
        def first_update(weights, gradient):
            return run(optax_function(name)(), weights, [gradient], **extra)

        return str(jax.make_jaxpr(first_update)(WEIGHTS, GRADIENTS[0]))

    assert jaxpr(value=1.0, unknown="text") == jaxpr()


@for_representative_programs
@pytest.mark.parametrize("empty", [{}, [], {"frozen": {}, "layers": [(), None]}], ids=repr)
def test_a_model_without_weights_has_empty_updates(name, empty):
    (updates, *_), _ = run(optax_function(name)(), empty, [empty])
    assert updates == empty


@for_each_program
def test_params_are_required_only_if_the_program_reads_the_weights(name):
    optimizer = optax_function(name)()
    reads_weights = any("w" in statement.args for statement in live(zoo.load(name)).statements)

    def update():
        return optimizer.update(GRADIENTS[0], optimizer.init(WEIGHTS))

    if reads_weights:
        with pytest.raises(ValueError, match="params"):
            jax.eval_shape(update)
    else:
        jax.eval_shape(update)


@for_each_program
def test_every_hyperparameter_has_the_default_that_the_export_reports(name):
    arguments = inspect.signature(optax_function(name)).parameters
    defaults = {
        key: argument.default
        for key, argument in arguments.items()
        if key not in ("schedule", "mask")
    }
    assert defaults == exported(name, "optax").hyperparameters
    assert next(iter(arguments)) == "learning_rate"


# -- numbers: these tests compile the optimizers --------------------------------------------------


@for_representative_programs
def test_the_update_is_the_same_without_jit(name):
    actual, _ = run(optax_function(name)())
    assert_close(actual, default_updates(name))


@for_representative_programs
def test_under_vmap_each_model_has_its_own_updates(name):
    optimizer = optax_function(name)()
    other_model = random_arrays(9), GRADIENTS[::-1]
    weights, gradients = jax.tree.map(
        lambda *arrays: jnp.stack(arrays), (WEIGHTS, GRADIENTS), other_model
    )
    update, state = jax.jit(jax.vmap(optimizer.update)), jax.vmap(optimizer.init)(weights)
    actual = []
    for gradient in gradients:
        updates, state = update(gradient, state, weights)
        actual.append(updates)
    assert_close(jax.tree.map(lambda x: x[0], actual), default_updates(name))
    assert_close(jax.tree.map(lambda x: x[1], actual), compiled_updates(optimizer, *other_model))


@for_representative_programs
def test_all_steps_share_one_compilation_and_reuse_donated_memory(name):
    optimizer = optax_function(name)()
    step = jax.jit(optimizer.update, donate_argnums=(0, 1))
    state = jax.jit(optimizer.init)(WEIGHTS)
    for gradient, expected in zip(GRADIENTS, default_updates(name), strict=True):
        old_state = jax.tree.leaves(state)
        updates, state = step(jax.tree.map(jnp.copy, gradient), state, WEIGHTS)
        assert all(array.is_deleted() for array in old_state)
        assert_close(updates, expected)
    compilation_count = step._cache_size()
    assert compilation_count == 1


@for_representative_programs
def test_injected_hyperparameters_are_the_defaults_and_can_be_set(name):
    defaults = exported(name, "optax").hyperparameters
    optimizer = optax.inject_hyperparams(optax_function(name))(**defaults)
    step = jax.jit(optimizer.update)
    state = optimizer.init(WEIGHTS)
    assert set(state.hyperparams) >= set(defaults)
    for gradient, expected in zip(GRADIENTS, default_updates(name), strict=True):
        updates, next_state = step(gradient, state, WEIGHTS)
        assert_close(updates, expected, 1e-4)
        doubled = state.hyperparams | {"learning_rate": 2 * state.hyperparams["learning_rate"]}
        doubled_updates, _ = step(gradient, state._replace(hyperparams=doubled), WEIGHTS)
        assert_close(doubled_updates, jax.tree.map(lambda x: 2 * x, updates))
        state = next_state


@for_representative_programs
def test_multi_steps_makes_one_update_from_the_mean_of_two_gradients(name):
    optimizer = optax.MultiSteps(optax_function(name)(), every_k_schedule=2)

    def shifted(gradient, offset):
        return jax.tree.map(lambda array: array + offset, gradient)

    pairs = [(shifted(gradient, 0.5), shifted(gradient, -0.5)) for gradient in GRADIENTS]
    updates = compiled_updates(optimizer, gradients=[half for pair in pairs for half in pair])
    assert not any(np.any(array) for array in jax.tree.leaves(updates[::2]))
    assert_close(updates[1::2], default_updates(name), 1e-4)


@for_representative_programs
def test_an_exported_optimizer_works_inside_a_chain(name):
    chain = optax.chain(
        optax.scale(0.25), optax.scale(4.0), optax_function(name)(), optax.scale(0.5)
    )
    assert_close(compiled_updates(chain), jax.tree.map(lambda x: x / 2, default_updates(name)))


@for_representative_programs
def test_under_multi_transform_an_optimizer_updates_only_arrays_with_its_label(name):
    labels = {"matrix": "trained", "vector": "trained", "scalar": "none", "stacked": "none"}
    transforms = {"trained": optax_function(name)(), "none": optax.set_to_zero()}

    def trained_arrays(tree):
        return {key: tree[key] for key in labels if labels[key] == "trained"}

    actual = compiled_updates(optax.multi_transform(transforms, labels))
    expected = compiled_updates(
        optax_function(name)(), trained_arrays(WEIGHTS), [trained_arrays(g) for g in GRADIENTS]
    )
    assert_close([trained_arrays(updates) for updates in actual], expected)
    assert not any(np.any(updates[key]) for updates in actual for key in ("scalar", "stacked"))


@for_representative_programs
def test_updates_do_not_depend_on_the_containers_of_the_arrays(name):
    def nested(tree):
        rest = {"inner": (tree["scalar"], None), "empty": {}, "stacked": tree["stacked"]}
        return Model([tree["matrix"], tree["vector"]], rest)

    actual = compiled_updates(
        optax_function(name)(), nested(WEIGHTS), [nested(g) for g in GRADIENTS]
    )
    assert_close(actual, [nested(updates) for updates in default_updates(name)])


@for_representative_programs
def test_a_schedule_of_the_learning_rate_scales_the_updates_from_step_0(name):
    learning_rate = exported(name, "optax").hyperparameters["learning_rate"]
    actual = compiled_updates(optax_function(name)(lambda count: learning_rate / (1 + count)))
    expected = [
        jax.tree.map(lambda array, t=t: array / t, updates)
        for t, updates in enumerate(default_updates(name), 1)
    ]
    assert_close(actual, expected)


@for_representative_programs
def test_bfloat16_updates_equal_rounded_float32_updates(name):
    weights, *gradients = [random_arrays(seed, jnp.bfloat16) for seed in range(STEPS + 1)]
    actual = compiled_updates(optax_function(name)(), weights, gradients)
    in_float32 = jax.tree.map(lambda array: array.astype(jnp.float32), (weights, gradients))
    assert_close(actual, compiled_updates(optax_function(name)(), *in_float32), 2**-6)


@pytest.mark.parametrize("name", programs_with("schedule"))
def test_schedule_is_a_number_or_a_function_of_the_completed_steps(name):
    assert_close(
        compiled_updates(optax_function(name)(schedule=lambda count: 1.0)), default_updates(name)
    )
    by_function, by_number = (
        compiled_updates(optax_function(name)(schedule=schedule), gradients=GRADIENTS[:1])
        for schedule in (lambda count: 0.5 / (1 + count), 0.5)
    )
    assert_close(by_function, by_number)
    assert not np.allclose(by_number[0]["matrix"], default_updates(name)[0]["matrix"], rtol=1e-2)


@pytest.mark.parametrize("name", programs_with("mask"))
def test_mask_selects_the_arrays_with_weight_decay(name):
    mask = {key: len(shape) >= 2 for key, shape in SHAPES.items()}
    with_decay = default_updates(name)
    without_decay = compiled_updates(optax_function(name)(weight_decay=0.0))
    expected = [
        {key: (decayed if has_decay else plain)[key] for key, has_decay in mask.items()}
        for decayed, plain in zip(with_decay, without_decay, strict=True)
    ]
    for argument in (mask, lambda params: jax.tree.map(lambda param: param.ndim >= 2, params)):
        assert_close(compiled_updates(optax_function(name)(mask=argument)), expected)
    assert not np.allclose(with_decay[0]["matrix"], without_decay[0]["matrix"], rtol=1e-6)
