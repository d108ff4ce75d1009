"""The proxies of Chen et al. 2023 (arXiv 2302.06675): a vision transformer and a language model.

Sizes, batches and inputs are the paper's; what it trains them on is not at hand, so they take
images and texts of a user's (see `proxies.user_tasks.files`), or generated stand-ins of the same
shapes. As in all tasks here, normalisation is by the root mean square without weights, and units
are rectified.
"""

import re
from collections import Counter
from collections.abc import Iterable
from functools import cache
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from proxies import data
from proxies.layers import (
    Weights,
    classify_patches,
    cross_entropy,
    gaussian,
    patch_plan,
    patches,
    predict_tokens,
    token_plan,
)
from proxies.sampling import Cut, averaged, cut, draw
from proxies.task import Split, Task
from proxies.tasks.topics import Text, next_symbols

STEPS = 10_000
"""The training budget; the paper's proxies train for about ten minutes on one TPU."""

SIDE = 64
"""Pixels along a side of an image."""

SYMBOLS = 3_000
"""Words that the language model tells apart; the first of them stands for all others."""

_RATIO = 4  # units of a rectified sublayer over the width
_EVALUATED = 2_048  # items at most
_LOOKED_AT = 1_024  # images that decide how all are standardised


class Images(NamedTuple):
    """Pictures and how they are standardised.

    Attributes:
        pixels: `[n, side, side, channels]`, uint8 or float32; an image is an item.
        labels: `[n]` int32.
        mean: `[channels]` float32, of the pixels, roughly.
        deviation: `[channels]` float32, positive, the same.
    """

    pixels: NDArray[np.uint8] | NDArray[np.float32]
    labels: NDArray[np.int32]
    mean: NDArray[np.float32]
    deviation: NDArray[np.float32]

    @classmethod
    def of(
        cls, pixels: NDArray[np.uint8] | NDArray[np.float32], labels: NDArray[np.int32]
    ) -> "Images":
        """Images that are standardised channel by channel, as some of them say."""
        some = pixels[:: -(-len(pixels) // _LOOKED_AT)].astype(np.float32)
        mean, deviation = some.mean(axis=(0, 1, 2)), some.std(axis=(0, 1, 2))
        return cls(pixels, labels, mean, np.maximum(deviation, np.float32(1e-6)))


class Batch(NamedTuple):
    """`pixels` `[batch, side, side, channels]` float32, standardised; `labels` `[batch]` int32."""

    pixels: jax.Array
    labels: jax.Array


def vit(
    name: str,
    split: Split,
    images: Images,
    classes: int,
    *,
    of: str,
    layers: int = 3,
    heads: int = 3,
    width: int = 96,
    patch: int = 16,
    batch: int = 64,
    steps: int = STEPS,
) -> Task:
    """Classifying images with a vision transformer (Dosovitskiy et al. 2021).

    Args:
        name: the task's name.
        split: who may train it.
        images: what it is trained and evaluated on.
        classes: labels are below.
        of: what the images are, for people.
        layers: pairs of an attention and a rectified sublayer.
        heads: attention heads; they divide `width`.
        width: numbers per patch.
        patch: pixels along a side of a patch; they divide the images' sides.
        batch: images per step.
        steps: the training budget.
    """
    side, channels = images.pixels.shape[2:]

    def init(key: jax.Array) -> Weights:
        plan = patch_plan((side // patch) ** 2, patch**2 * channels, layers, width, classes, _RATIO)
        return gaussian(key, plan)

    def partition(images: Images, key: jax.Array) -> Cut:
        return cut(images.pixels.shape[0], key, at_most=_EVALUATED)

    def sample(partition: Cut, key: jax.Array) -> jax.Array:
        return draw(partition.train, key, batch)[0]

    def read(images: Images, item: jax.Array) -> Batch:
        pixels = jnp.asarray(images.pixels)[item].astype(jnp.float32)
        pixels = (pixels - images.mean) / images.deviation
        return Batch(pixels, jnp.asarray(images.labels)[item])

    def loss(params: Weights, seen: Batch, key: jax.Array) -> jax.Array:
        del key
        logits = classify_patches(params, patches(seen.pixels, patch), layers, heads)
        return cross_entropy(logits, seen.labels)

    def evaluate(params: Weights, images: Images, partition: Cut, key: jax.Array) -> jax.Array:
        def error(item: jax.Array, half: jax.Array) -> jax.Array:
            del half
            return loss(params, read(images, item), key)

        return averaged(error, partition, batch)

    return Task(
        name=name,
        split=split,
        description=f"{classes} classes of {of}, vision transformer of {layers} layers",
        metric="cross-entropy (nats)",
        steps=steps,
        data=images,
        init=init,
        partition=partition,
        sample=sample,
        batch=read,
        loss=loss,
        evaluate=evaluate,
    )


def transformer(
    name: str,
    split: Split,
    text: Text,
    *,
    of: str,
    symbols: int = SYMBOLS,
    layers: int = 2,
    heads: int = 2,
    width: int = 128,
    context: int = 32,
    batch: int = 64,
    steps: int = STEPS,
) -> Task:
    """Predicting the next word with a causal transformer.

    Args:
        name: the task's name.
        split: who may train it.
        text: blocks of indices below `symbols`.
        of: what the text is, for people.
        symbols: the number of words that are told apart.
        layers: pairs of an attention and a rectified sublayer.
        heads: attention heads; they divide `width`.
        width: numbers per word.
        context: words that a prediction sees at most, below the block length of 128.
        batch: windows of `context` words per step.
        steps: the training budget.
    """

    def init(key: jax.Array) -> Weights:
        return gaussian(key, token_plan(symbols, context, layers, width, _RATIO))

    def model(params: Weights, codes: jax.Array) -> jax.Array:
        return predict_tokens(params, codes, layers, heads)

    return next_symbols(
        name,
        split,
        f"next of {symbols:,} words of {of}, transformer of {layers} layers",
        text=text,
        metric="cross-entropy (nats per word)",
        source="none",
        context=context,
        batch=batch,
        steps=steps,
        init=init,
        model=model,
        evaluated=_EVALUATED,
    )


def words(text: str) -> list[str]:
    """Cut a text into words, signs and ends of lines, in lower case.

    >>> words("It's 7 o'clock.")
    ['it', "'", 's', '7', 'o', "'", 'clock', '.']
    """
    return re.findall(r"\w+|[^\w\s]|\n", text.lower())


def codes_of(known: Iterable[str]) -> dict[str, int]:
    """Codes from 1 for the most frequent of `known` words; 0 is for all others."""
    counts = Counter(known)
    frequent = sorted(counts, key=lambda word: (-counts[word], word))[: SYMBOLS - 1]
    return {word: code for code, word in enumerate(frequent, start=1)}


def vit_stand_in(*, steps: int = STEPS) -> Task:
    """The paper's vision transformer on generated images, for measuring speed and memory."""
    images, classes = generated_images()
    return vit("paper-vit", "diagnostic", images, classes, of="generated images", steps=steps)


def transformer_stand_in(*, steps: int = STEPS) -> Task:
    """The paper's language model on a generated text, for measuring speed and memory."""
    return transformer(
        "paper-transformer", "diagnostic", generated_text(), of="a generated text", steps=steps
    )


@cache
def generated_images(count: int = 2_048, side: int = SIDE) -> tuple[Images, int]:
    """Images of 16 classes, and their number: a coarse faint pattern for each, under noise."""
    classes, coarse = 16, 8
    rng = np.random.default_rng(0)
    pattern = rng.integers(0, 32, (classes, coarse, coarse, 3), np.uint8)
    pattern = pattern.repeat(side // coarse, axis=1).repeat(side // coarse, axis=2)
    labels = rng.integers(0, classes, count, np.int32)
    noise = rng.integers(0, 224, (count, side, side, 3), np.uint8)
    return Images.of(noise + pattern[labels], labels), classes


@cache
def generated_text(blocks: int = 2_048, symbols: int = SYMBOLS) -> Text:
    """A Markov chain: each word has eight successors, each half as likely as the one before."""
    followers = 8
    rng = np.random.default_rng(0)
    successors = rng.integers(0, symbols, (symbols, followers), np.uint16)
    which = np.minimum(rng.geometric(0.5, (data.BLOCK, blocks)) - 1, followers - 1)
    text = np.empty((data.BLOCK, blocks), np.uint16)
    now = rng.integers(0, symbols, blocks, np.uint16)
    for place, turn in enumerate(which):
        text[place] = now = successors[now, turn]
    return Text(np.ascontiguousarray(text.T))
