"""Imputation of missing features in a table of tumours."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from proxies import data
from proxies.layers import Weights, gaussian, lecun, network, network_specs
from proxies.registry import register
from proxies.sampling import Partition, cut, draw, evaluation_views
from proxies.task import Split, Task

_VIEWS = 8  # masks of each evaluation row


class Table(NamedTuple):
    """The rows of a part of the table; a row is an item.

    Attributes:
        rows: `[n, 30]` float32, standardised.
    """

    rows: NDArray[np.float32]


class Masked(NamedTuple):
    """The rows of a batch and their masks.

    Attributes:
        item: `[batch]` int32, indices of rows.
        mask: `[batch]` uint32, 16 random bits that decide which features are hidden.
    """

    item: jax.Array
    mask: jax.Array


class Rows(NamedTuple):
    """A batch of rows.

    Attributes:
        features: `[batch, 30]` float32.
        hidden: `[batch, 30]` float32, 1 for hidden features and 0 for visible features.
    """

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
    """Return the task of predicting hidden features of tumours with a ReLU network.

    About half of the features are hidden. The network reads the features, with 0 for hidden ones,
    and the mask. The loss is the mean squared error of the hidden features.

    Raises:
        ValueError: `split` is "diagnostic", which has no data.
    """
    (unscaled,) = data.tumours().part_of_split(split, name)
    # Sizes and textures are skewed. Cube root and clipping keep outliers from dominating the loss.
    rows = np.cbrt(unscaled)
    rows = np.clip((rows - rows.mean(axis=0)) / rows.std(axis=0), -3.0, 3.0)
    features = rows.shape[1]

    def init(key: jax.Array) -> Weights:
        return gaussian(key, network_specs((2 * features, *hidden, features), last=lecun))

    def partition(table: Table, key: jax.Array) -> Partition:
        return cut(table.rows.shape[0], key, evaluation=0.4)

    def sample(partition: Partition, key: jax.Array) -> Masked:
        return Masked(*draw(partition.train, key, batch))

    def read(table: Table, sample: Masked) -> Rows:
        # Multiplicative hashing: each bit of the product depends on all lower bits of the factor.
        mixed = sample.mask * jnp.uint32(0x9E3779B1)
        bits = mixed[:, None] >> jnp.arange(2, 2 + features, dtype=jnp.uint32)
        return Rows(jnp.asarray(table.rows)[sample.item], (bits & 1).astype(jnp.float32))

    def loss(params: Weights, batch: Rows, key: jax.Array) -> jax.Array:
        del key
        visible = batch.features * (1.0 - batch.hidden)
        predicted = network(params, jnp.concatenate([visible, batch.hidden], axis=1))
        errors = jnp.square(predicted - batch.features) * batch.hidden
        return jnp.sum(errors) / jnp.maximum(jnp.sum(batch.hidden), 1.0)

    def evaluate(params: Weights, table: Table, partition: Partition, key: jax.Array) -> jax.Array:
        sample = Masked(*evaluation_views(partition, _VIEWS))
        return loss(params, read(table, sample), key)

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
