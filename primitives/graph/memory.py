"""The memory that a program's states take."""

from __future__ import annotations

import math

from primitives.graph.analysis import analyse
from primitives.kinds import Kind, kind_shape
from primitives.program import Program

_REFERENCE_MODEL = ((1024, 1024), (1024,)) * 2


def state_memory(program: Program) -> float:
    """Numbers of live state kept per weight, on two 1024 x 1024 matrices with their biases."""
    kept = 0
    for number in analyse(program).live_states:
        kind = program.parameters[number].kind
        kept += 1 if kind == Kind.SCALAR else sum(_size(kind, s) for s in _REFERENCE_MODEL)
    return kept / sum(math.prod(shape) for shape in _REFERENCE_MODEL)


def _size(kind: Kind, shape: tuple[int, ...]) -> int:
    return math.prod(kind_shape(kind, shape))
