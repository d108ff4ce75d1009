"""One deep, narrow network on digits: what initialisation, normalisation and delay make of it.

These tasks serve diagnosis; they see the part of the digits that a search sees.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import TypeAlias

import jax

from proxies.layers import Plan, Weights, gaussian, he, lecun, rms_normalize
from proxies.registry import register
from proxies.task import Split, Task
from proxies.tasks.digits import CLASSES, PIXELS, classify

Deviation: TypeAlias = Callable[[int, int], float]
"""From a layer's inputs and outputs to the standard deviation of its weights."""

STARTS: dict[str, Deviation] = {
    "naive": lambda inputs, outputs: 0.1,
    "lecun": lambda inputs, outputs: lecun(inputs),
    "xavier": lambda inputs, outputs: math.sqrt(2.0 / (inputs + outputs)),
    "kaiming": lambda inputs, outputs: he(inputs),
}
"""How weights begin: LeCun et al. 1998, Glorot & Bengio 2010, He et al. 2015, all normal.

They are the starts of `jax.nn.initializers`, whose many draws would take 6 s to compile.
"""


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
        start: how weights begin, a key of `STARTS`.
        normalized: whether the input of every square layer is divided by its root mean square.
        delay: gradients are those of the weights so many steps ago.
        depth: the number of square layers.
        width: their units.
        batch: images per step.
        steps: the training budget.
    """
    deviation = STARTS[start]

    def init(key: jax.Array) -> Weights:
        plan: Plan = {
            "enter": ((PIXELS, width), deviation(PIXELS, width)),
            "square": ((depth, width, width), deviation(width, width)),
            "leave": ((width, CLASSES), deviation(width, CLASSES)),
            "bias": ((depth, width), 0.0),
        }
        return gaussian(key, plan)

    def model(params: Weights, x: jax.Array) -> jax.Array:
        x = x @ params["enter"]

        def layer(x: jax.Array, row: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, None]:
            weight, bias = row
            x = rms_normalize(x) if normalized else x
            return jax.nn.relu(x @ weight + bias), None

        x, _ = jax.lax.scan(layer, x, (params["square"], params["bias"]))
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


register("deep-naive", "diagnostic")(partial(deep, start="naive"))
register("deep-lecun", "diagnostic")(partial(deep, start="lecun"))
register("deep-xavier", "diagnostic")(partial(deep, start="xavier"))
register("deep-kaiming", "diagnostic")(deep)
register("deep-normalized", "diagnostic")(partial(deep, start="naive", normalized=True))
register("deep-delayed", "diagnostic")(partial(deep, delay=8))
