"""The semantic key: a hash of what a program computes, independent of how it is written.

A program is an automaton: the update and the next value of each live state are terms over states,
weights, gradient, schedule inputs and constants. States are distinguished as in the minimization of
automata (Moore 1956): each state gets a colour, a hash that is at first computed from the kind and
the initial value of the state. Each round refines the colours by the hashes of the states' next
values, until the number of colours no longer grows. States of the same colour then have equal
values at every step. The key is a hash of the update's term and of the set of pairs (colour, term
of the next value).

So the key does not depend on names, on dead statements, on the order of independent statements and
of states, on duplicate states, or on how often a common subexpression is computed; operands of
commutative ops are sorted. Two programs with the same key have isomorphic minimal automata, unless
64-bit hashes collide.
"""

from __future__ import annotations

import struct
from functools import lru_cache

from primitives.op import Op
from primitives.ops import OPS
from primitives.program import SCHEDULE_INPUTS, Program

_MASK = (1 << 64) - 1
_FACTOR = 0x9E3779B97F4A7C15


def mix(first: int, second: int) -> int:
    """Return a 64-bit hash of a pair of 64-bit hashes; it depends on their order.

    Semantic keys are stored, so they cannot use Python's `hash`, which differs between processes.
    A constant state mixes its colour with itself, so a symmetric function such as XOR would give
    the same hash to all constant states.
    """
    mixed = (first * _FACTOR + second) & _MASK
    return mixed ^ (mixed >> 29)


_Node = tuple[int, Op, list[int]]
"""A live statement: the number of its result, its op, and its operands' indices in `hashes`."""

_WEIGHT, _GRADIENT = mix(0x1EAF, 1), mix(0x1EAF, 2)
_INPUT = {name: mix(0x1EAF, number) for number, name in enumerate(SCHEDULE_INPUTS, 3)}


@lru_cache(maxsize=65536)
def _constant(value: float) -> int:
    """Hash the float32 value of a constant; -0.0 counts as 0.0."""
    return mix(0xC0457, int.from_bytes(struct.pack("<f", value + 0.0), "little") + 1)


@lru_cache(maxsize=4096)
def _initial_colour(kind: int, initial: float) -> int:
    """Return the colour of a state before refinement."""
    return mix(mix(0x57A7E, kind), _constant(initial))


def semantic_hash(
    program: Program,
    operands: tuple[tuple[int | float, ...], ...],
    update: int,
    next_value: dict[int, int],
    live_statements: tuple[int, ...],
) -> int:
    """Return a 64-bit hash that is equal for programs which compute the same update.

    Values are numbered as in `analysis.Analysis`.

    Args:
        program: the program.
        operands: for each statement its operands: the number of a value (int) or a constant
            (float).
        update: number of the update's value.
        next_value: for the number of each live state, the number of its next value.
        live_statements: indices of the live statements, ascending.
    """
    parameters, statements = program.parameters, program.statements
    parameter_count = len(parameters)
    hashes = [_WEIGHT, _GRADIENT]
    hashes += [_INPUT.get(name, 0) for name, _, _ in parameters[2:]]
    hashes += [0] * len(statements)
    nodes: list[_Node] = []
    for index in live_statements:
        inputs = []
        for arg in operands[index]:
            if type(arg) is int:
                inputs.append(arg)
            else:  # append a hash for the constant
                inputs.append(len(hashes))
                hashes.append(_constant(arg))
        nodes.append((parameter_count + index, OPS[statements[index].op], inputs))
    initial = {state: _initial_colour(*parameters[state][1:]) for state in next_value}
    colours, colour_count = initial, len(set(initial.values()))
    while True:
        _hash_terms(hashes, nodes, colours)
        if colour_count == len(colours):  # all states are distinguished
            break
        refined = {state: mix(initial[state], hashes[value]) for state, value in next_value.items()}
        refined_count = len(set(refined.values()))
        if refined_count == colour_count:  # states of equal colour are duplicates
            break
        colours, colour_count = refined, refined_count
    key = hashes[update]
    pairs = {(colours[state], hashes[value]) for state, value in next_value.items()}
    for colour, next_term in sorted(pairs):
        key = mix(mix(key, colour), next_term)
    return key


def _hash_terms(hashes: list[int], nodes: list[_Node], colours: dict[int, int]) -> None:
    """Compute the hash of each value's term in `hashes`, with the states' colours as leaves."""
    for state, colour in colours.items():
        hashes[state] = colour
    for value, op, inputs in nodes:
        if op.name == "identity":
            hashes[value] = hashes[inputs[0]]
            continue
        if op.commutative and hashes[inputs[0]] > hashes[inputs[1]]:
            inputs.reverse()
        mixed = op.tag
        for index in inputs:  # `mix`, inlined because this loop takes most of the time
            mixed = (mixed * _FACTOR + hashes[index]) & _MASK
            mixed ^= mixed >> 29
        hashes[value] = mixed
