"""Cheap randomness: a seed's cut of the items, and many small draws from few random words."""

from typing import NamedTuple

import jax
import jax.numpy as jnp


class Cut(NamedTuple):
    """A seed's own cut of the items of a part: disjoint, and together all of them.

    Attributes:
        train: `[n]` int32, the items that batches are drawn from.
        evaluation: `[m]` int32, the items that the final loss is measured on.
    """

    train: jax.Array
    evaluation: jax.Array


def cut(items: int, key: jax.Array, evaluation: float = 0.25) -> Cut:
    """Cut `range(items)` at random; `evaluation` is the share kept from training."""
    order = jnp.argsort(jax.random.bits(key, (items,))).astype(jnp.int32)
    kept = round(items * evaluation)
    return Cut(train=order[kept:], evaluation=order[:kept])


def halves(words: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Split uint32 random words into two independent arrays of 16 random bits each."""
    return words >> 16, words & 0xFFFF


def below(half: jax.Array, bound: int) -> jax.Array:
    """Map 16 random bits to int32 in `range(bound)`, uniform to within `bound / 2**16`."""
    return ((half * bound) >> 16).astype(jnp.int32)


def choose(items: jax.Array, half: jax.Array) -> jax.Array:
    """Draw entries of `items` (at most 2**16 of them), with replacement, by 16 random bits each."""
    return items[below(half, items.shape[0])]
