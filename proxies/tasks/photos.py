"""Patches of photographs: an autoencoder of grey patches, and denoising of colour patches."""

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
    convolve,
    gaussian,
    he,
    lecun,
    network,
    network_specs,
    normalize_patches,
    rms_normalize,
)
from proxies.registry import register
from proxies.sampling import Partition, cut, draw, evaluation_views, integers_below
from proxies.task import Split, Task

_GREY = np.array([0.299, 0.587, 0.114], np.float32)  # of red, green and blue (ITU-R BT.601)
_MEAN, _DEVIATION = 0.35, 0.25  # approximate mean and standard deviation of a pixel in 0..1


class Cells(NamedTuple):
    """The cells of a part of the photographs; a cell is an item.

    Attributes:
        pixels: `[n, 32, 32, channels]` float32, approximately standardised.
    """

    pixels: NDArray[np.float32]


class Positions(NamedTuple):
    """The positions of the patches of a batch.

    Attributes:
        cell: `[batch]` int32, indices of cells.
        top: `[batch]` int32, the row of the patch in its cell.
        left: `[batch]` int32, the column of the patch in its cell.
    """

    cell: jax.Array
    top: jax.Array
    left: jax.Array


Loss: TypeAlias = Callable[[Weights, jax.Array, jax.Array], jax.Array]
"""A function from weights, patches `[batch, side, side, channels]` and a key to a loss above 0."""


def build(
    name: str,
    split: Split,
    description: str,
    metric: str,
    *,
    grey: bool,
    side: int,
    batch: int,
    views: int,
    steps: int,
    init: Callable[[jax.Array], Weights],
    loss: Loss,
    error: Loss | None = None,
) -> Task:
    """Return the task of minimising `loss` on patches `[batch, side, side, channels]`.

    Args:
        name: the task's name.
        split: the split, which decides the part of the photographs that is read.
        description: one line that says what the task is.
        metric: what `error` returns, with its unit.
        grey: whether the photographs are converted to grey.
        side: side of a patch in pixels.
        batch: patches per step.
        views: number of patches of each evaluation cell.
        steps: number of training steps.
        init: returns the initial weights.
        loss: the training loss, positive.
        error: the metric on the evaluation patches, positive; None uses `loss`.

    Raises:
        ValueError: `split` is "diagnostic", which has no data.
    """
    (cells,) = data.photos().part_of_split(split, name)
    pixels = (cells.astype(np.float32) / 255.0 - _MEAN) / _DEVIATION
    if grey:
        pixels = _luma(pixels)
    offsets = data.CELL - side + 1
    rows = np.add.outer(np.arange(side) * data.CELL, np.arange(side))
    channels = pixels.shape[-1]
    window = np.add.outer(rows * channels, np.arange(channels))
    metric_of = loss if error is None else error

    def partition(cells: Cells, key: jax.Array) -> Partition:
        return cut(cells.pixels.shape[0], key)

    def positions(cell: jax.Array, bits: jax.Array) -> Positions:
        return Positions(cell, *jnp.divmod(integers_below(bits, offsets * offsets), offsets))

    def sample(partition: Partition, key: jax.Array) -> Positions:
        return positions(*draw(partition.train, key, batch))

    def read(cells: Cells, sample: Positions) -> jax.Array:
        start = (sample.cell * data.CELL + sample.top) * data.CELL + sample.left
        return jnp.ravel(cells.pixels)[start[:, None, None, None] * channels + window]

    def evaluate(params: Weights, cells: Cells, partition: Partition, key: jax.Array) -> jax.Array:
        sample = positions(*evaluation_views(partition, views))
        return metric_of(params, read(cells, sample), key)

    return Task(
        name=name,
        split=split,
        description=description,
        metric=metric,
        steps=steps,
        data=Cells(pixels.astype(np.float32)),
        init=init,
        partition=partition,
        sample=sample,
        batch=read,
        loss=loss,
        evaluate=evaluate,
        source="photos",
    )


