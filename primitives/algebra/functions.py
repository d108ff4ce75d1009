"""Rules on functions of one value: constants, inverse pairs, signs, exponentials."""

from __future__ import annotations

import math

import numpy as np

from primitives.algebra.context import Context
from primitives.algebra.domains import Domain
from primitives.algebra.rule import Rule, rule
from primitives.algebra.terms import Term
from primitives.ops import OPS

_ALWAYS, _FINITE, _REAL = Domain
_ROUNDINGS = 1e-5


def _constant(context: Context, term: Term) -> Term | None:
    if not all(arg.is_constant for arg in term.args):
        return None
    value, in_float32 = (_value(term, number) for number in (np.float64, np.float32))
    holds = math.isfinite(value) and math.isclose(value, in_float32, rel_tol=_ROUNDINGS)
    return context.terms.constant(value) if holds else None


def _value(term: Term, number: type[np.floating]) -> float:
    """The float32 that an op of constants gives, computed in numbers of a given type."""
    op = OPS[term.op]
    args = [number(arg.value) for arg in term.args]
    with np.errstate(all="ignore"):
        totals = (op.reduction.inputs(np, *args),) if op.reduction else ()
        return float(np.float32(op.meaning(np, *totals, *args)))


def _nested(outer: str, inner: str, result: str | None, domain: Domain) -> Rule:
    """`outer(inner(x))` is `result(x)`, or x itself."""

    def rewrite(context: Context, term: Term) -> Term | None:
        (arg,) = term.args
        if arg.op != inner:
            return None
        return context.terms.call(result, arg.args[0]) if result else arg.args[0]

    right = f"{result}(x)" if result else "x"
    equation = f"{outer}({inner}(x)) = {right}"
    return Rule(f"{outer}-of-{inner}", equation, domain, frozenset([outer]), rewrite)


_NESTED = (
    ("log", "exp", None, Domain.REAL),
    ("exp", "log", None, Domain.REAL),
    ("log2", "exp2", None, Domain.REAL),
    ("exp2", "log2", None, Domain.REAL),
    ("log10", "exp10", None, Domain.REAL),
    ("exp10", "log10", None, Domain.REAL),
    ("log1p", "expm1", None, Domain.REAL),
    ("expm1", "log1p", None, Domain.REAL),
    ("arcsinh", "sinh", None, Domain.REAL),
    ("sinh", "arcsinh", None, Domain.REAL),
    ("cosh", "arccosh", None, Domain.REAL),
    ("arccosh", "cosh", "abs", Domain.REAL),
    ("arctanh", "tanh", None, Domain.REAL),
    ("tanh", "arctanh", None, Domain.REAL),
    ("sin", "arcsin", None, Domain.REAL),
    ("cos", "arccos", None, Domain.REAL),
    ("tan", "arctan", None, Domain.REAL),
    ("sign", "tanh", "sign", Domain.ALWAYS),
    ("sign", "sinh", "sign", Domain.ALWAYS),
    ("sign", "arctan", "sign", Domain.ALWAYS),
    ("sign", "arcsinh", "sign", Domain.ALWAYS),
    ("sign", "expm1", "sign", Domain.ALWAYS),
    ("sign", "arcsin", "sign", Domain.REAL),
    ("sign", "arctanh", "sign", Domain.FINITE),
    ("sign", "log1p", "sign", Domain.FINITE),
)


def _known_sign(context: Context, term: Term) -> Term | None:
    held = context.range(term.args[0])
    if held.nonzero:
        return context.terms.constant(1.0 if held.positive else -1.0)
    return None


def _sign_of_clip(context: Context, term: Term) -> Term | None:
    (inner,) = term.args
    if inner.op in ("clip", "clip_by_rms") and context.range(inner.args[1]).positive:
        return context.terms.call("sign", inner.args[0])
    return None


def _sign_of_clamp(context: Context, term: Term) -> Term | None:
    (inner,) = term.args
    if inner.op != "clamp":
        return None
    x, low, high = inner.args
    if context.range(low).negative and context.range(high).positive:
        return context.terms.call("sign", x)
    return None


def _known_absolute(context: Context, term: Term) -> Term | None:
    return term.args[0] if context.range(term.args[0]).nonnegative else None


