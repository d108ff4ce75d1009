"""A generator of digits against a critic; how near it ends to the data is the score."""

import jax
import jax.numpy as jnp
import numpy as np

from proxies.layers import Weights, gaussian, network, network_plan
from proxies.registry import register
from proxies.task import Split, Task
from proxies.tasks.digits import PIXELS, Batch, build

_DIRECTIONS = 64


def sliced_wasserstein(one: jax.Array, other: jax.Array, directions: np.ndarray) -> jax.Array:
    """Return the mean over directions of the squared 2-Wasserstein distance of the projections.

    Rabin et al. 2011. Between as many points, sorted, it is the mean squared difference.

    Args:
        one: `[n, d]`.
        other: `[n, d]`.
        directions: `[d, k]`, of length 1 each.
    """
    sorted_one, sorted_other = (jnp.sort(points @ directions, axis=0) for points in (one, other))
    return jnp.mean(jnp.square(sorted_one - sorted_other))


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
    """A generative adversarial net with the losses of Goodfellow et al. 2014.

    The critic `c` lowers `softplus(-c(x)) + softplus(c(G(z)))` and the generator `G` lowers
    `softplus(-c(G(z)))`, at the same time and by the same rule; the task's loss is the critic's.
    A rule that is not stable here collapses or circles, which its last weights show: the score is
    the sliced Wasserstein distance of as many generated images as there are evaluation images.
    """
    normal = np.random.default_rng(0).standard_normal((PIXELS, _DIRECTIONS), np.float32)
    directions = normal / np.linalg.norm(normal, axis=0)

    def init(key: jax.Array) -> dict[str, Weights]:
        players = {"generator": (latent, hidden, PIXELS), "critic": (PIXELS, hidden, 1)}
        plans = {player: network_plan(sizes) for player, sizes in players.items()}
        weights = gaussian(
            key, {f"{p}/{name}": row for p, plan in plans.items() for name, row in plan.items()}
        )
        return {
            player: {name: weights[f"{player}/{name}"] for name in plan}
            for player, plan in plans.items()
        }

    def generate(params: dict[str, Weights], count: int, key: jax.Array) -> jax.Array:
        return network(params["generator"], jax.random.normal(key, (count, latent)))

    def judge(params: dict[str, Weights], seen: Batch, key: jax.Array) -> jax.Array:
        made = generate(params, seen.labels.shape[0], key)
        real, false = (network(params["critic"], x) for x in (seen.pixels, made))
        return jnp.mean(jax.nn.softplus(-real) + jax.nn.softplus(false))

    def deceive(params: dict[str, Weights], seen: Batch, key: jax.Array) -> jax.Array:
        made = generate(params, seen.labels.shape[0], key)
        return jnp.mean(jax.nn.softplus(-network(params["critic"], made)))

    def gradient(
        params: dict[str, Weights], seen: Batch, key: jax.Array
    ) -> tuple[jax.Array, dict[str, Weights]]:
        loss, critic = jax.value_and_grad(judge)(params, seen, key)
        generator = jax.grad(deceive)(params, seen, key)
        return loss, {"generator": generator["generator"], "critic": critic["critic"]}

    def distance(params: dict[str, Weights], seen: Batch, key: jax.Array) -> jax.Array:
        made = generate(params, seen.labels.shape[0], key)
        return sliced_wasserstein(made, seen.pixels, directions)

    return build(
        name,
        split,
        "handwritten digits, generator against critic",
        metric="sliced Wasserstein distance to held-out images (squared)",
        steps=steps,
        batch=batch,
        init=init,
        loss=judge,
        error=distance,
        gradient=gradient,
    )
