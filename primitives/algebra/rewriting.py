"""Rewriting of graphs: one node in another's place, and what that makes of the program's size."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Set
from typing import NamedTuple

from primitives.graph.nodes import Graph, Node, Nodes, without_dead_states
from primitives.kinds import common, fits


def substitute(graph: Graph, nodes: Nodes, replaced: Mapping[Node, Node]) -> Graph:
    """`graph` with each of the nodes `replaced` given way to another, wherever it is read."""
    rebuild = rebuilder(nodes, replaced)
    return without_dead_states(
        Graph(
            rebuild(graph.update),
            {name: rebuild(node) for name, node in graph.following.items()},
            graph.states,
        )
    )


class Growth(NamedTuple):
    """What a rewrite would do to a graph.

    Attributes:
        size: by how much its size would grow.
        nesting: by how much the sum of its nodes' depths would, at least.
    """

    size: int
    nesting: float


def growth(graph: Graph, old: Node, new: Node) -> Growth | None:
    """How `graph` grows with `new` for `old`, without making it; None where that takes making.

    What is made of `old` becomes as many nodes that are made of `new`, if `new` is not there yet.
    So it suffices to count what `new` adds and what nothing but `old` reads. (States die only where
    `new` is made of fewer.) Those above become less nested only if `new` is.
    """
    uses = graph.uses
    calls = old.is_call and new.is_call
    if not calls or old not in uses or new in uses or not new.leaves >= old.leaves:
        return None
    added: set[Node] = set()
    kept: set[Node] = set()
    waiting = [new]
    while waiting:
        node = waiting.pop()
        if node in uses:
            kept.add(node)
        elif node not in added:
            added.add(node)
            waiting += node.args
    if any(node.depth >= old.depth for node in kept):
        return None  # it may be made of `old`, which then stays
    lost = read_only_for(graph, old, kept)
    size = sum(t.is_call for t in added) - sum(t.is_call for t in lost)
    if new.depth < old.depth:
        return Growth(size, -math.inf)
    return Growth(size, sum(t.depth for t in added) - sum(t.depth for t in lost))


def read_only_for(graph: Graph, old: Node, kept: Set[Node] = frozenset()) -> list[Node]:
    """What goes if `old` does: itself and what nothing else reads, but for what is `kept`."""
    lost = [old]
    left: dict[Node, int] = {}
    for node in lost:
        for arg in node.args:
            left[arg] = left.get(arg, graph.uses[arg]) - 1
            if not left[arg] and arg not in kept:
                lost.append(arg)
    return lost


def rebuilder(nodes: Nodes, replaced: Mapping[Node, Node]) -> Callable[[Node], Node]:
    """A function that gives a node with `replaced` carried out inside it."""
    done = dict(replaced)
    least = min((node.depth for node in replaced), default=0)

    def rebuild(node: Node) -> Node:
        known = done.get(node)
        if known is not None:
            return known
        if node.depth <= least:
            return node
        args = tuple([rebuild(arg) for arg in node.args])
        done[node] = new = node if args == node.args else nodes.call(node.op, *args)
        return new

    return rebuild


def may_replace(graph: Graph, nodes: Nodes, old: Node, new: Node) -> bool:
    """Whether the kinds of `old` and `new` let one stand for the other wherever `old` is read.

    A smaller kind holds the same numbers, but a norm of one number is not the norm of as many as
    there are weights, so the operands of whatever reduces must keep their kind.
    """
    if new.kind == old.kind:
        return True
    if not fits(new.kind, old.kind):
        return False
    rebuild = rebuilder(nodes, {old: new})
    for node in graph.live:
        if node.row.mixes_numbers:
            kept = common(rebuild(arg).kind for arg in node.args)
            if kept != common(arg.kind for arg in node.args):
                return False
    return True
