"""An order of terms that does not depend on names or on how a program was written."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np

from primitives.algebra.terms import LEAF, Graph, Term
from primitives.graph.keys import mix
from primitives.kinds import Kind
from primitives.ops import OPS

Rank: TypeAlias = tuple[int, bool, int, int]
Hashes: TypeAlias = dict[tuple[tuple[str, int], ...], dict[Term, int]]
"""The hashes of terms, by those of the states that they are made of."""

_FIRST = {"w": 2, "g": 1, "lr": 3, "t": 4}
_STATE = 5


def ranking(graph: Graph, weight: str, known: Hashes) -> Callable[[Term], Rank]:
    """A key to sort terms of `graph` by: large kinds first, constants last, deep before shallow.

    What is left is decided by a hash of what a term computes, with states told apart by what they
    turn into (as `keys` does), so that equal programs sort alike whatever their states are called.
    `known` keeps the hashes for the terms that graphs have in common.
    """
    colours = _colours(graph, weight, known)
    hashes = _hashes(colours, known)
    ranks: dict[Term, Rank] = {}

    def rank(term: Term) -> Rank:
        known = ranks.get(term)
        if known is None:
            value = _hash(term, hashes, colours, weight)
            known = ranks[term] = (-_SIZE[term.kind], term.is_constant, -term.depth, value)
        return known

    return rank


_SIZE = {kind: place for place, kind in enumerate(Kind)}


def _hashes(colours: dict[str, int], known: Hashes) -> dict[Term, int]:
    return known.setdefault(tuple(colours.items()), {})


def _colours(graph: Graph, weight: str, known: Hashes) -> dict[str, int]:
    first = {
        state.name: mix(mix(_STATE, int(state.kind)), _bits(state.initial))
        for state in graph.states
    }
    colours = first
    for _ in first:  # enough rounds to tell apart all that differ
        hashes = _hashes(colours, known)
        colours = {
            name: mix(first[name], _hash(term, hashes, colours, weight))
            for name, term in graph.following.items()
        }
    return colours


def _hash(term: Term, hashes: dict[Term, int], colours: dict[str, int], weight: str) -> int:
    known = hashes.get(term)
    if known is not None:
        return known
    if term.is_constant:
        value = mix(_STATE + 1, _bits(term.value))
    elif term.op == LEAF:
        if term.name in colours:
            value = colours[term.name]
        elif term.kind == Kind.SCALAR:
            value = _FIRST[term.name]
        else:
            value = _FIRST["w" if term.name == weight else "g"]
    else:
        parts = [_hash(arg, hashes, colours, weight) for arg in term.args]
        op = OPS[term.op]
        value = op.tag
        for part in sorted(parts) if op.commutative else parts:
            value = mix(value, part)
    hashes[term] = value
    return value


def _bits(value: float) -> int:
    return int(np.float32(value).view(np.uint32)) + 1
