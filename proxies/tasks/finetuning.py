"""Fine-tuning on digits of a network that was pre-trained on photographs."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from numpy.typing import NDArray

from proxies import data
from proxies.layers import Weights, gaussian, lecun, network, network_specs, normalize_patches
from proxies.registry import register
from proxies.task import Split, Task
from proxies.tasks.digits import CLASSES, PIXELS, SIDE, classification_task


def _patches(split: Split, task: str) -> NDArray[np.uint8]:
    """Return all non-overlapping grey patches `[n, 64]` in 0..255 of the photographs."""
    (cells,) = data.photos().part_of_split(split, task)
    patches_per_side = data.CELL // SIDE
    grey = np.mean(cells, axis=-1).astype(np.uint8)
    grid = grey.reshape(-1, patches_per_side, SIDE, patches_per_side, SIDE)
    patches: NDArray[np.uint8] = grid.transpose(0, 1, 3, 2, 4).reshape(-1, PIXELS)
    return patches


@register("digits-finetune", "held-out")
def finetune(
    name: str,
    split: Split,
    *,
    hidden: tuple[int, int] = (96, 48),
    batch: int = 32,
    steps: int = 400,
    learning_rate: float = 3e-3,
    pre_batch: int = 128,
    pre_steps: int = 300,
) -> Task:
    """Return the task of fine-tuning a denoiser of photographs as a classifier of digits.

    All layers except the last come from the denoiser. `init` trains the denoiser from the seed's
    initial weights with `pre_steps` steps of Adam at the constant learning rate `learning_rate`, on
    patches of the same part of the photographs. Pre-training is a pure function of the
    seed, and equal for all rules.

    Raises:
        ValueError: `split` is "diagnostic", which has no photographs.
    """
    patches = _patches(split, name)
    denoiser = network_specs((PIXELS, *hidden, PIXELS), last=lecun)
    head = f"weight_{len(hidden)}", f"bias_{len(hidden)}"
    adam = optax.adam(learning_rate)

    def squared_error(params: Weights, batch: jax.Array, noise: jax.Array) -> jax.Array:
        x = normalize_patches(batch / 255.0)
        return jnp.mean(jnp.square(network(params, x + noise) - x))

    def init(key: jax.Array) -> Weights:
        specs = denoiser | {"head": ((hidden[-1], CLASSES), lecun(hidden[-1]))}
        # Each pass over the photographs adds the same noise to different patches.
        noise = {"noise": ((pre_batch, PIXELS), 0.5)}
        params = gaussian(key, specs | noise)
        added, weight = params.pop("noise"), params.pop("head")

        def advance(
            step: jax.Array, carry: tuple[Weights, optax.OptState]
        ) -> tuple[Weights, optax.OptState]:
            params, state = carry
            indices = (step * pre_batch + jnp.arange(pre_batch)) % len(patches)
            gradients = jax.grad(squared_error)(params, jnp.asarray(patches)[indices], added)
            updates, state = adam.update(gradients, state)
            params = optax.apply_updates(params, updates)
            return params, state

        start = params, adam.init(params)
        trained: Weights = jax.lax.fori_loop(0, pre_steps, advance, start)[0]
        return trained | dict(zip(head, (weight, jnp.zeros(CLASSES)), strict=True))

    description = "network pre-trained on photographs"
    return classification_task(
        name, split, description, steps=steps, batch=batch, init=init, model=network
    )
