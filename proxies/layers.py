"""Building blocks of the models: initial weights, layers and losses."""

import itertools
import math
from collections.abc import Callable
from typing import TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

Weights: TypeAlias = dict[str, jax.Array]

WeightSpecs: TypeAlias = dict[str, tuple[tuple[int, ...], float]]
"""The shape and initial standard deviation of each array of weights, by its name."""


def gaussian(key: jax.Array, specs: WeightSpecs) -> Weights:
    """Draw all initial weights of a model: float32, normal, with mean 0.

    All weights come from a single draw, because each additional draw takes 0.3 s to compile.
    """
    sizes = {name: math.prod(shape) for name, (shape, _) in specs.items()}
    draws = jax.random.normal(key, (sum(sizes.values()),), jnp.float32)
    weights: Weights = {}
    start = 0
    for name, (shape, deviation) in specs.items():
        weights[name] = deviation * draws[start : start + sizes[name]].reshape(shape)
        start += sizes[name]
    return weights


def he(inputs: int) -> float:
    """Return the deviation of weights that keeps the scale of a ReLU layer (He et al. 2015)."""
    return math.sqrt(2.0 / inputs)


def lecun(inputs: int) -> float:
    """Return the deviation of weights that keeps the scale of a linear layer (LeCun 1998)."""
    return math.sqrt(1.0 / inputs)


def network_specs(sizes: tuple[int, ...], last: Callable[[int], float] = he) -> WeightSpecs:
    """Return the weight specifications of `network`.

    Args:
        sizes: number of units of each layer, including inputs and outputs.
        last: the standard deviation of the last layer's weights, from its number of inputs.
    """
    specs: WeightSpecs = {}
    for layer, (inputs, outputs) in enumerate(itertools.pairwise(sizes)):
        deviation = last if layer == len(sizes) - 2 else he
        specs[f"weight_{layer}"] = (inputs, outputs), deviation(inputs)
        specs[f"bias_{layer}"] = (outputs,), 0.0
    return specs


