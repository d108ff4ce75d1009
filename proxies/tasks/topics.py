"""Predicting the next character of English text, with small causal transformers."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from proxies import data
from proxies.layers import Weights, cross_entropy, gaussian, predict_tokens, token_plan
from proxies.registry import register
from proxies.sampling import Cut, averaged, below, cut, draw
from proxies.task import Split, Task

SYMBOLS = len(data.ALPHABET)
METRIC = "cross-entropy (nats per character)"


class Text(NamedTuple):
    """`blocks` `[n, 128]`, indices of symbols; a block is an item."""

    blocks: NDArray[np.unsignedinteger]


class Windows(NamedTuple):
    """Which windows are read: `block` and `start` within it, `[batch]` int32."""

    block: jax.Array
    start: jax.Array


def language_model(
    name: str,
    split: Split,
    description: str,
    *,
    context: int,
    batch: int,
    steps: int,
    init: Callable[[jax.Array], Weights],
    model: Callable[[Weights, jax.Array], jax.Array],
) -> Task:
    """The task of training `model` to predict each character from at most `context` before it.

    Args:
        name: the task's name.
        split: whose part of the text to read.
        description: one line for people.
        context: characters that a prediction sees at most, below the block length of 128.
        batch: windows of `context` characters per step.
        steps: the training budget.
        init: initial weights.
        model: maps weights and codes `[batch, context]` to logits `[batch, context, 64]`.

    Raises:
        ValueError: `split` is "diagnostic", which has no data; or `context` does not fit.
    """
    return next_symbols(
        name,
        split,
        description,
        text=Text(*data.topics().part_of_split(split, name)),
        metric=METRIC,
        source="topics",
        context=context,
        batch=batch,
        steps=steps,
        init=init,
        model=model,
    )


def next_symbols(
    name: str,
    split: Split,
    description: str,
    *,
    text: Text,
    metric: str,
    source: str,
    context: int,
    batch: int,
    steps: int,
    init: Callable[[jax.Array], Weights],
    model: Callable[[Weights, jax.Array], jax.Array],
    evaluated: int | None = None,
) -> Task:
    """`language_model` on any text, of characters or words.

    With `evaluated` at most so many blocks are kept for the evaluation, and it goes through them
    a batch at a time; None for a quarter of all blocks, at once.

    Raises:
        ValueError: `context` does not fit.
    """
    if not 0 < context < data.BLOCK:
        raise ValueError(f"task {name!r}: context is {context}; use 1 to {data.BLOCK - 1}")
    starts = data.BLOCK - context  # a window holds one symbol more than its context
    window = np.arange(context + 1)

    def partition(text: Text, key: jax.Array) -> Cut:
        return cut(text.blocks.shape[0], key, at_most=evaluated)

    def windows(block: jax.Array, half: jax.Array) -> Windows:
        return Windows(block, below(half, starts))

    def sample(partition: Cut, key: jax.Array) -> Windows:
        return windows(*draw(partition.train, key, batch))

    def read(text: Text, sample: Windows) -> jax.Array:
        places = sample.block * data.BLOCK + sample.start
        return jnp.ravel(text.blocks)[places[:, None] + window]

    def loss(params: Weights, batch: jax.Array, key: jax.Array) -> jax.Array:
        del key
        return cross_entropy(model(params, batch[:, :-1]), batch[:, 1:])

    def evaluate(params: Weights, text: Text, partition: Cut, key: jax.Array) -> jax.Array:
        def error(block: jax.Array, half: jax.Array) -> jax.Array:
            return loss(params, read(text, windows(block, half)), key)

        if evaluated is None:
            return error(partition.evaluation, partition.view)
        return averaged(error, partition, batch)

    return Task(
        name=name,
        split=split,
        description=description,
        metric=metric,
        steps=steps,
        data=text,
        init=init,
        partition=partition,
        sample=sample,
        batch=read,
        loss=loss,
        evaluate=evaluate,
        source=source,
    )


@register("topics-transformer", "held-out")
def transformer(
    name: str,
    split: Split,
    *,
    layers: int = 2,
    heads: int = 4,
    width: int = 48,
    context: int = 32,
    batch: int = 16,
    steps: int = 1000,
) -> Task:
    """A causal transformer.

    Args:
        name: the task's name.
        split: whose part of the text to read.
        layers: pairs of an attention and a rectified sublayer.
        heads: attention heads; they divide `width`.
        width: numbers per character.
        context: characters that a prediction sees at most, below the block length of 128.
        batch: windows of `context` characters per step.
        steps: the training budget.

    Raises:
        ValueError: `split` is "diagnostic", which has no data; or the sizes do not fit.
    """
    if width % heads:
        raise ValueError(f"task {name!r}: width {width} is not a multiple of heads {heads}")

    def init(key: jax.Array) -> Weights:
        return gaussian(key, token_plan(SYMBOLS, context, layers, width))

    def model(params: Weights, codes: jax.Array) -> jax.Array:
        return predict_tokens(params, codes, layers, heads)

    depth = "1 layer" if layers == 1 else f"{layers} layers"
    description = f"next character of English text, transformer of {depth}"
    return language_model(
        name,
        split,
        description,
        context=context,
        batch=batch,
        steps=steps,
        init=init,
        model=model,
    )


attention = partial(transformer, layers=1, heads=1)

# 4,416 weights, and about 10 and 100 times the product of weights, steps and batch.
register("topics-attention", "search")(partial(attention, width=16, context=16, batch=4, steps=200))
register("topics-attention-10x", "validation")(
    partial(attention, width=24, context=24, batch=8, steps=520)
)
register("topics-attention-100x", "validation")(
    partial(transformer, layers=2, heads=2, width=48, context=32, batch=8, steps=1000)
)
