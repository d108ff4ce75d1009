"""The training loop against what can be computed by hand."""

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
    named_shape,
    sharpness,
    smoothed,
    train,
)

MAPS = Path("/proc/self/maps")
KEY = jax.random.key(0)
BOWL = proxies.load("quadratic")
CURVATURES = np.concatenate([np.ravel(c) for c in BOWL.data])


def _rule(move: Any) -> optax.GradientTransformationExtraArgs:
    """A rule that updates every weight by `move(gradient, operand, lr, t)`."""

    def init(params: Any, operand: Any = ()) -> Any:
        return operand

    def update(updates: Any, state: Any, params: Any = None, *, lr: Any, t: Any) -> Any:
        return jax.tree.map(lambda gradient: move(gradient, state, lr, t), updates), state

    return optax.GradientTransformationExtraArgs(init, update)


def _moves(curve: proxies.TrainingResult) -> np.ndarray:
    """By how much each update but the last moved the weights, all by the same amount, from 1."""
    weights = np.sqrt(2 * np.asarray(curve.train_loss, np.float64) / CURVATURES.sum())
    return np.diff(weights)


def _compilations() -> int:
    return int(compiled_train._cache_size())  # type: ignore[attr-defined]


@pytest.mark.skipif(not MAPS.exists(), reason="the system does not list memory maps")
def test_an_executable_that_nobody_holds_takes_no_memory_maps() -> None:
    def maps() -> int:
        gc.collect()
        return len(MAPS.read_text().splitlines())

    def compiled(rate: float) -> Any:
        given = BOWL.data, KEY, StepSchedule.plain(np.ones(5, np.float32), 5), ()
        return compile_train(BOWL, optax.sgd(rate), *given)

    compiled(0.1)  # whatever the first of all takes
    before = maps()
    held = [compiled(rate) for rate in (0.2, 0.3, 0.4)]
    taken = maps() - before
    assert held[0](BOWL.data, KEY, StepSchedule.plain(np.ones(5, np.float32), 5), ()).steps == 5
    held.clear()
    assert taken > 30
    assert maps() - before < taken / 4


def test_gradient_descent_on_the_bowl_follows_the_closed_form() -> None:
    rate, steps = 0.1, 12
    curve = train(BOWL, optax.sgd(rate), steps=steps, key=KEY)
    weights = (1 - rate * CURVATURES) ** np.arange(steps + 1)[:, None]
    losses = 0.5 * (CURVATURES * weights**2).sum(axis=1)
    np.testing.assert_allclose(curve.train_loss, losses[:-1], rtol=1e-5)
    np.testing.assert_allclose(curve.loss, losses[-1], rtol=1e-5)
    assert curve.steps == steps
    assert not curve.diverged


def test_a_diverging_run_leaves_early_and_has_infinite_loss() -> None:
    curve = train(BOWL, optax.sgd(1e12), key=KEY)
    steps = int(curve.steps)
    assert curve.diverged
    assert curve.loss == np.inf
    assert steps < BOWL.steps
    assert curve.train_loss.shape == (BOWL.steps,)
    assert np.isfinite(curve.train_loss[: steps - 1]).all()
    assert not np.isfinite(curve.train_loss[steps - 1])
    assert np.isnan(curve.train_loss[steps:]).all()


def test_a_last_update_that_breaks_the_weights_counts_as_divergence() -> None:
    curve = train(BOWL, _rule(lambda g, operand, lr, t: g / 0.0), steps=1, key=KEY)
    assert np.isfinite(curve.train_loss).all()
    assert curve.diverged
    assert curve.loss == np.inf
    assert curve.steps == 1


def test_under_vmap_one_program_diverges_alone() -> None:
    rule = _rule(lambda g, rate, lr, t: -rate * g)
    rates = jnp.array([0.1, 1e12, 0.2])
    curves = jax.vmap(lambda rate: train(BOWL, rule, key=KEY, operands=(rate,)))(rates)
    assert curves.diverged.tolist() == [False, True, False]
    assert curves.steps[1] < BOWL.steps == curves.steps[0] == curves.steps[2]
    alone = train(BOWL, rule, key=KEY, operands=(rates[2],))
    np.testing.assert_allclose(curves.train_loss[2], alone.train_loss, rtol=1e-5)


