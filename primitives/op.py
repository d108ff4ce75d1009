"""The class `Op`: one row of the op table, with all facts about one op."""

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
from primitives.text.notation import Function

Array = Any
Namespace = Any  # numpy or jax.numpy

_OPERATORS = {"+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv}


@dataclass(frozen=True)
class Reduction:
    """The reduction that an op contains, such as the sum of squares in a norm.

    Operands are first broadcast to their common kind. A value smaller than a tensor is reduced over
    its own numbers, each counted once, and not over its broadcast.

    Attributes:
        kind: kind of the result; SCALAR reduces over the whole model.
        method: whether inputs are summed or averaged.
        inputs: `inputs(xp, *operands)` returns the arrays to reduce.
    """

    kind: Kind
    method: Literal["sum", "mean"]
    inputs: Callable[..., tuple[Array, ...]]


class ConstantRole(NamedTuple):
    """Name and meaning of the hyperparameter that replaces a constant operand in exported files.

    Attributes:
        name: name of the hyperparameter.
        description: meaning of the hyperparameter, for documentation.
        keeps_sign: whether the hyperparameter may only take values with the sign of the constant.
        always: whether the constants 0, 1/2, 1 and 2 become hyperparameters too. By default these
            constants stay numbers, because they are seldom tuned.
    """

    name: str
    description: str
    keeps_sign: bool = False
    always: bool = False


class MatrixIteration(NamedTuple):
    """An iteration that maps the singular values of a matrix.

    The matrix is divided by its Frobenius norm. Each step then replaces the matrix `u` by
    `a u + (b u u^T + c (u u^T)^2) u`, so that a singular value s becomes a s + b s^3 + c s^5.

    Attributes:
        coefficients: a, b and c.
        steps: number of steps.
    """

    coefficients: tuple[float, float, float]
    steps: int


@dataclass(frozen=True, slots=True)
class Op:
    """One op of the language, with all facts that the project uses about the op.

    Only the attributes `name`, `operands`, `meaning` and `summary` are required. Code that needs a
    missing fact raises an error that names the op, or skips an optimization; no code guesses facts.

    Identity:
        name: name in program text.
        summary: meaning in one line, for lists of ops.
        op_set: `paper` for the ops of Chen et al. 2023, `full` for the rest.
        infix: operator that replaces a call in program text, such as `+`.
        aliases: other names that the parser accepts.
        same_as: name of the op that this op is a synonym of.

    Meaning:
        operands: one letter per operand: `x` for any kind, `s` for a scalar.
        meaning: `meaning(xp, *operands)`, elementwise. With a `reduction` it is
            `meaning(xp, totals, *operands)`, where `totals` are the reduced inputs.
        commutative: whether exchanging the two operands leaves the result unchanged.
        reduction: the sum or mean that `meaning` uses, if any.
        keeps_kind: whether the result has the common kind of the operands. If not, the result has
            at most the kind of the reduction.
        matrixwise: whether `meaning` acts on the trailing matrix of each array, not elementwise.
        iteration: the iteration that a matrixwise `meaning` computes, for engines that run it
            without matrix products of a library.

    Mathematics:
        parity: `even` if f(-x) = f(x), `odd` if f(-x) = -f(x).
        inverse: name of the op g with f(g(x)) = x wherever g(x) is finite.
        exponent: p if the op computes |x|^p, or |x|^p with the sign of x if `parity` is odd.
        of_number: for a reduction, name of the op with the same result on a single number, such as
            `identity` for a mean.
        linear: indices of the operands in which the op is jointly linear.
        order: rule for the order of the result. The order of a value is the power of the gradient
            that the value is proportional to. The rules are `largest`, `sum` or `difference` of the
            operands' orders; `linear` for the largest order of the operands in `linear`; `none` for
            order 0.
        underflows: whether the result may be 0 although no operand is 0.
        interval: interval map of the op.
        interval_of_same: tighter interval map for the case that both operands are the same value.

    Words:
        noun: name of a variable that holds a result, in simplified programs and exported files.
        phrase: description of a result, with the operands at {0}, {1}, ...
        constants: for each operand, the role of a constant as this operand; None if it has no role.
        symbol: name in exported files of a mathematical constant such as pi. An op without operands
            and without a symbol becomes a hyperparameter.
        latex: LaTeX pattern with the operands at #1, #2, ..., or a function from the operands'
            formulas to the formula. By default the infix operator or a call of the op's name.

    Code in exported files:
        code: Python expression over the operands `_0`, `_1`, `_2` and the namespace `xp`. Ops that
            reduce over the whole model have no `code`, because exported files loop over the arrays.
        torch: PyTorch expression, if it differs from `code`; `like` is a tensor with the right
            dtype.
        code_valid: whether `code` is correct for operands in the given intervals. Division, for
            example, is not correct for a divisor that may be zero.
        guarded_code: expression for operands for which `code` is not valid. The expression calls a
            function that the exported file defines.
        python: expression for Python floats.
        python_valid: whether `python` gives a real number without an exception for operands in the
            given intervals.

    Derived attributes:
        arity: number of operands.
        scalar_operands: indices of the operands that must be scalars.
        results: kind of the result for each common kind of the operands, indexed by that kind.
        tag: stable 64-bit hash of the op's meaning.

    Example:
        >>> from primitives import OPS
        >>> OPS["clip"].summary
        'x, scaled down to global norm c if its global norm is larger'
        >>> OPS["clip"].arity, OPS["clip"].scalar_operands
        (2, (1,))
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
    iteration: MatrixIteration | None = None
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
        max_kind = Kind.TENSOR if self.reduction is None or self.keeps_kind else self.reduction.kind
        digest = hashlib.blake2b((self.same_as or self.name).encode(), digest_size=8).digest()
        derived: dict[str, Any] = {
            "arity": len(self.operands),
            "scalar_operands": tuple(i for i, type_ in enumerate(self.operands) if type_ == "s"),
            "results": tuple(meet(kind, max_kind) for kind in Kind),
            "tag": int.from_bytes(digest, "little"),
        }
        if self.code is None and self.infix:
            derived["code"] = derived["python"] = f"_0 {self.infix} _1"
        for name, value in derived.items():
            object.__setattr__(self, name, value)

    def result_kind(self, kinds: tuple[Kind, ...]) -> Kind:
        """Return the kind of the result for operands of the given kinds.

        The caller must have checked the kinds against `operands`.
        """
        return self.results[common(kinds)]

    def of_numbers(self, xp: Namespace, *operands: Array) -> Array:
        """Apply the op to single numbers; a sum or mean over one number is the number.

        Args:
            xp: `numpy` or `jax.numpy`.
            *operands: arrays of equal shape, each entry of which is treated as a separate model.
        """
        totals = (self.reduction.inputs(xp, *operands),) if self.reduction else ()
        return self.meaning(xp, *totals, *operands)

    @property
    def mixes_numbers(self) -> bool:
        """Whether one number of the result depends on several numbers of an operand."""
        return self.reduction is not None or self.matrixwise

    def formula(self, *operands: Formula) -> Formula:
        """Return the formula of the op's result, given the formulas of its operands."""
        if callable(self.latex):
            return self.latex(*operands)
        if self.infix:
            result: Formula = _OPERATORS[self.infix](*operands)
            return result
        placeholders = ", ".join(f"#{number}" for number in range(1, self.arity + 1))
        name = self.name.replace("_", r"\_")
        pattern = self.latex or rf"\operatorname{{{name}}}({placeholders})"
        return Function(pattern, self.name, operands)

    def constant_role(self, operand: int) -> ConstantRole | None:
        """Return the role of a constant as the operand with this index, or None."""
        return self.constants[operand] if operand < len(self.constants) else None

    @property
    def operand_names(self) -> tuple[str, ...]:
        """Names of the operands in documentation of the op."""
        if callable(self.latex):
            return tuple(signature(self.latex).parameters)
        return ("x", "y", "z")[: self.arity]
