"""Replacement of nodes in graphs, and the change in program size that a replacement causes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Set
from typing import NamedTuple

from primitives.graph.nodes import Graph, Node, Nodes, without_dead_states
from primitives.kinds import common, fits


def substitute(graph: Graph, nodes: Nodes, replacements: Mapping[Node, Node]) -> Graph:
    """Return `graph` with each key of `replacements` replaced by its value everywhere."""
    rebuild = rebuilder(nodes, replacements)
    return without_dead_states(
        Graph(
            rebuild(graph.update),
            {name: rebuild(node) for name, node in graph.next_values.items()},
            graph.states,
        )
    )


class SizeChange(NamedTuple):
    """The change in the size of a graph that a rewrite would cause.

    Attributes:
        statements: change of the number of statements.
        nesting: lower bound of the change of the sum of all nodes' depths.
    """

    statements: int
    nesting: float


def size_change(graph: Graph, old: Node, new: Node) -> SizeChange | None:
    """Return the change in size from replacing `old` by `new`, without building the new graph.

    If `new` is not in the graph yet, every node that reads `old` becomes a node that reads `new`.
    So the change is the number of nodes that `new` adds, minus the number of nodes on which only
    `old` depends, `old` included. (States become dead only if `new` depends on fewer leaves.) The
    nodes that read `old` become less nested only if `new` is less nested than `old`.

    Returns:
        The change; None if the change is only known after building the new graph.
    """
    uses = graph.uses
    calls = old.is_call and new.is_call
    if not calls or old not in uses or new in uses or not new.leaves >= old.leaves:
        return None
    added: set[Node] = set()
    kept: set[Node] = set()
    pending = [new]
    while pending:
        node = pending.pop()
        if node in uses:
            kept.add(node)
        elif node not in added:
            added.add(node)
            pending += node.args
    if any(node.depth >= old.depth for node in kept):
        return None  # a kept node that reads `old` would keep `old` in the graph
    removed = exclusive_operands(graph, old, kept)
    statements = sum(node.is_call for node in added) - sum(node.is_call for node in removed)
    if new.depth < old.depth:
        return SizeChange(statements, -math.inf)
    nesting = sum(node.depth for node in added) - sum(node.depth for node in removed)
    return SizeChange(statements, nesting)


def exclusive_operands(graph: Graph, root: Node, kept: Set[Node] = frozenset()) -> list[Node]:
    """Return `root` and all nodes that only `root` needs, except for nodes in `kept`."""
    dead = [root]
    remaining_uses: dict[Node, int] = {}
    for node in dead:
        for arg in node.args:
            remaining_uses[arg] = remaining_uses.get(arg, graph.uses[arg]) - 1
            if not remaining_uses[arg] and arg not in kept:
                dead.append(arg)
    return dead


def rebuilder(nodes: Nodes, replacements: Mapping[Node, Node]) -> Callable[[Node], Node]:
    """Return a function that applies `replacements` to a node and to all its operands."""
    rebuilt = dict(replacements)
    min_depth = min((node.depth for node in replacements), default=0)

    def rebuild(node: Node) -> Node:
        cached = rebuilt.get(node)
        if cached is not None:
            return cached
        if node.depth <= min_depth:
            return node
        args = tuple([rebuild(arg) for arg in node.args])
        rebuilt[node] = new = node if args == node.args else nodes.call(node.op, *args)
        return new

    return rebuild


def may_replace(graph: Graph, nodes: Nodes, old: Node, new: Node) -> bool:
    """Return whether the kind of `new` allows replacing `old` by `new` in all ops that read `old`.

    A value of a smaller kind broadcasts to the same numbers. But the norm of one number differs
    from the norm of a tensor that repeats the number. So the operands of reductions must keep
    their common kind.
    """
    if new.kind == old.kind:
        return True
    if not fits(new.kind, old.kind):
        return False
    rebuild = rebuilder(nodes, {old: new})
    for node in graph.live:
        if node.op_entry.mixes_numbers:
            new_kind = common(rebuild(arg).kind for arg in node.args)
            if new_kind != common(arg.kind for arg in node.args):
                return False
    return True
