"""Tests of the training loop, many of which compare losses with closed forms."""

import gc
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import proxies
from proxies import (
    SCHEDULES,
    StepSchedule,
    compile_train,
    compiled_train,
    relative_rates,
    sharpness,
    smoothed,
    train,
)

MEMORY_MAPS = Path("/proc/self/maps")
KEY = jax.random.key(0)
QUADRATIC = proxies.load("quadratic")
CURVATURES = np.concatenate([np.ravel(array) for array in QUADRATIC.data])
"""The loss is half the sum of the squared weights times these curvatures."""


def _rule(update_of: Any) -> optax.GradientTransformationExtraArgs:
    """Return a rule that adds `update_of(gradient, operand, lr, t)` to every weight."""

    def init(params: Any, operand: Any = ()) -> Any:
        return operand

    def update(updates: Any, state: Any, params: Any = None, *, lr: Any, t: Any) -> Any:
        return jax.tree.map(lambda gradient: update_of(gradient, state, lr, t), updates), state

    return optax.GradientTransformationExtraArgs(init, update)


def _updates(result: proxies.TrainingResult) -> np.ndarray:
    """Return the change of the weights in each step but the last, from the batch losses.

    All weights must be equal at each step; they are 1 initially.
    """
    weights = np.sqrt(2 * np.asarray(result.train_loss, np.float64) / CURVATURES.sum())
    return np.diff(weights)


def _closed_form_loss(weights: np.ndarray) -> np.ndarray:
    """Return the loss of weights [..., weights]."""
    return 0.5 * (CURVATURES * weights**2).sum(axis=-1)


def _compilation_count() -> int:
    return int(compiled_train._cache_size())  # type: ignore[attr-defined]


@pytest.mark.skipif(not MEMORY_MAPS.exists(), reason="the system does not list memory maps")
def test_deleting_executables_frees_their_memory_maps() -> None:
    arguments = QUADRATIC.data, KEY, StepSchedule.plain(np.ones(5, np.float32), 5), ()

    def memory_map_count() -> int:
        gc.collect()
        return len(MEMORY_MAPS.read_text().splitlines())

    def compile_with(learning_rate: float) -> Any:
        return compile_train(QUADRATIC, optax.sgd(learning_rate), *arguments)

    compile_with(0.1)  # the first compilation makes additional memory maps
    initial_count = memory_map_count()
    executables = [compile_with(learning_rate) for learning_rate in (0.2, 0.3, 0.4)]
    executables_count = memory_map_count() - initial_count
    assert executables[0](*arguments).steps == 5
    executables.clear()
    assert executables_count > 30
    assert memory_map_count() - initial_count < executables_count / 4


def test_gradient_descent_on_the_quadratic_task_has_the_losses_of_the_closed_form() -> None:
    learning_rate, steps = 0.1, 12
    result = train(QUADRATIC, optax.sgd(learning_rate), steps=steps, key=KEY)
    losses = _closed_form_loss((1 - learning_rate * CURVATURES) ** np.arange(steps + 1)[:, None])
    np.testing.assert_allclose(result.train_loss, losses[:-1], rtol=1e-5)
    np.testing.assert_allclose(result.loss, losses[-1], rtol=1e-5)
    assert result.steps == steps
    assert not result.diverged


def test_a_diverging_training_ends_early_with_infinite_loss() -> None:
    result = train(QUADRATIC, optax.sgd(1e12), key=KEY)
    steps = int(result.steps)
    assert result.diverged
    assert result.loss == np.inf
    assert steps < QUADRATIC.steps
    assert result.train_loss.shape == (QUADRATIC.steps,)
    assert np.isfinite(result.train_loss[: steps - 1]).all()
    assert not np.isfinite(result.train_loss[steps - 1])
    assert np.isnan(result.train_loss[steps:]).all()


def test_a_training_whose_last_update_makes_the_weights_infinite_has_diverged() -> None:
    result = train(
        QUADRATIC, _rule(lambda gradient, operand, lr, t: gradient / 0.0), steps=1, key=KEY
    )
    assert np.isfinite(result.train_loss).all()
    assert result.diverged
    assert result.loss == np.inf
    assert result.steps == 1


def test_a_diverging_training_under_vmap_does_not_affect_the_other_trainings() -> None:
    rule = _rule(lambda gradient, learning_rate, lr, t: -learning_rate * gradient)
    learning_rates = jnp.array([0.1, 1e12, 0.2])
    results = jax.vmap(lambda lr: train(QUADRATIC, rule, key=KEY, operands=(lr,)))(learning_rates)
    assert results.diverged.tolist() == [False, True, False]
    assert results.steps[1] < QUADRATIC.steps == results.steps[0] == results.steps[2]
    without_vmap = train(QUADRATIC, rule, key=KEY, operands=(learning_rates[2],))
    np.testing.assert_allclose(results.train_loss[2], without_vmap.train_loss, rtol=1e-5)