def _even(context: Context, term: Term) -> Term | None:
    (inner,) = term.args
    return context.terms.call(term.op, inner.args[0]) if inner.op in ("negative", "abs") else None


_EVEN = frozenset(["abs", "square", "cos", "cosh", "norm", "global_norm", "rms"])


_ODD = frozenset(
    ["sin", "tan", "arcsin", "arctan", "sinh", "tanh", "arcsinh", "arctanh", "sign", "cbrt", "cube"]
    + ["mean", "row_mean", "col_mean", "matrix_mean", "orthogonalize"]
)


def _odd(context: Context, term: Term) -> Term | None:
    (function,) = term.args
    if function.op in _ODD and function.args[0].op == "negative":
        return context.terms.call(function.op, function.args[0].args[0])
    return None


def _zero(context: Context, term: Term) -> Term | None:
    zero = any(arg.is_constant and arg.value == 0 for arg in term.args)
    return context.terms.constant(0.0) if zero else None


def _by_zero(context: Context, term: Term) -> Term | None:
    divisor = term.args[-1]
    return context.terms.constant(0.0) if divisor.is_constant and divisor.value == 0 else None


def _power_zero(context: Context, term: Term) -> Term | None:
    x, y = term.args
    one = (y.is_constant and y.value == 0) or (x.is_constant and x.value == 1)
    return context.terms.constant(1.0) if one else None


def _exp_product(context: Context, term: Term) -> Term | None:
    x, y = term.args
    if x.op == y.op and x.op in ("exp", "exp2", "exp10"):
        return context.terms.call(x.op, context.terms.call("add", x.args[0], y.args[0]))
    return None


def _log_sum(context: Context, term: Term) -> Term | None:
    x, y = term.args
    if x.op == y.op and x.op in ("log", "log2", "log10"):
        return context.terms.call(x.op, context.terms.call("multiply", x.args[0], y.args[0]))
    return None


def _log1p(context: Context, term: Term) -> Term | None:
    (inner,) = term.args
    if inner.op == "add":
        for x, one in (inner.args, inner.args[::-1]):
            if one.is_constant and one.value == 1:
                return context.terms.call("log1p", x)
    return None


def _expm1(context: Context, term: Term) -> Term | None:
    x, one = term.args
    if x.op == "exp" and one.is_constant and one.value == 1:
        return context.terms.call("expm1", x.args[0])
    return None


RULES: tuple[Rule, ...] = (
    rule("constant", "f(a, b) = c", _ALWAYS, " ".join(OPS), _constant),
    rule("times-zero", "x * 0 = 0, 0 / x = 0", _FINITE, "multiply divide", _zero),
    rule("over-zero", "x / 0 = 0, mod(x, 0) = 0", _ALWAYS, "divide mod", _by_zero),
    rule("power-zero", "power(x, 0) = 1, power(1, y) = 1", _ALWAYS, "power", _power_zero),
    *(_nested(*row) for row in _NESTED),
    rule("known-sign", "sign(x) = 1 for x > 0, -1 for x < 0", _FINITE, "sign", _known_sign),
    rule("sign-of-clip", "sign(clip(x, c)) = sign(x) for c > 0", _REAL, "sign", _sign_of_clip),
    rule(
        "sign-of-clamp",
        "sign(clamp(x, a, b)) = sign(x) for a < 0 < b",
        _FINITE,
        "sign",
        _sign_of_clamp,
    ),
    rule("known-absolute", "abs(x) = x for x >= 0", _ALWAYS, "abs", _known_absolute),
    rule("even", "f(-x) = f(abs(x)) = f(x) for even f", _ALWAYS, " ".join(_EVEN), _even),
    rule("odd", "-f(-x) = f(x) for odd f", _ALWAYS, "negative", _odd),
    rule("product-of-exp", "exp(x) * exp(y) = exp(x + y)", _REAL, "multiply", _exp_product),
    rule("sum-of-logs", "log(x) + log(y) = log(x * y)", _REAL, "add", _log_sum),
    rule("log1p", "log(1 + x) = log1p(x)", _REAL, "log", _log1p),
    rule("expm1", "exp(x) - 1 = expm1(x)", _REAL, "subtract", _expm1),
)
"""The rules, in the order in which they are tried."""
