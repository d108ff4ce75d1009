"""The few parts that the models are built from: initial weights, layers, losses."""

import itertools
import math
from collections.abc import Callable
from typing import TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

Weights: TypeAlias = dict[str, jax.Array]

Plan: TypeAlias = dict[str, tuple[tuple[int, ...], float]]
"""From a weight's name to its shape and the standard deviation that it starts with."""


def gaussian(key: jax.Array, plan: Plan) -> Weights:
    """Draw all initial weights of a model: float32, normal, of mean 0 and the planned deviations.

    There is one draw for all of them, because every further one costs 0.3 s of compilation.
    """
    sizes = {name: math.prod(shape) for name, (shape, _) in plan.items()}
    draws = jax.random.normal(key, (sum(sizes.values()),), jnp.float32)
    weights: Weights = {}
    start = 0
    for name, (shape, deviation) in plan.items():
        weights[name] = deviation * draws[start : start + sizes[name]].reshape(shape)
        start += sizes[name]
    return weights


def he(inputs: int) -> float:
    """The deviation that keeps the scale through a layer of rectified units (He et al. 2015)."""
    return math.sqrt(2.0 / inputs)


def lecun(inputs: int) -> float:
    """The deviation that keeps the scale through a linear layer (LeCun et al. 1998)."""
    return math.sqrt(1.0 / inputs)


def network_plan(sizes: tuple[int, ...], last: Callable[[int], float] = he) -> Plan:
    """The weights of `network`.

    Args:
        sizes: the numbers of units of all layers, inputs and outputs included.
        last: the deviation of the last layer's weights, from its number of inputs.
    """
    plan: Plan = {}
    for layer, (inputs, outputs) in enumerate(itertools.pairwise(sizes)):
        deviation = last if layer == len(sizes) - 2 else he
        plan[f"weight_{layer}"] = (inputs, outputs), deviation(inputs)
        plan[f"bias_{layer}"] = (outputs,), 0.0
    return plan


