"""A deep, narrow network on digits: the effects of initialisation, normalisation and delay.

The tasks are diagnostic, and read the search part of the digits.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import TypeAlias

import jax

from proxies.layers import Weights, WeightSpecs, gaussian, he, lecun, rms_normalize
from proxies.registry import register
from proxies.task import Split, Task
from proxies.tasks.digits import CLASSES, PIXELS, classification_task

Deviation: TypeAlias = Callable[[int, int], float]
"""A function from a layer's inputs and outputs to the standard deviation of its weights."""

INITIALISATIONS: dict[str, Deviation] = {
    "naive": lambda inputs, outputs: 0.1,
    "lecun": lambda inputs, outputs: lecun(inputs),
    "xavier": lambda inputs, outputs: math.sqrt(2.0 / (inputs + outputs)),
    "kaiming": lambda inputs, outputs: he(inputs),
}
"""Normal initialisations: LeCun et al. 1998, Glorot & Bengio 2010, He et al. 2015.

The deviations equal those of `jax.nn.initializers`, whose many draws would take 6 s to compile.
"""


def deep(
    name: str,
    split: Split,
    *,
    initialisation: str = "kaiming",
    normalized: bool = False,
    delay: int = 0,
    depth: int = 10,
    width: int = 32,
    batch: int = 64,
    steps: int = 400,
) -> Task:
    """Return the task of training a ReLU network with `depth` square layers.

    A linear layer before the square layers maps the inputs to `width` units, and another linear
    layer maps the last units to the logits.

    Args:
        name: the task's name.
        split: the split; "diagnostic" reads the search part of the digits.
        initialisation: the name of the initialisation, a key of `INITIALISATIONS`.
        normalized: whether the input of every square layer is divided by its root mean square.
        delay: number of steps by which gradients are delayed.
        depth: number of square layers.
        width: units of each square layer.
        batch: images per step.
        steps: number of training steps.
    """
    deviation = INITIALISATIONS[initialisation]

    def init(key: jax.Array) -> Weights:
        specs: WeightSpecs = {
            "enter": ((PIXELS, width), deviation(PIXELS, width)),
            "square": ((depth, width, width), deviation(width, width)),
            "leave": ((width, CLASSES), deviation(width, CLASSES)),
            "bias": ((depth, width), 0.0),
        }
        return gaussian(key, specs)

    def model(params: Weights, x: jax.Array) -> jax.Array:
        x = x @ params["enter"]

        def layer(x: jax.Array, row: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, None]:
            weight, bias = row
            x = rms_normalize(x) if normalized else x
            return jax.nn.relu(x @ weight + bias), None

        x, _ = jax.lax.scan(layer, x, (params["square"], params["bias"]))
        return x @ params["leave"]

    variants = [
        f"{initialisation} initialisation",
        *["normalised"] * normalized,
        *[f"delay {delay}"] * bool(delay),
    ]
    return classification_task(
        name,
        split,
        f"{depth + 2} layers of {width} units, {', '.join(variants)}",
        steps=steps,
        batch=batch,
        init=init,
        model=model,
        delay=delay,
    )


register("deep-naive", "diagnostic")(partial(deep, initialisation="naive"))
register("deep-lecun", "diagnostic")(partial(deep, initialisation="lecun"))
register("deep-xavier", "diagnostic")(partial(deep, initialisation="xavier"))
register("deep-kaiming", "diagnostic")(deep)
register("deep-normalized", "diagnostic")(partial(deep, initialisation="naive", normalized=True))
register("deep-delayed", "diagnostic")(partial(deep, delay=8))
