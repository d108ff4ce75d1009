"""The task: a model, its data, its loss and its evaluation on unseen items, as pure functions."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

import jax

PyTree: TypeAlias = Any
"""Nested tuples, dicts and named tuples of arrays."""

Split: TypeAlias = Literal["search", "validation", "held-out", "diagnostic"]
"""The group of a task: a search trains on `search` tasks only. `diagnostic` tasks illustrate single
difficulties, and read the data of the search part."""

SPLITS: tuple[Split, ...] = get_args(Split)

Files: TypeAlias = tuple[tuple[str, str], ...]
"""Absolute paths of files, each with the SHA-256 digest of its content in hexadecimal."""


@dataclass(frozen=True, eq=False)
class Task:
    """A task that an optimizer trains, as pure functions of arrays and keys.

    Tasks compare and hash by identity, so a task can be a static argument of `jax.jit` and is
    compiled once. The arrays in `data` are host arrays, equal for all seeds. Everything random is
    drawn from the keys that the functions receive.

    >>> import proxies
    >>> task = proxies.load("digits-mlp")
    >>> task.split, task.steps, task.params
    ('search', 200, 3010)

    Attributes:
        name: unique among the registered tasks.
        split: the group of the task, which decides the part of the data that it reads.
        description: one line that says what the task is.
        metric: what `evaluate` returns, with its unit.
        steps: number of training steps.
        data: arrays that `partition`, `batch` and `evaluate` read. Compiled code takes them as an
            argument, not as a constant.
        init: `key -> params`.
        partition: `(data, key) -> partition`, the seed's partition of the items into training and
            evaluation items.
        sample: `(partition, key) -> sample`, the random numbers of one training batch. The training
            loop draws the samples of all steps before the first step.
        batch: `(data, sample) -> batch`, without randomness.
        loss: `(params, batch, key) -> scalar`, positive.
        evaluate: `(params, data, partition, key) -> scalar`, positive, lower is better, on items
            that `sample` never returns.
        gradient: `(params, batch, key) -> (loss, gradients)`, for two-player losses and sampled
            gradients; None uses the gradient of `loss`.
        source: the name of the data, in `proxies.data.SOURCES`; "none" for a formula.
        delay: number of steps by which gradients are delayed.
        files: the files that a user task was made from, beginning with the one in its name; see
            `proxies.digest`.

    Raises:
        ValueError: the split is unknown, `steps` is below 1 or `delay` is negative.
    """

    name: str
    split: Split
    description: str
    metric: str
    steps: int
    data: PyTree
    init: Callable[[jax.Array], PyTree]
    partition: Callable[[PyTree, jax.Array], PyTree]
    sample: Callable[[PyTree, jax.Array], PyTree]
    batch: Callable[[PyTree, PyTree], PyTree]
    loss: Callable[[PyTree, PyTree, jax.Array], jax.Array]
    evaluate: Callable[[PyTree, PyTree, PyTree, jax.Array], jax.Array]
    gradient: Callable[[PyTree, PyTree, jax.Array], tuple[jax.Array, PyTree]] | None = None
    source: str = "none"
    delay: int = 0
    files: Files = ()

    def __post_init__(self) -> None:
        if self.split not in SPLITS:
            raise ValueError(
                f"task {self.name!r}: unknown split {self.split!r}; use one of {', '.join(SPLITS)}"
            )
        if self.steps < 1:
            raise ValueError(f"task {self.name!r}: steps is {self.steps}; use at least 1")
        if self.delay < 0:
            raise ValueError(f"task {self.name!r}: delay is {self.delay}; use at least 0")

    @property
    def params(self) -> int:
        """Number of weights, derived from shapes only."""
        weights = jax.eval_shape(self.init, jax.random.key(0))
        return sum(leaf.size for leaf in jax.tree.leaves(weights))
