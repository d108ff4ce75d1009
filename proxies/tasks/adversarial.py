"""A generative adversarial network of digits, scored by its distance to the data."""

import jax
import jax.numpy as jnp
import numpy as np

from proxies.layers import Weights, gaussian, network, network_specs
from proxies.registry import register
from proxies.task import Split, Task
from proxies.tasks.digits import PIXELS, Batch, build

_DIRECTIONS = 64  # number of projections in the metric


def sliced_wasserstein(a: jax.Array, b: jax.Array, directions: np.ndarray) -> jax.Array:
    """Return the mean squared 2-Wasserstein distance of projections (Rabin et al. 2011).

    For equally many points, the distance of a projection is the mean squared difference of the
    sorted points.

    Args:
        a: `[n, d]`, the first set of points.
        b: `[n, d]`, the second set of points.
        directions: `[d, k]`, unit vectors to project on.
    """
    sorted_a, sorted_b = (jnp.sort(points @ directions, axis=0) for points in (a, b))
    return jnp.mean(jnp.square(sorted_a - sorted_b))


@register("digits-gan", "held-out")
def gan(
    name: str,
    split: Split,
    *,
    latent: int = 16,
    hidden: int = 64,
    batch: int = 64,
    steps: int = 1500,
) -> Task:
    """Return the task of training a generative adversarial network (Goodfellow et al. 2014).

    The critic `c` minimises `softplus(-c(x)) + softplus(c(G(z)))`, and the generator `G` minimises
    `softplus(-c(G(z)))`, at the same time and with the same rule. The task's loss is that of the
    critic. The metric is the sliced Wasserstein distance between generated and evaluation images.
    The metric is large if the training collapses or oscillates.
    """
    normal = np.random.default_rng(0).standard_normal((PIXELS, _DIRECTIONS), np.float32)
    directions = normal / np.linalg.norm(normal, axis=0)

    def init(key: jax.Array) -> dict[str, Weights]:
        players = {"generator": (latent, hidden, PIXELS), "critic": (PIXELS, hidden, 1)}
        specs_of = {player: network_specs(sizes) for player, sizes in players.items()}
        weights = gaussian(
            key,
            {
                f"{player}/{name}": spec
                for player, specs in specs_of.items()
                for name, spec in specs.items()
            },
        )
        return {
            player: {name: weights[f"{player}/{name}"] for name in specs}
            for player, specs in specs_of.items()
        }

    def generate(params: dict[str, Weights], count: int, key: jax.Array) -> jax.Array:
        return network(params["generator"], jax.random.normal(key, (count, latent)))

    def critic_loss(params: dict[str, Weights], images: Batch, key: jax.Array) -> jax.Array:
        generated = generate(params, images.labels.shape[0], key)
        real, fake = (network(params["critic"], x) for x in (images.pixels, generated))
        return jnp.mean(jax.nn.softplus(-real) + jax.nn.softplus(fake))

    def generator_loss(params: dict[str, Weights], images: Batch, key: jax.Array) -> jax.Array:
        generated = generate(params, images.labels.shape[0], key)
        return jnp.mean(jax.nn.softplus(-network(params["critic"], generated)))

    def gradient(
        params: dict[str, Weights], images: Batch, key: jax.Array
    ) -> tuple[jax.Array, dict[str, Weights]]:
        loss, critic_gradients = jax.value_and_grad(critic_loss)(params, images, key)
        generator_gradients = jax.grad(generator_loss)(params, images, key)
        return loss, {
            "generator": generator_gradients["generator"],
            "critic": critic_gradients["critic"],
        }

    def distance(params: dict[str, Weights], images: Batch, key: jax.Array) -> jax.Array:
        generated = generate(params, images.labels.shape[0], key)
        return sliced_wasserstein(generated, images.pixels, directions)

    return build(
        name,
        split,
        "handwritten digits, generator against critic",
        # "held-out images" are the evaluation images; the text is part of the task's identity.
        metric="sliced Wasserstein distance to held-out images (squared)",
        steps=steps,
        batch=batch,
        init=init,
        loss=critic_loss,
        error=distance,
        gradient=gradient,
    )
