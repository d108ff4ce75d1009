"""Ops of Chen et al. 2023 in the op table: arithmetic, norms and mathematical constants."""

from __future__ import annotations

from typing import Any

from primitives import interval
from primitives.interval import Interval, within
from primitives.kinds import Kind
from primitives.op import Array, ConstantRole, Namespace, Op, Reduction
from primitives.ops.functions import array_function, divide
from primitives.text.formula import ONE, Formula, formula
from primitives.text.notation import Symbol


def _constant(
    name: str, value: float, summary: str, notation: Formula, symbol: str | None = None
) -> Op:
    """Return an op without operands whose result is `value`."""
    meaning = lambda xp: xp.asarray(value, dtype=xp.float32)  # noqa: E731
    return Op(name, "", meaning, summary, latex=lambda: notation, symbol=symbol)


def _power(xp: Namespace, x: Array, y: Array) -> Array:
    return xp.where((x == 0) & (y < 0), 0.0, xp.power(x, y))


def interpolate(xp: Namespace, x: Array, y: Array, a: Array) -> Array:
    """Return (1 - a) x + a y."""
    return (1 - a) * x + a * y


def squares(xp: Namespace, x: Array, *_: Array) -> tuple[Array, ...]:
    """Return the squares of the first operand: the input of the reductions in norms."""
    return (x * x,)


def root_total(xp: Namespace, totals: tuple[Array], x: Array) -> Array:
    """Return the root of a sum or mean of squares."""
    return xp.sqrt(totals[0])


def _clip(xp: Namespace, totals: tuple[Array], x: Array, c: Array) -> Array:
    norm = xp.sqrt(totals[0])
    return xp.where(norm > c, x * divide(xp, c, norm), x)


def _cosine(xp: Namespace, totals: tuple[Array, Array, Array], *_: Array) -> Array:
    dot, xx, yy = totals
    return divide(xp, dot, xp.sqrt(xx) * xp.sqrt(yy))


def _interp_formula(x: Formula, y: Formula, a: Formula) -> Formula:
    return a * y + (1 - a) * x


def _clip_formula(x: Formula, c: Formula) -> Formula:
    return x * MINIMUM.formula(ONE, c / GLOBAL_NORM.formula(x))


INTERP_FACTS: dict[str, Any] = {
    "linear": (0, 1),
    "order": "linear",
    "interval": interval.interp,
    "noun": "average",
    "phrase": "an interpolation between {0} and {1}",
    "constants": (None, None, ConstantRole("weight", "weight of the second operand")),
    "latex": _interp_formula,
    "code": "_2 * _1 + (1 - _2) * _0",
    "python": "_2 * _1 + (1 - _2) * _0",
}
"""Facts about `interp` and its synonym `ema`."""


def _power_code_valid(x: Interval, y: Interval) -> bool:
    return x.nonzero or y.nonnegative


def _power_python_valid(x: Interval, y: Interval) -> bool:
    shrinks = x.high <= 1 and y.low >= 0
    return x.low >= 0 and (shrinks or (x.low >= 1 and y.high <= 0))


MAXIMUM = Op(
    "maximum",
    "xx",
    array_function("maximum"),
    "the larger",
    commutative=True,
    aliases=("max",),
    order="largest",
    interval=interval.maximum,
    noun="larger",
    phrase="the larger of {0} and {1}",
    constants=2 * (ConstantRole("floor", "lower bound", keeps_sign=True),),
    latex=r"\max(#1, #2)",
    code="xp.maximum(_0, _1)",
    python="max(_0, _1)",
)

MINIMUM = Op(
    "minimum",
    "xx",
    array_function("minimum"),
    "the smaller",
    commutative=True,
    aliases=("min",),
    order="largest",
    interval=interval.minimum,
    noun="smaller",
    phrase="the smaller of {0} and {1}",
    constants=2 * (ConstantRole("ceiling", "upper bound"),),
    latex=r"\min(#1, #2)",
    code="xp.minimum(_0, _1)",
    python="min(_0, _1)",
)

GLOBAL_NORM = Op(
    "global_norm",
    "x",
    root_total,
    "Euclidean norm of the whole model",
    reduction=Reduction(Kind.SCALAR, "sum", squares),
    keeps_kind=False,
    parity="even",
    of_number="abs",
    order="largest",
    interval=within(0.0),
    noun="length",
    phrase="the global norm of {0}",
    latex=r"\lVert #1 \rVert_{\mathrm{model}}",
)

