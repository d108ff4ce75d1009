"""The semantic key: a hash of what a program computes, not of how it is written.

A program is an automaton: its live states turn into terms over states, weights, gradient, schedule
and constants, and the update is one more such term. States are told apart as in the minimisation of
automata (Moore 1956): they start with a colour made of kind and initial value, and each round
refines it by the hash of what the state turns into, until no more states differ. States of one
colour then behave alike for ever, and the key is a hash of the update's term and of the set of
(colour, next term) pairs. So it does not depend on names, on dead statements, on the order of
independent statements and of states, on duplicates among the states or on how often a common
subexpression is written; operands of commutative ops are sorted. Two programs with the same key
have isomorphic minimal automata, up to a collision of 64-bit hashes.
"""

from __future__ import annotations

import struct
from functools import lru_cache

from primitives.op import Op
from primitives.ops import OPS
from primitives.program import SCHEDULE_INPUTS, Program

_MASK = (1 << 64) - 1
_FACTOR = 0x9E3779B97F4A7C15


def mix(h: int, x: int) -> int:
    """One round of a 64-bit hash; written out because keys outlive a process (unlike `hash`).

    Not symmetric: a state that keeps its value mixes a colour with itself.
    """
    h = (h * _FACTOR + x) & _MASK
    return h ^ (h >> 29)


_Node = tuple[int, Op, list[int]]
"""A live statement: its value's number, its op, and where its operands' hashes are."""

_WEIGHT, _GRADIENT = mix(0x1EAF, 1), mix(0x1EAF, 2)
_INPUT = {name: mix(0x1EAF, number) for number, name in enumerate(SCHEDULE_INPUTS, 3)}


@lru_cache(maxsize=65536)
def _constant(value: float) -> int:
    """A constant's hash: that of its float32 value, which programs compute with; -0.0 is 0.0."""
    return mix(0xC0457, int.from_bytes(struct.pack("<f", value + 0.0), "little") + 1)


@lru_cache(maxsize=4096)
def _fresh(kind: int, initial: float) -> int:
    """The colour that a state starts with."""
    return mix(mix(0x57A7E, kind), _constant(initial))


def semantic_hash(
    program: Program,
    operands: tuple[tuple[int | float, ...], ...],
    update: int,
    next_value: dict[int, int],
    live_statements: tuple[int, ...],
) -> int:
    """64 bits, equal for programs that compute the same update.

    Args:
        program: parameters, initial values and ops are read from it.
        operands: for each statement its operands, a value's number (int) or a constant (float).
        update: the number of the update's value.
        next_value: for each live state, by number, the value that it turns into.
        live_statements: the statements to hash, ascending.
    """
    parameters, statements = program.parameters, program.statements
    count = len(parameters)
    hashes = [_WEIGHT, _GRADIENT]
    hashes += [_INPUT.get(name, 0) for name, _, _ in parameters[2:]]
    hashes += [0] * len(statements)
    nodes: list[_Node] = []
    for index in live_statements:
        places = []
        for arg in operands[index]:
            if type(arg) is int:
                places.append(arg)
            else:  # a constant is one more leaf
                places.append(len(hashes))
                hashes.append(_constant(arg))
        nodes.append((count + index, OPS[statements[index].op], places))
    first = {state: _fresh(*parameters[state][1:]) for state in next_value}
    colours, known = first, len(set(first.values()))
    while True:
        _hash_terms(hashes, nodes, colours)
        if known == len(colours):
            break
        refined = {state: mix(first[state], hashes[v]) for state, v in next_value.items()}
        told_apart = len(set(refined.values()))
        if told_apart == known:  # the partition is stable: what is left are duplicates
            break
        colours, known = refined, told_apart
    h = hashes[update]
    for colour, turned_into in sorted({(colours[s], hashes[v]) for s, v in next_value.items()}):
        h = mix(mix(h, colour), turned_into)
    return h


def _hash_terms(hashes: list[int], nodes: list[_Node], colours: dict[int, int]) -> None:
    """Fills in the hash of each value's term, with the states as leaves of the given colours."""
    for state, colour in colours.items():
        hashes[state] = colour
    for value, op, places in nodes:
        if op.name == "identity":
            hashes[value] = hashes[places[0]]
            continue
        if op.commutative and hashes[places[0]] > hashes[places[1]]:
            places.reverse()
        h = op.tag
        for place in places:  # `mix`, in line: this loop is most of the work
            h = (h * _FACTOR + hashes[place]) & _MASK
            h ^= h >> 29
        hashes[value] = h
