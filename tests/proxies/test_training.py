"""Tests that compare the training loop with closed forms."""

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

MAPS = Path("/proc/self/maps")
KEY = jax.random.key(0)
BOWL = proxies.load("quadratic")
CURVATURES = np.concatenate([np.ravel(c) for c in BOWL.data])


def _rule(update_of: Any) -> optax.GradientTransformationExtraArgs:
    """Return a rule that updates every weight by `update_of(gradient, operand, lr, t)`."""

    def init(params: Any, operand: Any = ()) -> Any:
        return operand

    def update(updates: Any, state: Any, params: Any = None, *, lr: Any, t: Any) -> Any:
        return jax.tree.map(lambda gradient: update_of(gradient, state, lr, t), updates), state

    return optax.GradientTransformationExtraArgs(init, update)


def _updates(result: proxies.TrainingResult) -> np.ndarray:
    """Return the change of the weights in each update but the last.

    All weights are equal, and 1 at first.
    """
    weights = np.sqrt(2 * np.asarray(result.train_loss, np.float64) / CURVATURES.sum())
    return np.diff(weights)


def _compilations() -> int:
    return int(compiled_train._cache_size())  # type: ignore[attr-defined]


@pytest.mark.skipif(not MAPS.exists(), reason="the system does not list memory maps")
def test_a_deleted_executable_frees_its_memory_maps() -> None:
    def maps() -> int:
        gc.collect()
        return len(MAPS.read_text().splitlines())

    def compile_with(rate: float) -> Any:
        arguments = BOWL.data, KEY, StepSchedule.plain(np.ones(5, np.float32), 5), ()
        return compile_train(BOWL, optax.sgd(rate), *arguments)

    compile_with(0.1)  # the first compilation makes additional memory maps
    before = maps()
    executables = [compile_with(rate) for rate in (0.2, 0.3, 0.4)]
    map_count = maps() - before
    assert (
        executables[0](BOWL.data, KEY, StepSchedule.plain(np.ones(5, np.float32), 5), ()).steps == 5
    )
    executables.clear()
    assert map_count > 30
    assert maps() - before < map_count / 4


def test_gradient_descent_on_the_bowl_follows_the_closed_form() -> None:
    rate, steps = 0.1, 12
    result = train(BOWL, optax.sgd(rate), steps=steps, key=KEY)
    weights = (1 - rate * CURVATURES) ** np.arange(steps + 1)[:, None]
    losses = 0.5 * (CURVATURES * weights**2).sum(axis=1)
    np.testing.assert_allclose(result.train_loss, losses[:-1], rtol=1e-5)
    np.testing.assert_allclose(result.loss, losses[-1], rtol=1e-5)
    assert result.steps == steps
    assert not result.diverged


def test_a_diverging_training_ends_early_with_infinite_loss() -> None:
    result = train(BOWL, optax.sgd(1e12), key=KEY)
    steps = int(result.steps)
    assert result.diverged
    assert result.loss == np.inf
    assert steps < BOWL.steps
    assert result.train_loss.shape == (BOWL.steps,)
    assert np.isfinite(result.train_loss[: steps - 1]).all()
    assert not np.isfinite(result.train_loss[steps - 1])
    assert np.isnan(result.train_loss[steps:]).all()


def test_weights_that_the_last_update_makes_infinite_count_as_divergence() -> None:
    result = train(BOWL, _rule(lambda g, operand, lr, t: g / 0.0), steps=1, key=KEY)
    assert np.isfinite(result.train_loss).all()
    assert result.diverged
    assert result.loss == np.inf
    assert result.steps == 1


def test_a_diverging_lane_under_vmap_does_not_affect_the_others() -> None:
    rule = _rule(lambda g, rate, lr, t: -rate * g)
    rates = jnp.array([0.1, 1e12, 0.2])
    results = jax.vmap(lambda rate: train(BOWL, rule, key=KEY, operands=(rate,)))(rates)
    assert results.diverged.tolist() == [False, True, False]
    assert results.steps[1] < BOWL.steps == results.steps[0] == results.steps[2]
    single = train(BOWL, rule, key=KEY, operands=(rates[2],))
    np.testing.assert_allclose(results.train_loss[2], single.train_loss, rtol=1e-5)


