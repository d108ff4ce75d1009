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
"""Hashes of nodes, by the hashes of the states that the nodes may read."""

_LEAF_HASHES = {WEIGHTS: 2, GRADIENT: 1, "lr": 3, "t": 4}
_STATE = 5
_SIZES = {kind: size for size, kind in enumerate(Kind)}


def ranking(graph: Graph, cache: Hashes) -> Callable[[Node], Rank]:
    """Return a sort key for nodes of `graph`: large kinds first, constants last, deep nodes first.

    Ties are broken by a hash of what a node computes. As in the semantic key, states are
    distinguished by their next values, not by their names. So equal programs are sorted alike.

    Args:
        graph: the graph.
        cache: hashes of nodes, shared between graphs and extended here.
    """
    state_hashes = _state_hashes(graph, cache)
    hashes = _hashes_for(state_hashes, cache)
    ranks: dict[Node, Rank] = {}

    def rank(node: Node) -> Rank:
        cached = ranks.get(node)
        if cached is None:
            value = _hash(node, hashes, state_hashes)
            cached = ranks[node] = (-_SIZES[node.kind], node.is_constant, -node.depth, value)
        return cached

    return rank


def _hashes_for(state_hashes: dict[str, int], cache: Hashes) -> dict[Node, int]:
    return cache.setdefault(tuple(state_hashes.items()), {})


def _state_hashes(graph: Graph, cache: Hashes) -> dict[str, int]:
    initial = {
        state.name: mix(mix(_STATE, int(state.kind)), _bits(state.initial))
        for state in graph.states
    }
    state_hashes = initial
    for _ in initial:  # as many rounds as states distinguish all states that differ
        hashes = _hashes_for(state_hashes, cache)
        state_hashes = {
            name: mix(initial[name], _hash(node, hashes, state_hashes))
            for name, node in graph.next_values.items()
        }
    return state_hashes


def _hash(node: Node, hashes: dict[Node, int], state_hashes: dict[str, int]) -> int:
    cached = hashes.get(node)
    if cached is not None:
        return cached
    if node.is_constant:
        value = mix(_STATE + 1, _bits(node.value))
    elif node.op == STATE:
        value = state_hashes[node.name]
    elif node.is_leaf:
        value = _LEAF_HASHES[node.op]
    else:
        parts = [_hash(arg, hashes, state_hashes) for arg in node.args]
        value = node.row.tag
        for part in sorted(parts) if node.row.commutative else parts:
            value = mix(value, part)
    hashes[node] = value
    return value


def _bits(value: float) -> int:
    return int(np.float32(value).view(np.uint32)) + 1
