"""Contrastive training of two encoders that match images of digits with captions."""

import jax
import jax.numpy as jnp
import numpy as np

from proxies.data import spell
from proxies.layers import Weights, WeightSpecs, gaussian, he, lecun, rms_normalize
from proxies.registry import register
from proxies.task import Split, Task
from proxies.tasks.digits import CLASSES, PIXELS, Batch, build

_TEMPLATES = "{}", "a {}", "the {}", "digit {}"
_CHARACTERS = " abcdefghijklmnopqrstuvwxyz"


def _captions() -> np.ndarray:
    """Return four captions of each digit as indices `[10, 4, length]` in `_CHARACTERS`."""
    texts = [[template.format(spell(digit)) for template in _TEMPLATES] for digit in range(CLASSES)]
    length = max(len(text) for row in texts for text in row)
    return np.array(
        [[[_CHARACTERS.index(c) for c in text.ljust(length)] for text in row] for row in texts]
    )


@register("digits-contrastive", "held-out")
def contrastive(
    name: str,
    split: Split,
    *,
    hidden: int = 96,
    embedding_size: int = 24,
    batch: int = 32,
    steps: int = 1000,
) -> Task:
    """Return the task of embedding images and captions such as "a seven" at the same points.

    The loss is the mean of two cross-entropies in a batch: of the captions for each image, and of
    the images for each caption. Logits are cosine similarities divided by a learned temperature
    (InfoNCE, Radford et al. 2021). All pairs of the same digit are correct (Yang et al. 2022), and
    the entropy of this target is subtracted. The evaluation uses batches of the same size.
    """
    captions = _captions()
    length = captions.shape[-1]
    character_count = len(_CHARACTERS)

    def init(key: jax.Array) -> Weights:
        specs: WeightSpecs = {
            "see": ((PIXELS, hidden), he(PIXELS)),
            "see_bias": ((hidden,), 0.0),
            "image": ((hidden, embedding_size), lecun(hidden)),
            "read": (
                (length * character_count, hidden),
                he(length),
            ),  # one-hot: `length` nonzeros
            "read_bias": ((hidden,), 0.0),
            "text": ((hidden, embedding_size), lecun(hidden)),
        }
        return gaussian(key, specs) | {"log_scale": jnp.float32(1.0)}

    def contrast(
        params: Weights, pixels: jax.Array, labels: jax.Array, template: jax.Array
    ) -> jax.Array:
        tokens = jnp.asarray(captions)[labels, template]
        one_hot = jax.nn.one_hot(tokens, character_count).reshape(-1, length * character_count)
        image = jax.nn.relu(pixels @ params["see"] + params["see_bias"]) @ params["image"]
        text = jax.nn.relu(one_hot @ params["read"] + params["read_bias"]) @ params["text"]
        cosines = rms_normalize(image) @ rms_normalize(text).T / embedding_size
        logits = cosines * jnp.exp(params["log_scale"])
        is_same_digit = (labels[:, None] == labels).astype(jnp.float32)
        target = is_same_digit / jnp.sum(is_same_digit, axis=1, keepdims=True)
        entropy = jnp.mean(jnp.log(jnp.sum(is_same_digit, axis=1)))

        def mean_cross_entropy(logits: jax.Array) -> jax.Array:
            return -jnp.mean(jnp.sum(target * jax.nn.log_softmax(logits), axis=1))

        return 0.5 * (mean_cross_entropy(logits) + mean_cross_entropy(logits.T)) - entropy

    def loss(params: Weights, images: Batch, key: jax.Array) -> jax.Array:
        template = jax.random.randint(key, images.labels.shape, 0, len(_TEMPLATES))
        return contrast(params, *images, template)

    def error(params: Weights, images: Batch, key: jax.Array) -> jax.Array:
        del key
        count = images.labels.shape[0] // batch
        template = jnp.arange(count * batch) % len(_TEMPLATES)
        rows = (*(array[: count * batch] for array in images), template)
        batches = (array.reshape(count, batch, *array.shape[1:]) for array in rows)
        return jnp.mean(jax.vmap(lambda *row: contrast(params, *row))(*batches))

    return build(
        name,
        split,
        "handwritten digits and captions, two encoders, contrastive learning",
        metric="divergence of the match within 32 pairs (nats)",
        steps=steps,
        batch=batch,
        init=init,
        loss=loss,
        error=error,
    )
