"""Tables: filling in the missing features of tumours."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from proxies import data
from proxies.layers import Weights, gaussian, lecun, network, network_plan
from proxies.registry import register
from proxies.sampling import Cut, cut, draw, evaluation_views
from proxies.task import Split, Task

_VIEWS = 8  # masks for each evaluation row


class Table(NamedTuple):
    """`rows` `[n, 30]` float32, standardised; a row is an item."""

    rows: NDArray[np.float32]


class Masked(NamedTuple):
    """Which rows are seen, `[batch]` int32, and 16 random bits that decide what is hidden."""

    item: jax.Array
    mask: jax.Array


class Rows(NamedTuple):
    """`features` `[batch, 30]` and, 0 or 1, which of them are `hidden`."""

    features: jax.Array
    hidden: jax.Array


@register("tumours-impute", "search")
def impute(
    name: str,
    split: Split,
    *,
    hidden: tuple[int, ...] = (32,),
    batch: int = 64,
    steps: int = 200,
) -> Task:
    """A rectified network that fills in features of tumours, of which about half are hidden.

    It reads the features, 0 where they are hidden, and which ones are. The loss is the mean square
    error of the hidden ones.

    Raises:
        ValueError: `split` is "diagnostic", which has no data.
    """
    (raw,) = data.tumours().part_of_split(split, name)
    # Sizes and textures are skewed; a few outliers would decide the loss.
    rows = np.cbrt(raw)
    rows = np.clip((rows - rows.mean(axis=0)) / rows.std(axis=0), -3.0, 3.0)
    features = rows.shape[1]

    def init(key: jax.Array) -> Weights:
        return gaussian(key, network_plan((2 * features, *hidden, features), last=lecun))

    def partition(table: Table, key: jax.Array) -> Cut:
        return cut(table.rows.shape[0], key, evaluation=0.4)

    def sample(partition: Cut, key: jax.Array) -> Masked:
        return Masked(*draw(partition.train, key, batch))

    def read(table: Table, sample: Masked) -> Rows:
        # Multiplicative hashing: each bit of the product depends on all lower ones of the factor.
        mixed = sample.mask * jnp.uint32(0x9E3779B1)
        bits = mixed[:, None] >> jnp.arange(2, 2 + features, dtype=jnp.uint32)
        return Rows(jnp.asarray(table.rows)[sample.item], (bits & 1).astype(jnp.float32))

    def loss(params: Weights, seen: Rows, key: jax.Array) -> jax.Array:
        del key
        shown = seen.features * (1.0 - seen.hidden)
        guessed = network(params, jnp.concatenate([shown, seen.hidden], axis=1))
        wrong = jnp.square(guessed - seen.features) * seen.hidden
        return jnp.sum(wrong) / jnp.maximum(jnp.sum(seen.hidden), 1.0)

    def evaluate(params: Weights, table: Table, partition: Cut, key: jax.Array) -> jax.Array:
        seen = Masked(*evaluation_views(partition, _VIEWS))
        return loss(params, read(table, seen), key)

    units = "x".join(map(str, hidden))
    return Task(
        name=name,
        split=split,
        description=f"missing features of breast tumours, network with {units} hidden units",
        metric="mean squared error (share of a feature's variance)",
        steps=steps,
        data=Table(rows.astype(np.float32)),
        init=init,
        partition=partition,
        sample=sample,
        batch=read,
        loss=loss,
        evaluate=evaluate,
        source="tumours",
    )


register("tumours-impute-10x", "validation")(partial(impute, hidden=(72,), batch=96, steps=600))
register("tumours-impute-100x", "validation")(
    partial(impute, hidden=(112, 96), batch=128, steps=1450)
)