ARITHMETIC = (
    Op(
        "add",
        "xx",
        lambda xp, x, y: x + y,
        "x + y",
        commutative=True,
        infix="+",
        linear=(0, 1),
        order="largest",
        interval=interval.add,
        noun="total",
        phrase="{0} plus {1}",
        constants=2 * (ConstantRole("offset", "added constant"),),
    ),
    Op(
        "subtract",
        "xx",
        lambda xp, x, y: x - y,
        "x - y",
        infix="-",
        linear=(0, 1),
        order="largest",
        interval=interval.subtract,
        noun="difference",
        phrase="{0} minus {1}",
        constants=2 * (ConstantRole("offset", "constant of a difference"),),
    ),
    Op(
        "multiply",
        "xx",
        lambda xp, x, y: x * y,
        "x * y",
        commutative=True,
        infix="*",
        order="sum",
        underflows=True,
        interval=interval.multiply,
        interval_of_same=interval.square,
        noun="product",
        phrase="{0} times {1}",
        constants=2 * (ConstantRole("scale", "a factor"),),
    ),
    Op(
        "divide",
        "xx",
        divide,
        "x / y, and 0 where y is 0",
        infix="/",
        order="difference",
        underflows=True,
        interval=interval.divide,
        noun="ratio",
        phrase="{0} over {1}",
        constants=(
            ConstantRole("numerator", "constant that is divided"),
            ConstantRole("divisor", "a divisor", keeps_sign=True),
        ),
        guarded_code="_divide(_0, _1)",
        code_valid=lambda x, y: y.nonzero,
        python_valid=lambda x, y: y.nonzero,
    ),
    Op(
        "power",
        "xx",
        _power,
        "x to the y, and 0 where x is 0 and y negative",
        order="largest",
        underflows=True,
        interval=interval.power,
        phrase="{0} to the power {1}",
        constants=(
            ConstantRole("base", "base of a power"),
            ConstantRole("exponent", "an exponent", keeps_sign=True),
        ),
        latex=lambda x, y: x**y,
        code="_0 ** _1",
        guarded_code="_power(_0, _1)",
        code_valid=_power_code_valid,
        python="_0 ** _1",
        python_valid=_power_python_valid,
    ),
    MAXIMUM,
    MINIMUM,
    Op(
        "norm",
        "x",
        root_total,
        "Euclidean norm of each array",
        reduction=Reduction(Kind.LEAF, "sum", squares),
        keeps_kind=False,
        parity="even",
        of_number="abs",
        order="largest",
        interval=within(0.0),
        noun="length",
        phrase="the norm of {0}",
        latex=r"\lVert #1 \rVert_2",
        code="xp.linalg.norm(_0)",
        torch="torch.linalg.vector_norm(_0)",
    ),
    GLOBAL_NORM,
    Op(
        "dot",
        "xx",
        lambda xp, totals, x, y: totals[0],
        "inner product over the whole model",
        commutative=True,
        reduction=Reduction(Kind.SCALAR, "sum", lambda xp, x, y: (x * y,)),
        keeps_kind=False,
        of_number="multiply",
        order="sum",
        interval=within(),
        interval_of_same=within(0.0),
        phrase="the inner product of {0} and {1}",
        latex=r"\langle #1, #2 \rangle",
    ),
    Op(
        "cosine_sim",
        "xx",
        _cosine,
        "cosine of the angle over the whole model; 0 for a zero vector",
        commutative=True,
        reduction=Reduction(Kind.SCALAR, "sum", lambda xp, x, y: (x * y, x * x, y * y)),
        keeps_kind=False,
        order="none",
        interval=within(-1.001, 1.001),
        phrase="the cosine between {0} and {1}",
        latex=r"\cos\angle(#1, #2)",
    ),
    Op(
        "clip",
        "xs",
        _clip,
        "x, scaled down to global norm c if its global norm is larger",
        reduction=Reduction(Kind.SCALAR, "sum", squares),
        order="largest",
        underflows=True,
        interval=interval.clip,
        noun="clipped",
        phrase="{0} clipped to a global norm of {1}",
        constants=(
            None,
            ConstantRole("max_norm", "the largest global norm", keeps_sign=True, always=True),
        ),
        latex=_clip_formula,
    ),
    Op("interp", "xxs", interpolate, "(1 - a) x + a y", aliases=("interpolate",), **INTERP_FACTS),
    _constant(
        "get_pi", 3.141592653589793, "the constant pi", Symbol(r"\pi", "pi", is_small=True), "_PI"
    ),
    _constant("get_e", 2.718281828459045, "the constant e", Symbol("e", "e", is_small=True), "_E"),
    _constant("get_eps", 1e-8, "the constant 1e-8", formula(1e-8)),
)
