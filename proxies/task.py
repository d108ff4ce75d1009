"""What a task is: a model, its data, its loss and its honest evaluation, as pure functions."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

import jax

PyTree: TypeAlias = Any
"""Nested tuples, dicts and named tuples of arrays."""

Split: TypeAlias = Literal["search", "validation", "held-out", "diagnostic"]
"""Who may touch a task; `diagnostic` ones are for looking at, and see no data but a search's."""

SPLITS: tuple[Split, ...] = get_args(Split)

Files: TypeAlias = tuple[tuple[str, str], ...]
"""Absolute paths of files, each with the SHA-256 of its content in hexadecimal."""


@dataclass(frozen=True, eq=False)
class Task:
    """One thing to train, as pure functions of arrays and keys.

    Tasks compare and hash by identity, so that a task is a static argument of `jax.jit` and each
    one is compiled once. The arrays in `data` are host arrays, the same for all seeds; everything
    that a seed decides is drawn from the keys that the functions are handed.

    Attributes:
        name: unique among the registered tasks.
        split: which of the data's parts the task reads, and so who may train it.
        description: one line for people.
        metric: what `evaluate` returns, with its unit.
        steps: the training budget.
        data: arrays that `partition`, `batch` and `evaluate` read; an argument of compiled code,
            never a constant in it.
        init: `key -> params`.
        partition: `(data, key) -> partition`, a seed's own cut into training and evaluation items.
        sample: `(partition, key) -> sample`, all that is random about one training batch. The
            training loop draws the samples of all steps before the first one.
        batch: `(data, sample) -> batch`, without randomness.
        loss: `(params, batch, key) -> scalar`, positive.
        evaluate: `(params, data, partition, key) -> scalar`, positive, lower is better, on items
            that `sample` never returns.
        gradient: `(params, batch, key) -> (loss, gradients)`; None stands for the gradient of
            `loss`. For two-player losses and sampled gradients.
        source: the name of the data, in `proxies.data.SOURCES`; "none" for a formula.
        delay: gradients are those of the weights so many steps ago.
        files: what a user's task was made from, first the file that its name starts with; see
            `proxies.digest`.
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
            known = ", ".join(SPLITS)
            raise ValueError(
                f"task {self.name!r}: unknown split {self.split!r}; use one of {known}"
            )
        if self.steps < 1:
            raise ValueError(f"task {self.name!r}: steps is {self.steps}; use at least 1")
        if self.delay < 0:
            raise ValueError(f"task {self.name!r}: delay is {self.delay}; use at least 0")

    @property
    def params(self) -> int:
        """The number of weights, found without computing any."""
        weights = jax.eval_shape(self.init, jax.random.key(0))
        return sum(leaf.size for leaf in jax.tree.leaves(weights))
