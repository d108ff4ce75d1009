"""An op: all that is known about one, in one value."""

from __future__ import annotations

import hashlib
import operator
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import reduce
from inspect import signature
from typing import Any, Literal

from primitives.kinds import Kind, join, meet
from primitives.text.formula import Formula
from primitives.text.notation import Form

Array = Any

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


@dataclass(frozen=True)
class Op:
    """One op of the language.

    `meaning(xp, *operands)` is elementwise; with a `reduction` it is `meaning(xp, totals,
    *operands)`, where `totals` are the reduced inputs. `operands` has one letter each: `x` for any
    kind, `s` for a scalar. `keeps_kind` says that the result has the operands' common kind;
    otherwise a reduction's result has the kind of its scope. A `matrixwise` meaning acts on the
    trailing matrix of each array instead of on each number.

    `latex` says how the op is written: a pattern with its operands at #1, #2, ... or a function
    that builds the formula from theirs; by default its operator, or else a call under its name.

    `code` is how exported Python writes the op: an expression over the operands `_0`, `_1`, `_2`
    and the namespace `xp`, right for numbers at which the op is NumPy's (where nothing is divided
    by zero). `torch` replaces it where torch has another name; `like` in it is a tensor of the
    wanted type. Ops over the whole model have no code: an export sums over its own arrays.

    Derived: `arity`; `scalar_places`, the operands that must be scalars; `results`, the result's
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
    latex: str | Callable[..., Formula] | None = None
    code: str | None = None
    torch: str | None = None
    arity: int = field(init=False)
    scalar_places: tuple[int, ...] = field(init=False)
    results: tuple[Kind, ...] = field(init=False)
    tag: int = field(init=False)

    def __post_init__(self) -> None:
        scope = Kind.TENSOR if self.reduction is None or self.keeps_kind else self.reduction.scope
        digest = hashlib.blake2b((self.same_as or self.name).encode(), digest_size=8).digest()
        derived: dict[str, Any] = {
            "arity": len(self.operands),
            "scalar_places": tuple(i for i, want in enumerate(self.operands) if want == "s"),
            "results": tuple(meet(common, scope) for common in Kind),
            "tag": int.from_bytes(digest, "little"),
        }
        if self.code is None and self.infix:
            derived["code"] = f"_0 {self.infix} _1"
        for name, value in derived.items():
            object.__setattr__(self, name, value)

    def result_kind(self, kinds: tuple[Kind, ...]) -> Kind:
        """The kind of the result for operands of `kinds`, which must suit `operands`."""
        return self.results[reduce(join, kinds, Kind.SCALAR)]

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

    @property
    def operand_names(self) -> tuple[str, ...]:
        """What the operands are called where the op is explained."""
        if callable(self.latex):
            return tuple(signature(self.latex).parameters)
        return ("x", "y", "z")[: self.arity]