def test_the_rule_receives_the_learning_rate_and_a_step_counted_from_one() -> None:
    add_learning_rate = _rule(lambda gradient, operand, lr, t: jnp.full_like(gradient, lr))
    result = train(QUADRATIC, add_learning_rate, steps=8, key=KEY)
    cosine_schedule = 0.5 * (1 + np.cos(np.pi * np.arange(7) / 8))
    np.testing.assert_allclose(_updates(result), cosine_schedule, atol=1e-5)
    add_step = _rule(lambda gradient, operand, lr, t: jnp.full_like(gradient, t))
    result = train(QUADRATIC, add_step, steps=8, key=KEY)
    np.testing.assert_allclose(_updates(result), np.arange(1, 8), rtol=1e-5)


def test_the_argument_schedule_replaces_the_cosine_schedule() -> None:
    rule = _rule(lambda gradient, operand, lr, t: jnp.full_like(gradient, lr))
    result = train(QUADRATIC, rule, steps=8, schedule=optax.constant_schedule(0.5), key=KEY)
    np.testing.assert_allclose(_updates(result), np.full(7, 0.5), rtol=1e-5)


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("steps", [1, 3, 200])
def test_a_schedule_has_peak_1_and_is_0_after_its_last_step(name: str, steps: int) -> None:
    budget = steps + 5
    learning_rates = relative_rates(name, steps, budget)
    assert learning_rates.shape == (budget,)
    assert not learning_rates[steps:].any()
    assert (learning_rates >= 0).all()
    assert learning_rates.max() == (1.0 if steps > 1 else learning_rates[0])


def test_all_schedules_and_numbers_of_steps_up_to_the_budget_share_a_compilation() -> None:
    rule = optax.sgd(0.1)
    compilations_before, budget = _compilation_count(), 12
    for name, steps in (("cosine", 12), ("constant", 12), ("linear", 5)):
        learning_rates = jnp.asarray(relative_rates(name, steps, budget))
        schedule = StepSchedule.plain(learning_rates, steps)
        result = compiled_train(QUADRATIC, rule, QUADRATIC.data, KEY, schedule, ())
        exact_budget = train(QUADRATIC, rule, steps=steps, schedule=SCHEDULES[name](steps), key=KEY)
        assert result.steps == exact_budget.steps == steps
        np.testing.assert_array_equal(result.train_loss[:steps], exact_budget.train_loss)
        np.testing.assert_array_equal(result.loss, exact_budget.loss)
    # One compilation for the budget of 12, and one of `train` for the budget of 5.
    assert _compilation_count() == compilations_before + 2


def test_trainings_with_different_operands_and_keys_share_a_compilation() -> None:
    rule = _rule(lambda gradient, learning_rate, lr, t: -learning_rate * gradient)
    compilations_before, losses = _compilation_count(), set()
    for seed, learning_rate in enumerate((0.01, 0.02, 0.03)):
        operands = (jnp.float32(learning_rate),)
        result = train(QUADRATIC, rule, key=jax.random.key(seed), operands=operands)
        losses.add(float(result.loss))
    assert len(losses) == 3
    assert _compilation_count() == compilations_before + 1


def test_a_custom_gradient_replaces_the_gradient_of_the_loss() -> None:
    def negated_gradient(params: Any, batch: Any, key: jax.Array) -> Any:
        loss, gradients = jax.value_and_grad(QUADRATIC.loss)(params, batch, key)
        return loss, jax.tree.map(jnp.negative, gradients)

    task = replace(QUADRATIC, gradient=negated_gradient)
    result = train(task, optax.sgd(0.1), steps=5, key=KEY)
    assert result.loss > result.train_loss[0]


