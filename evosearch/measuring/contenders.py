"""What an evaluation compares: programs, and optimizers of optax as they come.

Optax's optimizers that are no programs (they keep more than a program may, or evaluate at other
weights than they train) take part beside the zoo under names that begin with `optax:`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import jax
import optax

from evosearch.errors import UsageError
from primitives import Program, zoo
from primitives.text.wording import suggestion

PREFIX = "optax:"
PyTree = Any


@dataclass(frozen=True)
class Library:
    """An optimizer of optax.

    Attributes:
        name: with the prefix `optax:`.
        own_lr: the learning rate that a factor of 1 stands for.
        make: from a learning rate, a traced scalar, to the transformation.
        schedule: the schedule that it is meant for; None for whatever the others train with.
        weights: `(params, state) -> params` to evaluate, None for those it trains.
    """

    name: str
    own_lr: float
    make: Callable[[Any], optax.GradientTransformationExtraArgs]
    schedule: str | None = None
    weights: Callable[[PyTree, PyTree], PyTree] | None = None

    def __str__(self) -> str:
        return f"{self.name} of optax {optax.__version__}\n"

    def __reduce__(self) -> tuple[Any, ...]:
        return find, (self.name,)  # its functions cannot cross processes

    def rule(self) -> optax.GradientTransformationExtraArgs:
        """As the training loop takes it: `init(params, factor)`, `update(..., lr=, t=)`."""

        def init(params: PyTree, factor: jax.Array) -> PyTree:
            return factor, self.make(self.own_lr).init(params)

        def update(
            updates: PyTree, state: PyTree, params: PyTree = None, *, lr: Any, **extra: Any
        ) -> tuple[PyTree, PyTree]:
            factor, inner = state
            updates, inner = self.make(self.own_lr * factor * lr).update(updates, inner, params)
            return updates, (factor, inner)

        return optax.GradientTransformationExtraArgs(init, update)

    def evaluated(self, params: PyTree, state: PyTree) -> PyTree:
        """The weights to evaluate after a training that ended with `state`."""
        return params if self.weights is None else self.weights(params, state[1])


Contender: TypeAlias = Program | Library

_LIBRARY = {
    library.name: library
    for library in (
        Library("optax:sgd", 0.1, optax.sgd),
        Library("optax:adamw", 1e-3, lambda lr: optax.adamw(lr, weight_decay=0.01)),
        Library("optax:muon", 0.02, optax.contrib.muon),
        # Schedule-free averaging replaces the schedule (Defazio et al. 2024, arXiv 2405.15682).
        Library(
            "optax:schedule_free_adamw",
            1e-3,
            optax.contrib.schedule_free_adamw,
            schedule="constant",
            weights=lambda params, state: optax.contrib.schedule_free_eval_params(state, params),
        ),
    )
}


def optax_names() -> tuple[str, ...]:
    """The names of optax's optimizers that may take part."""
    return tuple(_LIBRARY)


def describe_contender(contender: Contender) -> str:
    """A contender in a few words: its name if it is a known one."""
    if isinstance(contender, Library):
        return contender.name
    known = (name for name in zoo.names() if zoo.load(name) == contender)
    return next(known, f"a program of {len(contender.statements)} statements")


def find(name: str) -> Contender:
    """The contender of that name: one of optax's, or a zoo program.

    Raises:
        UsageError: there is none.
    """
    if name.startswith(PREFIX):
        if name not in _LIBRARY:
            near = suggestion(name, _LIBRARY) or f"; there are {', '.join(_LIBRARY)}"
            raise UsageError(f"no optimizer {name!r}{near}")
        return _LIBRARY[name]
    try:
        return zoo.load(name)
    except zoo.UnknownProgramError as error:
        raise UsageError(str(error)) from None
