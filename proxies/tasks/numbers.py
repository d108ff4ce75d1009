"""Translation of numbers into English words, character by character."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from proxies import data
from proxies.layers import (
    Weights,
    WeightSpecs,
    causal,
    gaussian,
    lecun,
    transform,
    transformer_specs,
)
from proxies.registry import register
from proxies.sampling import Cut, cut, draw
from proxies.task import Split, Task

_DIGITS = 4
_LETTERS = len(data.SPELL)


class Pairs(NamedTuple):
    """Numbers in words and in digits; a number is an item.

    Attributes:
        words: `[n, 43]` uint8, indices in `proxies.data.SPELL`.
        digits: `[n, 4]` uint8.
    """

    words: NDArray[np.uint8] | jax.Array
    digits: NDArray[np.uint8] | jax.Array


@register("numbers-translate", "held-out")
def translate(
    name: str,
    split: Split,
    *,
    layers: int = 2,
    heads: int = 2,
    width: int = 40,
    batch: int = 8,
    steps: int = 1000,
) -> Task:
    """Return the task of translating 4721 into "four thousand seven hundred twenty-one".

    The transformer is a prefix language model (Raffel et al. 2020). Digits and words are one
    sequence: positions of digits attend to all digits, positions of words attend to the digits and
    to earlier positions. The loss counts the words with their end, not the padding.

    Raises:
        ValueError: `split` is "diagnostic", which has no data, or `heads` does not divide `width`.
    """
    digits, words = data.numbers().part_of_split(split, name)
    if width % heads:
        raise ValueError(f"task {name!r}: width {width} is not a multiple of heads {heads}")
    places = _DIGITS + data.SPELLED - 1  # the last character is predicted, but is not an input
    mask = causal(places)
    mask[:, :_DIGITS] = 0.0
    symbols = _LETTERS + 10

    def init(key: jax.Array) -> Weights:
        specs: WeightSpecs = {"embed": ((symbols, width), 1.0), "position": ((places, width), 0.5)}
        specs |= transformer_specs(layers, width)
        specs |= {"weight": ((width, _LETTERS), lecun(width)), "bias": ((_LETTERS,), 0.0)}
        return gaussian(key, specs)

    def partition(pairs: Pairs, key: jax.Array) -> Cut:
        return cut(pairs.words.shape[0], key, evaluation=0.1)

    def sample(partition: Cut, key: jax.Array) -> jax.Array:
        return draw(partition.train, key, batch)[0]

    def read(pairs: Pairs, items: jax.Array) -> Pairs:
        return Pairs(*(jnp.asarray(array)[items] for array in pairs))

    def loss(params: Weights, pairs: Pairs, key: jax.Array) -> jax.Array:
        del key
        codes = jnp.concatenate([pairs.digits + _LETTERS, pairs.words[:, :-1]], axis=1)
        x = jax.nn.one_hot(codes, symbols) @ params["embed"] + params["position"]
        x = transform(params, x, layers, heads, mask)[:, _DIGITS - 1 :]
        logits = x @ params["weight"] + params["bias"]
        hot = jax.nn.one_hot(pairs.words, _LETTERS)
        losses = -jnp.sum(hot * jax.nn.log_softmax(logits), axis=-1)
        is_counted = jnp.pad(pairs.words[:, :-1] != 0, ((0, 0), (1, 0)), constant_values=True)
        return jnp.sum(losses * is_counted) / jnp.sum(is_counted)

    def evaluate(params: Weights, pairs: Pairs, partition: Cut, key: jax.Array) -> jax.Array:
        return loss(params, read(pairs, partition.evaluation), key)

    return Task(
        name=name,
        split=split,
        description=f"numbers into English words, transformer of {layers} layers",
        metric="cross-entropy (nats per character)",
        steps=steps,
        data=Pairs(words, digits),
        init=init,
        partition=partition,
        sample=sample,
        batch=read,
        loss=loss,
        evaluate=evaluate,
        source="numbers",
    )
