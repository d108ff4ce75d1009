"""Patterns, the sides of equations such as `log(exp(x)) = x`, which are matched on a graph.

    x, y = values("x y")
    op.log(op.exp(x))       # a pattern: matches nodes, builds a node, has a text
    x >= y                  # a condition, proved from the intervals of x and y

All occurrences of a variable in a pattern match the same node. Commutative ops are matched with
both orders of their operands.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from primitives.graph.nodes import Node, Nodes
from primitives.interval import Interval, exactly
from primitives.kinds import Kind
from primitives.op import Op
from primitives.ops import OPS

Bindings = Mapping[object, Any]
"""The node bound to each variable, and the name of the op bound to each family."""
_SUM, _PRODUCT, _SIGN, _ATOM = range(4)
_PRECEDENCES = {
    **{"add": _SUM, "subtract": _SUM},
    **{"multiply": _PRODUCT, "divide": _PRODUCT, "negative": _SIGN},
}


class Pattern:
    """One side of an equation or of a condition.

    Left sides of equations need the methods `may_match` and `match`, right sides need `build`, and
    sides of conditions need `interval`.
    """

    @property
    def precedence(self) -> int:
        """The precedence of the outermost operator in the pattern's text; larger binds first."""
        return _ATOM

    def may_match(self, node: Node) -> bool:
        """Return False only if `match` yields nothing; a cheaper test than `match`."""
        raise NotImplementedError

    def match(self, node: Node, bindings: Bindings) -> Iterator[Bindings]:
        """Yield each extension of `bindings` under which the pattern equals `node`.

        Called only if `may_match` is true.
        """
        raise NotImplementedError

    def build(self, nodes: Nodes, bindings: Bindings) -> Node:
        """Return the node of the pattern with its variables replaced by their nodes."""
        raise NotImplementedError

    def interval(self, range_of: Callable[[Node], Interval], bindings: Bindings) -> Interval:
        """Return an interval that contains the pattern's value at every step."""
        raise NotImplementedError

    def families(self) -> set[str]:
        """Return the adjective and the name of each family of ops in the pattern.

        For example, "even f" for an even op that the equation calls f.
        """
        return set()

    def __add__(self, other: Pattern | float) -> Call:
        return Call("add", (self, pattern(other)))

    def __sub__(self, other: Pattern | float) -> Call:
        return Call("subtract", (self, pattern(other)))

    def __rsub__(self, other: float) -> Call:
        return Call("subtract", (pattern(other), self))

    def __mul__(self, other: Pattern | float) -> Call:
        return Call("multiply", (self, pattern(other)))

    def __truediv__(self, other: Pattern | float) -> Call:
        return Call("divide", (self, pattern(other)))

    def __rtruediv__(self, other: float) -> Call:
        return Call("divide", (pattern(other), self))

    def __neg__(self) -> Call:
        return Call("negative", (self,))

    def __gt__(self, other: Pattern | float) -> Condition:
        return Condition(self, ">", pattern(other))

    def __ge__(self, other: Pattern | float) -> Condition:
        return Condition(self, ">=", pattern(other))

    def __lt__(self, other: Pattern | float) -> Condition:
        return Condition(self, "<", pattern(other))

    def __le__(self, other: Pattern | float) -> Condition:
        return Condition(self, "<=", pattern(other))


def pattern(value: Pattern | float) -> Pattern:
    """Return `value` as a pattern."""
    return value if isinstance(value, Pattern) else Constant(value)


@dataclass(frozen=True, eq=False)
class Constant(Pattern):
    """A constant."""

    value: float

    def may_match(self, node: Node) -> bool:
        return node.is_constant and node.value == self.value

    def match(self, node: Node, bindings: Bindings) -> Iterator[Bindings]:
        yield bindings

    def build(self, nodes: Nodes, bindings: Bindings) -> Node:
        return nodes.constant(self.value)

    def interval(self, range_of: Callable[[Node], Interval], bindings: Bindings) -> Interval:
        return exactly(self.value)

    def __str__(self) -> str:
        return f"{self.value:g}"


@dataclass(frozen=True, eq=False)
class Variable(Pattern):
    """Any node for which `accepts` is true."""

    name: str
    accepts: Callable[[Node], bool]

    def may_match(self, node: Node) -> bool:
        return self.accepts(node)

    def match(self, node: Node, bindings: Bindings) -> Iterator[Bindings]:
        previous = bindings.get(self)
        if previous is node:
            yield bindings
        elif previous is None:
            yield {**bindings, self: node}

    def build(self, nodes: Nodes, bindings: Bindings) -> Node:
        node: Node = bindings[self]
        return node

    def interval(self, range_of: Callable[[Node], Interval], bindings: Bindings) -> Interval:
        return range_of(bindings[self])

    def __str__(self) -> str:
        return self.name


def values(names: str) -> list[Variable]:
    """Return variables that match any value, for names separated by spaces."""
    return [Variable(name, lambda node: True) for name in names.split()]


def scalars(names: str) -> list[Variable]:
    """Return variables that match values of kind scalar."""
    return [Variable(name, lambda node: node.kind == Kind.SCALAR) for name in names.split()]


def constants(names: str) -> list[Variable]:
    """Return variables that match constants of the program."""
    return [Variable(name, lambda node: node.is_constant) for name in names.split()]


