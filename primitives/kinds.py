"""Kinds: what one value of a program holds for each array of the model.

Kinds form a lattice, ordered by what broadcasts into what::

                 tensor            the array's own shape (..., n, m)
                /      \\
             row        col        (..., n, 1)   and   (..., 1, m)
                \\      /
                 matrix            (..., 1, 1): one value per trailing matrix
                   |
                  leaf             one value per array
                   |
                 scalar            one value for the whole model

A vector is an n x 1 matrix and a scalar array is 1 x 1, so every array has a trailing matrix.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum


class Kind(IntEnum):
    """A value's kind; the integer is only an index, the order is that of `join` and `meet`."""

    SCALAR = 0
    LEAF = 1
    MATRIX = 2
    ROW = 3
    COL = 4
    TENSOR = 5

    def __str__(self) -> str:
        return self.name.lower()


KINDS = {str(kind): kind for kind in Kind}


AXES: dict[Kind, tuple[int, ...] | None] = {
    Kind.ROW: (-1,),
    Kind.COL: (-2,),
    Kind.MATRIX: (-2, -1),
    Kind.LEAF: None,
}
"""The axes of one array that a reduction to each kind runs over; None for all."""


def _join(a: Kind, b: Kind) -> Kind:
    return Kind.TENSOR if {a, b} == {Kind.ROW, Kind.COL} else max(a, b)


def _meet(a: Kind, b: Kind) -> Kind:
    return Kind.MATRIX if {a, b} == {Kind.ROW, Kind.COL} else min(a, b)


JOIN = tuple(tuple(_join(a, b) for b in Kind) for a in Kind)
"""`JOIN[a][b]` is `join(a, b)`, for loops that cannot afford the call."""
_MEET = tuple(tuple(_meet(a, b) for b in Kind) for a in Kind)


def join(a: Kind, b: Kind) -> Kind:
    """The kind of an elementwise result of `a` and `b`: the smallest both broadcast into."""
    return JOIN[a][b]


def common(kinds: Iterable[Kind]) -> Kind:
    """The kind that values of `kinds` are broadcast to; SCALAR for none."""
    found = Kind.SCALAR
    for kind in kinds:
        found = JOIN[found][kind]
    return found


def meet(a: Kind, b: Kind) -> Kind:
    """The kind of reducing a value of kind `a` to scope `b`: the largest both can be cut to."""
    return _MEET[a][b]


def fits(kind: Kind, declared: Kind) -> bool:
    """Whether a value of `kind` broadcasts into a place declared as `declared`."""
    return JOIN[kind][declared] == declared


def matrix_view(shape: tuple[int, ...]) -> tuple[int, ...]:
    """`shape` with a trailing matrix: a vector (n,) becomes (n, 1), a scalar () becomes (1, 1)."""
    return shape if len(shape) >= 2 else (*shape, 1) if shape else (1, 1)


def kind_shape(kind: Kind, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape in which one array of `shape` keeps a value of `kind`."""
    *batch, n, m = matrix_view(shape)
    return {
        Kind.SCALAR: (),
        Kind.LEAF: (1,) * (len(batch) + 2),
        Kind.MATRIX: (*batch, 1, 1),
        Kind.ROW: (*batch, n, 1),
        Kind.COL: (*batch, 1, m),
        Kind.TENSOR: (*batch, n, m),
    }[kind]
