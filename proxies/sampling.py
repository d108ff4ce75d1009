"""Cheap random numbers: the partition of items, and many small draws from few uint32 numbers."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp


class Partition(NamedTuple):
    """A seed's partition of the items into training and evaluation items.

    Attributes:
        train: `[n]` int32, the indices of the items that batches are drawn from.
        evaluation: `[m]` int32, the indices of all other items, for the final evaluation.
        view: `[m]` uint32, 16 random bits for each evaluation item, which decide its augmentation.
    """

    train: jax.Array
    evaluation: jax.Array
    view: jax.Array


def cut(
    items: int, key: jax.Array, evaluation: float = 0.25, at_most: int | None = None
) -> Partition:
    """Partition `range(items)` at random into training and evaluation items.

    Args:
        items: number of items.
        key: the key of the random partition.
        evaluation: fraction of the items that become evaluation items.
        at_most: maximum number of evaluation items; None means unlimited.
    """
    random_words = jax.random.bits(key, (items,))
    order = jnp.argsort(random_words).astype(jnp.int32)
    count = round(items * evaluation)
    if at_most is not None:
        count = min(count, at_most)
    # The order depends on the upper halves of the words, so that the lower halves stay random.
    return Partition(order[count:], order[:count], halves(random_words[order[:count]])[1])


def spread(bits: jax.Array, copies: int) -> jax.Array:
    """Return `copies` values of 16 bits for each element of `bits`, `[n]`, as `[copies * n]`.

    The values of one element are evenly spread over the range of 16 bits.

    Steps of the golden ratio leave no large gaps for any number of copies (a rotation of a
    low-discrepancy sequence, Cranley and Patterson 1976).
    """
    golden = 40503  # 2**16 / 1.618...
    steps = jnp.arange(copies, dtype=jnp.uint32)[:, None] * golden
    return ((bits + steps) & 0xFFFF).ravel()


def halves(random_words: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Split random uint32 numbers into two independent arrays of 16 random bits each."""
    return random_words >> 16, random_words & 0xFFFF


def integers_below(bits: jax.Array, bound: int) -> jax.Array:
    """Map 16 random bits to int32 in `range(bound)`, uniform to within `bound / 2**16`."""
    return ((bits * bound) >> 16).astype(jnp.int32)


def choose(items: jax.Array, bits: jax.Array) -> jax.Array:
    """Draw entries of `items`, at most 2**16, with replacement, by 16 random bits each."""
    return items[integers_below(bits, items.shape[0])]


def draw(items: jax.Array, key: jax.Array, count: int) -> tuple[jax.Array, jax.Array]:
    """Draw `count` entries of `items` with replacement, each with 16 independent random bits.

    For up to 2**16 items, one random uint32 gives both an entry and its bits; otherwise two do.

    Args:
        items: `[n]`, the indices to draw from.
        key: the key of the draws.
        count: number of draws.

    Returns:
        `[count]` entries of `items`, and `[count]` uint32 of 16 random bits.
    """
    if items.shape[0] <= 2**16:
        upper, lower = halves(jax.random.bits(key, (count,)))
        return choose(items, upper), lower
    random_words, rest = jax.random.bits(key, (2, count))
    return items[random_words % items.shape[0]], halves(rest)[1]


def evaluation_views(partition: Partition, copies: int) -> tuple[jax.Array, jax.Array]:
    """Repeat each evaluation item `copies` times, each with 16 random bits.

    The bits of one item are evenly spread over the range of 16 bits, so that the item's
    augmentations are evenly spread, too.

    Returns:
        `[copies * m]` item indices, and `[copies * m]` uint32 of 16 random bits.
    """
    return jnp.tile(partition.evaluation, copies), spread(partition.view, copies)


def mean_error(
    error: Callable[[jax.Array, jax.Array], jax.Array], partition: Partition, batch_size: int
) -> jax.Array:
    """Return the mean of `error(item, bits)` over the evaluation items.

    Only `batch_size` items are in memory at a time.

    Args:
        error: a function from the index of an item and its 16 random bits, each `[1]`, to a scalar.
        partition: the seed's partition of the items.
        batch_size: number of items that are computed together.
    """
    rows = partition.evaluation[:, None], partition.view[:, None]
    return jnp.mean(jax.lax.map(lambda row: error(*row), rows, batch_size=batch_size))
