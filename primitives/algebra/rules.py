"""The table of rules: equations with a domain, and the few rules that are functions.

To add a simplification, add one row; the tests ask for an example and try the row on zeros,
subnormals, huge values, infinities and NaN.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from primitives.algebra.arithmetic import common_factor, folded_sum, product_form, sum_form
from primitives.algebra.context import Context
from primitives.algebra.patterns import (
    Family,
    Folded,
    Variable,
    constants,
    differs,
    numbers,
    op,
    values,
)
from primitives.algebra.products import PRODUCT_OPS, SUM_OPS
from primitives.algebra.rule import Domain, Rule, rewrite, rewrites
from primitives.graph.nodes import STATE, Node
from primitives.kinds import Kind
from primitives.op import Op
from primitives.ops import OPS, POWERS

_ALWAYS, _FINITE, _REAL = Domain
_ROUNDINGS = 1e-5

x, y = values("x y")
a, b, c = numbers("a b c")
j, k = constants("a b")
(test,) = values("c")
array = Variable("x", lambda node: node.kind != Kind.SCALAR)
no_constant = Variable("x", lambda node: not node.is_constant)
even = Family("f", "even", lambda row: row.parity == "even")
odd = Family("f", "odd", lambda row: row.parity == "odd")

# -- rules that no equation says ----------------------------------------------------------------


def _constant(context: Context, node: Node) -> Node | None:
    if not all(arg.is_constant for arg in node.args):
        return None
    value, in_float32 = (_value(node, number) for number in (np.float64, np.float32))
    holds = math.isfinite(value) and math.isclose(value, in_float32, rel_tol=_ROUNDINGS)
    return context.nodes.constant(value) if holds else None


def _value(node: Node, number: type[np.floating]) -> float:
    """The float32 that an op of constants gives, computed in numbers of a given type."""
    with np.errstate(all="ignore"):
        return float(np.float32(node.row.of_numbers(np, *[number(arg.value) for arg in node.args])))


def _of_one_number(context: Context, node: Node) -> Node | None:
    """A reduction of one number is another op of that number."""
    if node.row.of_number is None or any(arg.kind != node.kind for arg in node.args):
        return None
    return context.nodes.call(node.row.of_number, *node.args)


def _average(context: Context, node: Node) -> Node | None:
    """x * a + y * b, where a + b is 1."""
    left, right = node.args
    if left.op != "multiply" or right.op != "multiply":
        return None
    for p, u in (left.args, left.args[::-1]):
        for q, v in (right.args, right.args[::-1]):
            if Kind.SCALAR == p.kind == q.kind and _adds_up_to_one(p, q):
                if _is_averaged(u, v, p.depth - q.depth):
                    u, v, q = v, u, p
                return context.nodes.call("interp", u, v, q)
    return None


def _is_averaged(u: Node, v: Node, deeper: int) -> bool:
    """Whether u, not v, is the average: a state's old value, else what has the plainer share."""
    old = [node.op == STATE for node in (u, v)]
    return old[0] if old[0] != old[1] else deeper < 0


def _adds_up_to_one(p: Node, q: Node) -> bool:
    for share, rest in ((p, q), (q, p)):
        if rest.op == "subtract" and rest.args[1] is share and rest.args[0].is_constant:
            return rest.args[0].value == 1
    return False


def _among(*names: str) -> Callable[[Op], bool]:
    return lambda row: row.name in names


def _is_for_one_number(other: str) -> Callable[[Op], bool]:
    return lambda row: row.of_number == other


# -- the table ------------------------------------------------------------------------------------

_INVERSES = tuple(
    rewrite(f"{f.name}-of-{f.inverse}", op(f.name)(op(f.inverse)(x)), x, domain=_REAL)
    for f in OPS.values()
    if f.inverse and f.name not in PRODUCT_OPS
)
"""Of ops that are no powers: those are one normal form."""

_SAME_SIGNS = tuple(
    rewrite(f"sign-of-{f}", op.sign(op(f)(x)), op.sign(x), domain=domain)
    for domain, names in (
        (_ALWAYS, "tanh sinh arctan arcsinh expm1"),
        (_REAL, "arcsin"),
        (_FINITE, "arctanh log1p"),
    )
    for f in names.split()
)

