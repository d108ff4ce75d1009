"""An order of nodes that does not depend on names or on how a program was written."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np

from primitives.graph.keys import mix
from primitives.graph.nodes import GRADIENT, STATE, WEIGHTS, Graph, Node
from primitives.kinds import Kind

Rank: TypeAlias = tuple[int, bool, int, int]
Hashes: TypeAlias = dict[tuple[tuple[str, int], ...], dict[Node, int]]
"""The hashes of nodes, by those of the states that they are made of."""

_FIRST = {WEIGHTS: 2, GRADIENT: 1, "lr": 3, "t": 4}
_STATE = 5


def ranking(graph: Graph, known: Hashes) -> Callable[[Node], Rank]:
    """A key to sort nodes of `graph` by: large kinds first, constants last, deep before shallow.

    What is left is decided by a hash of what a node computes, with states told apart by what they
    turn into (as `keys` does), so that equal programs sort alike whatever their states are called.
    `known` keeps the hashes for the nodes that graphs have in common.
    """
    colours = _colours(graph, known)
    hashes = _hashes(colours, known)
    ranks: dict[Node, Rank] = {}

    def rank(node: Node) -> Rank:
        known = ranks.get(node)
        if known is None:
            value = _hash(node, hashes, colours)
            known = ranks[node] = (-_SIZE[node.kind], node.is_constant, -node.depth, value)
        return known

    return rank


_SIZE = {kind: place for place, kind in enumerate(Kind)}


def _hashes(colours: dict[str, int], known: Hashes) -> dict[Node, int]:
    return known.setdefault(tuple(colours.items()), {})


def _colours(graph: Graph, known: Hashes) -> dict[str, int]:
    first = {
        state.name: mix(mix(_STATE, int(state.kind)), _bits(state.initial))
        for state in graph.states
    }
    colours = first
    for _ in first:  # enough rounds to tell apart all that differ
        hashes = _hashes(colours, known)
        colours = {
            name: mix(first[name], _hash(node, hashes, colours))
            for name, node in graph.following.items()
        }
    return colours


def _hash(node: Node, hashes: dict[Node, int], colours: dict[str, int]) -> int:
    known = hashes.get(node)
    if known is not None:
        return known
    if node.is_constant:
        value = mix(_STATE + 1, _bits(node.value))
    elif node.op == STATE:
        value = colours[node.name]
    elif node.is_leaf:
        value = _FIRST[node.op]
    else:
        parts = [_hash(arg, hashes, colours) for arg in node.args]
        value = node.row.tag
        for part in sorted(parts) if node.row.commutative else parts:
            value = mix(value, part)
    hashes[node] = value
    return value


def _bits(value: float) -> int:
    return int(np.float32(value).view(np.uint32)) + 1
