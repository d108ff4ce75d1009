"""Fine-tuning on digits a net that was trained on photographs before."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from numpy.typing import NDArray

from proxies import data
from proxies.layers import Weights, gaussian, lecun, network, network_plan, normalize_patches
from proxies.registry import register
from proxies.task import Split, Task
from proxies.tasks.digits import CLASSES, PIXELS, SIDE, classify


def _patches(split: Split, task: str) -> NDArray[np.uint8]:
    """Grey patches `[n, 64]` in 0..255, side by side in every cell, of the photographs."""
    (cells,) = data.photos().part_of_split(split, task)
    rows = data.CELL // SIDE
    grey = np.mean(cells, axis=-1).astype(np.uint8).reshape(-1, rows, SIDE, rows, SIDE)
    patches: NDArray[np.uint8] = grey.transpose(0, 1, 3, 2, 4).reshape(-1, PIXELS)
    return patches


@register("digits-finetune", "held-out")
def finetune(
    name: str,
    split: Split,
    *,
    hidden: tuple[int, int] = (96, 48),
    batch: int = 32,
    steps: int = 400,
    rate: float = 3e-3,
    pre_batch: int = 128,
    pre_steps: int = 300,
) -> Task:
    """A classifier whose layers but the last come from a denoiser of photographs.

    The denoiser is trained within `init`: from the seed's weights, by `pre_steps` steps of Adam at
    the constant `rate` on patches of the same part of the photographs, one batch after another. So
    pre-training is a pure function of the seed, and the same for every rule that is tried.

    Raises:
        ValueError: `split` is "diagnostic", which has no photographs.
    """
    patches = _patches(split, name)
    denoiser = network_plan((PIXELS, *hidden, PIXELS), last=lecun)
    head = f"weight_{len(hidden)}", f"bias_{len(hidden)}"
    adam = optax.adam(rate)

    def remainder(params: Weights, seen: jax.Array, noise: jax.Array) -> jax.Array:
        x = normalize_patches(seen / 255.0)
        return jnp.mean(jnp.square(network(params, x + noise) - x))

    def init(key: jax.Array) -> Weights:
        plan = denoiser | {"head": ((hidden[-1], CLASSES), lecun(hidden[-1]))}
        noise = {"noise": ((pre_batch, PIXELS), 0.5)}  # the rows meet other patches on every pass
        params = gaussian(key, plan | noise)
        added, weight = params.pop("noise"), params.pop("head")

        def advance(
            step: jax.Array, carry: tuple[Weights, optax.OptState]
        ) -> tuple[Weights, optax.OptState]:
            params, state = carry
            rows = (step * pre_batch + jnp.arange(pre_batch)) % len(patches)
            gradients = jax.grad(remainder)(params, jnp.asarray(patches)[rows], added)
            updates, state = adam.update(gradients, state)
            moved: Weights = optax.apply_updates(params, updates)
            return moved, state

        start = params, adam.init(params)
        trained: Weights = jax.lax.fori_loop(0, pre_steps, advance, start)[0]
        return trained | dict(zip(head, (weight, jnp.zeros(CLASSES)), strict=True))

    description = "net pre-trained on photographs"
    return classify(name, split, description, steps=steps, batch=batch, init=init, model=network)
