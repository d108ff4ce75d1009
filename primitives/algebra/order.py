"""An order of nodes that is the same for all programs with equal graphs, whatever their names."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np

from primitives.graph.keys import mix
from primitives.graph.nodes import GRADIENT, STATE, WEIGHTS, Graph, Node
from primitives.kinds import Kind

Rank: TypeAlias = tuple[int, bool, int, int]
"""(negative size of the kind, is constant, negative depth, hash)."""
Hashes: TypeAlias = dict[tuple[tuple[str, int], ...], dict[Node, int]]
"""For each assignment of hashes to states, the hashes of the nodes computed so far."""

_INPUT_HASHES = {WEIGHTS: 2, GRADIENT: 1, "lr": 3, "t": 4}
_STATE_SALT = 5
_KIND_SIZES = {kind: size for size, kind in enumerate(Kind)}


def ranking(graph: Graph, cache: Hashes) -> Callable[[Node], Rank]:
    """Return a sort key for nodes of `graph`.

    Nodes are sorted first by kind, from tensor to scalar; then constants after other nodes; then
    by decreasing depth.

    Ties are broken by a hash of what a node computes. As in the semantic key, states are
    distinguished by their next values, not by their names. So nodes of equal programs have the
    same order.

    Args:
        graph: the graph.
        cache: hashes of nodes, shared by all graphs of a simplification; new hashes are added.
    """
    state_hashes = _state_hashes(graph, cache)
    hashes = _hashes_for(state_hashes, cache)
    ranks: dict[Node, Rank] = {}

    def rank(node: Node) -> Rank:
        cached = ranks.get(node)
        if cached is None:
            kind_size, node_hash = _KIND_SIZES[node.kind], _hash(node, hashes, state_hashes)
            cached = ranks[node] = (-kind_size, node.is_constant, -node.depth, node_hash)
        return cached

    return rank


def _hashes_for(state_hashes: dict[str, int], cache: Hashes) -> dict[Node, int]:
    """Return the hashes of nodes that were computed with these hashes of states."""
    return cache.setdefault(tuple(state_hashes.items()), {})


def _state_hashes(graph: Graph, cache: Hashes) -> dict[str, int]:
    """Return a hash of each state that depends on its kind, initial value and next values."""
    initial = {
        state.name: mix(mix(_STATE_SALT, int(state.kind)), _float32_bits(state.initial))
        for state in graph.states
    }
    state_hashes = initial
    for _ in initial:  # one round per state is enough to distinguish all states that differ
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
        value = mix(_STATE_SALT + 1, _float32_bits(node.value))
    elif node.op == STATE:
        value = state_hashes[node.name]
    elif node.is_leaf:
        value = _INPUT_HASHES[node.op]
    else:
        parts = [_hash(arg, hashes, state_hashes) for arg in node.args]
        value = node.op_entry.tag
        for part in sorted(parts) if node.op_entry.commutative else parts:
            value = mix(value, part)
    hashes[node] = value
    return value


def _float32_bits(value: float) -> int:
    """Return the bits of a float32 as a positive integer."""
    return int(np.float32(value).view(np.uint32)) + 1