def network(params: Weights, x: jax.Array) -> jax.Array:
    """Apply the linear layers of `network_plan`, rectified in between, to `[batch, inputs]`."""
    for layer in range(len(params) // 2):
        if layer:
            x = jax.nn.relu(x)
        x = x @ params[f"weight_{layer}"] + params[f"bias_{layer}"]
    return x


def rms_normalize(x: jax.Array) -> jax.Array:
    """Divide by the root mean square over the last axis; no state, no statistics of the batch."""
    return x * jax.lax.rsqrt(jnp.mean(jnp.square(x), axis=-1, keepdims=True) + 1e-6)


def normalize_patches(patches: jax.Array) -> jax.Array:
    """Bring each of `[..., pixels]` to mean 0 and variance 1; a flat one is not stretched."""
    flat = 0.01  # the variance of a patch that counts as flat
    centred = patches - jnp.mean(patches, axis=-1, keepdims=True)
    variance = jnp.mean(jnp.square(centred), axis=-1, keepdims=True)
    return centred * jax.lax.rsqrt(variance + flat)


def convolve(x: jax.Array, weight: jax.Array) -> jax.Array:
    """Convolve `[batch, h, w, channels]`, zero beyond the border, with a 3x3 `weight`.

    It is written as a product of patches with `[9 * channels, outputs]`: with so few channels XLA
    CPU's convolutions are several times slower, their gradients above all.
    """
    height, width = x.shape[1:3]
    framed = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    rows = jnp.concatenate([framed[:, i : i + height] for i in range(3)], axis=-1)
    patches = jnp.concatenate([rows[:, :, j : j + width] for j in range(3)], axis=-1)
    return patches @ weight


def patches(x: jax.Array, side: int) -> jax.Array:
    """Cut `[batch, h, w, channels]` into squares: `[batch, places, side * side * channels]`.

    Places run row by row; `side` divides `h` and `w`.
    """
    _, height, width, channels = x.shape
    grid = x.reshape(-1, height // side, side, width // side, side, channels)
    squares = grid.transpose(0, 1, 3, 2, 4, 5)
    return squares.reshape(-1, height // side * (width // side), side * side * channels)


def patch_plan(
    places: int, pixels: int, layers: int, width: int, classes: int, ratio: int = 2
) -> Plan:
    """The weights of `classify_patches`: `places` patches of `pixels` numbers."""
    plan: Plan = {"embed": ((pixels, width), lecun(pixels)), "position": ((places, width), 0.5)}
    plan |= transformer_plan(layers, width, ratio)
    return plan | {"weight": ((width, classes), lecun(width)), "bias": ((classes,), 0.0)}


def classify_patches(params: Weights, x: jax.Array, layers: int, heads: int) -> jax.Array:
    """A vision transformer (Dosovitskiy et al. 2021): from `[batch, places, pixels]` to logits."""
    x = x @ params["embed"] + params["position"]
    x = jnp.mean(transform(params, x, layers, heads), axis=1)
    return x @ params["weight"] + params["bias"]


def token_plan(symbols: int, context: int, layers: int, width: int, ratio: int = 2) -> Plan:
    """The weights of `predict_tokens`."""
    plan: Plan = {"embed": ((symbols, width), 1.0), "position": ((context, width), 0.5)}
    plan |= transformer_plan(layers, width, ratio)
    return plan | {"weight": ((width, symbols), lecun(width)), "bias": ((symbols,), 0.0)}


def predict_tokens(params: Weights, codes: jax.Array, layers: int, heads: int) -> jax.Array:
    """A causal transformer: from `[batch, context]` codes to logits `[batch, context, symbols]`."""
    embed = params["embed"]
    # A product with one-hot rows: the gradient of a look-up would be a scatter, slow on CPU and
    # added up in any order on a GPU.
    hot = jax.nn.one_hot(codes, embed.shape[0], dtype=embed.dtype)
    x = transform(params, hot @ embed + params["position"], layers, heads, causal(codes.shape[1]))
    return x @ params["weight"] + params["bias"]


def transformer_plan(layers: int, width: int, ratio: int = 2) -> Plan:
    """The weights of `transform`: residual branches share the scale between them.

    A rectified sublayer has `ratio * width` units.
    """
    depth, hidden = 2 * layers, ratio * width
    plan: Plan = {}
    for layer in range(layers):
        plan |= {
            f"attend_{layer}": ((width, 3 * width), lecun(width)),
            f"join_{layer}": ((width, width), lecun(width * depth)),
            f"expand_{layer}": ((width, hidden), he(width)),
            f"contract_{layer}": ((hidden, width), lecun(hidden * depth)),
        }
    return plan


def transform(
    params: Weights, x: jax.Array, layers: int, heads: int, mask: NDArray[np.float32] | None = None
) -> jax.Array:
    """Apply a transformer, normalised before every sublayer, without normalisation state.

    Args:
        params: weights of `transformer_plan`, among others.
        x: `[batch, places, width]`.
        layers: pairs of an attention and a rectified sublayer.
        heads: attention heads; they divide the width.
        mask: `[places, places]`, added to the scores of a reader (row) for what it reads.
    """
    for layer in range(layers):
        heard = _attend(rms_normalize(x) @ params[f"attend_{layer}"], heads, mask)
        x = x + heard @ params[f"join_{layer}"]
        units = jax.nn.relu(rms_normalize(x) @ params[f"expand_{layer}"])
        x = x + units @ params[f"contract_{layer}"]
    return rms_normalize(x)


def causal(places: int) -> NDArray[np.float32]:
    """The mask `[places, places]` that hides what comes later."""
    return np.triu(np.full((places, places), -1e9, np.float32), 1)


def _attend(x: jax.Array, heads: int, mask: NDArray[np.float32] | None) -> jax.Array:
    _, places, triple = x.shape
    width = triple // 3
    split_heads = (-1, places, heads, width // heads)
    query, key, value = (part.reshape(split_heads) for part in jnp.split(x, 3, axis=-1))
    scores = jnp.einsum("bqhd,bkhd->bhqk", query, key) * (width // heads) ** -0.5
    weights = jax.nn.softmax(scores if mask is None else scores + mask.astype(scores.dtype))
    return jnp.einsum("bhqk,bkhd->bqhd", weights, value).reshape(-1, places, width)


def cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Return the mean cross-entropy in nats of `logits` `[..., classes]` on `labels` `[...]`.

    Logits of less precision are brought to float32 first. Labels are spread out rather than
    gathered: the gradient of a gather is a scatter, which XLA CPU runs one row at a time.
    """
    logits = _precise(logits)
    hot = jax.nn.one_hot(labels, logits.shape[-1], dtype=logits.dtype)
    return -jnp.mean(jnp.sum(hot * jax.nn.log_softmax(logits), axis=-1))


def smoothed_divergence(logits: jax.Array, labels: jax.Array, smoothing: float) -> jax.Array:
    """Return the mean divergence in nats of `logits` from labels that are right by chance.

    `KL((1 - s) onehot + s / classes || softmax(logits))`, the cross-entropy with label smoothing
    `0 < s < 1` (Szegedy et al. 2016) less its minimum. It bounds what a confident mistake costs.

    Args:
        logits: `[..., classes]`.
        labels: `[...]`, in `range(classes)`.
        smoothing: the probability `s` that a label is drawn afresh from all classes.
    """
    logits = _precise(logits)
    classes = logits.shape[-1]
    rest = smoothing / classes
    right = 1.0 - smoothing + rest
    entropy = -right * math.log(right) - (classes - 1) * rest * math.log(rest)
    target = (1.0 - smoothing) * jax.nn.one_hot(labels, classes, dtype=logits.dtype) + rest
    return -jnp.mean(jnp.sum(target * jax.nn.log_softmax(logits), axis=-1)) - entropy


def _precise(x: jax.Array) -> jax.Array:
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))