@dataclass(frozen=True, eq=False)
class Call(Pattern):
    """An op whose operands are patterns."""

    op: str
    args: tuple[Pattern, ...]

    def may_apply(self, op_entry: Op) -> bool:
        """Return whether nodes of an op, given by its entry in the op table, may match."""
        return self.op == op_entry.name

    def may_match(self, node: Node) -> bool:
        return self.op == node.op

    def match(self, node: Node, bindings: Bindings) -> Iterator[Bindings]:
        orders = (node.args, node.args[::-1]) if node.op_entry.commutative else (node.args,)
        for args in orders:
            if all(map(_may_match, self.args, args)):
                yield from _match_all(self.args, args, bindings)

    def build(self, nodes: Nodes, bindings: Bindings) -> Node:
        return nodes.call(self.op, *[arg.build(nodes, bindings) for arg in self.args])

    def families(self) -> set[str]:
        return set().union(*(arg.families() for arg in self.args))

    @property
    def precedence(self) -> int:
        return _PRECEDENCES.get(self.op, _ATOM)

    def __str__(self) -> str:
        if self.op == "negative":
            return f"-{_parenthesized(self.args[0], _ATOM)}"
        infix = OPS[self.op].infix if self.op in OPS else None
        if infix is None:
            return f"{self.op}({', '.join(map(str, self.args))})"
        left = _parenthesized(self.args[0], self.precedence)
        right = _parenthesized(self.args[1], self.precedence + 1)
        return f"{left} {infix} {right}"


@dataclass(frozen=True, eq=False)
class Family:
    """Any op with a certain property; all occurrences in one equation match the same op.

    Attributes:
        name: the family's name in equations.
        adjective: the property in words.
        has_member: whether an op has the property.
    """

    name: str
    adjective: str
    has_member: Callable[[Op], bool]

    def __call__(self, *args: Pattern | float) -> Call:
        return FamilyCall(self.name, tuple(map(pattern, args)), self)


@dataclass(frozen=True, eq=False)
class FamilyCall(Call):
    """An op of a family whose operands are patterns."""

    family: Family

    def may_apply(self, op_entry: Op) -> bool:
        return self.family.has_member(op_entry)

    def may_match(self, node: Node) -> bool:
        return self.family.has_member(node.op_entry)

    def match(self, node: Node, bindings: Bindings) -> Iterator[Bindings]:
        if bindings.get(self.family, node.op) == node.op:
            yield from super().match(node, {**bindings, self.family: node.op})

    def build(self, nodes: Nodes, bindings: Bindings) -> Node:
        return nodes.call(bindings[self.family], *[arg.build(nodes, bindings) for arg in self.args])

    def families(self) -> set[str]:
        return super().families() | {f"{self.family.adjective} {self.family.name}"}


def _may_match(candidate: Pattern, node: Node) -> bool:
    return candidate.may_match(node)


def _match_all(
    patterns: tuple[Pattern, ...], args: tuple[Node, ...], bindings: Bindings
) -> Iterator[Bindings]:
    """Yield each extension of `bindings` under which every pattern equals its node."""
    if not patterns:
        yield bindings
        return
    for extended in patterns[0].match(args[0], bindings):
        yield from _match_all(patterns[1:], args[1:], extended)


def _parenthesized(operand: Pattern, precedence: int) -> str:
    """Return the text of an operand, in parentheses if its precedence is below `precedence`."""
    return str(operand) if operand.precedence >= precedence else f"({operand})"


@dataclass(frozen=True, eq=False)
class FoldedConstant(Pattern):
    """The result of an op on constants, which is a constant."""

    call: Call

    def build(self, nodes: Nodes, bindings: Bindings) -> Node:
        args = [arg.build(nodes, bindings).value for arg in self.call.args]
        return nodes.constant(float(OPS[self.call.op].meaning(np, *args)))

    def __str__(self) -> str:
        return str(self.call)


class _Ops:
    """Functions that make patterns, one for each op: `op.sqrt(x)` or `op("sqrt")(x)`."""

    def __call__(self, name: str) -> Callable[..., Call]:
        if name not in OPS:
            raise AttributeError(f"unknown op {name!r}")
        return lambda *args: Call(name, tuple(map(pattern, args)))

    def __getattr__(self, name: str) -> Callable[..., Call]:
        return self(name)


op = _Ops()

_PROVED: Mapping[str, Callable[[Interval, Interval], bool]] = {
    ">": lambda x, y: x.low > y.high,
    ">=": lambda x, y: x.low >= y.high,
    "<": lambda x, y: x.high < y.low,
    "<=": lambda x, y: x.high <= y.low,
    "!=": lambda x, y: x.low > y.high or x.high < y.low,
}


@dataclass(frozen=True, eq=False)
class Condition:
    """A comparison of two patterns, which the intervals of their values may prove."""

    left: Pattern
    comparison: str
    right: Pattern

    def holds(self, range_of: Callable[[Node], Interval], bindings: Bindings) -> bool:
        """Return whether the intervals of both sides prove the comparison."""
        sides = (side.interval(range_of, bindings) for side in (self.left, self.right))
        return _PROVED[self.comparison](*sides)

    def __str__(self) -> str:
        return f"{self.left} {self.comparison} {self.right}"


def differs(x: Pattern, y: Pattern | float) -> Condition:
    """Return the condition that x and y are not equal."""
    return Condition(x, "!=", pattern(y))
