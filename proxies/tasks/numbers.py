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
from proxies.sampling import Partition, cut, draw
from proxies.task import Split, Task

_DIGIT_COUNT = 4
_CHARACTER_COUNT = len(data.SPELLING_ALPHABET)


class Pairs(NamedTuple):
    """Numbers in words and in digits; each row is one number.

    Attributes:
        words: `[n, 43]` uint8, indices in `proxies.data.SPELLING_ALPHABET`.
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
    to earlier positions. The loss covers the characters of the words and one end character, but no
    further padding.

    Raises:
        ValueError: `split` is "diagnostic", which has no data, or `heads` does not divide `width`.
    """
    digits, words = data.numbers().part_of_split(split, name)
    if width % heads:
        raise ValueError(f"task {name!r}: width {width} is not a multiple of heads {heads}")
    # The last character is predicted, but is not an input.
    sequence_length = _DIGIT_COUNT + data.MAX_SPELLED_LENGTH - 1
    mask = causal(sequence_length)
    mask[:, :_DIGIT_COUNT] = 0.0
    vocabulary_size = _CHARACTER_COUNT + 10

    def init(key: jax.Array) -> Weights:
        specs: WeightSpecs = {
            "embed": ((vocabulary_size, width), 1.0),
            "position": ((sequence_length, width), 0.5),
        }
        specs |= transformer_specs(layers, width)
        specs |= {
            "weight": ((width, _CHARACTER_COUNT), lecun(width)),
            "bias": ((_CHARACTER_COUNT,), 0.0),
        }
        return gaussian(key, specs)

    def partition(pairs: Pairs, key: jax.Array) -> Partition:
        return cut(pairs.words.shape[0], key, evaluation=0.1)

    def sample(partition: Partition, key: jax.Array) -> jax.Array:
        return draw(partition.train, key, batch)[0]

    def read(pairs: Pairs, indices: jax.Array) -> Pairs:
        return Pairs(*(jnp.asarray(array)[indices] for array in pairs))

    def loss(params: Weights, pairs: Pairs, key: jax.Array) -> jax.Array:
        del key
        tokens = jnp.concatenate([pairs.digits + _CHARACTER_COUNT, pairs.words[:, :-1]], axis=1)
        x = jax.nn.one_hot(tokens, vocabulary_size) @ params["embed"] + params["position"]
        x = transform(params, x, layers, heads, mask)[:, _DIGIT_COUNT - 1 :]
        logits = x @ params["weight"] + params["bias"]
        targets = jax.nn.one_hot(pairs.words, _CHARACTER_COUNT)
        losses = -jnp.sum(targets * jax.nn.log_softmax(logits), axis=-1)
        is_counted = jnp.pad(pairs.words[:, :-1] != 0, ((0, 0), (1, 0)), constant_values=True)
        return jnp.sum(losses * is_counted) / jnp.sum(is_counted)

    def evaluate(params: Weights, pairs: Pairs, partition: Partition, key: jax.Array) -> jax.Array:
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
