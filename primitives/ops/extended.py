"""Ops of the full set that Chen et al. 2023 lack: means, comparisons, choices, and others."""

from __future__ import annotations

from typing import Any

from primitives import interval
from primitives.interval import within
from primitives.kinds import AXES, Kind
from primitives.op import Array, ConstantRole, MatrixIteration, Namespace, Op, Reduction
from primitives.ops.arithmetic import (
    INTERP_FACTS,
    MAXIMUM,
    MINIMUM,
    interpolate,
    root_total,
    squares,
)
from primitives.ops.functions import divide
from primitives.text.formula import ONE, Formula
from primitives.text.notation import Cases, Relation


def _clip_by_rms(xp: Namespace, totals: tuple[Array], x: Array, c: Array) -> Array:
    return divide(xp, x, xp.maximum(1.0, divide(xp, xp.sqrt(totals[0]), c)))


def _clamp(xp: Namespace, x: Array, low: Array, high: Array) -> Array:
    return xp.minimum(xp.maximum(x, low), high)


def _mod(xp: Namespace, x: Array, y: Array) -> Array:
    return xp.where(y == 0, 0.0, xp.mod(x, y))


_NEWTON_SCHULZ = MatrixIteration((3.4445, -4.775, 2.0315), steps=5)
"""Newton-Schulz steps of Jordan et al. 2024 (Muon), which bring all singular values near 1."""


def _orthogonalize(xp: Namespace, x: Array) -> Array:
    if xp.ndim(x) < 2:  # numbers, each of which is a 1 x 1 matrix
        return _orthogonalize_numbers(xp, x)
    wide = x if x.shape[-2] <= x.shape[-1] else xp.swapaxes(x, -1, -2)
    u = divide(xp, wide, xp.sqrt(xp.sum(wide * wide, axis=(-2, -1), keepdims=True)))
    a, b, c = _NEWTON_SCHULZ.coefficients
    for _ in range(_NEWTON_SCHULZ.steps):
        gram = u @ xp.swapaxes(u, -1, -2)
        u = a * u + (b * gram + c * gram @ gram) @ u
    return u if wide is x else xp.swapaxes(u, -1, -2)


def _orthogonalize_numbers(xp: Namespace, x: Array) -> Array:
    u = divide(xp, x, xp.sqrt(x * x))
    a, b, c = _NEWTON_SCHULZ.coefficients
    for _ in range(_NEWTON_SCHULZ.steps):
        gram = u * u
        u = a * u + (b * gram + c * gram * gram) * u
    return u


def _mean(name: str, kind: Kind, summary: str, **facts: Any) -> Op:
    """Return an op that averages over axes; `kind` is the kind of the result."""
    axes = AXES[kind]
    axis = axes[0] if axes and len(axes) == 1 else axes
    return Op(
        name,
        "x",
        lambda xp, totals, x: totals[0],
        summary,
        op_set="full",
        reduction=Reduction(kind, "mean", lambda xp, x: (x,)),
        keeps_kind=False,
        parity="odd",
        of_number="identity",
        linear=(0,),
        order="largest",
        interval=interval.same,
        code="xp.mean(_0)" if axes is None else f"xp.mean(_0, axis={axis}, keepdims=True)",
        torch=None if axes is None else f"torch.mean(_0, dim={axis}, keepdim=True)",
        **facts,
    )


def _clip_by_rms_formula(x: Formula, c: Formula) -> Formula:
    return x / MAXIMUM.formula(ONE, RMS.formula(x) / c)


def _clamp_formula(x: Formula, low: Formula, high: Formula) -> Formula:
    return MINIMUM.formula(MAXIMUM.formula(x, low), high)


RMS = Op(
    "rms",
    "x",
    root_total,
    "root mean square of each array",
    "full",
    reduction=Reduction(Kind.LEAF, "mean", squares),
    keeps_kind=False,
    parity="even",
    of_number="abs",
    order="largest",
    interval=within(0.0),
    phrase="the root mean square of {0}",
    code="xp.sqrt(xp.mean(xp.square(_0)))",
)

