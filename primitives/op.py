"""An op: all that is known about one, in one value."""

from __future__ import annotations

import hashlib
import operator
from collections.abc import Callable
from dataclasses import dataclass, field
from inspect import signature
from typing import Any, Literal, NamedTuple

from primitives.interval import Interval, Map
from primitives.kinds import Kind, common, meet
from primitives.text.formula import Formula
from primitives.text.notation import Form

Array = Any
Namespace = Any  # numpy or jax.numpy

_OPERATORS = {"+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv}


@dataclass(frozen=True)
class Reduction:
    """The reducing part of an op: `inputs(xp, *operands)` are summed or averaged over `scope`.

    Operands are first broadcast to their common kind; a kind smaller than tensor is reduced over
    its own numbers, not over its broadcast. `scope` SCALAR means the whole model.
    """

    scope: Kind
    how: Literal["sum", "mean"]
    inputs: Callable[..., tuple[Array, ...]]


class ConstantRole(NamedTuple):
    """What a constant in an operand's place is: a hyperparameter's name, and its role in words.

    `keeps_sign`: other values have the same sign. `always`: 0, 1/2, 1 and 2 are named too, which
    elsewhere stay numbers, since halves and doubles are seldom tuned.
    """

    name: str
    words: str
    keeps_sign: bool = False
    always: bool = False


@dataclass(frozen=True, slots=True)
class Op:
    """One op of the language: all that any part of the project knows about it.

    A consumer refuses an op by its name if its row lacks a fact that the consumer needs, or does
    without what the fact would allow. It never guesses.

    Meaning:
        operands: a letter for each operand: `x` for any kind, `s` for a scalar.
        meaning: `meaning(xp, *operands)` is elementwise; with a `reduction` it is
            `meaning(xp, totals, *operands)`, where `totals` are the reduced inputs.
        keeps_kind: the result has the operands' common kind; otherwise the result of a reduction
            has the kind of its scope.
        matrixwise: `meaning` acts on the trailing matrix of each array, not on each number.

    Mathematics:
        parity: f(-x) is f(x), or -f(x).
        inverse: the op g for which f(g(x)) = x wherever that is finite.
        exponent: the op is |x| to that power, with the sign of x if its parity is odd.
        of_number: the op that a reduction of a single number is; `identity` for a mean.
        linear: the operands in which, together, the op is linear.
        order: how the power of the gradient that the result is proportional to follows from those
            of the operands; `linear` for the largest of the linear ones.
        underflows: the result may be 0 although no operand is.
        interval: the interval of the results, from those of the operands.
        interval_of_same: the same, if both operands are one value.

    Words:
        noun: names a result, in simplified programs and in exported files.
        phrase: describes a result, with the operands at {0}, {1}, ...
        constants: for each operand, what a constant in its place is.
        symbol: what exported files call a constant of nature; any other number that an op gives is
            a hyperparameter.
        latex: a pattern with the operands at #1, #2, ..., or a function that builds the formula
            from theirs; by default the op's operator, or a call under its name.

    Code, as exported files have it:
        code: a Python expression over the operands `_0`, `_1`, `_2` and the namespace `xp`. Ops
            over the whole model have none: an export sums over its own arrays.
        torch: replaces it where PyTorch has another name; `like` is a tensor of the wanted type.
        code_valid: whether `code` is right for operands in some intervals; a divisor may be zero.
        guarded_code: replaces both elsewhere; calls a helper.
        python: the op on Python's numbers.
        python_valid: whether `python`, for operands in some intervals, neither raises an exception
            nor leaves the real numbers.

    Derived: `arity`; `scalar_operands`, the operands that must be scalars; `results`, the result's
    kind for each common kind of the operands; `tag`, a stable hash of what the op means.
    """

    name: str
    operands: str
    meaning: Callable[..., Array]
    summary: str
    op_set: Literal["paper", "full"] = "paper"
    commutative: bool = False
    infix: str | None = None
    aliases: tuple[str, ...] = ()
    same_as: str | None = None
    reduction: Reduction | None = None
    keeps_kind: bool = True
    matrixwise: bool = False
    parity: Literal["even", "odd"] | None = None
    inverse: str | None = None
    exponent: float | None = None
    of_number: str | None = None
    linear: tuple[int, ...] = ()
    order: Literal["largest", "linear", "sum", "difference", "none"] | None = None
    underflows: bool = False
    interval: Map | None = None
    interval_of_same: Callable[[Interval], Interval] | None = None
    noun: str | None = None
    phrase: str | None = None
    constants: tuple[ConstantRole | None, ...] = ()
    symbol: str | None = None
    latex: str | Callable[..., Formula] | None = None
    code: str | None = None
    torch: str | None = None
    guarded_code: str | None = None
    code_valid: Callable[..., bool] = lambda *operands: True
    python: str | None = None
    python_valid: Callable[..., bool] = lambda *operands: True
    arity: int = field(init=False)
    scalar_operands: tuple[int, ...] = field(init=False)
    results: tuple[Kind, ...] = field(init=False)
    tag: int = field(init=False)

    def __post_init__(self) -> None:
        scope = Kind.TENSOR if self.reduction is None or self.keeps_kind else self.reduction.scope
        digest = hashlib.blake2b((self.same_as or self.name).encode(), digest_size=8).digest()
        derived: dict[str, Any] = {
            "arity": len(self.operands),
            "scalar_operands": tuple(i for i, want in enumerate(self.operands) if want == "s"),
            "results": tuple(meet(kind, scope) for kind in Kind),
            "tag": int.from_bytes(digest, "little"),
        }
        if self.code is None and self.infix:
            derived["code"] = derived["python"] = f"_0 {self.infix} _1"
        for name, value in derived.items():
            object.__setattr__(self, name, value)

    def result_kind(self, kinds: tuple[Kind, ...]) -> Kind:
        """The kind of the result for operands of `kinds`, which must suit `operands`."""
        return self.results[common(kinds)]

    def of_numbers(self, xp: Namespace, *operands: Array) -> Array:
        """The op on operands of one number each, over which a sum or mean is the number itself."""
        totals = (self.reduction.inputs(xp, *operands),) if self.reduction else ()
        return self.meaning(xp, *totals, *operands)

    @property
    def mixes_numbers(self) -> bool:
        """Whether a result depends on several numbers of an operand, and on how many there are."""
        return self.reduction is not None or self.matrixwise

    def formula(self, *operands: Formula) -> Formula:
        """How a person writes the op's result."""
        if callable(self.latex):
            return self.latex(*operands)
        if self.infix:
            written: Formula = _OPERATORS[self.infix](*operands)
            return written
        places = ", ".join(f"#{place}" for place in range(1, self.arity + 1))
        name = self.name.replace("_", r"\_")
        pattern = self.latex or rf"\operatorname{{{name}}}({places})"
        return Form(pattern, self.name, operands)

    def constant_role(self, operand: int) -> ConstantRole | None:
        """What a constant in the place of an operand is."""
        return self.constants[operand] if operand < len(self.constants) else None

    @property
    def operand_names(self) -> tuple[str, ...]:
        """What the operands are called where the op is explained."""
        if callable(self.latex):
            return tuple(signature(self.latex).parameters)
        return ("x", "y", "z")[: self.arity]