def network(params: Weights, x: jax.Array) -> jax.Array:
    """Apply the linear layers of `network_specs`, with ReLU in between, to `[batch, inputs]`."""
    for layer in range(len(params) // 2):
        if layer:
            x = jax.nn.relu(x)
        x = x @ params[f"weight_{layer}"] + params[f"bias_{layer}"]
    return x


def rms_normalize(x: jax.Array) -> jax.Array:
    """Divide by the root mean square over the last axis, without weights."""
    return x * jax.lax.rsqrt(jnp.mean(jnp.square(x), axis=-1, keepdims=True) + 1e-6)


def normalize_patches(patches: jax.Array) -> jax.Array:
    """Scale patches `[..., pixels]` to mean 0 and variance 1, except nearly constant patches."""
    epsilon = 0.01  # the variance below which a patch is nearly constant
    centred = patches - jnp.mean(patches, axis=-1, keepdims=True)
    variance = jnp.mean(jnp.square(centred), axis=-1, keepdims=True)
    return centred * jax.lax.rsqrt(variance + epsilon)


def convolve(x: jax.Array, weight: jax.Array) -> jax.Array:
    """Convolve `[batch, h, w, channels]` with a 3x3 kernel, padded with zeros.

    The convolution is a matrix product of patches and `weight` `[9 * channels, outputs]`. With few
    channels XLA CPU's convolutions, and especially their gradients, are several times slower.
    """
    height, width = x.shape[1:3]
    padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    rows = jnp.concatenate([padded[:, i : i + height] for i in range(3)], axis=-1)
    patches = jnp.concatenate([rows[:, :, j : j + width] for j in range(3)], axis=-1)
    return patches @ weight


def patches(x: jax.Array, side: int) -> jax.Array:
    """Cut images into square patches, in row-major order.

    Args:
        x: `[batch, h, w, channels]`.
        side: the side of a patch in pixels; it divides `h` and `w`.

    Returns:
        `[batch, patches, side * side * channels]`.
    """
    _, height, width, channels = x.shape
    grid = x.reshape(-1, height // side, side, width // side, side, channels)
    image_patches = grid.transpose(0, 1, 3, 2, 4, 5)
    return image_patches.reshape(-1, height // side * (width // side), side * side * channels)


def patch_specs(
    patch_count: int, patch_size: int, layers: int, width: int, classes: int, ratio: int = 2
) -> WeightSpecs:
    """Return the weight specifications of `classify_patches`.

    Args:
        patch_count: number of patches of an image.
        patch_size: numbers per patch: pixels times channels.
        layers: number of transformer layers.
        width: length of the vector at each position.
        classes: number of classes.
        ratio: hidden units of a ReLU sublayer, as a multiple of `width`.
    """
    specs: WeightSpecs = {
        "embed": ((patch_size, width), lecun(patch_size)),
        "position": ((patch_count, width), 0.5),
    }
    specs |= transformer_specs(layers, width, ratio)
    return specs | {"weight": ((width, classes), lecun(width)), "bias": ((classes,), 0.0)}


def classify_patches(params: Weights, x: jax.Array, layers: int, heads: int) -> jax.Array:
    """Apply a vision transformer (Dosovitskiy et al. 2021) to `[batch, patches, patch_size]`.

    Returns:
        Logits `[batch, classes]`.
    """
    x = x @ params["embed"] + params["position"]
    x = jnp.mean(transform(params, x, layers, heads), axis=1)
    return x @ params["weight"] + params["bias"]


def token_specs(symbols: int, context: int, layers: int, width: int, ratio: int = 2) -> WeightSpecs:
    """Return the weight specifications of `predict_tokens`."""
    specs: WeightSpecs = {"embed": ((symbols, width), 1.0), "position": ((context, width), 0.5)}
    specs |= transformer_specs(layers, width, ratio)
    return specs | {"weight": ((width, symbols), lecun(width)), "bias": ((symbols,), 0.0)}


def predict_tokens(params: Weights, tokens: jax.Array, layers: int, heads: int) -> jax.Array:
    """Apply a causal transformer to the indices of tokens, `[batch, context]`.

    Returns:
        Logits `[batch, context, symbols]`.
    """
    embed = params["embed"]
    # The embedding is a product with one-hot rows, because the gradient of an index look-up is a
    # scatter, which is slow on CPUs and sums in a random order on GPUs.
    one_hot = jax.nn.one_hot(tokens, embed.shape[0], dtype=embed.dtype)
    x = one_hot @ embed + params["position"]
    x = transform(params, x, layers, heads, causal(tokens.shape[1]))
    return x @ params["weight"] + params["bias"]


def transformer_specs(layers: int, width: int, ratio: int = 2) -> WeightSpecs:
    """Return the weight specifications of `transform`.

    The output weights of the residual branches are scaled down by the number of branches. A ReLU
    sublayer has `ratio * width` hidden units.
    """
    depth, hidden = 2 * layers, ratio * width
    specs: WeightSpecs = {}
    for layer in range(layers):
        specs |= {
            f"attend_{layer}": ((width, 3 * width), lecun(width)),
            f"join_{layer}": ((width, width), lecun(width * depth)),
            f"expand_{layer}": ((width, hidden), he(width)),
            f"contract_{layer}": ((hidden, width), lecun(hidden * depth)),
        }
    return specs


def transform(
    params: Weights, x: jax.Array, layers: int, heads: int, mask: NDArray[np.float32] | None = None
) -> jax.Array:
    """Apply a transformer with RMS normalisation, without weights, before each sublayer.

    Args:
        params: weights that include those of `transformer_specs`.
        x: `[batch, positions, width]`.
        layers: number of layers, each an attention and a ReLU sublayer.
        heads: number of attention heads, a divisor of `width`.
        mask: `[positions, positions]`, added to the attention scores; a row for each query.
    """
    for layer in range(layers):
        attended = _attend(rms_normalize(x) @ params[f"attend_{layer}"], heads, mask)
        x = x + attended @ params[f"join_{layer}"]
        units = jax.nn.relu(rms_normalize(x) @ params[f"expand_{layer}"])
        x = x + units @ params[f"contract_{layer}"]
    return rms_normalize(x)


def causal(length: int) -> NDArray[np.float32]:
    """Return the attention mask `[length, length]` that hides later positions."""
    return np.triu(np.full((length, length), -1e9, np.float32), 1)


def _attend(x: jax.Array, heads: int, mask: NDArray[np.float32] | None) -> jax.Array:
    _, length, width_of_all = x.shape
    width = width_of_all // 3  # queries, keys and values are concatenated
    split_heads = (-1, length, heads, width // heads)
    query, key, value = (part.reshape(split_heads) for part in jnp.split(x, 3, axis=-1))
    scores = jnp.einsum("bqhd,bkhd->bhqk", query, key) * (width // heads) ** -0.5
    weights = jax.nn.softmax(scores if mask is None else scores + mask.astype(scores.dtype))
    return jnp.einsum("bhqk,bkhd->bqhd", weights, value).reshape(-1, length, width)


def cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Return the mean cross-entropy in nats of `logits` `[..., classes]` on `labels` `[...]`.

    Logits of lower precision are converted to float32 first. Labels are converted to one-hot rows,
    because the gradient of a gather is a scatter, which XLA CPU runs one row at a time.
    """
    logits = _at_least_float32(logits)
    one_hot = jax.nn.one_hot(labels, logits.shape[-1], dtype=logits.dtype)
    return -jnp.mean(jnp.sum(one_hot * jax.nn.log_softmax(logits), axis=-1))


def smoothed_divergence(logits: jax.Array, labels: jax.Array, smoothing: float) -> jax.Array:
    """Return the mean KL divergence in nats of `softmax(logits)` from smoothed labels.

    `KL((1 - s) onehot + s / classes || softmax(logits))`: the cross-entropy with label smoothing
    (Szegedy et al. 2016) minus its minimum.

    Args:
        logits: `[..., classes]`.
        labels: `[...]`, in `range(classes)`.
        smoothing: the probability `0 < s < 1` that a label is replaced by a random class.
    """
    logits = _at_least_float32(logits)
    classes = logits.shape[-1]
    other_probability = smoothing / classes
    label_probability = 1.0 - smoothing + other_probability
    entropy = -label_probability * math.log(label_probability)
    entropy -= (classes - 1) * other_probability * math.log(other_probability)
    target = (1.0 - smoothing) * jax.nn.one_hot(labels, classes, dtype=logits.dtype)
    target += other_probability
    return -jnp.mean(jnp.sum(target * jax.nn.log_softmax(logits), axis=-1)) - entropy


def _at_least_float32(x: jax.Array) -> jax.Array:
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))
