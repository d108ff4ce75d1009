"""Rules on choices: larger and smaller, clamp, where, comparisons, remainders."""

from __future__ import annotations

from primitives.algebra.context import Context
from primitives.algebra.domains import Domain
from primitives.algebra.rule import Rule, rule
from primitives.graph.nodes import Node
from primitives.kinds import Kind

_ALWAYS, _FINITE, _REAL = Domain


def _extreme_of_same(context: Context, node: Node) -> Node | None:
    x, y = node.args
    return x if x is y else None


def _known_extreme(context: Context, node: Node) -> Node | None:
    x, y = node.args
    a, b = context.range(x), context.range(y)
    larger = x if a.low >= b.high else y if b.low >= a.high else None
    if larger is None or node.op == "maximum":
        return larger
    return y if larger is x else x


def _extreme_nested(context: Context, node: Node) -> Node | None:
    for x, y in (node.args, node.args[::-1]):
        if x.op != node.op:
            continue
        if y in x.args:
            return x
        if y.is_constant and x.args[0].is_constant != x.args[1].is_constant:
            inner, constant = sorted(x.args, key=lambda arg: arg.is_constant)
            pick = max if node.op == "maximum" else min
            return context.nodes.call(node.op, inner, pick(constant.value, y.value))
    return None


def _extreme_absorbs(context: Context, node: Node) -> Node | None:
    other = "minimum" if node.op == "maximum" else "maximum"
    for x, y in (node.args, node.args[::-1]):
        if y.op == other and x in y.args:
            return x
    return None


def _maximum_of_opposites(context: Context, node: Node) -> Node | None:
    for x, y in (node.args, node.args[::-1]):
        if y.op == "negative" and y.args[0] is x:
            return context.nodes.call("abs", x)
    return None


def _clamp(context: Context, node: Node) -> Node | None:
    for inner, high in (node.args, node.args[::-1]):
        if inner.op != "maximum" or high.kind != Kind.SCALAR:
            continue
        for x, low in (inner.args, inner.args[::-1]):
            if low.kind == Kind.SCALAR and (low.is_constant or not x.is_constant):
                return context.nodes.call("clamp", x, low, high)
    return None


def _clamp_within(context: Context, node: Node) -> Node | None:
    x, low, high = node.args
    held = context.range(x)
    inside = context.range(low).high <= held.low and held.high <= context.range(high).low
    return x if inside else None


def _where_same(context: Context, node: Node) -> Node | None:
    return node.args[1] if node.args[1] is node.args[2] else None


def _where_known(context: Context, node: Node) -> Node | None:
    c, x, y = node.args
    if c.is_constant:
        return x if c.value else y
    return x if context.range(c).nonzero else None


def _where_itself(context: Context, node: Node) -> Node | None:
    c, x, y = node.args
    return x if c is x and y.is_constant and y.value == 0 else None


def _where_greater(context: Context, node: Node) -> Node | None:
    c, x, y = node.args
    if c.op != "greater":
        return None
    if c.args == (x, y):
        return context.nodes.call("maximum", x, y)
    return context.nodes.call("minimum", x, y) if c.args == (y, x) else None


def _greater(context: Context, node: Node) -> Node | None:
    x, y = node.args
    if x is y or context.range(x).high <= context.range(y).low:
        return context.nodes.constant(0.0)
    return None


def _greater_surely(context: Context, node: Node) -> Node | None:
    x, y = map(context.range, node.args)
    return context.nodes.constant(1.0) if x.low > y.high else None


def _equal(context: Context, node: Node) -> Node | None:
    x, y = node.args
    return context.nodes.constant(1.0) if x is y else None


def _unequal(context: Context, node: Node) -> Node | None:
    x, y = map(context.range, node.args)
    return context.nodes.constant(0.0) if x.low > y.high or y.low > x.high else None


def _mod_same(context: Context, node: Node) -> Node | None:
    x, y = node.args
    return context.nodes.constant(0.0) if x is y else None


def _mod_nested(context: Context, node: Node) -> Node | None:
    """A remainder of what is negative may round up to the divisor itself."""
    x, y = node.args
    if x.op != "mod" or x.args[1] is not y:
        return None
    least = context.range(x.args[0]).low
    return x if least >= 0 and context.range(y).positive else None


RULES: tuple[Rule, ...] = (
    rule("extreme-of-same", "maximum(x, x) = x", _ALWAYS, "maximum minimum", _extreme_of_same),
    rule(
        "known-extreme", "maximum(x, y) = x for x >= y", _FINITE, "maximum minimum", _known_extreme
    ),
    rule(
        "extreme-nested",
        "maximum(maximum(x, a), b) = maximum(x, c), maximum(maximum(x, y), y) = maximum(x, y)",
        _ALWAYS,
        "maximum minimum",
        _extreme_nested,
    ),
    rule(
        "extreme-absorbs",
        "maximum(x, minimum(x, y)) = x",
        _FINITE,
        "maximum minimum",
        _extreme_absorbs,
    ),
    rule("opposites", "maximum(x, -x) = abs(x)", _ALWAYS, "maximum", _maximum_of_opposites),
    rule("clamp", "minimum(maximum(x, a), b) = clamp(x, a, b)", _ALWAYS, "minimum", _clamp),
    rule("clamp-within", "clamp(x, a, b) = x for a <= x <= b", _FINITE, "clamp", _clamp_within),
    rule("where-same", "where(c, x, x) = x", _ALWAYS, "where", _where_same),
    rule("where-known", "where(c, x, y) = x for c != 0", _ALWAYS, "where", _where_known),
    rule("where-itself", "where(x, x, 0) = x", _ALWAYS, "where", _where_itself),
    rule(
        "where-greater",
        "where(greater(x, y), x, y) = maximum(x, y)",
        _FINITE,
        "where",
        _where_greater,
    ),
    rule("not-greater", "greater(x, y) = 0 for x <= y", _ALWAYS, "greater", _greater),
    rule("greater", "greater(x, y) = 1 for x > y", _FINITE, "greater", _greater_surely),
    rule("equal-to-itself", "equal(x, x) = 1", _FINITE, "equal", _equal),
    rule("unequal", "equal(x, y) = 0 for x < y or y < x", _ALWAYS, "equal", _unequal),
    rule("mod-of-same", "mod(x, x) = 0", _FINITE, "mod", _mod_same),
    rule(
        "mod-nested",
        "mod(mod(x, y), y) = mod(x, y) for x >= 0, y > 0",
        _ALWAYS,
        "mod",
        _mod_nested,
    ),
)
"""The rules, in the order in which they are tried."""
