"""Equations in words that a person reads: nested, with operators, in a program's names."""

from __future__ import annotations

from collections.abc import Mapping, Set

from primitives.graph.nodes import Node, reachable, shortest


def equation(old: Node, new: Node, named: Mapping[Node, str]) -> str:
    """`old = new`, with the names of values that both are made of."""
    common = set(reachable([old])) & set(reachable([new]))
    if new in common:
        common -= {new} if new.is_call else set()
    kept = common - {old}
    return f"{_text(old, kept, named)} = {_text(new, kept, named)}"


def _text(node: Node, kept: Set[Node], named: Mapping[Node, str], *, inside: bool = False) -> str:
    if node.is_constant:
        return repr(shortest(node.value))
    if not node.is_call:
        return node.name
    if node in kept and node in named:
        return named[node]
    infix = node.row.infix
    operands = sorted(node.args, key=_weight) if node.row.commutative else node.args
    args = [_text(arg, kept, named, inside=bool(infix)) for arg in operands]
    if not infix:
        return f"{node.op}({', '.join(args)})"
    text = f" {infix} ".join(args)
    return f"({text})" if inside else text


def _weight(node: Node) -> tuple[int, bool, int]:
    """Large kinds first, constants last, deep before shallow."""
    return -int(node.kind), node.is_constant, -node.depth
