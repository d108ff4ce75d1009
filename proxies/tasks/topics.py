"""Prediction of the next character of English text with small causal transformers."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from proxies import data
from proxies.layers import Weights, cross_entropy, gaussian, predict_tokens, token_specs
from proxies.registry import register
from proxies.sampling import Partition, cut, draw, integers_below, mean_error
from proxies.task import Split, Task

SYMBOLS = len(data.ALPHABET)
METRIC = "cross-entropy (nats per character)"


class Text(NamedTuple):
    """The text of a part; a block is an item.

    Attributes:
        blocks: `[n, 128]`, indices of symbols.
    """

    blocks: NDArray[np.unsignedinteger]


class Windows(NamedTuple):
    """The positions of the windows of a batch.

    Attributes:
        block: `[batch]` int32, indices of blocks.
        start: `[batch]` int32, the start of the window in its block.
    """

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
    """Return the task of predicting each character of English text from those before it.

    Args:
        name: the task's name.
        split: the split, which decides the part of the text that is read.
        description: one line that says what the task is.
        context: maximum number of characters before a prediction, below 128.
        batch: windows of `context` characters per step.
        steps: number of training steps.
        init: returns the initial weights.
        model: a function from weights and codes `[batch, context]` to logits
            `[batch, context, 64]`.

    Raises:
        ValueError: `split` is "diagnostic", which has no data, or `context` is out of range.
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
    max_evaluation_items: int | None = None,
) -> Task:
    """Return the task of predicting each symbol of a text from those before it.

    Args:
        name: the task's name.
        split: the task's split.
        description: one line that says what the task is.
        text: blocks of characters or words.
        metric: the metric, with its unit.
        source: the name of the data.
        context: maximum number of symbols before a prediction, below 128.
        batch: windows of `context` symbols per step.
        steps: number of training steps.
        init: returns the initial weights.
        model: a function from weights and codes `[batch, context]` to logits
            `[batch, context, symbols]`.
        max_evaluation_items: maximum number of evaluation blocks, which are evaluated `batch` at a
            time; None evaluates a quarter of all blocks at once.

    Raises:
        ValueError: `context` is out of range.
    """
    if not 0 < context < data.BLOCK:
        raise ValueError(f"task {name!r}: context is {context}; use 1 to {data.BLOCK - 1}")
    offsets = data.BLOCK - context  # a window has one symbol more than its context
    window = np.arange(context + 1)

    def partition(text: Text, key: jax.Array) -> Partition:
        return cut(text.blocks.shape[0], key, at_most=max_evaluation_items)

    def windows(block: jax.Array, bits: jax.Array) -> Windows:
        return Windows(block, integers_below(bits, offsets))

    def sample(partition: Partition, key: jax.Array) -> Windows:
        return windows(*draw(partition.train, key, batch))

    def read(text: Text, sample: Windows) -> jax.Array:
        starts = sample.block * data.BLOCK + sample.start
        return jnp.ravel(text.blocks)[starts[:, None] + window]

    def loss(params: Weights, batch: jax.Array, key: jax.Array) -> jax.Array:
        del key
        return cross_entropy(model(params, batch[:, :-1]), batch[:, 1:])

    def evaluate(params: Weights, text: Text, partition: Partition, key: jax.Array) -> jax.Array:
        def error(block: jax.Array, bits: jax.Array) -> jax.Array:
            return loss(params, read(text, windows(block, bits)), key)

        if max_evaluation_items is None:
            return error(partition.evaluation, partition.view)
        return mean_error(error, partition, batch)

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
    """Return the task of predicting characters with a causal transformer.

    Args:
        name: the task's name.
        split: the split, which decides the part of the text that is read.
        layers: number of layers, each an attention and a ReLU sublayer.
        heads: number of attention heads, a divisor of `width`.
        width: length of a character's vector.
        context: maximum number of characters before a prediction, below 128.
        batch: windows of `context` characters per step.
        steps: number of training steps.

    Raises:
        ValueError: `split` is "diagnostic", which has no data; `context` is out of range; or
            `heads` does not divide `width`.
    """
    if width % heads:
        raise ValueError(f"task {name!r}: width {width} is not a multiple of heads {heads}")

    def init(key: jax.Array) -> Weights:
        return gaussian(key, token_specs(SYMBOLS, context, layers, width))

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

# Tasks of 4,416 weights, and of 10x and 100x the work: the product of weights, steps and batch.
register("topics-attention", "search")(partial(attention, width=16, context=16, batch=4, steps=200))
register("topics-attention-10x", "validation")(
    partial(attention, width=24, context=24, batch=8, steps=520)
)
register("topics-attention-100x", "validation")(
    partial(transformer, layers=2, heads=2, width=48, context=32, batch=8, steps=1000)
)