def test_the_rule_receives_the_learning_rate_and_a_step_counted_from_one() -> None:
    lrs = train(BOWL, _rule(lambda g, operand, lr, t: jnp.full_like(g, lr)), steps=8, key=KEY)
    expected = 0.5 * (1 + np.cos(np.pi * np.arange(7) / 8))
    np.testing.assert_allclose(_updates(lrs), expected, atol=1e-5)
    steps = train(BOWL, _rule(lambda g, operand, lr, t: jnp.full_like(g, t)), steps=8, key=KEY)
    np.testing.assert_allclose(_updates(steps), np.arange(1, 8), rtol=1e-5)


def test_the_argument_schedule_replaces_the_cosine() -> None:
    rule = _rule(lambda g, operand, lr, t: jnp.full_like(g, lr))
    result = train(BOWL, rule, steps=8, schedule=optax.constant_schedule(0.5), key=KEY)
    np.testing.assert_allclose(_updates(result), np.full(7, 0.5), rtol=1e-5)


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("steps", [1, 3, 200])
def test_a_schedule_has_peak_1_and_is_0_after_its_last_step(name: str, steps: int) -> None:
    rates = relative_rates(name, steps, steps + 5)
    assert rates.shape == (steps + 5,)
    assert not rates[steps:].any()
    assert (rates >= 0).all()
    assert rates.max() == (1.0 if steps > 1 else rates[0])


def test_one_compilation_serves_every_schedule_and_number_of_steps() -> None:
    rule = optax.sgd(0.1)
    before = _compilations()
    for name, steps in (("cosine", 12), ("constant", 12), ("linear", 5)):
        rates = jnp.asarray(relative_rates(name, steps, 12))
        result = compiled_train(BOWL, rule, BOWL.data, KEY, StepSchedule.plain(rates, steps), ())
        single = train(BOWL, rule, steps=steps, schedule=SCHEDULES[name](steps), key=KEY)
        assert result.steps == single.steps == steps
        np.testing.assert_array_equal(result.train_loss[:steps], single.train_loss)
        np.testing.assert_array_equal(result.loss, single.loss)
    assert _compilations() == before + 2  # budgets of 12 and of 5


def test_new_operands_do_not_compile_again() -> None:
    rule = _rule(lambda g, rate, lr, t: -rate * g)
    before = _compilations()
    losses = {
        float(train(BOWL, rule, key=jax.random.key(seed), operands=(jnp.float32(rate),)).loss)
        for seed, rate in enumerate((0.01, 0.02, 0.03))
    }
    assert len(losses) == 3
    assert _compilations() == before + 1


def test_a_custom_gradient_replaces_the_gradient_of_the_loss() -> None:
    def uphill(params: Any, batch: Any, key: jax.Array) -> Any:
        loss, gradients = jax.value_and_grad(BOWL.loss)(params, batch, key)
        return loss, jax.tree.map(jnp.negative, gradients)

    result = train(replace(BOWL, gradient=uphill), optax.sgd(0.1), steps=5, key=KEY)
    assert result.loss > result.train_loss[0]


def test_unused_loss_keys_are_not_computed() -> None:
    def noisy(params: Any, batch: Any, key: jax.Array) -> jax.Array:
        return BOWL.loss(params, batch, key) + jax.random.uniform(key)

    def random_operations(task: proxies.Task) -> int:
        schedule = StepSchedule.plain(relative_rates("cosine", 5, 5), 5)
        arguments = (task, optax.set_to_zero(), task.data, KEY, schedule, ())
        return str(compiled_train.lower(*arguments).compile().as_text()).count(" xor(")

    assert random_operations(BOWL) == 0 < random_operations(replace(BOWL, loss=noisy))


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
        train(replace(BOWL, **change), optax.sgd(0.1), steps=2, key=KEY)


def test_fewer_than_one_step_is_an_error() -> None:
    with pytest.raises(ValueError, match="use at least 1"):
        train(BOWL, optax.sgd(0.1), steps=0, key=KEY)