_WRITTEN_POWERS = [
    name for exponent, name in POWERS.items() if float(np.float32(exponent)) == exponent
]
"""Those with an exponent that a program can hold; the cube root has none."""

_PURE_SUMS = _among(*SUM_OPS)
_SUMS = _among(*SUM_OPS, "multiply", "divide")
_PRODUCTS = _among(*PRODUCT_OPS)

RULES: tuple[Rule, ...] = (
    Rule("constant", "f(a, b) = c", _ALWAYS, lambda row: True, _constant),
    rewrite("times-zero", x * 0, 0, domain=_FINITE).also(0 / x, 0),
    rewrite("over-zero", x / 0, 0, domain=_ALWAYS).also(op.mod(x, 0), 0),
    rewrite("power-zero", op.power(x, 0), 1, domain=_ALWAYS).also(op.power(1, y), 1),
    *_INVERSES,
    rewrite("arccosh-of-cosh", op.arccosh(op.cosh(x)), op.abs(x), domain=_REAL),
    *_SAME_SIGNS,
    rewrite("known-sign", op.sign(x), 1, x > 0, domain=_FINITE).also(op.sign(x), -1, x < 0),
    rewrite("sign-of-clip", op.sign(op.clip(x, c)), op.sign(x), c > 0, domain=_REAL).also(
        op.sign(op.clip_by_rms(x, c)), op.sign(x), c > 0
    ),
    rewrite("sign-of-clamp", op.sign(op.clamp(x, a, b)), op.sign(x), a < 0, b > 0, domain=_FINITE),
    rewrite("known-absolute", op.abs(x), x, x >= 0, domain=_ALWAYS),
    rewrite("even", even(-x), even(x), domain=_ALWAYS).also(even(op.abs(x)), even(x)),
    rewrite("odd", -odd(-x), odd(x), domain=_ALWAYS),
    rewrites(
        "product-of-exp",
        *((f(x) * f(y), f(x + y)) for f in (op.exp, op.exp2, op.exp10)),
        domain=_REAL,
    ),
    rewrites(
        "sum-of-logs",
        *((f(x) + f(y), f(x * y)) for f in (op.log, op.log2, op.log10)),
        domain=_REAL,
    ),
    rewrite("log1p", op.log(x + 1), op.log1p(x), domain=_REAL),
    rewrite("expm1", op.exp(x) - 1, op.expm1(x), domain=_REAL),
    # choices
    rewrite("extreme-of-same", op.maximum(x, x), x, domain=_ALWAYS).also(op.minimum(x, x), x),
    rewrite("known-extreme", op.maximum(x, y), x, x >= y, domain=_FINITE).also(
        op.minimum(x, y), y, x >= y
    ),
    rewrite(
        "extreme-nested",
        op.maximum(op.maximum(x, y), y),
        op.maximum(x, y),
        domain=_ALWAYS,
    )
    .also(op.maximum(op.maximum(x, j), k), op.maximum(x, Folded(op.maximum(j, k))))
    .also(op.minimum(op.minimum(x, y), y), op.minimum(x, y))
    .also(op.minimum(op.minimum(x, j), k), op.minimum(x, Folded(op.minimum(j, k)))),
    rewrite("extreme-absorbs", op.maximum(x, op.minimum(x, y)), x, domain=_FINITE).also(
        op.minimum(x, op.maximum(x, y)), x
    ),
    rewrite("opposites", op.maximum(x, -x), op.abs(x), domain=_ALWAYS),
    rewrite(
        "clamp",
        op.minimum(op.maximum(no_constant, a), b),
        op.clamp(no_constant, a, b),
        domain=_ALWAYS,
    ),
    rewrite("clamp-within", op.clamp(x, a, b), x, a <= x, x <= b, domain=_FINITE),
    rewrite("where-same", op.where(test, x, x), x, domain=_ALWAYS),
    rewrite("where-known", op.where(0, x, y), y, domain=_ALWAYS).also(
        op.where(test, x, y), x, differs(test, 0)
    ),
    rewrite("where-itself", op.where(x, x, 0), x, domain=_ALWAYS),
    rewrite(
        "where-greater", op.where(op.greater(x, y), x, y), op.maximum(x, y), domain=_FINITE
    ).also(op.where(op.greater(x, y), y, x), op.minimum(x, y)),
    rewrite("not-greater", op.greater(x, x), 0, domain=_ALWAYS).also(op.greater(x, y), 0, x <= y),
    rewrite("greater", op.greater(x, y), 1, x > y, domain=_FINITE),
    rewrite("equal-to-itself", op.equal(x, x), 1, domain=_FINITE),
    rewrite("unequal", op.equal(x, y), 0, differs(x, y), domain=_ALWAYS),
    rewrite("mod-of-same", op.mod(x, x), 0, domain=_FINITE),
    rewrite("mod-nested", op.mod(op.mod(x, y), y), op.mod(x, y), x >= 0, y > 0, domain=_ALWAYS),
    # reductions
    Rule(
        "mean-of-means",
        "row_mean(row_mean(x)) = row_mean(x), and so on: the mean of one number",
        _ALWAYS,
        _is_for_one_number("identity"),
        _of_one_number,
    ),
    Rule(
        "norm-of-number",
        "norm(x) = abs(x) for one number",
        _REAL,
        _is_for_one_number("abs"),
        _of_one_number,
    ),
    Rule(
        "dot-of-numbers",
        "dot(x, y) = x * y for numbers",
        _ALWAYS,
        _is_for_one_number("multiply"),
        _of_one_number,
    ),
    rewrite("root-of-dot", op.sqrt(op.dot(x, x)), op.global_norm(x), domain=_ALWAYS),
    rewrite("squared-norm", op.square(op.global_norm(x)), op.dot(x, x), domain=_REAL),
    rewrite("root-mean-square", op.sqrt(op.mean(op.square(array))), op.rms(array), domain=_ALWAYS),
    rewrite("clip-twice", op.clip(op.clip(x, c), c), op.clip(x, c), c >= 0, domain=_REAL).also(
        op.clip_by_rms(op.clip_by_rms(x, c), c), op.clip_by_rms(x, c), c >= 0
    ),
    rewrite("scale-free", op.cosine_sim(x * a, y), op.cosine_sim(x, y), a > 0, domain=_REAL)
    .also(op.cosine_sim(x / a, y), op.cosine_sim(x, y), a > 0)
    .also(op.orthogonalize(x * a), op.orthogonalize(x), a > 0)
    .also(op.orthogonalize(x / a), op.orthogonalize(x), a > 0),
    # arithmetic
    Rule("average", "x * (1 - a) + y * a = interp(x, y, a)", _REAL, _among("add"), _average),
    rewrite("lerp", x + (y - x) * a, op.interp(x, y, a), domain=_REAL),
    rewrite("interp-of-same", op.interp(x, x, a), x, domain=_REAL),
    Rule(
        "power-form",
        "a product of powers in its shortest form: x / sqrt(x * x) = sign(x)",
        _REAL,
        _PRODUCTS,
        product_form,
    ),
    Rule(
        "linear-form",
        "a sum of products in its shortest form: x * a + y * b + x * c = x * d + y * b",
        _REAL,
        _SUMS,
        sum_form,
    ),
    Rule("common-factor", "x * y + x * z = x * (y + z)", _REAL, _SUMS, common_factor),
    Rule(
        "fold",
        "interp(x, interp(x, y, a), b) = interp(x, y, c), and so for all sums of sums",
        _REAL,
        _PURE_SUMS,
        folded_sum,
        folds=True,
    ),
)
"""Every rule on values, in the order in which they are tried."""

CANONICAL: tuple[Rule, ...] = (
    rewrites(
        "named-power",
        *((op.power(x, OPS[name].exponent), op(name)(x)) for name in _WRITTEN_POWERS),
        domain=_REAL,
    ),
    Rule("power-form", "products in one order", _REAL, _PRODUCTS, product_form),
    Rule("linear-form", "sums in one order", _REAL, _PURE_SUMS, sum_form),
    Rule("common-factor", "x * y + x = (y + 1) * x", _REAL, _PURE_SUMS, common_factor),
)
"""The rules that choose among programs of equal length."""

_KNOWN: dict[str, tuple[Op, tuple[Rule, ...]]] = {}


def rules_for(row: Op) -> tuple[Rule, ...]:
    """The rules on values that look at a node with this op."""
    known = _KNOWN.get(row.name)
    if known is None or known[0] is not row:
        known = _KNOWN[row.name] = row, tuple(rule for rule in RULES if rule.looks_at(row))
    return known[1]
