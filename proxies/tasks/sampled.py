"""Minimisation of the 0-1 error of digits with sampled gradients."""

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from proxies.layers import Weights, gaussian, lecun, network, network_specs
from proxies.registry import register
from proxies.task import Split, Task
from proxies.tasks.digits import CLASSES, PIXELS, Batch, build


def _error_rate(params: Weights, images: Batch) -> jax.Array:
    """Return the error rate, counting one more wrong answer, so that the rate is positive."""
    wrong = jnp.argmax(network(params, images.pixels), axis=-1) != images.labels
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
    """Return the task of minimising the 0-1 error by antithetic Gaussian smoothing.

    The gradient is the mean of `(f(w + s e) - f(w - s e)) / (2 s) e` over `pairs` normal draws `e`,
    where `s` is `deviation` (Salimans et al. 2017, section 2).
    """

    def init(key: jax.Array) -> Weights:
        return gaussian(key, network_specs((PIXELS, hidden, CLASSES), last=lecun))

    def loss(params: Weights, images: Batch, key: jax.Array) -> jax.Array:
        del key
        return _error_rate(params, images)

    def gradient(params: Weights, images: Batch, key: jax.Array) -> tuple[jax.Array, Weights]:
        flat, restore = ravel_pytree(params)
        directions = jax.random.normal(key, (pairs, flat.size))

        def slope(direction: jax.Array) -> tuple[jax.Array, jax.Array]:
            loss_above, loss_below = (
                _error_rate(restore(flat + sign * deviation * direction), images)
                for sign in (1, -1)
            )
            return 0.5 * (loss_above + loss_below), (loss_above - loss_below) / (2.0 * deviation)

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
    """Return the task of minimising the expected 0-1 error of a random answer (Williams 1992).

    One answer `a` is drawn for each image from `p = softmax(logits)`. The gradient is the batch
    mean of `(wrong - b) grad log p(a)`, where the control variate `b` is the error rate on the
    other images of the batch. The reported loss is the exact expectation.
    """

    def init(key: jax.Array) -> Weights:
        return gaussian(key, network_specs((PIXELS, hidden, CLASSES), last=lecun))

    def loss(params: Weights, images: Batch, key: jax.Array) -> jax.Array:
        del key
        probabilities = jax.nn.softmax(network(params, images.pixels))
        correct = jax.nn.one_hot(images.labels, CLASSES)
        return jnp.mean(jnp.sum(probabilities * (1.0 - correct), axis=-1))

    def gradient(params: Weights, images: Batch, key: jax.Array) -> tuple[jax.Array, Weights]:
        def surrogate(params: Weights) -> jax.Array:
            logits = network(params, images.pixels)
            answers = jax.random.categorical(key, logits)
            wrong = (answers != images.labels).astype(jnp.float32)
            count = wrong.shape[0]
            # `wrong` minus the mean over the other images.
            advantage = (wrong - jnp.mean(wrong)) * count / (count - 1)
            log_p = jax.nn.one_hot(answers, CLASSES) * jax.nn.log_softmax(logits)
            return jnp.mean(advantage * jnp.sum(log_p, axis=-1))

        return loss(params, images, key), jax.grad(surrogate)(params)

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