def _luma(pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the luma, `[n, rows, columns, 1]`, of pixels `[n, rows, columns, 3]`.

    The order of the sum and its roundings are fixed, unlike those of a matrix product, so that the
    result is the same on every CPU.
    """
    luma = pixels[..., 0] * _GREY[0]
    for channel in (1, 2):
        product = pixels[..., channel] * _GREY[channel].astype(np.float64)  # exact
        luma = (luma + product).astype(np.float32)
    with_channel: NDArray[np.float32] = luma[..., None]
    return with_channel


@register("photos-autoencoder", "search")
def autoencoder(
    name: str,
    split: Split,
    *,
    hidden: tuple[int, ...] = (),
    code: int = 24,
    batch: int = 64,
    steps: int = 200,
) -> Task:
    """Return the task of an autoencoder of grey 8x8 patches with `code` ReLU units.

    Every patch is scaled to mean 0 and variance 1; otherwise the loss would depend mostly on a few
    patches with strong edges.

    Args:
        name: the task's name.
        split: the split, which decides the part of the photographs that is read.
        hidden: units of each hidden layer of the encoder; the decoder has them in reverse order.
        code: units of the narrowest layer.
        batch: patches per step.
        steps: number of training steps.

    Raises:
        ValueError: `split` is "diagnostic", which has no data.
    """
    side = 8
    sizes = (side * side, *hidden, code, *reversed(hidden), side * side)

    def init(key: jax.Array) -> Weights:
        return gaussian(key, network_specs(sizes, last=lecun))

    def loss(params: Weights, patches: jax.Array, key: jax.Array) -> jax.Array:
        del key
        x = normalize_patches(patches.reshape(-1, side * side))
        return jnp.mean(jnp.square(network(params, x) - x))

    return build(
        name,
        split,
        f"grey patches of photographs, autoencoder with a bottleneck of {code} units",
        "mean squared error (share of a patch's variance)",
        grey=True,
        side=side,
        batch=batch,
        views=16,
        steps=steps,
        init=init,
        loss=loss,
    )


register("photos-autoencoder-10x", "validation")(partial(autoencoder, code=40, batch=96, steps=800))
register("photos-autoencoder-100x", "validation")(
    partial(autoencoder, hidden=(128,), code=32, batch=128, steps=1250)
)


@register("photos-denoise", "held-out")
def denoise(
    name: str,
    split: Split,
    *,
    width: int = 16,
    blocks: int = 2,
    batch: int = 16,
    noise: float = 0.5,
    steps: int = 450,
) -> Task:
    """Return the task of denoising 12x12 colour patches with a residual convolutional network.

    Each block computes `x <- x + conv(relu(conv(normalize(x) * gain)))` with 3x3 convolutions and
    normalisation over channels. The network predicts the noise, of standard deviation `noise`. The
    loss is the mean squared error of the prediction.

    Raises:
        ValueError: `split` is "diagnostic", which has no data.
    """
    side, colours = 12, 3

    def init(key: jax.Array) -> Weights:
        specs: WeightSpecs = {
            "enter": ((9 * colours, width), lecun(9 * colours)),
            "expand": ((blocks, 9 * width, width), he(9 * width)),
            "contract": ((blocks, 9 * width, width), lecun(9 * width * blocks)),
            "leave": ((9 * width, colours), 0.1 * lecun(9 * width)),
        }
        ones = {"gain": jnp.ones((blocks + 1, width))}
        return gaussian(key, specs) | ones | {"bias": jnp.zeros((blocks, width))}

    def model(params: Weights, noisy: jax.Array) -> jax.Array:
        x = convolve(noisy, params["enter"])
        for block in range(blocks):
            normalized = rms_normalize(x) * params["gain"][block]
            hidden = jax.nn.relu(
                convolve(normalized, params["expand"][block]) + params["bias"][block]
            )
            x = x + convolve(hidden, params["contract"][block])
        return convolve(rms_normalize(x) * params["gain"][blocks], params["leave"])

    def loss(params: Weights, patches: jax.Array, key: jax.Array) -> jax.Array:
        added = noise * jax.random.normal(key, patches.shape, patches.dtype)
        return jnp.mean(jnp.square(model(params, patches + added) - added))

    return build(
        name,
        split,
        "noisy colour patches of photographs, residual convolutional network",
        f"mean squared error (noise: {noise**2:g})",
        grey=False,
        side=side,
        batch=batch,
        views=8,
        steps=steps,
        init=init,
        loss=loss,
    )
