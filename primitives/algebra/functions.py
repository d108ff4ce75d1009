"""Rules on functions of one value: constants, inverse pairs, signs, exponentials."""

from __future__ import annotations

import math

import numpy as np

from primitives.algebra.context import Context
from primitives.algebra.domains import Domain
from primitives.algebra.rule import Rule, rule
from primitives.graph.nodes import Node
from primitives.ops import OPS

_ALWAYS, _FINITE, _REAL = Domain
_ROUNDINGS = 1e-5


def _constant(context: Context, node: Node) -> Node | None:
    if not all(arg.is_constant for arg in node.args):
        return None
    value, in_float32 = (_value(node, number) for number in (np.float64, np.float32))
    holds = math.isfinite(value) and math.isclose(value, in_float32, rel_tol=_ROUNDINGS)
    return context.nodes.constant(value) if holds else None


def _value(node: Node, number: type[np.floating]) -> float:
    """The float32 that an op of constants gives, computed in numbers of a given type."""
    op = node.row
    args = [number(arg.value) for arg in node.args]
    with np.errstate(all="ignore"):
        totals = (op.reduction.inputs(np, *args),) if op.reduction else ()
        return float(np.float32(op.meaning(np, *totals, *args)))


def _nested(outer: str, inner: str, result: str | None, domain: Domain) -> Rule:
    """`outer(inner(x))` is `result(x)`, or x itself."""

    def rewrite(context: Context, node: Node) -> Node | None:
        (arg,) = node.args
        if arg.op != inner:
            return None
        return context.nodes.call(result, arg.args[0]) if result else arg.args[0]

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


def _known_sign(context: Context, node: Node) -> Node | None:
    held = context.range(node.args[0])
    if held.nonzero:
        return context.nodes.constant(1.0 if held.positive else -1.0)
    return None


def _sign_of_clip(context: Context, node: Node) -> Node | None:
    (inner,) = node.args
    if inner.op in ("clip", "clip_by_rms") and context.range(inner.args[1]).positive:
        return context.nodes.call("sign", inner.args[0])
    return None


def _sign_of_clamp(context: Context, node: Node) -> Node | None:
    (inner,) = node.args
    if inner.op != "clamp":
        return None
    x, low, high = inner.args
    if context.range(low).negative and context.range(high).positive:
        return context.nodes.call("sign", x)
    return None


def _known_absolute(context: Context, node: Node) -> Node | None:
    return node.args[0] if context.range(node.args[0]).nonnegative else None


def _even(context: Context, node: Node) -> Node | None:
    (inner,) = node.args
    return context.nodes.call(node.op, inner.args[0]) if inner.op in ("negative", "abs") else None


def _odd(context: Context, node: Node) -> Node | None:
    (function,) = node.args
    if function.row.parity == "odd" and function.args[0].op == "negative":
        return context.nodes.call(function.op, function.args[0].args[0])
    return None


def _zero(context: Context, node: Node) -> Node | None:
    zero = any(arg.is_constant and arg.value == 0 for arg in node.args)
    return context.nodes.constant(0.0) if zero else None


def _by_zero(context: Context, node: Node) -> Node | None:
    divisor = node.args[-1]
    return context.nodes.constant(0.0) if divisor.is_constant and divisor.value == 0 else None


def _power_zero(context: Context, node: Node) -> Node | None:
    x, y = node.args
    one = (y.is_constant and y.value == 0) or (x.is_constant and x.value == 1)
    return context.nodes.constant(1.0) if one else None


def _exp_product(context: Context, node: Node) -> Node | None:
    x, y = node.args
    if x.op == y.op and x.op in ("exp", "exp2", "exp10"):
        return context.nodes.call(x.op, context.nodes.call("add", x.args[0], y.args[0]))
    return None


def _log_sum(context: Context, node: Node) -> Node | None:
    x, y = node.args
    if x.op == y.op and x.op in ("log", "log2", "log10"):
        return context.nodes.call(x.op, context.nodes.call("multiply", x.args[0], y.args[0]))
    return None


def _log1p(context: Context, node: Node) -> Node | None:
    (inner,) = node.args
    if inner.op == "add":
        for x, one in (inner.args, inner.args[::-1]):
            if one.is_constant and one.value == 1:
                return context.nodes.call("log1p", x)
    return None


def _expm1(context: Context, node: Node) -> Node | None:
    x, one = node.args
    if x.op == "exp" and one.is_constant and one.value == 1:
        return context.nodes.call("expm1", x.args[0])
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
    rule(
        "even",
        "f(-x) = f(abs(x)) = f(x) for even f",
        _ALWAYS,
        " ".join(op.name for op in OPS.values() if op.parity == "even"),
        _even,
    ),
    rule("odd", "-f(-x) = f(x) for odd f", _ALWAYS, "negative", _odd),
    rule("product-of-exp", "exp(x) * exp(y) = exp(x + y)", _REAL, "multiply", _exp_product),
    rule("sum-of-logs", "log(x) + log(y) = log(x * y)", _REAL, "add", _log_sum),
    rule("log1p", "log(1 + x) = log1p(x)", _REAL, "log", _log1p),
    rule("expm1", "exp(x) - 1 = expm1(x)", _REAL, "subtract", _expm1),
)
"""The rules, in the order in which they are tried."""
