"""Tests of properties that only one model or task has, such as causal attention."""

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


def test_the_outputs_of_a_causal_transformer_do_not_depend_on_later_positions() -> None:
    specs = layers.transformer_specs(layers=2, width=8)
    params = layers.gaussian(KEY, specs)
    inputs = jax.random.normal(jax.random.key(1), (3, 6, 8))  # [sequences, positions, width]
    first_changed = 4
    changed_inputs = inputs.at[:, first_changed:].add(1.0)
    transform = quick_jit(lambda x: layers.transform(params, x, 2, 2, layers.causal(6)))
    outputs, changed_outputs = transform(inputs), transform(changed_inputs)
    np.testing.assert_allclose(
        outputs[:, :first_changed], changed_outputs[:, :first_changed], rtol=1e-5
    )
    differences = np.abs(outputs - changed_outputs)[:, first_changed:]
    assert np.all(np.any(differences > 1e-3, axis=-1))


def test_convolve_agrees_with_the_convolution_of_jax() -> None:
    images = jax.random.normal(KEY, (2, 5, 6, 3))
    kernel = jax.random.normal(jax.random.key(1), (27, 4)).reshape(3, 3, 3, 4)
    expected = jax.lax.conv_general_dilated(
        images, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    # `convolve` orders the pixels of a patch by columns, then rows.
    actual = quick_jit(layers.convolve)(images, kernel.swapaxes(0, 1).reshape(27, 4))
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-4)


def test_the_sampled_gradient_of_the_policy_is_unbiased() -> None:
    task = sampled.policy("small", "search", hidden=4, batch=16)
    params, batch = task.init(KEY), _first_batch(task)
    keys = jax.random.split(jax.random.key(4), 4000)
    assert task.gradient is not None
    sample_gradients = quick_jit(jax.vmap(lambda key: task.gradient(params, batch, key)[1]))
    exact_gradient = quick_jit(jax.grad(task.loss))(params, batch, KEY)
    for name, gradients in sample_gradients(keys).items():
        standard_error = np.std(gradients, axis=0) / np.sqrt(len(keys))
        difference = np.mean(gradients, axis=0) - exact_gradient[name]
        z_scores = difference / np.maximum(standard_error, 1e-9)
        assert np.mean(np.square(z_scores)) < 2, name


def test_the_smoothed_gradient_points_towards_larger_error() -> None:
    task = proxies.load("digits-smoothing")
    params, batch = task.init(KEY), _first_batch(task)
    assert task.gradient is not None
    gradient = quick_jit(task.gradient)
    gradients = [gradient(params, batch, jax.random.key(seed))[1] for seed in range(6)]
    mean_gradient = jax.tree.map(lambda *leaves: sum(leaves) / len(leaves), *gradients)
    norm = float(optax.tree.norm(mean_gradient))

    def error_at(distance: float) -> float:
        """Return the error after a move of the weights along the gradient."""
        moved_params = jax.tree.map(lambda w, g: w + distance * g / norm, params, mean_gradient)
        return float(task.loss(moved_params, batch, KEY))

    assert error_at(-0.5) < error_at(0.0) < error_at(0.5)


def test_generator_and_critic_minimise_different_losses() -> None:
    task = proxies.load("digits-gan")
    params, batch = task.init(KEY), _first_batch(task)
    assert task.gradient is not None
    loss, gradients = quick_jit(task.gradient)(params, batch, KEY)
    value_and_grad = quick_jit(jax.value_and_grad(task.loss))
    critic_loss, critic_loss_gradients = value_and_grad(params, batch, KEY)
    assert loss == pytest.approx(float(critic_loss))
    for name, gradient in gradients["critic"].items():
        expected = critic_loss_gradients["critic"][name]
        np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-6)
    scalar_product = optax.tree.vdot(gradients["generator"], critic_loss_gradients["generator"])
    assert scalar_product < 0


def test_the_sliced_distance_of_shifted_points_is_the_mean_squared_projection_of_the_shift() -> (
    None
):
    rng = np.random.default_rng(0)
    points = rng.standard_normal((50, 6)).astype(np.float32)
    directions = np.linalg.qr(rng.standard_normal((6, 6)))[0].astype(np.float32)
    shift = np.arange(6, dtype=np.float32)
    shifted_points = rng.permutation(points) + shift
    distance = adversarial.sliced_wasserstein(
        jnp.asarray(points), jnp.asarray(shifted_points), directions
    )
    mean_squared_projection = np.square(directions.T @ shift).mean()
    assert distance == pytest.approx(mean_squared_projection, rel=1e-5)


def test_fine_tuning_starts_from_a_body_trained_on_photographs_of_the_same_part() -> None:
    patches = finetuning._patches("held-out", "digits-finetune")
    assert len(patches) == 16 * len(data.photos().part("held-out")[0])
    pretrained = proxies.load("digits-finetune").init(KEY)
    untrained = finetuning.finetune("untrained", "held-out", pre_steps=0).init(KEY)
    for name in ("weight_0", "bias_0", "weight_1", "bias_1"):
        assert not np.array_equal(pretrained[name], untrained[name])
    for name in ("weight_2", "bias_2"):  # the head is not pretrained
        assert np.array_equal(pretrained[name], untrained[name])


@pytest.mark.parametrize(
    ("initialisation", "initializer"),
    [
        ("naive", initializers.normal(0.1)),
        ("lecun", initializers.lecun_normal()),
        ("xavier", initializers.glorot_normal()),
        ("kaiming", initializers.he_normal()),
    ],
)
def test_initialisations_have_the_standard_deviations_of_jax(
    initialisation: str, initializer: Any
) -> None:
    weights = initializer(KEY, (400, 300), jnp.float32)
    expected = pytest.approx(float(weights.std()), rel=0.02)
    assert deep.INITIALISATIONS[initialisation](400, 300) == expected


def test_the_variants_of_the_deep_network_have_the_initialisation_in_their_name() -> None:
    for name, standard_deviation in deep.INITIALISATIONS.items():
        weights = proxies.load(f"deep-{name}").init(KEY)["enter"]
        assert float(weights.std()) == pytest.approx(standard_deviation(64, 32), rel=0.05)


def test_only_the_delayed_variant_of_the_deep_network_has_a_delay() -> None:
    assert proxies.load("deep-delayed").delay > 0
    assert proxies.load("deep-kaiming").delay == 0


def test_about_half_of_the_features_to_impute_are_hidden_and_masks_differ() -> None:
    is_hidden = np.asarray(_first_batch(proxies.load("tumours-impute")).hidden)
    assert is_hidden.mean() == pytest.approx(0.5, abs=0.05)
    assert len(np.unique(is_hidden, axis=0)) > 60
