"""Cheap randomness: a seed's cut of the items, and many small draws from few random words."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp


class Cut(NamedTuple):
    """A seed's own cut of the items of a part: disjoint, and together all of them.

    Attributes:
        train: `[n]` int32, the items that batches are drawn from.
        evaluation: `[m]` int32, the items that the final loss is measured on.
        view: `[m]` uint32, 16 random bits for each of those: how the evaluation looks at it.
    """

    train: jax.Array
    evaluation: jax.Array
    view: jax.Array


def cut(items: int, key: jax.Array, evaluation: float = 0.25, at_most: int | None = None) -> Cut:
    """Cut `range(items)` at random.

    Args:
        items: how many there are.
        key: what decides which item falls where.
        evaluation: the share of items that is kept from training.
        at_most: the most items that are kept from training; None for no limit.
    """
    words = jax.random.bits(key, (items,))
    order = jnp.argsort(words).astype(jnp.int32)
    kept = round(items * evaluation)
    if at_most is not None:
        kept = min(kept, at_most)
    # The order is decided by a word's upper half, which leaves its lower half random.
    return Cut(order[kept:], order[:kept], halves(words[order[:kept]])[1])


def spread(half: jax.Array, copies: int) -> jax.Array:
    """Turn 16 random bits `[n]` into `[copies * n]`, evenly spread for each item.

    Steps of the golden ratio leave no large gaps, whatever their number (a rotation of a
    low-discrepancy sequence, Cranley and Patterson 1976).
    """
    golden = 40503  # 2**16 / 1.618...
    steps = jnp.arange(copies, dtype=jnp.uint32)[:, None] * golden
    return ((half + steps) & 0xFFFF).ravel()


def halves(words: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Split uint32 random words into two independent arrays of 16 random bits each."""
    return words >> 16, words & 0xFFFF


def below(half: jax.Array, bound: int) -> jax.Array:
    """Map 16 random bits to int32 in `range(bound)`, uniform to within `bound / 2**16`."""
    return ((half * bound) >> 16).astype(jnp.int32)


def choose(items: jax.Array, half: jax.Array) -> jax.Array:
    """Draw entries of `items` (at most 2**16 of them), with replacement, by 16 random bits each."""
    return items[below(half, items.shape[0])]


def draw(items: jax.Array, key: jax.Array, count: int) -> tuple[jax.Array, jax.Array]:
    """Draw `count` entries of `items`, with replacement, and as many times 16 random bits.

    One random word serves both while it can; more than 2**16 items take a word of their own.
    """
    if items.shape[0] <= 2**16:
        which, rest = halves(jax.random.bits(key, (count,)))
        return choose(items, which), rest
    words, rest = jax.random.bits(key, (2, count))
    return items[words % items.shape[0]], halves(rest)[1]


def evaluation_views(partition: Cut, copies: int) -> tuple[jax.Array, jax.Array]:
    """Each evaluation item of a cut `copies` times, and as many times 16 random bits.

    The bits of one item are evenly spread, so that they stand for all ways to look at it.
    """
    return jnp.tile(partition.evaluation, copies), spread(partition.view, copies)


def averaged(
    error: Callable[[jax.Array, jax.Array], jax.Array], partition: Cut, at_once: int
) -> jax.Array:
    """The mean of `error(item, half)` over a cut's evaluation, `at_once` items at a time.

    What an error needs of memory is needed for so many items only.

    Args:
        error: from the index of an item and its 16 random bits, each `[1]`, to a scalar.
        partition: whose `evaluation` and `view` are gone through.
        at_once: how many items are computed together.
    """
    alone = partition.evaluation[:, None], partition.view[:, None]
    return jnp.mean(jax.lax.map(lambda seen: error(*seen), alone, batch_size=at_once))
