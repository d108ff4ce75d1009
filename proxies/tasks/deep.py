"""One deep, narrow network on digits: what initialisation, normalisation and delay make of it.

These tasks serve diagnosis; they see the part of the digits that a search sees.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jax.nn import initializers

from proxies.layers import Weights, rms_normalize
from proxies.registry import register
from proxies.task import Split, Task
from proxies.tasks.digits import CLASSES, PIXELS, classify

Initializer = Callable[..., jax.Array]


def deep(
    name: str,
    split: Split,
    *,
    start: str = "kaiming",
    normalized: bool = False,
    delay: int = 0,
    depth: int = 10,
    width: int = 32,
    batch: int = 64,
    steps: int = 400,
) -> Task:
    """A rectified network of `depth` square layers between one that enters and one that leaves.

    Args:
        name: the task's name.
        split: whose part of the digits to read; "diagnostic" for the search's.
        start: how weights begin, a key of `INITIALIZERS`.
        normalized: whether the input of every square layer is divided by its root mean square.
        delay: gradients are those of the weights so many steps ago.
        depth: the number of square layers.
        width: their units.
        batch: images per step.
        steps: the training budget.
    """
    draw = INITIALIZERS[start]

    def init(key: jax.Array) -> Weights:
        keys = jax.random.split(key, 3)
        return {
            "enter": draw()(keys[0], (PIXELS, width), jnp.float32),
            "square": draw(batch_axis=0)(keys[1], (depth, width, width), jnp.float32),
            "leave": draw()(keys[2], (width, CLASSES), jnp.float32),
            "bias": jnp.zeros((depth, width)),
        }

    def model(params: Weights, x: jax.Array) -> jax.Array:
        x = x @ params["enter"]
        for weight, bias in zip(params["square"], params["bias"], strict=True):
            x = rms_normalize(x) if normalized else x
            x = jax.nn.relu(x @ weight + bias)
        return x @ params["leave"]

    told = [f"{start} start", *["normalised"] * normalized, *[f"delay {delay}"] * bool(delay)]
    return classify(
        name,
        split,
        f"{depth + 2} layers of {width} units, {', '.join(told)}",
        steps=steps,
        batch=batch,
        init=init,
        model=model,
        delay=delay,
    )


def _naive(batch_axis: int | tuple[()] = ()) -> Initializer:
    """One deviation for every layer, whatever its size."""
    del batch_axis
    return initializers.normal(0.1)


INITIALIZERS: dict[str, Callable[..., Initializer]] = {
    "naive": _naive,
    "lecun": initializers.lecun_normal,
    "xavier": initializers.glorot_normal,
    "kaiming": initializers.he_normal,
}
"""How weights begin: N(0, 0.1^2), LeCun et al. 1998, Glorot & Bengio 2010, He et al. 2015."""

register("deep-naive", "diagnostic")(partial(deep, start="naive"))
register("deep-lecun", "diagnostic")(partial(deep, start="lecun"))
register("deep-xavier", "diagnostic")(partial(deep, start="xavier"))
register("deep-kaiming", "diagnostic")(deep)
register("deep-normalized", "diagnostic")(partial(deep, start="naive", normalized=True))
register("deep-delayed", "diagnostic")(partial(deep, delay=8))
