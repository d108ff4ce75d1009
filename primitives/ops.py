"""The op table: one row knows everything about an op.

The parser, the kind check, both interpreters, mutation, the command line and the tests iterate this
table; nothing else lists ops. To add an op, add one row.

A meaning is written once, against an array namespace `xp`: with `jax.numpy` it is what programs
compute, with `numpy` and float64 it is the reference that tests compare with. Meanings are NumPy's,
with one exception: division by zero gives zero (Chen et al. 2023, arXiv 2302.06675, omit epsilon,
and a weight that has had no gradient would otherwise turn into NaN).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from primitives.kinds import AXES, Kind
from primitives.op import Op, Reduction
from primitives.text.formula import ONE, Formula, formula
from primitives.text.notation import Cases, Relation, Symbol

Array = Any
Namespace = Any  # numpy or jax.numpy


def _named(function: str) -> Callable[..., Array]:
    return lambda xp, *operands: getattr(xp, function)(*operands)


def _unary(
    name: str,
    summary: str,
    meaning: Callable[..., Array] | None = None,
    *,
    latex: str | Callable[..., Formula] | None = None,
    code: str | None = None,
    torch: str | None = None,
) -> Op:
    meaning = meaning or _named(name)
    code = code or f"xp.{name}(_0)"
    return Op(name, "x", meaning, summary, latex=latex, code=code, torch=torch)


def _constant(name: str, value: float, summary: str, written: Formula) -> Op:
    meaning = lambda xp: xp.asarray(value, dtype=xp.float32)  # noqa: E731
    return Op(name, "", meaning, summary, latex=lambda: written)


def divide(xp: Namespace, x: Array, y: Array) -> Array:
    """x / y, and 0 where y is 0."""
    return xp.where(y == 0, 0.0, x / y)


def _power(xp: Namespace, x: Array, y: Array) -> Array:
    return xp.where((x == 0) & (y < 0), 0.0, xp.power(x, y))


def _interp(xp: Namespace, x: Array, y: Array, a: Array) -> Array:
    return (1 - a) * x + a * y


def _squared(xp: Namespace, x: Array, *_: Array) -> tuple[Array, ...]:
    return (x * x,)


def _clip(xp: Namespace, totals: tuple[Array], x: Array, c: Array) -> Array:
    norm = xp.sqrt(totals[0])
    return xp.where(norm > c, x * divide(xp, c, norm), x)


def _cosine(xp: Namespace, totals: tuple[Array, Array, Array], *_: Array) -> Array:
    dot, xx, yy = totals
    return divide(xp, dot, xp.sqrt(xx) * xp.sqrt(yy))


def _clip_by_rms(xp: Namespace, totals: tuple[Array], x: Array, c: Array) -> Array:
    return divide(xp, x, xp.maximum(1.0, divide(xp, xp.sqrt(totals[0]), c)))


def _clamp(xp: Namespace, x: Array, low: Array, high: Array) -> Array:
    return xp.minimum(xp.maximum(x, low), high)


def _mod(xp: Namespace, x: Array, y: Array) -> Array:
    return xp.where(y == 0, 0.0, xp.mod(x, y))


_NEWTON_SCHULZ = (3.4445, -4.775, 2.0315)
"""The quintic of Jordan et al. 2024 (Muon), which brings singular values near 1 in five steps."""


def _orthogonalize(xp: Namespace, x: Array) -> Array:
    if x.ndim < 2:
        return _orthogonalize(xp, x.reshape(1, 1)).reshape(x.shape)
    wide = x if x.shape[-2] <= x.shape[-1] else xp.swapaxes(x, -1, -2)
    u = divide(xp, wide, xp.sqrt(xp.sum(wide * wide, axis=(-2, -1), keepdims=True)))
    a, b, c = _NEWTON_SCHULZ
    for _ in range(5):
        gram = u @ xp.swapaxes(u, -1, -2)
        u = a * u + (b * gram + c * gram @ gram) @ u
    return u if wide is x else xp.swapaxes(u, -1, -2)


def _mean(name: str, scope: Kind, summary: str, latex: str | None = None) -> Op:
    axes = AXES[scope]
    axis = axes[0] if axes and len(axes) == 1 else axes
    return Op(
        name,
        "x",
        lambda xp, totals, x: totals[0],
        summary,
        op_set="full",
        reduction=Reduction(scope, "mean", lambda xp, x: (x,)),
        keeps_kind=False,
        latex=latex,
        code="xp.mean(_0)" if axes is None else f"xp.mean(_0, axis={axis}, keepdims=True)",
        torch=None if axes is None else f"torch.mean(_0, dim={axis}, keepdim=True)",
    )


def _root_total(xp: Namespace, totals: tuple[Array], x: Array) -> Array:
    return xp.sqrt(totals[0])


def _interp_formula(x: Formula, y: Formula, a: Formula) -> Formula:
    return a * y + (1 - a) * x


def _clip_formula(x: Formula, c: Formula) -> Formula:
    return x * OPS["minimum"].formula(ONE, c / OPS["global_norm"].formula(x))


def _clip_by_rms_formula(x: Formula, c: Formula) -> Formula:
    return x / OPS["maximum"].formula(ONE, OPS["rms"].formula(x) / c)


def _clamp_formula(x: Formula, low: Formula, high: Formula) -> Formula:
    return OPS["minimum"].formula(OPS["maximum"].formula(x, low), high)


_INTERP_CODE = "_2 * _1 + (1 - _2) * _0"

_TABLE = (
    _unary("abs", "absolute value", latex=r"\lvert #1 \rvert"),
    _unary("cos", "cosine", latex=r"\cos(#1)"),
    _unary("sin", "sine", latex=r"\sin(#1)"),
    _unary("tan", "tangent", latex=r"\tan(#1)"),
    _unary("arcsin", "inverse sine; NaN outside [-1, 1]", latex=r"\arcsin(#1)"),
    _unary("arccos", "inverse cosine; NaN outside [-1, 1]", latex=r"\arccos(#1)"),
    _unary("arctan", "inverse tangent", latex=r"\arctan(#1)"),
    _unary("exp", "e to the x", latex=r"\exp(#1)"),
    _unary("log", "natural logarithm; NaN below 0", latex=r"\log(#1)"),
    _unary("sinh", "hyperbolic sine", latex=r"\sinh(#1)"),
    _unary("cosh", "hyperbolic cosine", latex=r"\cosh(#1)"),
    _unary("tanh", "hyperbolic tangent", latex=r"\tanh(#1)"),
    _unary("arcsinh", "inverse hyperbolic sine", latex=r"\operatorname{arsinh}(#1)"),
    _unary("arccosh", "inverse hyperbolic cosine; NaN below 1", latex=r"\operatorname{arcosh}(#1)"),
    _unary(
        "arctanh",
        "inverse hyperbolic tangent; NaN outside [-1, 1]",
        latex=r"\operatorname{artanh}(#1)",
    ),
    _unary("sign", "-1, 0 or 1"),
    _unary("exp2", "2 to the x", latex=lambda x: 2**x),
    _unary(
        "exp10",
        "10 to the x",
        lambda xp, x: xp.power(xp.asarray(10.0, dtype=x.dtype), x),
        latex=lambda x: 10**x,
        code="xp.power(10.0, _0)",
        torch="torch.pow(10.0, _0)",
    ),
    _unary("expm1", "e to the x, minus 1", latex=lambda x: OPS["exp"].formula(x) - 1),
    _unary("log10", "base-10 logarithm; NaN below 0", latex=r"\log_{10}(#1)"),
    _unary("log2", "base-2 logarithm; NaN below 0", latex=r"\log_2(#1)"),
    _unary(
        "log1p",
        "natural logarithm of 1 + x; NaN below -1",
        latex=lambda x: OPS["log"].formula(1 + x),
    ),
    _unary("square", "x * x", latex=lambda x: x**2),
    _unary("sqrt", "square root; NaN below 0", latex=r"\sqrt{#1}"),
    _unary("cube", "x * x * x", lambda xp, x: x * x * x, latex=lambda x: x**3, code="_0 ** 3"),
    _unary(
        "cbrt",
        "cube root",
        latex=r"\sqrt[3]{#1}",
        torch="_cbrt(_0)",
    ),
    _unary(
        "reciprocal",
        "1 / x, and 0 where x is 0",
        lambda xp, x: divide(xp, 1.0, x),
        latex=lambda x: 1 / x,
        code="1 / _0",
    ),
    Op("add", "xx", lambda xp, x, y: x + y, "x + y", commutative=True, infix="+"),
    Op("subtract", "xx", lambda xp, x, y: x - y, "x - y", infix="-"),
    Op("multiply", "xx", lambda xp, x, y: x * y, "x * y", commutative=True, infix="*"),
    Op("divide", "xx", divide, "x / y, and 0 where y is 0", infix="/"),
    Op(
        "power",
        "xx",
        _power,
        "x to the y, and 0 where x is 0 and y negative",
        latex=lambda x, y: x**y,
        code="_0 ** _1",
    ),
    Op(
        "maximum",
        "xx",
        _named("maximum"),
        "the larger",
        commutative=True,
        aliases=("max",),
        latex=r"\max(#1, #2)",
        code="xp.maximum(_0, _1)",
    ),
    Op(
        "minimum",
        "xx",
        _named("minimum"),
        "the smaller",
        commutative=True,
        aliases=("min",),
        latex=r"\min(#1, #2)",
        code="xp.minimum(_0, _1)",
    ),
    Op(
        "norm",
        "x",
        _root_total,
        "Euclidean norm of each array",
        reduction=Reduction(Kind.LEAF, "sum", _squared),
        keeps_kind=False,
        latex=r"\lVert #1 \rVert_2",
        code="xp.linalg.norm(_0)",
        torch="torch.linalg.vector_norm(_0)",
    ),
    Op(
        "global_norm",
        "x",
        _root_total,
        "Euclidean norm of the whole model",
        reduction=Reduction(Kind.SCALAR, "sum", _squared),
        keeps_kind=False,
        latex=r"\lVert #1 \rVert_{\mathrm{model}}",
    ),
    Op(
        "dot",
        "xx",
        lambda xp, totals, x, y: totals[0],
        "inner product over the whole model",
        commutative=True,
        reduction=Reduction(Kind.SCALAR, "sum", lambda xp, x, y: (x * y,)),
        keeps_kind=False,
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
        latex=r"\cos\angle(#1, #2)",
    ),
    Op(
        "clip",
        "xs",
        _clip,
        "x scaled down to global norm c where it is above",
        reduction=Reduction(Kind.SCALAR, "sum", _squared),
        latex=_clip_formula,
    ),
    Op(
        "interp",
        "xxs",
        _interp,
        "(1 - a) x + a y",
        aliases=("interpolate",),
        latex=_interp_formula,
        code=_INTERP_CODE,
    ),
    _constant("get_pi", 3.141592653589793, "the constant pi", Symbol(r"\pi", "pi", small=True)),
    _constant("get_e", 2.718281828459045, "the constant e", Symbol("e", "e", small=True)),
    _constant("get_eps", 1e-8, "the constant 1e-8", formula(1e-8)),
    Op(
        "ema",
        "xxs",
        _interp,
        "a y + (1 - a) x: interp's other name",
        "full",
        same_as="interp",
        latex=_interp_formula,
        code=_INTERP_CODE,
    ),
    Op(
        "identity",
        "x",
        lambda xp, x: x,
        "a copy; printed as `x = y`",
        "full",
        latex=lambda x: x,
        code="_0",
    ),
    Op("negative", "x", lambda xp, x: -x, "-x", "full", latex=lambda x: -x, code="-_0"),
    Op(
        "rms",
        "x",
        _root_total,
        "root mean square of each array",
        "full",
        reduction=Reduction(Kind.LEAF, "mean", _squared),
        keeps_kind=False,
        code="xp.sqrt(xp.mean(xp.square(_0)))",
    ),
    Op(
        "clip_by_rms",
        "xs",
        _clip_by_rms,
        "x / max(1, rms(x) / c), for each array",
        "full",
        reduction=Reduction(Kind.LEAF, "mean", _squared),
        latex=_clip_by_rms_formula,
        code="_0 / xp.maximum(1, xp.sqrt(xp.mean(xp.square(_0))) / _1)",
    ),
    Op(
        "clamp",
        "xss",
        _clamp,
        "x kept within [low, high]",
        "full",
        latex=_clamp_formula,
        code="xp.minimum(xp.maximum(_0, _1), _2)",
    ),
    Op(
        "mod",
        "xx",
        _mod,
        "x modulo y, with the sign of y, and 0 where y is 0",
        "full",
        code="xp.mod(_0, _1)",
        torch="torch.remainder(_0, _1)",
    ),
    Op(
        "greater",
        "xx",
        lambda xp, x, y: xp.where(x > y, 1.0, 0.0),
        "1 where x > y, else 0",
        "full",
        latex=lambda x, y: Relation(">", ">", x, y),
        code="xp.where(_0 > _1, 1.0, 0.0)",
        torch="(_0 > _1).to(like.dtype)",
    ),
    Op(
        "equal",
        "xx",
        lambda xp, x, y: xp.where(x == y, 1.0, 0.0),
        "1 where x equals y, else 0",
        "full",
        commutative=True,
        latex=lambda x, y: Relation("=", "==", x, y),
        code="xp.where(_0 == _1, 1.0, 0.0)",
        torch="(_0 == _1).to(like.dtype)",
    ),
    Op(
        "where",
        "xxx",
        lambda xp, c, x, y: xp.where(c != 0, x, y),
        "x where c is not 0, y elsewhere",
        "full",
        latex=lambda c, x, y: Cases(c, x, y),
        code="xp.where(_0 != 0, _1, _2)",
    ),
    _mean("mean", Kind.LEAF, "mean of each array"),
    _mean(
        "row_mean",
        Kind.ROW,
        "mean over the last axis",
        latex=r"\operatorname{mean}_{\mathrm{row}}(#1)",
    ),
    _mean(
        "col_mean",
        Kind.COL,
        "mean over the second-to-last axis",
        latex=r"\operatorname{mean}_{\mathrm{col}}(#1)",
    ),
    _mean(
        "matrix_mean",
        Kind.MATRIX,
        "mean over the last two axes",
        latex=r"\operatorname{mean}_{\mathrm{matrix}}(#1)",
    ),
    Op(
        "orthogonalize",
        "x",
        _orthogonalize,
        "the nearest orthogonal matrix, roughly: five Newton-Schulz steps on each matrix",
        "full",
        matrixwise=True,
        code="_orthogonalize(_0)",
        latex=r"\operatorname{NewtonSchulz}_5(#1)",
    ),
)

OPS: dict[str, Op] = {op.name: op for op in _TABLE}
"""Every op by name, in the table's order."""

ALIASES: dict[str, str] = {alias: op.name for op in _TABLE for alias in op.aliases}
"""Names that are read but never printed, with the op that each stands for."""

INFIX: dict[str, Op] = {op.infix: op for op in _TABLE if op.infix}
"""Ops that are written between their operands."""


def names(op_set: Literal["paper", "full"] = "full") -> tuple[str, ...]:
    """The names of an op set, in the table's order; `full` includes `paper`."""
    return tuple(op.name for op in _TABLE if op_set == "full" or op.op_set == op_set)
