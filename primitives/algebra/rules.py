"""The table of rules: each a name, an equation, a domain, and a function of one node.

A rule looks at a node, knows what ops it may have at its root, and returns an equal node, or None
where it does not apply. To add a simplification, add one row; the tests ask for an example and try
the row on zeros, subnormals, huge values, infinities and NaN.
"""

from __future__ import annotations

from primitives.algebra import choices, functions, reductions
from primitives.algebra.arithmetic import common_factor, folded_sum, product_form, sum_form
from primitives.algebra.context import Context
from primitives.algebra.domains import Domain
from primitives.algebra.products import PRODUCT_OPS, SUM_OPS
from primitives.algebra.rule import Rule, rule
from primitives.graph.nodes import STATE, Node
from primitives.kinds import Kind
from primitives.ops import OPS, POWERS

_REAL = Domain.REAL
_PURE_SUMS = " ".join(sorted(SUM_OPS))
_SUMS = " ".join(sorted(SUM_OPS | {"multiply", "divide"}))
_PRODUCTS = " ".join(sorted(PRODUCT_OPS))


def _average(context: Context, node: Node) -> Node | None:
    """x * a + y * b, where a + b is 1."""
    x, y = node.args
    if x.op != "multiply" or y.op != "multiply":
        return None
    for a, u in (x.args, x.args[::-1]):
        for b, v in (y.args, y.args[::-1]):
            if Kind.SCALAR == a.kind == b.kind and _adds_up_to_one(context, a, b):
                if _is_averaged(context, u, v, a.depth - b.depth):
                    u, v, b = v, u, a
                return context.nodes.call("interp", u, v, b)
    return None


def _is_averaged(context: Context, x: Node, y: Node, deeper: int) -> bool:
    """Whether x, not y, is the average: a state's old value, else what has the plainer share."""
    old = [node.op == STATE for node in (x, y)]
    return old[0] if old[0] != old[1] else deeper < 0


def _adds_up_to_one(context: Context, a: Node, b: Node) -> bool:
    for p, q in ((a, b), (b, a)):
        if q.op == "subtract" and q.args[1] is p and q.args[0].is_constant:
            return q.args[0].value == 1
    return False


def _lerp(context: Context, node: Node) -> Node | None:
    """x + (y - x) * a."""
    for x, product in (node.args, node.args[::-1]):
        if product.op != "multiply":
            continue
        for difference, a in (product.args, product.args[::-1]):
            if difference.op == "subtract" and difference.args[1] is x and a.kind == Kind.SCALAR:
                return context.nodes.call("interp", x, difference.args[0], a)
    return None


def _interp_of_same(context: Context, node: Node) -> Node | None:
    return node.args[0] if node.args[0] is node.args[1] else None


def _named_power(context: Context, node: Node) -> Node | None:
    x, exponent = node.args
    name = POWERS.get(exponent.value) if exponent.is_constant else None
    return context.nodes.call(name, x) if name else None


RULES: tuple[Rule, ...] = (
    *functions.RULES,
    *choices.RULES,
    *reductions.RULES,
    rule("average", "x * (1 - a) + y * a = interp(x, y, a)", _REAL, "add", _average),
    rule("lerp", "x + (y - x) * a = interp(x, y, a)", _REAL, "add", _lerp),
    rule("interp-of-same", "interp(x, x, a) = x", _REAL, "interp", _interp_of_same),
    rule(
        "power-form",
        "a product of powers in its shortest form: x / sqrt(x * x) = sign(x)",
        _REAL,
        _PRODUCTS,
        product_form,
    ),
    rule(
        "linear-form",
        "a sum of products in its shortest form: x * a + y * b + x * c = x * d + y * b",
        _REAL,
        _SUMS,
        sum_form,
    ),
    rule("common-factor", "x * y + x * z = x * (y + z)", _REAL, _SUMS, common_factor),
    rule(
        "fold",
        "interp(x, interp(x, y, a), b) = interp(x, y, c), and so for all sums of sums",
        _REAL,
        _PURE_SUMS,
        folded_sum,
        folds=True,
    ),
)
"""Every rule on values, in the order in which they are tried."""

BY_ROOT: dict[str, tuple[Rule, ...]] = {
    op: tuple(one for one in RULES if op in one.roots) for op in OPS
}
"""The rules that look at a node with a given op."""

CANONICAL: tuple[Rule, ...] = (
    rule("named-power", "power(x, 1 / 2) = sqrt(x)", _REAL, "power", _named_power),
    rule("power-form", "products in one order", _REAL, _PRODUCTS, product_form),
    rule("linear-form", "sums in one order", _REAL, _PURE_SUMS, sum_form),
    rule("common-factor", "x * y + x = (y + 1) * x", _REAL, _PURE_SUMS, common_factor),
)
"""The rules that choose among programs of equal length."""
