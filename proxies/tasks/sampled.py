"""Lowering the 0-1 error of digits, which has no useful gradient, by gradients that are sampled."""

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from proxies.layers import Weights, gaussian, lecun, network, network_plan
from proxies.registry import register
from proxies.task import Split, Task
from proxies.tasks.digits import CLASSES, PIXELS, Batch, build


def _mistakes(params: Weights, seen: Batch) -> jax.Array:
    """The share of wrong answers, with one more wrong one among one more image: never zero."""
    wrong = jnp.argmax(network(params, seen.pixels), axis=-1) != seen.labels
    return (jnp.sum(wrong) + 1.0) / (wrong.shape[0] + 1.0)


@register("digits-smoothing", "held-out")
def smoothing(
    name: str,
    split: Split,
    *,
    hidden: int = 16,
    pairs: int = 24,
    deviation: float = 0.05,
    batch: int = 64,
    steps: int = 800,
) -> Task:
    """The 0-1 error, by antithetic Gaussian smoothing (Salimans et al. 2017, section 2).

    The gradient is the mean over `pairs` of normal `e` of `(f(w + s e) - f(w - s e)) / (2 s) e`,
    with `s` the `deviation`.
    """

    def init(key: jax.Array) -> Weights:
        return gaussian(key, network_plan((PIXELS, hidden, CLASSES), last=lecun))

    def loss(params: Weights, seen: Batch, key: jax.Array) -> jax.Array:
        del key
        return _mistakes(params, seen)

    def gradient(params: Weights, seen: Batch, key: jax.Array) -> tuple[jax.Array, Weights]:
        flat, restore = ravel_pytree(params)
        directions = jax.random.normal(key, (pairs, flat.size))

        def slope(direction: jax.Array) -> tuple[jax.Array, jax.Array]:
            above, below = (
                _mistakes(restore(flat + side * deviation * direction), seen) for side in (1, -1)
            )
            return 0.5 * (above + below), (above - below) / (2.0 * deviation)

        losses, slopes = jax.vmap(slope)(directions)
        return jnp.mean(losses), restore(slopes @ directions / pairs)

    return build(
        name,
        split,
        "handwritten digits, 0-1 error by antithetic smoothing",
        metric="share of mistakes, one added",
        steps=steps,
        batch=batch,
        init=init,
        loss=loss,
        gradient=gradient,
    )


@register("digits-policy", "held-out")
def policy(
    name: str,
    split: Split,
    *,
    hidden: int = 40,
    batch: int = 64,
    steps: int = 1000,
) -> Task:
    """The expected 0-1 error of a random answer, by the score function (Williams 1992).

    One answer `a` is drawn for each image from `p = softmax(logits)`, and only whether it was wrong
    is told; the gradient is the batch mean of `(wrong - b) grad log p(a)`, where `b` is the share
    of wrong answers among the others of the batch. What is reported is the exact expectation.
    """

    def init(key: jax.Array) -> Weights:
        return gaussian(key, network_plan((PIXELS, hidden, CLASSES), last=lecun))

    def loss(params: Weights, seen: Batch, key: jax.Array) -> jax.Array:
        del key
        chances = jax.nn.softmax(network(params, seen.pixels))
        right = jax.nn.one_hot(seen.labels, CLASSES)
        return jnp.mean(jnp.sum(chances * (1.0 - right), axis=-1))

    def gradient(params: Weights, seen: Batch, key: jax.Array) -> tuple[jax.Array, Weights]:
        def surrogate(params: Weights) -> jax.Array:
            logits = network(params, seen.pixels)
            answers = jax.random.categorical(key, logits)
            wrong = (answers != seen.labels).astype(jnp.float32)
            count = wrong.shape[0]
            advantage = (wrong - jnp.mean(wrong)) * count / (count - 1)  # less the others' mean
            chosen = jax.nn.one_hot(answers, CLASSES) * jax.nn.log_softmax(logits)
            return jnp.mean(advantage * jnp.sum(chosen, axis=-1))

        return loss(params, seen, key), jax.grad(surrogate)(params)

    return build(
        name,
        split,
        "handwritten digits, 0-1 error by the score function",
        metric="expected share of mistakes",
        steps=steps,
        batch=batch,
        init=init,
        loss=loss,
        gradient=gradient,
    )
