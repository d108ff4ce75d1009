"""The op table: one row knows everything about an op.

The parser, the kind check, both interpreters, mutation, the command line and the tests iterate this
table; nothing else lists ops. To add an op, add one row.

A meaning is written once, against an array namespace `xp`: with `jax.numpy` it is what programs
compute, with `numpy` and float64 it is the reference that tests compare with. Meanings are NumPy's,
with one exception: division by zero gives zero (Chen et al. 2023, arXiv 2302.06675, omit epsilon,
and a weight that has had no gradient would otherwise turn into NaN).
"""

from __future__ import annotations

from typing import Literal

from primitives.op import Op
from primitives.ops.arithmetic import ARITHMETIC
from primitives.ops.extended import EXTENDED
from primitives.ops.functions import FUNCTIONS

_TABLE = (*FUNCTIONS, *ARITHMETIC, *EXTENDED)

OPS: dict[str, Op] = {op.name: op for op in _TABLE}
"""Every op by name, in the table's order."""

POWERS: dict[float, str] = {op.exponent: op.name for op in _TABLE if op.exponent}
"""The ops that raise to a fixed power, by their exponent."""

ALIASES: dict[str, str] = {alias: op.name for op in _TABLE for alias in op.aliases}
"""Names that are read but never printed, with the op that each stands for."""

INFIX: dict[str, Op] = {op.infix: op for op in _TABLE if op.infix}
"""Ops that are written between their operands."""


def names(op_set: Literal["paper", "full"] = "full") -> tuple[str, ...]:
    """The names of an op set, in the table's order; `full` includes `paper`."""
    return tuple(op.name for op in OPS.values() if op_set == "full" or op.op_set == op_set)
