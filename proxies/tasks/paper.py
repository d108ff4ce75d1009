"""The proxies of Chen et al. 2023 (arXiv 2302.06675): a vision transformer and a language model.

Sizes, batches and inputs are those of the paper. The paper's data are not available, so the models
take a user's images and texts (see `proxies.user_tasks.files`), or generated data of the same
shapes. As in all tasks here, RMS normalisation has no weights, and units are ReLU.
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
    patch_specs,
    patches,
    predict_tokens,
    token_specs,
)
from proxies.sampling import Partition, cut, draw, mean_error
from proxies.task import Split, Task
from proxies.tasks.topics import Text, next_symbols

STEPS = 10_000
"""Number of training steps; the paper's proxies train for about ten minutes on one TPU."""

SIDE = 64
"""Side of an image in pixels."""

SYMBOLS = 3_000
"""Size of the vocabulary; code 0 is shared by all words outside it."""

_HIDDEN_RATIO = 4  # hidden units of a ReLU sublayer, as a multiple of the width
_MAX_EVALUATION_ITEMS = 2_048  # maximum number of evaluation items
_STATISTICS_IMAGES = 1_024  # number of images from which mean and deviation are computed


class Images(NamedTuple):
    """Images, and the statistics that standardise them.

    Attributes:
        pixels: `[n, side, side, channels]`, uint8 or float32; an image is an item.
        labels: `[n]` int32.
        mean: `[channels]` float32, the approximate mean of the pixels.
        deviation: `[channels]` float32, positive, their approximate standard deviation.
    """

    pixels: NDArray[np.uint8] | NDArray[np.float32]
    labels: NDArray[np.int32]
    mean: NDArray[np.float32]
    deviation: NDArray[np.float32]

    @classmethod
    def from_pixels(
        cls, pixels: NDArray[np.uint8] | NDArray[np.float32], labels: NDArray[np.int32]
    ) -> "Images":
        """Return images with the mean and deviation of each channel, estimated from a subset."""
        subset = pixels[:: -(-len(pixels) // _STATISTICS_IMAGES)].astype(np.float32)
        mean, deviation = subset.mean(axis=(0, 1, 2)), subset.std(axis=(0, 1, 2))
        return cls(pixels, labels, mean, np.maximum(deviation, np.float32(1e-6)))


class Batch(NamedTuple):
    """A batch of images.

    Attributes:
        pixels: `[batch, side, side, channels]` float32, standardised.
        labels: `[batch]` int32.
    """

    pixels: jax.Array
    labels: jax.Array


def vit(
    name: str,
    split: Split,
    images: Images,
    classes: int,
    *,
    data_description: str,
    layers: int = 3,
    heads: int = 3,
    width: int = 96,
    patch: int = 16,
    batch: int = 64,
    steps: int = STEPS,
) -> Task:
    """Return the task of classifying images with a vision transformer (Dosovitskiy et al. 2021).

    Args:
        name: the task's name.
        split: the task's split.
        images: the images to train and to evaluate on.
        classes: number of classes; labels are in `range(classes)`.
        data_description: what the images are, such as the name of their file.
        layers: number of layers, each an attention and a ReLU sublayer.
        heads: number of attention heads, a divisor of `width`.
        width: length of a patch's vector.
        patch: side of a patch in pixels, a divisor of the images' sides.
        batch: images per step.
        steps: number of training steps.
    """
    side, channels = images.pixels.shape[2:]

    def init(key: jax.Array) -> Weights:
        specs = patch_specs(
            (side // patch) ** 2, patch**2 * channels, layers, width, classes, _HIDDEN_RATIO
        )
        return gaussian(key, specs)

    def partition(images: Images, key: jax.Array) -> Partition:
        return cut(images.pixels.shape[0], key, at_most=_MAX_EVALUATION_ITEMS)

    def sample(partition: Partition, key: jax.Array) -> jax.Array:
        return draw(partition.train, key, batch)[0]

    def read(images: Images, item: jax.Array) -> Batch:
        pixels = jnp.asarray(images.pixels)[item].astype(jnp.float32)
        pixels = (pixels - images.mean) / images.deviation
        return Batch(pixels, jnp.asarray(images.labels)[item])

    def loss(params: Weights, batch: Batch, key: jax.Array) -> jax.Array:
        del key
        logits = classify_patches(params, patches(batch.pixels, patch), layers, heads)
        return cross_entropy(logits, batch.labels)

    def evaluate(
        params: Weights, images: Images, partition: Partition, key: jax.Array
    ) -> jax.Array:
        def error(item: jax.Array, bits: jax.Array) -> jax.Array:
            del bits
            return loss(params, read(images, item), key)

        return mean_error(error, partition, batch)

    return Task(
        name=name,
        split=split,
        description=f"{classes} classes of {data_description}, "
        f"vision transformer of {layers} layers",
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
    data_description: str,
    symbols: int = SYMBOLS,
    layers: int = 2,
    heads: int = 2,
    width: int = 128,
    context: int = 32,
    batch: int = 64,
    steps: int = STEPS,
) -> Task:
    """Return the task of predicting the next word with a causal transformer.

    Args:
        name: the task's name.
        split: the task's split.
        text: blocks of indices below `symbols`.
        data_description: what the text is, such as the name of its file.
        symbols: size of the vocabulary.
        layers: number of layers, each an attention and a ReLU sublayer.
        heads: number of attention heads, a divisor of `width`.
        width: length of a word's vector.
        context: maximum number of words before a prediction, below 128.
        batch: windows of `context` words per step.
        steps: number of training steps.
    """

    def init(key: jax.Array) -> Weights:
        return gaussian(key, token_specs(symbols, context, layers, width, _HIDDEN_RATIO))

    def model(params: Weights, codes: jax.Array) -> jax.Array:
        return predict_tokens(params, codes, layers, heads)

    return next_symbols(
        name,
        split,
        f"next of {symbols:,} words of {data_description}, transformer of {layers} layers",
        text=text,
        metric="cross-entropy (nats per word)",
        source="none",
        context=context,
        batch=batch,
        steps=steps,
        init=init,
        model=model,
        max_evaluation_items=_MAX_EVALUATION_ITEMS,
    )


def words(text: str) -> list[str]:
    """Split a text into words, punctuation marks and newlines, in lower case.

    >>> words("It's 7 o'clock.")
    ['it', "'", 's', '7', 'o', "'", 'clock', '.']
    """
    return re.findall(r"\w+|[^\w\s]|\n", text.lower())


def codes_of(tokens: Iterable[str]) -> dict[str, int]:
    """Return codes from 1 for the most frequent words of `tokens`; code 0 means any other word."""
    counts = Counter(tokens)
    frequent = sorted(counts, key=lambda word: (-counts[word], word))[: SYMBOLS - 1]
    return {word: code for code, word in enumerate(frequent, start=1)}


def vit_stand_in(*, steps: int = STEPS) -> Task:
    """Return the paper's vision transformer on generated images, to measure speed and memory."""
    images, classes = generated_images()
    return vit(
        "paper-vit", "diagnostic", images, classes, data_description="generated images", steps=steps
    )


def transformer_stand_in(*, steps: int = STEPS) -> Task:
    """Return the paper's language model on a generated text, to measure speed and memory."""
    return transformer(
        "paper-transformer",
        "diagnostic",
        generated_text(),
        data_description="a generated text",
        steps=steps,
    )


@cache
def generated_images(count: int = 2_048, side: int = SIDE) -> tuple[Images, int]:
    """Return noisy images with a faint pattern for each class, and the number of classes."""
    classes, coarse = 16, 8
    rng = np.random.default_rng(0)
    pattern = rng.integers(0, 32, (classes, coarse, coarse, 3), np.uint8)
    pattern = pattern.repeat(side // coarse, axis=1).repeat(side // coarse, axis=2)
    labels = rng.integers(0, classes, count, np.int32)
    noise = rng.integers(0, 224, (count, side, side, 3), np.uint8)
    return Images.from_pixels(noise + pattern[labels], labels), classes


@cache
def generated_text(blocks: int = 2_048, symbols: int = SYMBOLS) -> Text:
    """Return a text from a Markov chain in which each word has eight successors.

    Each successor is half as likely as the one before it.
    """
    successor_count = 8
    rng = np.random.default_rng(0)
    successors = rng.integers(0, symbols, (symbols, successor_count), np.uint16)
    choices = np.minimum(rng.geometric(0.5, (data.BLOCK, blocks)) - 1, successor_count - 1)
    text = np.empty((data.BLOCK, blocks), np.uint16)
    word = rng.integers(0, symbols, blocks, np.uint16)
    for position, choice in enumerate(choices):
        text[position] = word = successors[word, choice]
    return Text(np.ascontiguousarray(text.T))
