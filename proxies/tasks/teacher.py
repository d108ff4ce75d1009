"""Learning a random network from noisy answers."""

import math
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from proxies import data
from proxies.layers import Plan, Weights, gaussian, lecun, network, network_plan
from proxies.registry import register
from proxies.sampling import choose, cut, draw
from proxies.task import Split, Task

_INPUTS, _OUTPUTS, _TEACHER = 16, 4, 24
_NOISE = 0.3


class Points(NamedTuple):
    """`inputs` `[n, 16]` and rows of noise `[n, 4]`, normal; a point is an item."""

    inputs: NDArray[np.float32]
    noise: NDArray[np.float32]


class Lesson(NamedTuple):
    """A seed's cut of the points, `[n]` and `[m]` int32, and its teacher's `answers` to all."""

    train: jax.Array
    evaluation: jax.Array
    answers: jax.Array


class Questions(NamedTuple):
    """Which points are asked, whose noise is added, `[batch]`; the true `answers` `[batch, 4]`."""

    item: jax.Array
    noise: jax.Array
    answers: jax.Array


class Examples(NamedTuple):
    """`inputs` `[batch, 16]` and `answers` `[batch, 4]`."""

    inputs: jax.Array
    answers: jax.Array


@register("points-teacher", "search")
def teacher(
    name: str,
    split: Split,
    *,
    hidden: tuple[int, ...] = (32, 48),
    batch: int = 32,
    steps: int = 200,
) -> Task:
    """A rectified network that learns another one, drawn by the seed, from noisy answers.

    The teacher is `tanh(2 x @ A) @ B`, with answers of variance below 1; noise of deviation 0.3 is
    added in training, and none in the evaluation.

    Raises:
        ValueError: `split` is "diagnostic", which has no data.
    """
    points = Points(*data.points().part_of_split(split, name))

    def init(key: jax.Array) -> Weights:
        return gaussian(key, network_plan((_INPUTS, *hidden, _OUTPUTS), last=lecun))

    def partition(points: Points, key: jax.Array) -> Lesson:
        train, evaluation, _ = cut(points.inputs.shape[0], key)
        plan: Plan = {"a": ((_INPUTS, _TEACHER), lecun(_INPUTS)), "b": ((_TEACHER, _OUTPUTS), 1.0)}
        drawn = gaussian(jax.random.fold_in(key, 1), plan)
        units = jnp.tanh(2.0 * points.inputs @ drawn["a"])
        return Lesson(train, evaluation, units @ drawn["b"] / math.sqrt(_TEACHER))

    def sample(partition: Lesson, key: jax.Array) -> Questions:
        items, noise = draw(partition.train, key, batch)
        return Questions(items, choose(partition.train, noise), partition.answers[items])

    def read(points: Points, sample: Questions) -> Examples:
        inputs, noise = jnp.asarray(points.inputs), jnp.asarray(points.noise)
        return Examples(inputs[sample.item], sample.answers + _NOISE * noise[sample.noise])

    def loss(params: Weights, seen: Examples, key: jax.Array) -> jax.Array:
        del key
        return jnp.mean(jnp.square(network(params, seen.inputs) - seen.answers))

    def evaluate(params: Weights, points: Points, partition: Lesson, key: jax.Array) -> jax.Array:
        items = partition.evaluation
        seen = Examples(jnp.asarray(points.inputs)[items], partition.answers[items])
        return loss(params, seen, key)

    units = "x".join(map(str, hidden))
    return Task(
        name=name,
        split=split,
        description=f"a random network's noisy answers, network with {units} hidden units",
        metric="mean squared error (answers: about 0.7)",
        steps=steps,
        data=points,
        init=init,
        partition=partition,
        sample=sample,
        batch=read,
        loss=loss,
        evaluate=evaluate,
        source="points",
    )


register("points-teacher-10x", "validation")(partial(teacher, hidden=(56, 64), batch=64, steps=450))
register("points-teacher-100x", "validation")(
    partial(teacher, hidden=(96, 128), batch=80, steps=1200)
)
