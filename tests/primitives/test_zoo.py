"""Tests that zoo programs equal independent implementations and that their headers are complete."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree

from primitives import encode, initial_state, interpreter, step, to_optax, zoo
from tests.primitives.zoo_table import ORACLES, difference, float32_difference, reference_steps

OPTAX_TOLERANCES = {"adafactor": 1e-6, "adafactor_external": 1e-6, "adafactor_momentum": 1e-5}
"""Relative tolerances for programs whose decay 1 - t^-0.8 optax always computes in float32."""

FLOAT32_TOLERANCES = {"adam_corrected_decay": 1e-4, "orthogonal_sgdm": 1e-2}
"""Relative tolerances in float32 for programs that lose more digits than others.

1 - 0.999^(t - 1) has few correct digits in the first steps. Each Newton-Schulz step multiplies the
rounding errors in the zero singular values of a gradient by up to 3.4.
"""

TRAINING_STEPS = 200
machine = interpreter()


def test_every_zoo_program_has_an_independent_implementation():
    assert {name for name, _ in ORACLES} == set(zoo.names())


@pytest.mark.parametrize(("name", "source"), sorted(ORACLES))
def test_a_zoo_program_equals_independent_implementations_for_100_steps(name, source):
    tolerance = OPTAX_TOLERANCES.get(name, 1e-9) if source == "optax" else 1e-9
    assert difference(name, source) <= tolerance


RANDOM = np.random.default_rng(1).normal(size=(6, 5))
ONE_NONZERO_OF_4000 = np.eye(1, 4000)


@pytest.mark.parametrize(
    ("name", "source", "gradients", "first_step"),
    [
        ("adabelief", "optax", [RANDOM * 1e-9], 1),
        ("adafactor", "paper", [RANDOM], 40_000),  # t^-0.5 is below 0.01
        ("adafactor_momentum", "paper", [RANDOM], 40_000),
        ("adafactor", "paper", [RANDOM * 1e-15], 1),
        ("adafactor_external", "paper", [RANDOM * 1e-15], 1),
        ("adafactor_momentum", "paper", [RANDOM * 1e-15], 1),
        ("adax", "paper", [RANDOM * 1e-12], 1),
        ("amos", "paper", [RANDOM * 1e-20], 1),
        ("cautious_lion", "paper", [ONE_NONZERO_OF_4000], 1),  # the mask keeps less than 0.1%
        ("eg_step_size", "paper", [RANDOM] * 2400, 1),  # gains and size reach their maximum
        ("eg_step_size", "paper", [RANDOM, -RANDOM] * 1200, 1),  # they reach their minimum
    ],
)
def test_a_zoo_program_equals_independent_implementations_where_bounds_and_epsilons_matter(
    name, source, gradients, first_step
):
    weights = {"w": np.ones(gradients[0].shape)}
    steps = reference_steps(name, weights, [{"w": g} for g in gradients], first_step)
    assert difference(name, source, steps) <= 1e-9


@pytest.mark.parametrize("name", zoo.names())
def test_zoo_programs_compute_nearly_the_same_in_float32_and_float64(name):
    assert float32_difference(name) <= FLOAT32_TOLERANCES.get(name, 1e-5)


@pytest.mark.parametrize("name", zoo.names())
def test_zoo_header_has_title_idea_paper_and_defaults(name):
    entry = zoo.entry(name)
    assert zoo.summary(name) == f"{entry.title}: {entry.idea}"
    assert len(zoo.summary(name)) <= 75  # fits in one line of `evosearch zoo` at 120 columns
    assert re.search(r"arXiv \d{4}\.\d{4,5}|(19|20)\d\d, [A-Z]", entry.paper)
    for sentence in (entry.idea, entry.paper, entry.notes or "."):
        assert sentence.endswith(".")
    labels = [label for label, _ in entry.hyperparameters]
    assert len(set(labels)) == len(labels)
    assert {"learning rate", "relative step"} & set(labels)


@pytest.mark.parametrize("name", zoo.names())
def test_zoo_defaults_appear_as_constants_in_the_program(name):
    """A default of 1 may be missing, because a factor of 1 needs no statement."""
    program = zoo.load(name)
    constants = [
        arg for statement in program.statements for arg in statement.args if isinstance(arg, float)
    ]
    initial_values = [state.initial for state in program.states]
    magnitudes = {abs(number) for number in (*constants, *initial_values)} | {1.0}
    assert {value for _, value in zoo.entry(name).hyperparameters} <= magnitudes


def quadratic(weights):
    """Return a quadratic loss; curvatures are 0.1 to 1, and the minimum is at weights 0.25 to 3."""

    def quadratic_of_array(w):
        target = jnp.linspace(0.25, 3.0, w.size).reshape(w.shape)
        curvature = jnp.geomspace(1.0, 0.1, w.size).reshape(w.shape)
        return jnp.sum(curvature * (w - target) ** 2)

    return sum(map(quadratic_of_array, jax.tree.leaves(weights)))


@jax.jit
def relative_loss_after_training(code, factor):
    """Return the final loss of a training on `quadratic`, divided by the initial loss."""
    start = {"matrix": jnp.ones((4, 3)), "vector": jnp.ones(5)}

    def train_step(carry, t):
        weights, state = carry
        grads = jax.grad(quadratic)(weights)
        lr = 1 - (t - 1) / TRAINING_STEPS
        updates, state = machine.update(grads, state, weights, lr=lr, t=t)
        return (optax.apply_updates(weights, updates), state), None

    steps = jnp.arange(1.0, TRAINING_STEPS + 1)
    (weights, _), _ = jax.lax.scan(train_step, (start, machine.init(start, code, factor)), steps)
    return quadratic(weights) / quadratic(start)


@pytest.mark.parametrize("name", zoo.names())
def test_zoo_program_minimizes_a_quadratic_at_some_learning_rate(name):
    code = encode(zoo.load(name))
    losses = [
        float(relative_loss_after_training(code, factor)) for factor in (0.1, 1.0, 10.0, 100.0, 1e3)
    ]
    assert np.nanmin(losses) < 0.01


def test_adafactor_keeps_8192_numbers_for_a_4096_by_4096_matrix():
    program = zoo.load("adafactor")
    matrix = {"w": jax.ShapeDtypeStruct((4096, 4096), jnp.float32)}
    state = initial_state(program, matrix)
    assert sum(x.nbytes for x in jax.tree.leaves(state)) == 8192 * 4
    _, next_state = jax.eval_shape(lambda s, w, g: step(program, s, w, g), state, matrix, matrix)
    assert sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(next_state)) == 8192 * 4


@pytest.mark.parametrize("name", zoo.names())
def test_to_optax_works_in_a_chain_under_jit_with_a_schedule(name):
    schedule = optax.linear_schedule(0.02, 0.0, 40)
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), to_optax(zoo.load(name), schedule))
    weights = {"a": jnp.ones((3, 2)), "b": jnp.ones(2)}
    initial_weights = weights

    @jax.jit
    def train_step(weights, state):
        grads = jax.tree.map(lambda w: 2 * w, weights)
        updates, state = optimizer.update(grads, state, weights)
        return optax.apply_updates(weights, updates), state

    state = optimizer.init(weights)
    for _ in range(40):
        weights, state = train_step(weights, state)
    assert jax.tree.structure(weights) == jax.tree.structure(initial_weights)
    assert optax.tree.norm(weights) < optax.tree.norm(initial_weights)
    next_weights, _ = train_step(weights, state)  # the schedule has reached 0
    np.testing.assert_array_equal(ravel_pytree(next_weights)[0], ravel_pytree(weights)[0])


def test_the_learning_rate_of_to_optax_scales_the_update():
    weights, grads = {"a": jnp.ones(3)}, {"a": jnp.arange(3.0)}
    for learning_rate in (0.5, lambda count: 0.5):
        optimizer = to_optax(zoo.load("sgd"), learning_rate)
        updates, _ = optimizer.update(grads, optimizer.init(weights), weights)
        np.testing.assert_allclose(updates["a"], [0.0, -0.5, -1.0])


def test_to_optax_counts_steps_from_one():
    optimizer = to_optax(zoo.load("adam"))
    weights = {"a": jnp.ones(3)}
    updates, state = optimizer.update({"a": jnp.ones(3)}, optimizer.init(weights), weights)
    np.testing.assert_allclose(updates["a"], -1e-3, rtol=1e-5)
    assert int(state.count) == 1


def test_calling_update_of_to_optax_without_the_weights_is_an_error():
    optimizer = to_optax(zoo.load("sgd"))
    with pytest.raises(ValueError, match="pass params"):
        optimizer.update({"a": jnp.ones(2)}, optimizer.init({"a": jnp.ones(2)}))


def test_the_constants_of_a_program_are_keyword_arguments_of_to_optax():
    weights, grads = {"a": jnp.ones(3)}, {"a": jnp.array([1.0, -2.0, 0.5])}
    converted = to_optax(zoo.load("adamw"), b1=0.5, weight_decay=0.0, eps=1e-3)
    reference = optax.adamw(1e-3, b1=0.5, weight_decay=0.0, eps=1e-3)
    state, reference_state = converted.init(weights), reference.init(weights)
    for _ in range(3):
        update, state = converted.update(grads, state, weights)
        expected, reference_state = reference.update(grads, reference_state, weights)
        np.testing.assert_allclose(update["a"], expected["a"], rtol=1e-5)


def test_optax_can_inject_and_schedule_the_hyperparameters_of_to_optax():
    def lion(b1, weight_decay):
        return to_optax(zoo.load("lion"), b1=b1, weight_decay=weight_decay)

    injected = optax.inject_hyperparams(lion)(b1=lambda count: 0.9, weight_decay=0.1)
    weights, grads = {"a": jnp.ones((2, 2))}, {"a": jnp.full((2, 2), 3.0)}
    update, _ = jax.jit(injected.update)(grads, injected.init(weights), weights)
    plain = to_optax(zoo.load("lion"))
    expected, _ = plain.update(grads, plain.init(weights), weights)
    np.testing.assert_allclose(update["a"], expected["a"], rtol=1e-6)


def test_an_unknown_hyperparameter_is_named_in_the_error():
    with pytest.raises(TypeError, match="no hyperparameter 'wieght_decay'; did you mean 'weight_"):
        to_optax(zoo.load("lion"), wieght_decay=0.1)


def test_the_initial_value_of_a_state_is_a_hyperparameter():
    weights = {"a": jnp.ones(3)}
    state = to_optax(zoo.load("eg_step_size"), initial_size=2.0).init(weights)
    assert any(np.all(np.asarray(array) == 2.0) for array in jax.tree.leaves(state.program))
