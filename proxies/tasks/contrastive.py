"""Matching images of digits with captions: two encoders, trained by contrast."""

import jax
import jax.numpy as jnp
import numpy as np

from proxies.data import spell
from proxies.layers import Plan, Weights, gaussian, he, lecun, rms_normalize
from proxies.registry import register
from proxies.task import Split, Task
from proxies.tasks.digits import CLASSES, PIXELS, Batch, build

_FORMS = "{}", "a {}", "the {}", "digit {}"
_LETTERS = " abcdefghijklmnopqrstuvwxyz"


def _captions() -> np.ndarray:
    """Codes `[10, 4, length]` of every form of every digit's name, filled up with spaces."""
    texts = [[form.format(spell(digit)) for form in _FORMS] for digit in range(CLASSES)]
    length = max(len(text) for row in texts for text in row)
    return np.array(
        [[[_LETTERS.index(c) for c in text.ljust(length)] for text in row] for row in texts]
    )


@register("digits-contrastive", "held-out")
def contrastive(
    name: str,
    split: Split,
    *,
    hidden: int = 96,
    shared: int = 24,
    batch: int = 32,
    steps: int = 1000,
) -> Task:
    """Images and captions such as "a seven" brought to the same places on a sphere.

    The loss is the symmetric cross-entropy of finding an image's captions among those of its batch
    and the reverse, from cosine similarities over a learnt temperature (InfoNCE, Radford et al.
    2021). Pairs that show the same digit are all right (Yang et al. 2022), so the entropy of that
    target is taken off. The evaluation is by batches of the same size.
    """
    captions = _captions()
    length = captions.shape[-1]
    letters = len(_LETTERS)

    def init(key: jax.Array) -> Weights:
        plan: Plan = {
            "see": ((PIXELS, hidden), he(PIXELS)),
            "see_bias": ((hidden,), 0.0),
            "image": ((hidden, shared), lecun(hidden)),
            "read": ((length * letters, hidden), he(length)),  # one letter a place is not zero
            "read_bias": ((hidden,), 0.0),
            "text": ((hidden, shared), lecun(hidden)),
        }
        return gaussian(key, plan) | {"log_scale": jnp.float32(1.0)}

    def contrast(
        params: Weights, pixels: jax.Array, labels: jax.Array, form: jax.Array
    ) -> jax.Array:
        codes = jnp.asarray(captions)[labels, form]
        spelled = jax.nn.one_hot(codes, letters).reshape(-1, length * letters)
        seen = jax.nn.relu(pixels @ params["see"] + params["see_bias"]) @ params["image"]
        said = jax.nn.relu(spelled @ params["read"] + params["read_bias"]) @ params["text"]
        cosines = rms_normalize(seen) @ rms_normalize(said).T / shared
        logits = cosines * jnp.exp(params["log_scale"])
        same = (labels[:, None] == labels).astype(jnp.float32)
        target = same / jnp.sum(same, axis=1, keepdims=True)
        entropy = jnp.mean(jnp.log(jnp.sum(same, axis=1)))

        def find(logits: jax.Array) -> jax.Array:
            return -jnp.mean(jnp.sum(target * jax.nn.log_softmax(logits), axis=1))

        return 0.5 * (find(logits) + find(logits.T)) - entropy

    def loss(params: Weights, seen: Batch, key: jax.Array) -> jax.Array:
        return contrast(params, *seen, jax.random.randint(key, seen.labels.shape, 0, len(_FORMS)))

    def error(params: Weights, seen: Batch, key: jax.Array) -> jax.Array:
        del key
        count = seen.labels.shape[0] // batch
        form = jnp.arange(count * batch) % len(_FORMS)
        rows = (*(array[: count * batch] for array in seen), form)
        batches = (array.reshape(count, batch, *array.shape[1:]) for array in rows)
        return jnp.mean(jax.vmap(lambda *one: contrast(params, *one))(*batches))

    return build(
        name,
        split,
        "handwritten digits and captions, two encoders trained by contrast",
        metric="divergence of the match within 32 pairs (nats)",
        steps=steps,
        batch=batch,
        init=init,
        loss=loss,
        error=error,
    )
