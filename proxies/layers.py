"""The few parts that the models are built from: initial weights, losses, one normalisation."""

import math
from typing import TypeAlias

import jax
import jax.numpy as jnp

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


def rms_normalize(x: jax.Array) -> jax.Array:
    """Divide by the root mean square over the last axis; no state, no statistics of the batch."""
    return x * jax.lax.rsqrt(jnp.mean(jnp.square(x), axis=-1, keepdims=True) + 1e-6)


def cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Return the mean cross-entropy in nats of `logits` `[..., classes]` on `labels` `[...]`.

    Labels are spread out rather than gathered: the gradient of a gather is a scatter, which XLA
    CPU runs one row at a time.
    """
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
    classes = logits.shape[-1]
    rest = smoothing / classes
    right = 1.0 - smoothing + rest
    entropy = -right * math.log(right) - (classes - 1) * rest * math.log(rest)
    target = (1.0 - smoothing) * jax.nn.one_hot(labels, classes, dtype=logits.dtype) + rest
    return -jnp.mean(jnp.sum(target * jax.nn.log_softmax(logits), axis=-1)) - entropy
