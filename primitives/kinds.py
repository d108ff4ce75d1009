"""Kinds: the shape of a program's value relative to the arrays of the model.

Kinds form a lattice; a lower kind broadcasts into a higher one::

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
from functools import cache


class Kind(IntEnum):
    """Shape of a value relative to the weights.

    The integers are indices only: compare kinds with `fits`, `join` and `meet`, not with `<`.

    Example:
        >>> str(Kind.ROW)
        'row'
        >>> str(join(Kind.ROW, Kind.COL))
        'tensor'
        >>> kind_shape(Kind.ROW, (1024, 512))
        (1024, 1)
    """

    SCALAR = 0
    LEAF = 1
    MATRIX = 2
    ROW = 3
    COL = 4
    TENSOR = 5

    def __str__(self) -> str:
        return self.name.lower()


KINDS = {str(kind): kind for kind in Kind}
"""Every kind by its name in program text."""

AXES: dict[Kind, tuple[int, ...] | None] = {
    Kind.ROW: (-1,),
    Kind.COL: (-2,),
    Kind.MATRIX: (-2, -1),
    Kind.LEAF: None,
}
"""For each kind of result, the axes of an array over which a reduction sums; None for all axes."""


def _join(a: Kind, b: Kind) -> Kind:
    return Kind.TENSOR if {a, b} == {Kind.ROW, Kind.COL} else max(a, b)


def _meet(a: Kind, b: Kind) -> Kind:
    return Kind.MATRIX if {a, b} == {Kind.ROW, Kind.COL} else min(a, b)


JOIN = tuple(tuple(_join(a, b) for b in Kind) for a in Kind)
"""`JOIN[a][b]` is `join(a, b)`, without the cost of a call in hot loops."""
_MEET = tuple(tuple(_meet(a, b) for b in Kind) for a in Kind)


def join(a: Kind, b: Kind) -> Kind:
    """Return the smallest kind that both `a` and `b` broadcast into."""
    return JOIN[a][b]


def common(kinds: Iterable[Kind]) -> Kind:
    """Return the smallest kind that all `kinds` broadcast into; SCALAR if there are none."""
    result = Kind.SCALAR
    for kind in kinds:
        result = JOIN[result][kind]
    return result


def meet(a: Kind, b: Kind) -> Kind:
    """Return the kind of a value of kind `a` after a reduction to kind `b`.

    The result is the largest kind that broadcasts into both `a` and `b`.
    """
    return _MEET[a][b]


def fits(kind: Kind, declared: Kind) -> bool:
    """Return whether a value of `kind` broadcasts into a variable declared as `declared`."""
    return JOIN[kind][declared] == declared


def matrix_view(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Extend `shape` to at least two axes: (n,) becomes (n, 1), and () becomes (1, 1)."""
    return shape if len(shape) >= 2 else (*shape, 1) if shape else (1, 1)


@cache
def kind_shape(kind: Kind, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape of a value of `kind` for one array of the model.

    Args:
        kind: kind of the value.
        shape: shape of the array.
    """
    *batch, n, m = matrix_view(shape)
    return {
        Kind.SCALAR: (),
        Kind.LEAF: (1,) * (len(batch) + 2),
        Kind.MATRIX: (*batch, 1, 1),
        Kind.ROW: (*batch, n, 1),
        Kind.COL: (*batch, 1, m),
        Kind.TENSOR: (*batch, n, m),
    }[kind]
