"""Rules on what is summed over weights: means, norms, inner products, clipping."""

from __future__ import annotations

from primitives.algebra.context import Context
from primitives.algebra.domains import Domain
from primitives.algebra.rule import Rule, rule
from primitives.graph.nodes import Node
from primitives.kinds import Kind, meet

_ALWAYS, _FINITE, _REAL = Domain


def _mean_of_means(context: Context, node: Node) -> Node | None:
    (x,) = node.args
    return x if node.kind == x.kind else None


def _norm_of_number(context: Context, node: Node) -> Node | None:
    (x,) = node.args
    single = x.kind == Kind.SCALAR or (x.kind == Kind.LEAF and node.op != "global_norm")
    return context.nodes.call("abs", x) if single else None


def _dot_of_numbers(context: Context, node: Node) -> Node | None:
    x, y = node.args
    numbers = x.kind == y.kind == Kind.SCALAR
    return context.nodes.call("multiply", x, y) if numbers else None


def _root_of_dot(context: Context, node: Node) -> Node | None:
    (inner,) = node.args
    if inner.op == "dot" and inner.args[0] is inner.args[1]:
        return context.nodes.call("global_norm", inner.args[0])
    return None


def _root_mean_square(context: Context, node: Node) -> Node | None:
    (mean,) = node.args
    if mean.op != "mean" or meet(mean.args[0].kind, Kind.LEAF) != Kind.LEAF:
        return None
    (squared,) = mean.args
    if squared.op == "square":
        return context.nodes.call("rms", squared.args[0])
    return None


def _squared_norm(context: Context, node: Node) -> Node | None:
    (inner,) = node.args
    if inner.op == "global_norm":
        return context.nodes.call("dot", inner.args[0], inner.args[0])
    return None


def _clip_twice(context: Context, node: Node) -> Node | None:
    x, c = node.args
    same = x.op == node.op and x.args[1] is c and context.range(c).nonnegative
    return x if same else None


def _scale_free(context: Context, node: Node) -> Node | None:
    """What does not depend on the size of an operand, without a positive factor on it."""
    for place, arg in enumerate(node.args):
        if arg.op not in ("multiply", "divide"):
            continue
        x, y = arg.args
        pairs = [(x, y)] if arg.op == "divide" else [(x, y), (y, x)]
        for kept, factor in pairs:
            if factor.kind == Kind.SCALAR and context.range(factor).positive:
                args = list(node.args)
                args[place] = kept
                return context.nodes.call(node.op, *args)
    return None


RULES: tuple[Rule, ...] = (
    rule(
        "mean-of-means",
        "row_mean(row_mean(x)) = row_mean(x), and so on: the mean of one number",
        _ALWAYS,
        "mean row_mean col_mean matrix_mean",
        _mean_of_means,
    ),
    rule(
        "norm-of-number",
        "norm(x) = abs(x) for one number",
        _REAL,
        "norm global_norm rms",
        _norm_of_number,
    ),
    rule("dot-of-numbers", "dot(x, y) = x * y for numbers", _ALWAYS, "dot", _dot_of_numbers),
    rule("root-of-dot", "sqrt(dot(x, x)) = global_norm(x)", _ALWAYS, "sqrt", _root_of_dot),
    rule("squared-norm", "square(global_norm(x)) = dot(x, x)", _REAL, "square", _squared_norm),
    rule("root-mean-square", "sqrt(mean(square(x))) = rms(x)", _ALWAYS, "sqrt", _root_mean_square),
    rule("clip-twice", "clip(clip(x, c), c) = clip(x, c)", _REAL, "clip clip_by_rms", _clip_twice),
    rule(
        "scale-free",
        "cosine_sim(a * x, y) = cosine_sim(x, y) for a > 0",
        _REAL,
        "cosine_sim orthogonalize",
        _scale_free,
    ),
)
"""The rules, in the order in which they are tried."""