def test_the_rule_is_handed_the_schedule_and_a_step_counted_from_one() -> None:
    lrs = train(BOWL, _rule(lambda g, operand, lr, t: jnp.full_like(g, lr)), steps=8, key=KEY)
    expected = 0.5 * (1 + np.cos(np.pi * np.arange(7) / 8))
    np.testing.assert_allclose(_moves(lrs), expected, atol=1e-5)
    steps = train(BOWL, _rule(lambda g, operand, lr, t: jnp.full_like(g, t)), steps=8, key=KEY)
    np.testing.assert_allclose(_moves(steps), np.arange(1, 8), rtol=1e-5)


def test_a_schedule_of_the_caller_replaces_the_cosine() -> None:
    rule = _rule(lambda g, operand, lr, t: jnp.full_like(g, lr))
    curve = train(BOWL, rule, steps=8, schedule=optax.constant_schedule(0.5), key=KEY)
    np.testing.assert_allclose(_moves(curve), np.full(7, 0.5), rtol=1e-5)


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("steps", [1, 3, 200])
def test_a_schedule_has_peak_1_and_is_0_after_its_last_step(name: str, steps: int) -> None:
    shape = named_shape(name, steps, steps + 5)
    assert shape.shape == (steps + 5,)
    assert not shape[steps:].any()
    assert (shape >= 0).all()
    assert shape.max() == (1.0 if steps > 1 else shape[0])


def test_one_compilation_serves_every_schedule_and_number_of_steps() -> None:
    rule = optax.sgd(0.1)
    before = _compilations()
    for name, steps in (("cosine", 12), ("constant", 12), ("linear", 5)):
        shape = jnp.asarray(named_shape(name, steps, 12))
        curve = compiled_train(BOWL, rule, BOWL.data, KEY, StepSchedule.plain(shape, steps), ())
        alone = train(BOWL, rule, steps=steps, schedule=SCHEDULES[name](steps), key=KEY)
        assert curve.steps == alone.steps == steps
        np.testing.assert_array_equal(curve.train_loss[:steps], alone.train_loss)
        np.testing.assert_array_equal(curve.loss, alone.loss)
    assert _compilations() == before + 2  # budgets of 12 and of 5


def test_no_recompile_per_operand() -> None:
    rule = _rule(lambda g, rate, lr, t: -rate * g)
    before = _compilations()
    losses = {
        float(train(BOWL, rule, key=jax.random.key(seed), operands=(jnp.float32(rate),)).loss)
        for seed, rate in enumerate((0.01, 0.02, 0.03))
    }
    assert len(losses) == 3
    assert _compilations() == before + 1


def test_a_task_may_bring_its_own_gradient() -> None:
    def uphill(params: Any, batch: Any, key: jax.Array) -> Any:
        loss, gradients = jax.value_and_grad(BOWL.loss)(params, batch, key)
        return loss, jax.tree.map(jnp.negative, gradients)

    curve = train(replace(BOWL, gradient=uphill), optax.sgd(0.1), steps=5, key=KEY)
    assert curve.loss > curve.train_loss[0]


def test_loss_keys_that_a_task_ignores_cost_nothing() -> None:
    def noisy(params: Any, batch: Any, key: jax.Array) -> jax.Array:
        return BOWL.loss(params, batch, key) + jax.random.uniform(key)

    def scrambles(task: proxies.Task) -> int:
        course = StepSchedule.plain(named_shape("cosine", 5, 5), 5)
        arguments = (task, optax.set_to_zero(), task.data, KEY, course, ())
        return str(compiled_train.lower(*arguments).compile().as_text()).count(" xor(")

    assert scrambles(BOWL) == 0 < scrambles(replace(BOWL, loss=noisy))


