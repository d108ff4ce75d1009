"""Classification of digits with a vision transformer and a residual convolutional network."""

import jax
import jax.numpy as jnp

from proxies.layers import (
    Weights,
    WeightSpecs,
    classify_patches,
    convolve,
    gaussian,
    he,
    lecun,
    patch_specs,
    patches,
    rms_normalize,
)
from proxies.registry import register
from proxies.task import Split, Task
from proxies.tasks.digits import CLASSES, SIDE, classification_task


@register("digits-vit", "held-out")
def vit(
    name: str,
    split: Split,
    *,
    layers: int = 2,
    heads: int = 4,
    width: int = 40,
    batch: int = 32,
    steps: int = 800,
) -> Task:
    """Return the task of classifying digits with a vision transformer (Dosovitskiy et al. 2021).

    The transformer reads 16 patches of 2x2 pixels.
    """
    patch_side = 2
    patch_count, pixels_per_patch = (SIDE // patch_side) ** 2, patch_side * patch_side

    def init(key: jax.Array) -> Weights:
        return gaussian(key, patch_specs(patch_count, pixels_per_patch, layers, width, CLASSES))

    def model(params: Weights, x: jax.Array) -> jax.Array:
        image_patches = patches(x.reshape(-1, SIDE, SIDE, 1), patch_side)
        return classify_patches(params, image_patches, layers, heads)

    description = f"vision transformer of {layers} layers"
    return classification_task(
        name, split, description, steps=steps, batch=batch, init=init, model=model
    )


@register("digits-resnet", "held-out")
def resnet(
    name: str,
    split: Split,
    *,
    width: int = 24,
    blocks: int = 2,
    batch: int = 32,
    steps: int = 600,
) -> Task:
    """Return the task of classifying digits with a residual convolutional network.

    Each block computes `x <- x + conv(relu(conv(norm(x))))` with 3x3 convolutions and normalisation
    over channels. After the first block, 2x2 average pooling reduces the 8x8 positions to 4x4.
    """

    def init(key: jax.Array) -> Weights:
        specs: WeightSpecs = {
            "enter": ((9, width), lecun(9)),
            # Despite their names, "expand" and "contract" both keep the width.
            "expand": ((blocks, 9 * width, width), he(9 * width)),
            "contract": ((blocks, 9 * width, width), lecun(9 * width * blocks)),
            "weight": ((width, CLASSES), lecun(width)),
            "bias": ((CLASSES,), 0.0),
        }
        return gaussian(key, specs) | {"gain": jnp.ones((blocks + 1, width))}

    def model(params: Weights, x: jax.Array) -> jax.Array:
        x = convolve(x.reshape(-1, SIDE, SIDE, 1), params["enter"])
        for block in range(blocks):
            normalized = rms_normalize(x) * params["gain"][block]
            hidden = jax.nn.relu(convolve(normalized, params["expand"][block]))
            x = x + convolve(hidden, params["contract"][block])
            if block == 0:
                pooled_side = SIDE // 2
                x = jnp.mean(x.reshape(-1, pooled_side, 2, pooled_side, 2, width), axis=(2, 4))
        features = jnp.mean(rms_normalize(x) * params["gain"][blocks], axis=(1, 2))
        return features @ params["weight"] + params["bias"]

    description = f"normalised residual convolutional network of {blocks} blocks"
    return classification_task(
        name, split, description, steps=steps, batch=batch, init=init, model=model
    )
