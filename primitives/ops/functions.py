"""Ops of Chen et al. 2023 in the op table: elementwise functions of one operand."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from primitives import interval
from primitives.interval import rising, within
from primitives.op import Array, Namespace, Op


def array_function(function: str) -> Callable[..., Array]:
    """Return the meaning of an op that NumPy and JAX provide under the given name."""
    return lambda xp, *operands: getattr(xp, function)(*operands)


def divide(xp: Namespace, x: Array, y: Array) -> Array:
    """Return x / y, and 0 where y is 0."""
    return xp.where(y == 0, 0.0, x / y)


def _unary(
    name: str,
    summary: str,
    meaning: Callable[..., Array] | None = None,
    *,
    code: str | None = None,
    **facts: Any,
) -> Op:
    """Return an elementwise op of one operand, by default the array function of the same name."""
    meaning = meaning or array_function(name)
    facts = {"order": "largest", **facts}
    return Op(name, "x", meaning, summary, code=code or f"xp.{name}(_0)", **facts)


EXP = _unary(
    "exp",
    "e to the x",
    inverse="log",
    underflows=True,
    interval=rising(math.exp, 0.0),
    latex=r"\exp(#1)",
)

LOG = _unary(
    "log",
    "natural logarithm; NaN below 0",
    inverse="exp",
    interval=rising(math.log),
    latex=r"\log(#1)",
)

FUNCTIONS = (
    _unary(
        "abs",
        "absolute value",
        parity="even",
        interval=interval.absolute,
        noun="size",
        phrase="the size of {0}",
        latex=r"\lvert #1 \rvert",
    ),
    _unary(
        "cos",
        "cosine",
        parity="even",
        inverse="arccos",
        interval=within(-1.0, 1.0),
        latex=r"\cos(#1)",
    ),
    _unary(
        "sin",
        "sine",
        parity="odd",
        inverse="arcsin",
        interval=within(-1.0, 1.0),
        latex=r"\sin(#1)",
    ),
    _unary("tan", "tangent", parity="odd", inverse="arctan", latex=r"\tan(#1)"),
    _unary(
        "arcsin",
        "inverse sine; NaN outside [-1, 1]",
        parity="odd",
        interval=within(-1.5708, 1.5708),
        latex=r"\arcsin(#1)",
    ),
    _unary(
        "arccos",
        "inverse cosine; NaN outside [-1, 1]",
        interval=within(0.0, 3.1416),
        latex=r"\arccos(#1)",
    ),
    _unary(
        "arctan",
        "inverse tangent",
        parity="odd",
        interval=rising(math.atan, -1.5708, 1.5708),
        latex=r"\arctan(#1)",
    ),
    EXP,
    LOG,
    _unary(
        "sinh",
        "hyperbolic sine",
        parity="odd",
        inverse="arcsinh",
        interval=rising(math.sinh),
        latex=r"\sinh(#1)",
    ),
    _unary(
        "cosh",
        "hyperbolic cosine",
        parity="even",
        inverse="arccosh",
        interval=within(1.0),
        latex=r"\cosh(#1)",
    ),
    _unary(
        "tanh",
        "hyperbolic tangent",
        parity="odd",
        inverse="arctanh",
        interval=rising(math.tanh, -1.0, 1.0),
        latex=r"\tanh(#1)",
    ),
    _unary(
        "arcsinh",
        "inverse hyperbolic sine",
        parity="odd",
        inverse="sinh",
        interval=rising(math.asinh),
        latex=r"\operatorname{arsinh}(#1)",
    ),
    _unary(
        "arccosh",
        "inverse hyperbolic cosine; NaN below 1",
        interval=within(0.0),
        latex=r"\operatorname{arcosh}(#1)",
    ),
    _unary(
        "arctanh",
        "inverse hyperbolic tangent; NaN outside [-1, 1]",
        parity="odd",
        inverse="tanh",
        interval=rising(math.atanh),
        latex=r"\operatorname{artanh}(#1)",
    ),
    _unary(
        "sign",
        "-1, 0 or 1",
        parity="odd",
        order="none",
        interval=interval.sign,
        noun="direction",
        phrase="the sign of {0}",
    ),
    _unary(
        "exp2",
        "2 to the x",
        inverse="log2",
        underflows=True,
        interval=rising(lambda x: math.pow(2.0, x), 0.0),
        latex=lambda x: 2**x,
    ),
    _unary(
        "exp10",
        "10 to the x",
        lambda xp, x: xp.power(xp.asarray(10.0, dtype=x.dtype), x),
        inverse="log10",
        underflows=True,
        interval=rising(lambda x: math.pow(10.0, x), 0.0),
        latex=lambda x: 10**x,
        code="xp.power(10.0, _0)",
        torch="torch.pow(10.0, _0)",
    ),
    _unary(
        "expm1",
        "e to the x, minus 1",
        inverse="log1p",
        interval=rising(math.expm1, -1.0),
        latex=lambda x: EXP.formula(x) - 1,
    ),
    _unary(
        "log10",
        "base-10 logarithm; NaN below 0",
        inverse="exp10",
        interval=rising(math.log10),
        latex=r"\log_{10}(#1)",
    ),
    _unary(
        "log2",
        "base-2 logarithm; NaN below 0",
        inverse="exp2",
        interval=rising(math.log2),
        latex=r"\log_2(#1)",
    ),
    _unary(
        "log1p",
        "natural logarithm of 1 + x; NaN below -1",
        inverse="expm1",
        interval=rising(math.log1p),
        latex=lambda x: LOG.formula(1 + x),
    ),
    _unary(
        "square",
        "x * x",
        parity="even",
        inverse="sqrt",
        exponent=2.0,
        underflows=True,
        interval=interval.square,
        noun="squared",
        phrase="the square of {0}",
        latex=lambda x: x**2,
    ),
    _unary(
        "sqrt",
        "square root; NaN below 0",
        exponent=1 / 2,
        interval=interval.square_root,
        noun="root",
        phrase="the root of {0}",
        latex=r"\sqrt{#1}",
        python="_0 ** 0.5",
        python_valid=lambda x: x.nonnegative,
    ),
    _unary(
        "cube",
        "x * x * x",
        lambda xp, x: x * x * x,
        parity="odd",
        inverse="cbrt",
        exponent=3.0,
        underflows=True,
        interval=rising(lambda x: x * x * x),
        phrase="the cube of {0}",
        latex=lambda x: x**3,
        code="_0 ** 3",
    ),
    _unary(
        "cbrt",
        "cube root",
        parity="odd",
        inverse="cube",
        exponent=1 / 3,
        interval=rising(lambda x: math.copysign(abs(x) ** (1 / 3), x)),
        phrase="the cube root of {0}",
        latex=r"\sqrt[3]{#1}",
        torch="_cbrt(_0)",
    ),
    _unary(
        "reciprocal",
        "1 / x, and 0 where x is 0",
        lambda xp, x: divide(xp, 1.0, x),
        inverse="reciprocal",
        exponent=-1.0,
        underflows=True,
        interval=interval.inverse,
        noun="inverse",
        phrase="one over {0}",
        latex=lambda x: 1 / x,
        code="1 / _0",
        guarded_code="_divide(1.0, _0)",
        code_valid=lambda x: x.nonzero,
    ),
)
