"""Photographs in patches: compressing grey ones, removing noise from coloured ones."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from proxies import data
from proxies.layers import (
    Plan,
    Weights,
    convolve,
    gaussian,
    he,
    lecun,
    network,
    network_plan,
    normalize_patches,
    rms_normalize,
)
from proxies.registry import register
from proxies.sampling import Cut, below, cut, draw, evaluation_views
from proxies.task import Split, Task

_GREY = 0.299, 0.587, 0.114  # the shares of red, green and blue in luma (ITU-R BT.601)
_MEAN, _DEVIATION = 0.35, 0.25  # of a pixel in 0..1, roughly


class Cells(NamedTuple):
    """`pixels` `[n, 32, 32, channels]` float32, roughly standardised; a cell is an item."""

    pixels: NDArray[np.float32]


class Places(NamedTuple):
    """Which patches are seen: `cell` and `top`, `left` within it, `[batch]` int32."""

    cell: jax.Array
    top: jax.Array
    left: jax.Array


Loss: TypeAlias = Callable[[Weights, jax.Array, jax.Array], jax.Array]
"""From weights, patches `[batch, side, side, channels]` and a key to a positive number."""


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
    """The task of lowering `loss` on `[batch, side, side, channels]` patches.

    The evaluation is by `error`, or else by `loss`, on `views` patches of each of its cells.
    """
    (cells,) = data.photos().part_of_split(split, name)
    pixels = (cells.astype(np.float32) / 255.0 - _MEAN) / _DEVIATION
    if grey:
        pixels = pixels @ np.array(_GREY, np.float32)[:, None]
    offsets = data.CELL - side + 1
    rows = np.add.outer(np.arange(side) * data.CELL, np.arange(side))
    channels = pixels.shape[-1]
    window = np.add.outer(rows * channels, np.arange(channels))
    measured = loss if error is None else error

    def partition(cells: Cells, key: jax.Array) -> Cut:
        return cut(cells.pixels.shape[0], key)

    def places(cell: jax.Array, half: jax.Array) -> Places:
        return Places(cell, *jnp.divmod(below(half, offsets * offsets), offsets))

    def sample(partition: Cut, key: jax.Array) -> Places:
        return places(*draw(partition.train, key, batch))

    def read(cells: Cells, sample: Places) -> jax.Array:
        start = (sample.cell * data.CELL + sample.top) * data.CELL + sample.left
        return jnp.ravel(cells.pixels)[start[:, None, None, None] * channels + window]

    def evaluate(params: Weights, cells: Cells, partition: Cut, key: jax.Array) -> jax.Array:
        seen = places(*evaluation_views(partition, views))
        return measured(params, read(cells, seen), key)

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
    """An autoencoder of grey 8x8 patches through `code` rectified units.

    Every patch is brought to mean 0 and variance 1 first; otherwise the few with strong edges
    decide the loss, and the seed that evaluates on them.

    Args:
        name: the task's name.
        split: whose part of the photographs to read.
        hidden: the units of the layers before the code; those after it mirror them.
        code: the units of the narrowest layer.
        batch: patches per step.
        steps: the training budget.

    Raises:
        ValueError: `split` is "diagnostic", which has no data.
    """
    side = 8
    sizes = (side * side, *hidden, code, *reversed(hidden), side * side)

    def init(key: jax.Array) -> Weights:
        return gaussian(key, network_plan(sizes, last=lecun))

    def loss(params: Weights, patches: jax.Array, key: jax.Array) -> jax.Array:
        del key
        x = normalize_patches(patches.reshape(-1, side * side))
        return jnp.mean(jnp.square(network(params, x) - x))

    return build(
        name,
        split,
        f"grey patches of photographs, autoencoder through {code} units",
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
    """A normalised residual convolution net that removes noise from 12x12 colour patches.

    Every block is `x <- x + conv(relu(conv(normalize(x) * gain)))`, 3x3; the normalisation is over
    channels. The net predicts the noise, of deviation `noise`; the mean square of what is left is
    the loss.

    Raises:
        ValueError: `split` is "diagnostic", which has no data.
    """
    side, colours = 12, 3

    def init(key: jax.Array) -> Weights:
        plan: Plan = {
            "enter": ((9 * colours, width), lecun(9 * colours)),
            "expand": ((blocks, 9 * width, width), he(9 * width)),
            "contract": ((blocks, 9 * width, width), lecun(9 * width * blocks)),
            "leave": ((9 * width, colours), 0.1 * lecun(9 * width)),
        }
        ones = {"gain": jnp.ones((blocks + 1, width))}
        return gaussian(key, plan) | ones | {"bias": jnp.zeros((blocks, width))}

    def model(params: Weights, noisy: jax.Array) -> jax.Array:
        x = convolve(noisy, params["enter"])
        for block in range(blocks):
            normal = rms_normalize(x) * params["gain"][block]
            units = jax.nn.relu(convolve(normal, params["expand"][block]) + params["bias"][block])
            x = x + convolve(units, params["contract"][block])
        return convolve(rms_normalize(x) * params["gain"][blocks], params["leave"])

    def loss(params: Weights, patches: jax.Array, key: jax.Array) -> jax.Array:
        added = noise * jax.random.normal(key, patches.shape, patches.dtype)
        return jnp.mean(jnp.square(model(params, patches + added) - added))

    return build(
        name,
        split,
        "noisy colour patches of photographs, residual convolution net",
        f"mean squared error (noise: {noise**2:g})",
        grey=False,
        side=side,
        batch=batch,
        views=8,
        steps=steps,
        init=init,
        loss=loss,
    )
