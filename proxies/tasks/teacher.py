"""Regression of the noisy outputs of a random network, the teacher."""

import math
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from proxies import data
from proxies.layers import Weights, WeightSpecs, gaussian, lecun, network, network_specs
from proxies.registry import register
from proxies.sampling import choose, cut, draw
from proxies.task import Split, Task

_INPUTS, _OUTPUTS, _HIDDEN = 16, 4, 24  # numbers of inputs, outputs and hidden units of the teacher
_NOISE = 0.3  # standard deviation of the noise in training answers


class Points(NamedTuple):
    """Normal points and noise; a point is an item.

    Attributes:
        inputs: `[n, 16]` float32.
        noise: `[n, 4]` float32.
    """

    inputs: NDArray[np.float32]
    noise: NDArray[np.float32]


class TeacherPartition(NamedTuple):
    """A seed's partition of the points, and the answers of the seed's teacher.

    Attributes:
        train: `[n]` int32, indices of the training points.
        evaluation: `[m]` int32, indices of the evaluation points.
        answers: `[n + m, 4]` float32, the teacher's outputs for all points.
    """

    train: jax.Array
    evaluation: jax.Array
    answers: jax.Array


class Sample(NamedTuple):
    """The points of a batch.

    Attributes:
        item: `[batch]` int32, indices of points.
        noise: `[batch]` int32, indices of the rows of noise that are added.
        answers: `[batch, 4]` float32, the teacher's outputs without noise.
    """

    item: jax.Array
    noise: jax.Array
    answers: jax.Array


class Examples(NamedTuple):
    """A batch of inputs `[batch, 16]` and answers `[batch, 4]`."""

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
    """Return the task of learning a random network from its noisy answers.

    The teacher is `tanh(2 x @ A) @ B`, drawn from the seed, with answers of variance below 1. Noise
    of standard deviation 0.3 is added to the answers in training, but not in the evaluation.

    Raises:
        ValueError: `split` is "diagnostic", which has no data.
    """
    points = Points(*data.points().part_of_split(split, name))

    def init(key: jax.Array) -> Weights:
        return gaussian(key, network_specs((_INPUTS, *hidden, _OUTPUTS), last=lecun))

    def partition(points: Points, key: jax.Array) -> TeacherPartition:
        train, evaluation, _ = cut(points.inputs.shape[0], key)
        specs: WeightSpecs = {
            "a": ((_INPUTS, _HIDDEN), lecun(_INPUTS)),
            "b": ((_HIDDEN, _OUTPUTS), 1.0),
        }
        weights = gaussian(jax.random.fold_in(key, 1), specs)
        units = jnp.tanh(2.0 * points.inputs @ weights["a"])
        return TeacherPartition(train, evaluation, units @ weights["b"] / math.sqrt(_HIDDEN))

    def sample(partition: TeacherPartition, key: jax.Array) -> Sample:
        items, noise = draw(partition.train, key, batch)
        return Sample(items, choose(partition.train, noise), partition.answers[items])

    def read(points: Points, sample: Sample) -> Examples:
        inputs, noise = jnp.asarray(points.inputs), jnp.asarray(points.noise)
        return Examples(inputs[sample.item], sample.answers + _NOISE * noise[sample.noise])

    def loss(params: Weights, batch: Examples, key: jax.Array) -> jax.Array:
        del key
        return jnp.mean(jnp.square(network(params, batch.inputs) - batch.answers))

    def evaluate(
        params: Weights, points: Points, partition: TeacherPartition, key: jax.Array
    ) -> jax.Array:
        items = partition.evaluation
        examples = Examples(jnp.asarray(points.inputs)[items], partition.answers[items])
        return loss(params, examples, key)

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