def test_a_training_whose_loss_ignores_its_key_computes_no_keys() -> None:
    def noisy_loss(params: Any, batch: Any, key: jax.Array) -> jax.Array:
        return QUADRATIC.loss(params, batch, key) + jax.random.uniform(key)

    def random_operation_count(task: proxies.Task) -> int:
        """Count the XORs of a compiled training, which only random numbers need."""
        schedule = StepSchedule.plain(relative_rates("cosine", 5, 5), 5)
        arguments = (task, optax.set_to_zero(), task.data, KEY, schedule, ())
        return str(compiled_train.lower(*arguments).compile().as_text()).count(" xor(")

    assert random_operation_count(QUADRATIC) == 0
    assert random_operation_count(replace(QUADRATIC, loss=noisy_loss)) > 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"loss": lambda params, batch, key: params["vector"]}, r"`loss` returns .* \(3,\)"),
        (
            {"evaluate": lambda params, data, partition, key: params["vector"]},
            r"`evaluate` returns an array of the shape \(3,\); return a scalar",
        ),
        ({"init": lambda key: {"vector": jnp.arange(3)}}, "dtype int32; return float32 arrays"),
    ],
)
def test_the_error_for_a_wrong_shape_or_dtype_names_the_function(
    change: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        train(replace(QUADRATIC, **change), optax.sgd(0.1), steps=2, key=KEY)


def test_fewer_than_one_step_is_an_error() -> None:
    with pytest.raises(ValueError, match="use at least 1"):
        train(QUADRATIC, optax.sgd(0.1), steps=0, key=KEY)


def test_a_training_stops_where_its_smoothed_loss_exceeds_the_limit() -> None:
    unlimited = train(QUADRATIC, optax.sgd(0.1), steps=12, key=KEY)
    smooth_losses = smoothed(np.asarray(unlimited.train_loss))
    first_limited = 7  # the index of the first step with a limit

    def train_with_limits(distance: float) -> proxies.TrainingResult:
        """Train with limits that are the smoothed losses plus a distance."""
        limits = np.full(12, np.inf, np.float32)
        limits[first_limited:] = smooth_losses[first_limited:] + distance
        schedule = StepSchedule.plain(np.ones(12, np.float32), 12)._replace(limits=limits)
        return compiled_train(QUADRATIC, optax.sgd(0.1), QUADRATIC.data, KEY, schedule, ())

    above_limits = train_with_limits(-1e-3)
    assert bool(above_limits.stopped)
    assert not bool(above_limits.diverged)
    assert above_limits.steps == 8
    np.testing.assert_array_equal(above_limits.train_loss[:8], unlimited.train_loss[:8])
    assert np.isnan(above_limits.train_loss[8:]).all()
    assert above_limits.loss > unlimited.loss
    below_limits = train_with_limits(1e-3)
    assert not bool(below_limits.stopped)
    assert below_limits.loss == unlimited.loss


def test_weight_decay_is_subtracted_in_addition_to_the_update() -> None:
    learning_rate, steps = 0.1, 12
    decays = np.linspace(0.0, 0.2, steps, dtype=np.float32)
    schedule = StepSchedule.plain(np.ones(steps, np.float32), steps)._replace(decays=decays)
    result = compiled_train(QUADRATIC, optax.sgd(learning_rate), QUADRATIC.data, KEY, schedule, ())
    weights = np.prod(1 - decays[:, None] - learning_rate * CURVATURES, axis=0)
    np.testing.assert_allclose(result.loss, _closed_form_loss(weights), rtol=1e-5)


@pytest.mark.parametrize("delay", [1, 3])
def test_a_delayed_gradient_is_taken_at_earlier_weights(delay: int) -> None:
    learning_rate, steps = 0.1, 8
    task = replace(QUADRATIC, delay=delay)
    result = train(task, optax.sgd(learning_rate), steps=steps, key=KEY)
    weights = [np.ones_like(CURVATURES)] * (delay + 1)  # the first steps use the initial weights
    for _ in range(steps):
        delayed_gradient = CURVATURES * weights[-1 - delay]
        weights.append(weights[-1] - learning_rate * delayed_gradient)
    delayed_losses = _closed_form_loss(np.stack(weights[:steps]))
    np.testing.assert_allclose(result.train_loss, delayed_losses, rtol=1e-5)
    np.testing.assert_allclose(result.loss, _closed_form_loss(weights[-1]), rtol=1e-5)


def test_a_negative_delay_is_an_error() -> None:
    with pytest.raises(ValueError, match="delay is -1"):
        replace(QUADRATIC, delay=-1)


def test_an_observed_training_returns_the_rms_of_updates_and_final_weights() -> None:
    learning_rate, steps = 0.1, 12
    schedule = StepSchedule.plain(np.ones(steps, np.float32), steps)
    arguments = (QUADRATIC, optax.sgd(learning_rate), QUADRATIC.data, KEY, schedule, ())
    observed = compiled_train(*arguments, observe=True)
    weights = (1 - learning_rate * CURVATURES) ** np.arange(steps + 1)[:, None]
    update_rms = np.sqrt(np.mean(np.diff(weights, axis=0) ** 2, axis=1))
    np.testing.assert_allclose(observed.update_rms, update_rms, rtol=1e-4)
    final_weights = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(observed.params)])
    np.testing.assert_allclose(np.sort(final_weights), np.sort(weights[-1]), rtol=1e-4)
    unobserved = compiled_train(*arguments)
    assert unobserved.update_rms.shape == (0,)
    assert unobserved.params is None
    np.testing.assert_allclose(unobserved.loss, observed.loss, rtol=1e-5)


def test_the_sharpness_of_the_quadratic_task_is_its_largest_curvature() -> None:
    eigenvalue = sharpness(QUADRATIC, QUADRATIC.init(KEY), QUADRATIC.data, KEY)
    assert float(eigenvalue) == pytest.approx(CURVATURES.max(), rel=1e-3)