EXTENDED = (
    Op(
        "ema",
        "xxs",
        interpolate,
        "(1 - a) x + a y; a synonym of interp",
        "full",
        same_as="interp",
        **INTERP_FACTS,
    ),
    Op(
        "identity",
        "x",
        lambda xp, x: x,
        "a copy; printed as `x = y`",
        "full",
        linear=(0,),
        order="largest",
        interval=interval.same,
        phrase="{0}",
        latex=lambda x: x,
        code="_0",
    ),
    Op(
        "negative",
        "x",
        lambda xp, x: -x,
        "-x",
        "full",
        inverse="negative",
        linear=(0,),
        order="largest",
        interval=interval.negative,
        phrase="minus {0}",
        latex=lambda x: -x,
        code="-_0",
        python="-_0",
    ),
    RMS,
    Op(
        "clip_by_rms",
        "xs",
        _clip_by_rms,
        "x / max(1, rms(x) / c), for each array",
        "full",
        reduction=Reduction(Kind.LEAF, "mean", squares),
        order="largest",
        interval=interval.clip,
        phrase="{0} clipped to a root mean square of {1}",
        constants=(
            None,
            ConstantRole(
                "clipping_threshold",
                "the largest root mean square of an array",
                keeps_sign=True,
                always=True,
            ),
        ),
        latex=_clip_by_rms_formula,
        code="_0 / xp.maximum(1, xp.sqrt(xp.mean(xp.square(_0))) / _1)",
    ),
    Op(
        "clamp",
        "xss",
        _clamp,
        "x kept within [low, high]",
        "full",
        order="largest",
        interval=interval.clamp,
        noun="clamped",
        phrase="{0} clamped between {1} and {2}",
        constants=(
            None,
            ConstantRole("low", "the lower end of a clamp", always=True),
            ConstantRole("high", "the higher end of a clamp", always=True),
        ),
        latex=_clamp_formula,
        code="xp.minimum(xp.maximum(_0, _1), _2)",
    ),
    Op(
        "mod",
        "xx",
        _mod,
        "x modulo y, with the sign of y, and 0 where y is 0",
        "full",
        order="largest",
        interval=interval.modulo,
        constants=(None, ConstantRole("period", "a period", keeps_sign=True)),
        code="xp.mod(_0, _1)",
        torch="torch.remainder(_0, _1)",
        guarded_code="_mod(_0, _1)",
        code_valid=lambda x, y: y.nonzero,
    ),
    Op(
        "greater",
        "xx",
        lambda xp, x, y: 1.0 * (x > y),
        "1 where x > y, else 0",
        "full",
        order="none",
        interval=within(0.0, 1.0),
        phrase="whether {0} is greater than {1}",
        constants=2 * (ConstantRole("threshold", "a threshold"),),
        latex=lambda x, y: Relation(">", ">", x, y),
        code="xp.where(_0 > _1, 1.0, 0.0)",
        torch="(_0 > _1).to(like.dtype)",
    ),
    Op(
        "equal",
        "xx",
        lambda xp, x, y: 1.0 * (x == y),
        "1 where x equals y, else 0",
        "full",
        commutative=True,
        order="none",
        interval=within(0.0, 1.0),
        phrase="whether {0} equals {1}",
        constants=2 * (ConstantRole("target", "value to compare with"),),
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
        linear=(1, 2),
        order="largest",
        interval=interval.choice,
        phrase="{1} where {0} is not zero, else {2}",
        constants=3 * (ConstantRole("choice", "one of two choices"),),
        latex=lambda c, x, y: Cases(c, x, y),
        code="xp.where(_0 != 0, _1, _2)",
    ),
    _mean("mean", Kind.LEAF, "mean of each array", noun="average", phrase="the mean of {0}"),
    _mean(
        "row_mean",
        Kind.ROW,
        "mean over the last axis",
        noun="row_average",
        phrase="the row means of {0}",
        latex=r"\operatorname{mean}_{\mathrm{row}}(#1)",
    ),
    _mean(
        "col_mean",
        Kind.COL,
        "mean over the second-to-last axis",
        noun="col_average",
        phrase="the column means of {0}",
        latex=r"\operatorname{mean}_{\mathrm{col}}(#1)",
    ),
    _mean(
        "matrix_mean",
        Kind.MATRIX,
        "mean over the last two axes",
        phrase="the mean over each matrix of {0}",
        latex=r"\operatorname{mean}_{\mathrm{matrix}}(#1)",
    ),
    Op(
        "orthogonalize",
        "x",
        _orthogonalize,
        "approximately the nearest orthogonal matrix: five Newton-Schulz steps on each matrix",
        "full",
        matrixwise=True,
        iteration=_NEWTON_SCHULZ,
        parity="odd",
        order="none",
        phrase="{0} orthogonalized",
        code="_orthogonalize(_0)",
        latex=r"\operatorname{NewtonSchulz}_5(#1)",
    ),
)
