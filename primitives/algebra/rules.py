"""The table of rewrite rules on values: equations with a domain, and a few functions.

To add a rule, add a row to `RULES` and an example to the tests. The tests try every rule on zeros,
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
    FoldedConstant,
    Variable,
    constants,
    differs,
    op,
    scalars,
    values,
)
from primitives.algebra.products import PRODUCT_OPS, SUM_OPS
from primitives.algebra.rule import Domain, Rule, rewrite, rewrite_any
from primitives.graph.nodes import STATE, Node
from primitives.kinds import Kind
from primitives.op import Op
from primitives.ops import OPS, POWERS

_ALWAYS, _FINITE, _REAL = Domain
_TOLERANCE = 1e-5

x, y = values("x y")
a, b, c = scalars("a b c")
j, k = constants("a b")
(test,) = values("c")
array = Variable("x", lambda node: node.kind != Kind.SCALAR)
not_constant = Variable("x", lambda node: not node.is_constant)
even = Family("f", "even", lambda op_entry: op_entry.parity == "even")
odd = Family("f", "odd", lambda op_entry: op_entry.parity == "odd")

# -- rules that are functions -------------------------------------------------------------------


def _constant(context: Context, node: Node) -> Node | None:
    """Evaluate an op of constants if float32 and float64 give the same finite value."""
    if not all(arg.is_constant for arg in node.args):
        return None
    float64_value, float32_value = (_value(node, dtype) for dtype in (np.float64, np.float32))
    if not math.isfinite(float64_value):
        return None
    is_close = math.isclose(float64_value, float32_value, rel_tol=_TOLERANCE)
    return context.nodes.constant(float64_value) if is_close else None


def _value(node: Node, dtype: type[np.floating]) -> float:
    """Return the value of an op of constants, computed in `dtype` and rounded to float32."""
    args = [dtype(arg.value) for arg in node.args]
    with np.errstate(all="ignore"):
        return float(np.float32(node.op_entry.of_numbers(np, *args)))


def _reduction_of_one_number(context: Context, node: Node) -> Node | None:
    """Replace a reduction of a single number by an op without a reduction."""
    if node.op_entry.of_number is None or any(arg.kind != node.kind for arg in node.args):
        return None
    return context.nodes.call(node.op_entry.of_number, *node.args)


def _average(context: Context, node: Node) -> Node | None:
    """Replace a * x + b * y, where a + b is 1, by `interp(x, y, b)` or `interp(y, x, a)`."""
    left, right = node.args
    if left.op != "multiply" or right.op != "multiply":
        return None
    for first_weight, first in (left.args, left.args[::-1]):
        for second_weight, second in (right.args, right.args[::-1]):
            are_scalars = Kind.SCALAR == first_weight.kind == second_weight.kind
            if are_scalars and _sum_to_one(first_weight, second_weight):
                depth_difference = first_weight.depth - second_weight.depth
                if _is_old_average(first, second, depth_difference):
                    return context.nodes.call("interp", second, first, first_weight)
                return context.nodes.call("interp", first, second, second_weight)
    return None


def _is_old_average(first: Node, second: Node, depth_difference: int) -> bool:
    """Return whether `first`, not `second`, is the old average, the second operand of `interp`.

    If only one of the two values is a state's old value, that value is the old average. Otherwise
    the value whose weight has the smaller depth is the old average.

    Args:
        first: the first value.
        second: the second value.
        depth_difference: the depth of the weight of `first` minus that of the weight of `second`.
    """
    first_is_state, second_is_state = first.op == STATE, second.op == STATE
    return first_is_state if first_is_state != second_is_state else depth_difference < 0


def _sum_to_one(first: Node, second: Node) -> bool:
    """Return whether one of the nodes is 1 minus the other."""
    for weight, complement in ((first, second), (second, first)):
        is_difference = complement.op == "subtract" and complement.args[1] is weight
        if is_difference and complement.args[0].is_constant:
            return complement.args[0].value == 1
    return False


def _among(*names: str) -> Callable[[Op], bool]:
    """Return a test for ops with one of the given names."""
    return lambda op_entry: op_entry.name in names


def _reduces_to(op_name: str) -> Callable[[Op], bool]:
    """Return a test for reductions that equal the op `op_name` on a single number."""
    return lambda op_entry: op_entry.of_number == op_name


# -- the table ------------------------------------------------------------------------------------

_INVERSES = tuple(
    rewrite(
        f"{entry.name}-of-{entry.inverse}", op(entry.name)(op(entry.inverse)(x)), x, domain=_REAL
    )
    for entry in OPS.values()
    if entry.inverse and entry.name not in PRODUCT_OPS
)
"""Rules f(g(x)) = x for an op f and its inverse g, except for powers; see "power-form"."""

_SAME_SIGNS = tuple(
    rewrite(f"sign-of-{name}", op.sign(op(name)(x)), op.sign(x), domain=domain)
    for domain, names in (
        (_ALWAYS, "tanh sinh arctan arcsinh expm1"),
        (_REAL, "arcsin"),
        (_FINITE, "arctanh log1p"),
    )
    for name in names.split()
)

_POWERS_WITH_LITERALS = [
    name for exponent, name in POWERS.items() if float(np.float32(exponent)) == exponent
]
"""Ops that raise to an exponent that float32 represents exactly, unlike the 1/3 of `cbrt`."""

_ADDITIVE = _among(*SUM_OPS)
_SUMS = _among(*SUM_OPS, "multiply", "divide")
_PRODUCTS = _among(*PRODUCT_OPS)

RULES: tuple[Rule, ...] = (
    Rule("constant", "f(a, b) = c", _ALWAYS, lambda op_entry: True, _constant),
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
    rewrite_any(
        "product-of-exp",
        *((f(x) * f(y), f(x + y)) for f in (op.exp, op.exp2, op.exp10)),
        domain=_REAL,
    ),
    rewrite_any(
        "sum-of-logs",
        *((f(x) + f(y), f(x * y)) for f in (op.log, op.log2, op.log10)),
        domain=_REAL,
    ),
    rewrite("log1p", op.log(x + 1), op.log1p(x), domain=_REAL),
    rewrite("expm1", op.exp(x) - 1, op.expm1(x), domain=_REAL),
    # extremes, choices and comparisons
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
    .also(op.maximum(op.maximum(x, j), k), op.maximum(x, FoldedConstant(op.maximum(j, k))))
    .also(op.minimum(op.minimum(x, y), y), op.minimum(x, y))
    .also(op.minimum(op.minimum(x, j), k), op.minimum(x, FoldedConstant(op.minimum(j, k)))),
    rewrite("extreme-absorbs", op.maximum(x, op.minimum(x, y)), x, domain=_FINITE).also(
        op.minimum(x, op.maximum(x, y)), x
    ),
    rewrite("opposites", op.maximum(x, -x), op.abs(x), domain=_ALWAYS),
    rewrite(
        "clamp",
        op.minimum(op.maximum(not_constant, a), b),
        op.clamp(not_constant, a, b),
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
        "row_mean(row_mean(x)) = row_mean(x), and any other mean of a single number",
        _ALWAYS,
        _reduces_to("identity"),
        _reduction_of_one_number,
    ),
    Rule(
        "norm-of-number",
        "norm(x) = abs(x) for a single number x",
        _REAL,
        _reduces_to("abs"),
        _reduction_of_one_number,
    ),
    Rule(
        "dot-of-numbers",
        "dot(x, y) = x * y for single numbers x, y",
        _ALWAYS,
        _reduces_to("multiply"),
        _reduction_of_one_number,
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
        "interp(x, interp(x, y, a), b) = interp(x, y, c), and any other sum of sums",
        _REAL,
        _ADDITIVE,
        folded_sum,
        accepts_less_nested=True,
    ),
)
"""The rules on values, in the order in which they are tried."""

CANONICAL: tuple[Rule, ...] = (
    rewrite_any(
        "named-power",
        *((op.power(x, OPS[name].exponent), op(name)(x)) for name in _POWERS_WITH_LITERALS),
        domain=_REAL,
    ),
    Rule("power-form", "products in one order", _REAL, _PRODUCTS, product_form),
    Rule("linear-form", "sums in one order", _REAL, _ADDITIVE, sum_form),
    Rule("common-factor", "x * y + x = (y + 1) * x", _REAL, _ADDITIVE, common_factor),
)
"""The rules that choose one of several programs of equal length."""

_RULES_BY_OP: dict[str, tuple[Op, tuple[Rule, ...]]] = {}


def rules_for(op_entry: Op) -> tuple[Rule, ...]:
    """Return the rules on values that can rewrite nodes of an op, given its entry in the table."""
    cached = _RULES_BY_OP.get(op_entry.name)
    if cached is None or cached[0] is not op_entry:
        cached = _RULES_BY_OP[op_entry.name] = (
            op_entry,
            tuple(rule for rule in RULES if rule.may_apply(op_entry)),
        )
    return cached[1]
