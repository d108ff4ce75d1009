"""The op table: one row (`Op`) per op, with all facts about it.

The parser, the kind check, both interpreters, mutation, the command line and the tests iterate over
this table, and nothing else lists ops. To add an op, add one row.

Each op is implemented once for an array namespace `xp`. Programs run with `xp = jax.numpy`; tests
compare the results with `xp = numpy` in float64. Ops follow NumPy with one exception: division by
zero gives zero. Programs of Chen et al. 2023 (arXiv 2302.06675) have no epsilon in denominators.
Without the exception, such a program would turn a weight into NaN if its gradients so far are zero.
"""

from __future__ import annotations

from typing import Literal

from primitives.op import Op
from primitives.ops.arithmetic import ARITHMETIC
from primitives.ops.extended import EXTENDED
from primitives.ops.functions import FUNCTIONS

_TABLE = (*FUNCTIONS, *ARITHMETIC, *EXTENDED)

OPS: dict[str, Op] = {op.name: op for op in _TABLE}
"""Every op by name, in the order of the table."""

POWERS: dict[float, str] = {op.exponent: op.name for op in _TABLE if op.exponent}
"""Names of the ops that raise to a fixed power, by exponent."""

ALIASES: dict[str, str] = {alias: op.name for op in _TABLE for alias in op.aliases}
"""For each alias, which the parser accepts and no program prints, the name of the op."""

INFIX: dict[str, Op] = {op.infix: op for op in _TABLE if op.infix}
"""Ops that are written as infix operators, by operator."""


def names(op_set: Literal["paper", "full"] = "full") -> tuple[str, ...]:
    """Return the names of the ops in a set, in the order of the table; `full` includes `paper`."""
    return tuple(op.name for op in OPS.values() if op_set == "full" or op.op_set == op_set)
