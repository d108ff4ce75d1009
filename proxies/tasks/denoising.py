"""Denoising of digits at one noise level, and a diffusion model of photographs."""

import math
from functools import partial

import jax
import jax.numpy as jnp

from proxies.layers import (
    Weights,
    WeightSpecs,
    gaussian,
    he,
    lecun,
    network,
    network_specs,
    normalize_patches,
    rms_normalize,
)
from proxies.registry import register
from proxies.task import Split, Task
from proxies.tasks import photos
from proxies.tasks.digits import PIXELS, Batch, build


@register("digits-denoise", "search")
def denoise(
    name: str,
    split: Split,
    *,
    hidden: tuple[int, ...] = (24,),
    batch: int = 64,
    noise: float = 0.7,
    steps: int = 200,
) -> Task:
    """Return the task of removing normal noise of standard deviation `noise` from digits."""

    def init(key: jax.Array) -> Weights:
        return gaussian(key, network_specs((PIXELS, *hidden, PIXELS), last=lecun))

    def loss(params: Weights, images: Batch, key: jax.Array) -> jax.Array:
        added = noise * jax.random.normal(key, images.pixels.shape)
        return jnp.mean(jnp.square(network(params, images.pixels + added) - images.pixels))

    units = "x".join(map(str, hidden))
    return build(
        name,
        split,
        f"noisy handwritten digits, network with {units} hidden units",
        metric=f"mean squared error (noise: {noise**2:g})",
        steps=steps,
        batch=batch,
        init=init,
        loss=loss,
    )


register("digits-denoise-10x", "validation")(partial(denoise, hidden=(56,), batch=112, steps=500))
register("digits-denoise-100x", "validation")(
    partial(denoise, hidden=(112, 96), batch=128, steps=1250)
)


@register("photos-diffusion", "held-out")
def diffusion(
    name: str,
    split: Split,
    *,
    width: int = 128,
    blocks: int = 2,
    waves: int = 8,
    batch: int = 64,
    steps: int = 1000,
) -> Task:
    """Return the task of training a diffusion model of grey 8x8 patches (Ho et al. 2020).

    The network receives `cos(a) x + sin(a) e`, with normal `e`, and predicts `e`. The angle `a` is
    uniform between 0 and a right angle (the cosine schedule of Nichol & Dhariwal 2021). Each block
    also receives sines and cosines of `a` at `waves` frequencies. The evaluation is the mean over
    four fixed angles.

    Raises:
        ValueError: `split` is "diagnostic", which has no data.
    """
    side = 8
    pixels = side * side
    frequencies = jnp.array([2.0**wave for wave in range(waves)], jnp.float32) / 2.0
    right_angle = math.pi / 2
    angles = [right_angle * level for level in (0.2, 0.4, 0.6, 0.8)]

    def init(key: jax.Array) -> Weights:
        specs: WeightSpecs = {
            "enter": ((pixels, width), lecun(pixels)),
            "time": ((blocks, 2 * waves, width), lecun(2 * waves)),
            "expand": ((blocks, width, width), he(width)),
            "contract": ((blocks, width, width), lecun(width * blocks)),
            "leave": ((width, pixels), 0.1 * lecun(width)),
            "bias": ((pixels,), 0.0),
        }
        return gaussian(key, specs)

    def model(params: Weights, noisy: jax.Array, angle: jax.Array) -> jax.Array:
        phases = angle * frequencies
        time = jnp.concatenate([jnp.sin(phases), jnp.cos(phases)], axis=-1)
        x = noisy @ params["enter"]
        for block in range(blocks):
            hidden = rms_normalize(x) @ params["expand"][block] + time @ params["time"][block]
            x = x + jax.nn.relu(hidden) @ params["contract"][block]
        return rms_normalize(x) @ params["leave"] + params["bias"]

    def squared_error(
        params: Weights, patches: jax.Array, angle: jax.Array, key: jax.Array
    ) -> jax.Array:
        x = normalize_patches(patches.reshape(-1, pixels))
        added = jax.random.normal(key, x.shape)
        noisy = jnp.cos(angle) * x + jnp.sin(angle) * added
        return jnp.mean(jnp.square(model(params, noisy, angle) - added))

    def loss(params: Weights, patches: jax.Array, key: jax.Array) -> jax.Array:
        draw, noise = jax.random.split(key)
        angle = right_angle * jax.random.uniform(draw, (patches.shape[0], 1))
        return squared_error(params, patches, angle, noise)

    def error(params: Weights, patches: jax.Array, key: jax.Array) -> jax.Array:
        fixed = jnp.array(angles, jnp.float32)[:, None, None]
        return jnp.mean(jax.vmap(lambda angle: squared_error(params, patches, angle, key))(fixed))

    return photos.build(
        name,
        split,
        f"patches of photographs, diffusion model of {blocks} blocks",
        "mean squared error of the noise at four levels",
        grey=True,
        side=side,
        batch=batch,
        views=4,
        steps=steps,
        init=init,
        loss=loss,
        error=error,
    )