def test_fewer_than_one_step_is_an_error() -> None:
    with pytest.raises(ValueError, match="train for at least 1"):
        train(BOWL, optax.sgd(0.1), steps=0, key=KEY)


def test_a_training_stops_where_its_smoothed_loss_exceeds_the_limit() -> None:
    whole = train(BOWL, optax.sgd(0.1), steps=12, key=KEY)
    smooth = smoothed(np.asarray(whole.train_loss))
    limits = np.full(12, np.inf, np.float32)
    limits[7:] = smooth[7:] - 1e-3
    course = StepSchedule.plain(np.ones(12, np.float32), 12)
    curve = compiled_train(BOWL, optax.sgd(0.1), BOWL.data, KEY, course._replace(limits=limits), ())
    assert bool(curve.stopped)
    assert not bool(curve.diverged)
    assert curve.steps == 8
    np.testing.assert_array_equal(curve.train_loss[:8], whole.train_loss[:8])
    assert np.isnan(curve.train_loss[8:]).all()
    assert curve.loss > whole.loss
    limits[7:] = smooth[7:] + 1e-3
    above = compiled_train(BOWL, optax.sgd(0.1), BOWL.data, KEY, course._replace(limits=limits), ())
    assert not bool(above.stopped)
    assert above.loss == whole.loss


def test_decay_takes_its_share_off_the_weights_beside_the_update() -> None:
    rate, steps = 0.1, 12
    decays = np.linspace(0.0, 0.2, steps, dtype=np.float32)
    course = StepSchedule.plain(np.ones(steps, np.float32), steps)._replace(decays=decays)
    curve = compiled_train(BOWL, optax.sgd(rate), BOWL.data, KEY, course, ())
    weights = np.prod(1 - decays[:, None] - rate * CURVATURES, axis=0)
    np.testing.assert_allclose(curve.loss, 0.5 * (CURVATURES * weights**2).sum(), rtol=1e-5)


@pytest.mark.parametrize("delay", [1, 3])
def test_a_delayed_gradient_is_that_of_earlier_weights(delay: int) -> None:
    rate, steps = 0.1, 8
    curve = train(replace(BOWL, delay=delay), optax.sgd(rate), steps=steps, key=KEY)
    weights = [np.ones_like(CURVATURES)] * (delay + 1)  # those before the first are the first
    for _ in range(steps):
        weights.append(weights[-1] - rate * CURVATURES * weights[-1 - delay])
    losses = [0.5 * (CURVATURES * one**2).sum() for one in weights]
    np.testing.assert_allclose(curve.train_loss, losses[:steps], rtol=1e-5)
    np.testing.assert_allclose(curve.loss, losses[-1], rtol=1e-5)


def test_a_negative_delay_is_an_error() -> None:
    with pytest.raises(ValueError, match="delay is -1"):
        replace(BOWL, delay=-1)


def test_an_observed_training_gives_the_sizes_of_its_updates_and_its_weights() -> None:
    rate, steps = 0.1, 12
    course = StepSchedule.plain(np.ones(steps, np.float32), steps)
    arguments = (BOWL, optax.sgd(rate), BOWL.data, KEY, course, ())
    plain, seen = compiled_train(*arguments), compiled_train(*arguments, observe=True)
    weights = (1 - rate * CURVATURES) ** np.arange(steps + 1)[:, None]
    sizes = np.sqrt(np.mean(np.diff(weights, axis=0) ** 2, axis=1))
    np.testing.assert_allclose(seen.update_rms, sizes, rtol=1e-4)
    final = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(seen.params)])
    np.testing.assert_allclose(np.sort(final), np.sort(weights[-1]), rtol=1e-4)
    assert plain.update_rms.shape == (0,)
    assert plain.params is None
    np.testing.assert_allclose(plain.loss, seen.loss, rtol=1e-5)


def test_the_sharpness_of_the_bowl_is_its_largest_curvature() -> None:
    found = sharpness(BOWL, BOWL.init(KEY), BOWL.data, KEY)
    assert float(found) == pytest.approx(CURVATURES.max(), rel=1e-3)
