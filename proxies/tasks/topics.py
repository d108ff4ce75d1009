"""Predicting the next character of English text with small causal transformers."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from proxies import data
from proxies.layers import Plan, Weights, cross_entropy, gaussian, he, lecun, rms_normalize
from proxies.registry import register
from proxies.sampling import Cut, below, choose, cut, halves
from proxies.task import Split, Task

SYMBOLS = len(data.ALPHABET)
METRIC = "cross-entropy (nats per character)"


class Text(NamedTuple):
    """`blocks` `[n, 128]` uint8, indices in the alphabet; a block is an item."""

    blocks: NDArray[np.uint8]


class Windows(NamedTuple):
    """Which windows are read: `block` and `start` within it, `[batch]` int32."""

    block: jax.Array
    start: jax.Array


def _partition(text: Text, key: jax.Array) -> Cut:
    return cut(text.blocks.shape[0], key)


@register("topics-attention", "search")
def attention(name: str, split: Split) -> Task:
    """One layer with one head, 4,416 weights.

    Raises:
        ValueError: `split` is "diagnostic", which has no data.
    """
    return transformer(name, split, layers=1, heads=1, width=16, context=16, batch=4, steps=200)


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
    """A causal transformer, normalised before every sublayer, without normalisation state.

    Args:
        name: the task's name.
        split: whose part of the text to read.
        layers: pairs of an attention and a rectified sublayer of `2 * width` units.
        heads: attention heads; they divide `width`.
        width: numbers per character.
        context: characters that a prediction sees at most, below the block length of 128.
        batch: windows of `context` characters per step.
        steps: the training budget.

    Raises:
        ValueError: `split` is "diagnostic", which has no data; or the sizes do not fit.
    """
    if split == "diagnostic":
        raise ValueError(f"task {name!r}: text has no diagnostic part; use one of {data.PARTS}")
    if width % heads:
        raise ValueError(f"task {name!r}: width {width} is not a multiple of heads {heads}")
    if not 0 < context < data.BLOCK:
        raise ValueError(f"task {name!r}: context is {context}; use 1 to {data.BLOCK - 1}")

    starts = data.BLOCK - context  # a window holds one character more than its context
    window = np.arange(context + 1)
    hidden = 2 * width
    future = np.triu(np.full((context, context), -1e9, np.float32), 1)

    def init(key: jax.Array) -> Weights:
        depth = 2 * layers  # residual branches share the scale between them
        plan: Plan = {"embed": ((SYMBOLS, width), 1.0), "position": ((context, width), 0.5)}
        for layer in range(layers):
            plan |= {
                f"attend_{layer}": ((width, 3 * width), lecun(width)),
                f"join_{layer}": ((width, width), lecun(width * depth)),
                f"expand_{layer}": ((width, hidden), he(width)),
                f"contract_{layer}": ((hidden, width), lecun(hidden * depth)),
            }
        plan |= {"weight": ((width, SYMBOLS), lecun(width)), "bias": ((SYMBOLS,), 0.0)}
        return gaussian(key, plan)

    def mix(x: jax.Array) -> jax.Array:
        split_heads = (-1, context, heads, width // heads)
        query, key, value = (part.reshape(split_heads) for part in jnp.split(x, 3, axis=-1))
        scores = jnp.einsum("bqhd,bkhd->bhqk", query, key) * (width // heads) ** -0.5
        heard = jnp.einsum("bhqk,bkhd->bqhd", jax.nn.softmax(scores + future), value)
        return heard.reshape(-1, context, width)

    def model(params: Weights, codes: jax.Array) -> jax.Array:
        # A product with one-hot rows: the gradient of a look-up would be a scatter, slow on CPU.
        x = jax.nn.one_hot(codes, SYMBOLS) @ params["embed"] + params["position"]
        for layer in range(layers):
            heard = mix(rms_normalize(x) @ params[f"attend_{layer}"])
            x = x + heard @ params[f"join_{layer}"]
            units = jax.nn.relu(rms_normalize(x) @ params[f"expand_{layer}"])
            x = x + units @ params[f"contract_{layer}"]
        return rms_normalize(x) @ params["weight"] + params["bias"]

    def windows(block: jax.Array, half: jax.Array) -> Windows:
        return Windows(block, below(half, starts))

    def sample(partition: Cut, key: jax.Array) -> Windows:
        which, where = halves(jax.random.bits(key, (batch,)))
        return windows(choose(partition.train, which), where)

    def read(text: Text, sample: Windows) -> jax.Array:
        places = sample.block * data.BLOCK + sample.start
        return jnp.ravel(text.blocks)[places[:, None] + window]

    def loss(params: Weights, batch: jax.Array, key: jax.Array) -> jax.Array:
        del key
        return cross_entropy(model(params, batch[:, :-1]), batch[:, 1:])

    def evaluate(params: Weights, text: Text, partition: Cut, key: jax.Array) -> jax.Array:
        return loss(params, read(text, windows(partition.evaluation, partition.view)), key)

    return Task(
        name=name,
        split=split,
        description=f"next character of English text, transformer of {layers} layers",
        metric=METRIC,
        steps=steps,
        data=Text(*data.topics().part(split)),
        init=init,
        partition=_partition,
        sample=sample,
        batch=read,
        loss=loss,
        evaluate=evaluate,
    )
