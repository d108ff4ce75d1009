"""Classification of handwritten digits with plain, convolutional and residual networks.

Images are shifted by up to one pixel down and right, and their intensity is scaled at random, both
in training and in the evaluation. Labels are smoothed, because the loss would otherwise depend on a
few confident mistakes.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from proxies import data
from proxies.layers import (
    Weights,
    WeightSpecs,
    gaussian,
    he,
    lecun,
    network,
    network_specs,
    rms_normalize,
    smoothed_divergence,
)
from proxies.registry import register
from proxies.sampling import Partition, cut, draw, evaluation_views, integers_below
from proxies.task import PyTree, Split, Task

CLASSES = 10
SIDE = 8  # pixels
PIXELS = SIDE * SIDE

_PADDED = SIDE + 1  # with a row of zeros above and a column of zeros on the left, for shifts
_WINDOW = np.add.outer(np.arange(SIDE) * _PADDED, np.arange(SIDE)).ravel()
_VIEWS = 4  # augmented views of each evaluation image
_GAIN_RANGE = 0.8, 1.2  # range of the random factor on the intensity
_SMOOTHING = 0.1
_MEAN, _DEVIATION = 0.3, 0.37  # approximate mean and standard deviation of a pixel

Model: TypeAlias = Callable[[Weights, jax.Array], jax.Array]


class Digits(NamedTuple):
    """The images of a part of the digits.

    Attributes:
        images: `[n, 81]` float32 in 0..1, padded with zeros above and on the left.
        labels: `[n]` int32.
    """

    images: NDArray[np.float32]
    labels: NDArray[np.int32]


class Views(NamedTuple):
    """The images of a batch and their augmentation.

    Attributes:
        item: `[batch]` int32, indices of images.
        corner: `[batch]` int32, the offset of the 8x8 window in the padded image.
        gain: `[batch]` float32, the factor on the intensity.
    """

    item: jax.Array
    corner: jax.Array
    gain: jax.Array


class Batch(NamedTuple):
    """A batch of digits.

    Attributes:
        pixels: `[batch, 64]` float32, approximately standardised.
        labels: `[batch]` int32.
    """

    pixels: jax.Array
    labels: jax.Array


Loss: TypeAlias = Callable[[PyTree, Batch, jax.Array], jax.Array]
"""A function from weights, images and a key to a positive number."""

Gradient: TypeAlias = Callable[[PyTree, Batch, jax.Array], tuple[jax.Array, PyTree]]
"""A function from weights, images and a key to the loss and its gradients."""


def _read(part: data.Part) -> Digits:
    images, labels = data.digits().part(part)
    padded = np.pad(images.astype(np.float32) / 16.0, ((0, 0), (1, 0), (1, 0)))
    return Digits(padded.reshape(len(padded), -1), labels.astype(np.int32))


def _views(item: jax.Array, bits: jax.Array) -> Views:
    """Draw shifts from two of the 16 random bits, and gains from the other 14 bits."""
    top, left = jnp.divmod(integers_below(bits, 4), 2)
    low, high = _GAIN_RANGE
    return Views(item, top * _PADDED + left, low + (high - low) / 2**14 * (bits & 0x3FFF))


def _partition(digits: Digits, key: jax.Array) -> Partition:
    return cut(digits.labels.shape[0], key, evaluation=0.4)


def _batch(digits: Digits, views: Views) -> Batch:
    start = views.item * _PADDED**2 + views.corner
    pixels = jnp.ravel(digits.images)[start[:, None] + _WINDOW]
    pixels = (views.gain[:, None] * pixels - _MEAN) / _DEVIATION
    return Batch(pixels, digits.labels[views.item])


def build(
    name: str,
    split: Split,
    description: str,
    *,
    metric: str,
    steps: int,
    batch: int,
    init: Callable[[jax.Array], PyTree],
    loss: Loss,
    error: Loss | None = None,
    gradient: Gradient | None = None,
    delay: int = 0,
) -> Task:
    """Return the task of minimising a loss on batches of digits.

    Args:
        name: the task's name.
        split: the split, which decides the part of the digits that is read; "diagnostic" tasks read
            the search part.
        description: one line that says what the task is.
        metric: what `error` returns, with its unit.
        steps: number of training steps.
        batch: images per step.
        init: returns the initial weights.
        loss: the training loss, positive.
        error: the metric on the evaluation images, positive; None uses `loss`.
        gradient: a custom gradient; see `Task`.
        delay: number of steps by which gradients are delayed.
    """
    metric_of = loss if error is None else error

    def sample(partition: Partition, key: jax.Array) -> Views:
        return _views(*draw(partition.train, key, batch))

    def evaluate(params: PyTree, digits: Digits, partition: Partition, key: jax.Array) -> jax.Array:
        views = _views(*evaluation_views(partition, _VIEWS))
        return metric_of(params, _batch(digits, views), key)

    return Task(
        name=name,
        split=split,
        description=description,
        metric=metric,
        steps=steps,
        data=_read("search" if split == "diagnostic" else split),
        init=init,
        partition=_partition,
        sample=sample,
        batch=_batch,
        loss=loss,
        evaluate=evaluate,
        gradient=gradient,
        source="digits",
        delay=delay,
    )


def classification_task(
    name: str,
    split: Split,
    description: str,
    *,
    steps: int,
    batch: int,
    init: Callable[[jax.Array], Weights],
    model: Model,
    delay: int = 0,
) -> Task:
    """Return the task of classifying digits with `model`.

    Args:
        name: the task's name.
        split: the split, which decides the part of the digits that is read.
        description: the model in words.
        steps: number of training steps.
        batch: images per step.
        init: returns the initial weights.
        model: a function from weights and pixels `[batch, 64]` to logits `[batch, 10]`.
        delay: number of steps by which gradients are delayed.
    """

    def loss(params: Weights, batch: Batch, key: jax.Array) -> jax.Array:
        del key
        return smoothed_divergence(model(params, batch.pixels), batch.labels, _SMOOTHING)

    return build(
        name,
        split,
        f"handwritten digits, {description}",
        metric="divergence from smoothed labels (nats)",
        steps=steps,
        batch=batch,
        init=init,
        loss=loss,
        delay=delay,
    )


@register("digits-mlp", "search")
def mlp(
    name: str | None = None,
    split: Split = "search",
    *,
    hidden: tuple[int, ...] = (40,),
    batch: int = 64,
    steps: int = 200,
) -> Task:
    """Return the task of classifying digits with a ReLU network.

    Args:
        name: the task's name; None derives it from `hidden`, such as "digits-mlp-400x400".
        split: the split, which decides the part of the digits that is read.
        hidden: units of each hidden layer; `(40,)` gives 3,010 weights, `(256,)` 19,210 and
            `(400, 400)` 190,410.
        batch: images per step.
        steps: number of training steps.
    """
    sizes = (PIXELS, *hidden, CLASSES)

    def init(key: jax.Array) -> Weights:
        return gaussian(key, network_specs(sizes))

    units = "x".join(map(str, hidden)) or "linear"
    description = f"network with {units} hidden units"
    name = f"digits-mlp-{units}" if name is None else name
    return classification_task(
        name, split, description, steps=steps, batch=batch, init=init, model=network
    )


@register("digits-conv", "search")
def conv(
    name: str,
    split: Split,
    *,
    first_channels: int = 12,
    second_channels: int = 24,
    batch: int = 48,
    steps: int = 200,
) -> Task:
    """Return the task of classifying digits with two convolutions and a linear layer.

    A 4x4 convolution of stride 2 gives `first_channels` channels, and a 2x2 convolution gives
    `second_channels` channels. Both convolutions are matrix products with patches. With few
    channels XLA CPU's convolutions, and especially their gradients, are several times slower.
    """
    first_side, second_side = 3, 2  # sides of the two feature maps
    corners = np.add.outer(np.arange(first_side) * 2 * SIDE, np.arange(first_side) * 2).reshape(
        -1, 1
    )
    patches = corners + np.add.outer(np.arange(4) * SIDE, np.arange(4)).reshape(1, -1)

    def init(key: jax.Array) -> Weights:
        features = second_side * second_side * second_channels
        specs: WeightSpecs = {
            "conv_0": ((16, first_channels), he(16)),
            "bias_0": ((first_channels,), 0.0),
            "conv_1": ((4 * first_channels, second_channels), he(4 * first_channels)),
            "bias_1": ((second_channels,), 0.0),
            "weight": ((features, CLASSES), lecun(features)),
            "bias": ((CLASSES,), 0.0),
        }
        return gaussian(key, specs)

    def model(params: Weights, x: jax.Array) -> jax.Array:
        x = jax.nn.relu(x[:, patches] @ params["conv_0"] + params["bias_0"])
        x = x.reshape(-1, first_side, first_side, first_channels)
        windows = [
            x[:, i : i + second_side, j : j + second_side] for i in range(2) for j in range(2)
        ]
        x = jnp.concatenate(windows, axis=-1).reshape(-1, 4 * first_channels)
        x = jax.nn.relu(x @ params["conv_1"] + params["bias_1"])
        x = x.reshape(-1, second_side * second_side * second_channels)
        return x @ params["weight"] + params["bias"]

    description = f"convolutional network with {first_channels} and {second_channels} channels"
    return classification_task(
        name, split, description, steps=steps, batch=batch, init=init, model=model
    )


@register("digits-residual", "held-out")
def residual(
    name: str,
    split: Split,
    *,
    width: int = 96,
    blocks: int = 4,
    batch: int = 64,
    steps: int = 1000,
) -> Task:
    """Return the task of classifying digits with a normalised residual network.

    Each block computes `x <- x + relu(normalize(x) * gain @ A) @ B`.
    """

    def init(key: jax.Array) -> Weights:
        specs: WeightSpecs = {
            "embed": ((PIXELS, width), lecun(PIXELS)),
            "expand": ((blocks, width, width), he(width)),
            "contract": ((blocks, width, width), lecun(width * blocks)),
            "weight": ((width, CLASSES), lecun(width)),
            "bias": ((CLASSES,), 0.0),
        }
        return gaussian(key, specs) | {"gain": jnp.ones((blocks, width))}

    def model(params: Weights, x: jax.Array) -> jax.Array:
        x = x @ params["embed"]
        for block in range(blocks):
            hidden = rms_normalize(x) * params["gain"][block]
            hidden = jax.nn.relu(hidden @ params["expand"][block])
            x = x + hidden @ params["contract"][block]
        return rms_normalize(x) @ params["weight"] + params["bias"]

    description = f"normalised residual network of {blocks} blocks"
    return classification_task(
        name, split, description, steps=steps, batch=batch, init=init, model=model
    )


# Tasks of 10x and 100x the work, which is the product of weights, steps and batch.
register("digits-mlp-10x", "validation")(partial(mlp, hidden=(96,), batch=128, steps=400))
register("digits-mlp-100x", "validation")(partial(mlp, hidden=(128, 128), batch=128, steps=1200))
register("digits-conv-10x", "validation")(
    partial(conv, first_channels=20, second_channels=40, batch=96, steps=450)
)
register("digits-conv-100x", "validation")(
    partial(conv, first_channels=48, second_channels=96, batch=96, steps=1000)
)
