"""Properties of single models and tasks."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.nn import initializers

import proxies
from proxies import data, layers
from proxies.tasks import adversarial, deep, finetuning, sampled
from tests.proxies.compiling import quick_jit

KEY = jax.random.key(0)


def _first_batch(task: proxies.Task) -> Any:
    partition = task.partition(task.data, KEY)
    return task.batch(task.data, task.sample(partition, KEY))


def test_a_causal_transformer_never_looks_ahead() -> None:
    specs = layers.transformer_specs(layers=2, width=8)
    params = layers.gaussian(KEY, specs)
    x = jax.random.normal(jax.random.key(1), (3, 6, 8))
    changed = x.at[:, 4:].add(1.0)
    transform = quick_jit(lambda x: layers.transform(params, x, 2, 2, layers.causal(6)))
    before, after = transform(x), transform(changed)
    np.testing.assert_allclose(before[:, :4], after[:, :4], rtol=1e-5)
    assert np.all(np.any(np.abs(before - after)[:, 4:] > 1e-3, axis=-1))


def test_a_convolution_agrees_with_that_of_jax() -> None:
    x = jax.random.normal(KEY, (2, 5, 6, 3))
    weight = jax.random.normal(jax.random.key(1), (27, 4))
    expected = jax.lax.conv_general_dilated(
        x, weight.reshape(3, 3, 3, 4), (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    # `convolve` orders patches by columns, then rows.
    swapped_weight = weight.reshape(3, 3, 3, 4).swapaxes(0, 1).reshape(27, 4)
    np.testing.assert_allclose(
        quick_jit(layers.convolve)(x, swapped_weight), expected, rtol=1e-4, atol=1e-4
    )


def test_the_sampled_gradient_of_the_policy_is_unbiased() -> None:
    task = sampled.policy("small", "search", hidden=4, batch=16)
    params, batch = task.init(KEY), _first_batch(task)
    keys = jax.random.split(jax.random.key(4), 4000)
    assert task.gradient is not None
    sample = quick_jit(jax.vmap(lambda key: task.gradient(params, batch, key)[1]))
    sampled_gradients, exact = sample(keys), quick_jit(jax.grad(task.loss))(params, batch, KEY)
    for name, gradients in sampled_gradients.items():
        error = np.std(gradients, axis=0) / np.sqrt(len(keys))
        deviations = (np.mean(gradients, axis=0) - exact[name]) / np.maximum(error, 1e-9)
        assert np.mean(np.square(deviations)) < 2, name


def test_the_smoothed_gradient_points_towards_larger_error() -> None:
    task = proxies.load("digits-smoothing")
    params, batch = task.init(KEY), _first_batch(task)
    assert task.gradient is not None
    gradient = quick_jit(task.gradient)
    gradients = [gradient(params, batch, jax.random.key(seed))[1] for seed in range(6)]
    mean = jax.tree.map(lambda *leaves: sum(leaves) / len(leaves), *gradients)
    scale = 0.5 / float(optax.tree.norm(mean))

    def error(sign: float) -> float:
        moved = jax.tree.map(lambda w, g: w + sign * scale * g, params, mean)
        return float(task.loss(moved, batch, KEY))

    assert error(-1.0) < error(0.0) < error(1.0)


def test_generator_and_critic_minimise_different_losses() -> None:
    task = proxies.load("digits-gan")
    params, batch = task.init(KEY), _first_batch(task)
    assert task.gradient is not None
    loss, gradients = quick_jit(task.gradient)(params, batch, KEY)
    critic_loss, shared = quick_jit(jax.value_and_grad(task.loss))(params, batch, KEY)
    assert loss == pytest.approx(float(critic_loss))
    for name, gradient in gradients["critic"].items():
        np.testing.assert_allclose(gradient, shared["critic"][name], rtol=1e-4, atol=1e-6)
    # The generator's own gradient opposes that of the critic's loss.
    cosine = sum(
        jnp.vdot(g, s)
        for g, s in zip(
            jax.tree.leaves(gradients["generator"]),
            jax.tree.leaves(shared["generator"]),
            strict=True,
        )
    )
    assert cosine < 0


def test_the_sliced_distance_of_a_shift_is_its_mean_squared_projection() -> None:
    rng = np.random.default_rng(0)
    points = rng.standard_normal((50, 6)).astype(np.float32)
    directions = np.linalg.qr(rng.standard_normal((6, 6)))[0].astype(np.float32)
    shift = np.arange(6, dtype=np.float32)
    shuffled = rng.permutation(points) + shift
    distance = adversarial.sliced_wasserstein(
        jnp.asarray(points), jnp.asarray(shuffled), directions
    )
    assert distance == pytest.approx(np.square(shift).sum() / 6, rel=1e-5)


def test_fine_tuning_pre_trains_on_photographs_of_its_own_part() -> None:
    patches = finetuning._patches("held-out", "digits-finetune")
    assert len(patches) == 16 * len(data.photos().part("held-out")[0])
    trained = proxies.load("digits-finetune").init(KEY)
    untrained = finetuning.finetune("untrained", "held-out", pre_steps=0).init(KEY)
    for name in ("weight_0", "bias_0", "weight_1", "bias_1"):
        assert not np.array_equal(trained[name], untrained[name])
    for name in ("weight_2", "bias_2"):
        assert np.array_equal(trained[name], untrained[name])


@pytest.mark.parametrize(
    ("initialisation", "initializer"),
    [
        ("naive", initializers.normal(0.1)),
        ("lecun", initializers.lecun_normal()),
        ("xavier", initializers.glorot_normal()),
        ("kaiming", initializers.he_normal()),
    ],
)
def test_initialisations_have_the_deviations_of_jax(initialisation: str, initializer: Any) -> None:
    drawn = initializer(KEY, (400, 300), jnp.float32)
    assert deep.INITIALISATIONS[initialisation](400, 300) == pytest.approx(
        float(drawn.std()), rel=0.02
    )


def test_the_variants_of_the_deep_network_differ_as_their_names_say() -> None:
    deviations = {
        initialisation: float(proxies.load(f"deep-{initialisation}").init(KEY)["enter"].std())
        for initialisation in deep.INITIALISATIONS
    }
    for initialisation, deviation in deviations.items():
        assert deviation == pytest.approx(deep.INITIALISATIONS[initialisation](64, 32), rel=0.05)
    assert proxies.load("deep-delayed").delay > 0 == proxies.load("deep-kaiming").delay


def test_about_half_of_the_features_are_hidden_and_masks_differ() -> None:
    rows = _first_batch(proxies.load("tumours-impute"))
    assert float(rows.hidden.mean()) == pytest.approx(0.5, abs=0.05)
    assert len(np.unique(np.asarray(rows.hidden), axis=0)) > 60