def test_a_training_stops_where_its_smoothed_loss_exceeds_the_limit() -> None:
    unlimited = train(BOWL, optax.sgd(0.1), steps=12, key=KEY)
    smooth = smoothed(np.asarray(unlimited.train_loss))
    limits = np.full(12, np.inf, np.float32)
    limits[7:] = smooth[7:] - 1e-3
    schedule = StepSchedule.plain(np.ones(12, np.float32), 12)
    result = compiled_train(
        BOWL, optax.sgd(0.1), BOWL.data, KEY, schedule._replace(limits=limits), ()
    )
    assert bool(result.stopped)
    assert not bool(result.diverged)
    assert result.steps == 8
    np.testing.assert_array_equal(result.train_loss[:8], unlimited.train_loss[:8])
    assert np.isnan(result.train_loss[8:]).all()
    assert result.loss > unlimited.loss
    limits[7:] = smooth[7:] + 1e-3
    below_limit = compiled_train(
        BOWL, optax.sgd(0.1), BOWL.data, KEY, schedule._replace(limits=limits), ()
    )
    assert not bool(below_limit.stopped)
    assert below_limit.loss == unlimited.loss


def test_weight_decay_is_subtracted_in_addition_to_the_update() -> None:
    rate, steps = 0.1, 12
    decays = np.linspace(0.0, 0.2, steps, dtype=np.float32)
    schedule = StepSchedule.plain(np.ones(steps, np.float32), steps)._replace(decays=decays)
    result = compiled_train(BOWL, optax.sgd(rate), BOWL.data, KEY, schedule, ())
    weights = np.prod(1 - decays[:, None] - rate * CURVATURES, axis=0)
    np.testing.assert_allclose(result.loss, 0.5 * (CURVATURES * weights**2).sum(), rtol=1e-5)


@pytest.mark.parametrize("delay", [1, 3])
def test_a_delayed_gradient_is_taken_at_earlier_weights(delay: int) -> None:
    rate, steps = 0.1, 8
    result = train(replace(BOWL, delay=delay), optax.sgd(rate), steps=steps, key=KEY)
    weights = [np.ones_like(CURVATURES)] * (delay + 1)  # before the first step, the initial ones
    for _ in range(steps):
        weights.append(weights[-1] - rate * CURVATURES * weights[-1 - delay])
    losses = [0.5 * (CURVATURES * row**2).sum() for row in weights]
    np.testing.assert_allclose(result.train_loss, losses[:steps], rtol=1e-5)
    np.testing.assert_allclose(result.loss, losses[-1], rtol=1e-5)


def test_a_negative_delay_is_an_error() -> None:
    with pytest.raises(ValueError, match="delay is -1"):
        replace(BOWL, delay=-1)


def test_an_observed_training_returns_the_rms_of_updates_and_final_weights() -> None:
    rate, steps = 0.1, 12
    schedule = StepSchedule.plain(np.ones(steps, np.float32), steps)
    arguments = (BOWL, optax.sgd(rate), BOWL.data, KEY, schedule, ())
    plain, observed = compiled_train(*arguments), compiled_train(*arguments, observe=True)
    weights = (1 - rate * CURVATURES) ** np.arange(steps + 1)[:, None]
    sizes = np.sqrt(np.mean(np.diff(weights, axis=0) ** 2, axis=1))
    np.testing.assert_allclose(observed.update_rms, sizes, rtol=1e-4)
    final = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(observed.params)])
    np.testing.assert_allclose(np.sort(final), np.sort(weights[-1]), rtol=1e-4)
    assert plain.update_rms.shape == (0,)
    assert plain.params is None
    np.testing.assert_allclose(plain.loss, observed.loss, rtol=1e-5)


def test_the_sharpness_of_the_bowl_is_its_largest_curvature() -> None:
    eigenvalue = sharpness(BOWL, BOWL.init(KEY), BOWL.data, KEY)
    assert float(eigenvalue) == pytest.approx(CURVATURES.max(), rel=1e-3)
