"""Contenders of an evaluation: programs, and unmodified optimizers of optax.

Some optimizers of optax cannot be written as programs: they keep state that a program cannot keep,
or evaluate at other weights than the trained ones. Names of optimizers of optax begin with
`optax:`.
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
class OptaxOptimizer:
    """An optimizer of optax.

    Attributes:
        name: name with the prefix `optax:`.
        own_lr: default learning rate; tuned learning rates are factors on `own_lr`.
        make: function from a learning rate (a traced scalar) to the gradient transformation.
        schedule: name of the schedule that the optimizer needs; None for the evaluation's schedule.
        evaluation_weights: function `(params, state) -> params` that returns the weights to
            evaluate; None to evaluate the trained weights.
    """

    name: str
    own_lr: float
    make: Callable[[Any], optax.GradientTransformationExtraArgs]
    schedule: str | None = None
    evaluation_weights: Callable[[PyTree, PyTree], PyTree] | None = None

    def __str__(self) -> str:
        return f"{self.name} of optax {optax.__version__}\n"

    def __reduce__(self) -> tuple[Any, ...]:
        return find, (self.name,)  # pickled by name, since functions cannot be pickled

    def rule(self) -> optax.GradientTransformationExtraArgs:
        """Return the optimizer as an update rule for the training loop.

        The rule's functions are `init(params, lr_factor)` and
        `update(updates, state, params, lr=, t=)`.
        """

        def init(params: PyTree, lr_factor: jax.Array) -> PyTree:
            return lr_factor, self.make(self.own_lr).init(params)

        def update(
            updates: PyTree, state: PyTree, params: PyTree = None, *, lr: Any, **extra: Any
        ) -> tuple[PyTree, PyTree]:
            lr_factor, inner = state
            updates, inner = self.make(self.own_lr * lr_factor * lr).update(updates, inner, params)
            return updates, (lr_factor, inner)

        return optax.GradientTransformationExtraArgs(init, update)

    def evaluated(self, params: PyTree, state: PyTree) -> PyTree:
        """Return the weights to evaluate after a training that ended with `state`."""
        return (
            params if self.evaluation_weights is None else self.evaluation_weights(params, state[1])
        )


Contender: TypeAlias = Program | OptaxOptimizer

_OPTAX_OPTIMIZERS = {
    optimizer.name: optimizer
    for optimizer in (
        OptaxOptimizer("optax:sgd", 0.1, optax.sgd),
        OptaxOptimizer("optax:adamw", 1e-3, lambda lr: optax.adamw(lr, weight_decay=0.01)),
        OptaxOptimizer("optax:muon", 0.02, optax.contrib.muon),
        # Schedule-free averaging replaces the schedule (Defazio et al. 2024, arXiv 2405.15682).
        OptaxOptimizer(
            "optax:schedule_free_adamw",
            1e-3,
            optax.contrib.schedule_free_adamw,
            schedule="constant",
            evaluation_weights=lambda params, state: optax.contrib.schedule_free_eval_params(
                state, params
            ),
        ),
    )
}


def optax_names() -> tuple[str, ...]:
    """Return the names of the available optax optimizers."""
    return tuple(_OPTAX_OPTIMIZERS)


def describe_contender(contender: Contender) -> str:
    """Return the contender's name, or the number of statements of an unknown program."""
    if isinstance(contender, OptaxOptimizer):
        return contender.name
    names = (name for name in zoo.names() if zoo.load(name) == contender)
    return next(names, f"a program of {len(contender.statements)} statements")


def find(name: str) -> Contender:
    """Return the contender with this name, an optimizer of optax or a zoo program.

    Raises:
        UsageError: no contender has this name.
    """
    if name.startswith(PREFIX):
        if name not in _OPTAX_OPTIMIZERS:
            hint = (
                suggestion(name, _OPTAX_OPTIMIZERS) or f"; there are {', '.join(_OPTAX_OPTIMIZERS)}"
            )
            raise UsageError(f"no optimizer {name!r}{hint}")
        return _OPTAX_OPTIMIZERS[name]
    try:
        return zoo.load(name)
    except zoo.UnknownProgramError as error:
        raise UsageError(str(error)) from None
