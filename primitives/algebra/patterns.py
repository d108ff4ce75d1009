"""Equations as data: `log(exp(x)) = x`, written with Python's operators and matched on a graph.

    x, y = values("x y")
    op.log(op.exp(x))       # a pattern: what nodes it matches, what node it builds, its text
    x >= y                  # a condition, proved from the intervals of x and y

A variable that stands more than once is one node. Commutative ops are matched both ways.
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

Bound = Mapping[object, Any]
"""The node of each variable, and the name of each family's op."""
_SUM, _PRODUCT, _SIGN, _ATOM = range(4)
_LEVELS = {
    **{"add": _SUM, "subtract": _SUM},
    **{"multiply": _PRODUCT, "divide": _PRODUCT, "negative": _SIGN},
}


class Pattern:
    """One side of an equation.

    What only ever stands on one side, as `Folded`, has only the methods that this side needs.
    """

    @property
    def level(self) -> int:
        """How tightly its text binds."""
        return _ATOM

    def may_be(self, node: Node) -> bool:
        """A first look, which spares most calls of `match`."""
        raise NotImplementedError

    def match(self, node: Node, bound: Bound) -> Iterator[Bound]:
        """The ways to bind variables, beside those `bound` already, so that this is `node`.

        Only asked where `may_be` allows it.
        """
        raise NotImplementedError

    def build(self, nodes: Nodes, bound: Bound) -> Node:
        """The node that this is with its variables bound."""
        raise NotImplementedError

    def interval(self, range_of: Callable[[Node], Interval], bound: Bound) -> Interval:
        """The interval that this is known to lie in."""
        raise NotImplementedError

    def facts(self) -> set[str]:
        """What its families of ops have in common, in words."""
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
    """A number as a pattern."""
    return value if isinstance(value, Pattern) else Number(value)


@dataclass(frozen=True, eq=False)
class Number(Pattern):
    """One number."""

    value: float

    def may_be(self, node: Node) -> bool:
        return node.is_constant and node.value == self.value

    def match(self, node: Node, bound: Bound) -> Iterator[Bound]:
        yield bound

    def build(self, nodes: Nodes, bound: Bound) -> Node:
        return nodes.constant(self.value)

    def interval(self, range_of: Callable[[Node], Interval], bound: Bound) -> Interval:
        return exactly(self.value)

    def __str__(self) -> str:
        return f"{self.value:g}"


@dataclass(frozen=True, eq=False)
class Variable(Pattern):
    """Any node that `is_one` allows."""

    name: str
    is_one: Callable[[Node], bool]

    def may_be(self, node: Node) -> bool:
        return self.is_one(node)

    def match(self, node: Node, bound: Bound) -> Iterator[Bound]:
        known = bound.get(self)
        if known is node:
            yield bound
        elif known is None:
            yield {**bound, self: node}

    def build(self, nodes: Nodes, bound: Bound) -> Node:
        found: Node = bound[self]
        return found

    def interval(self, range_of: Callable[[Node], Interval], bound: Bound) -> Interval:
        return range_of(bound[self])

    def __str__(self) -> str:
        return self.name


def values(names: str) -> list[Variable]:
    """Variables for any value."""
    return [Variable(name, lambda node: True) for name in names.split()]


def numbers(names: str) -> list[Variable]:
    """Variables for one number of the whole model."""
    return [Variable(name, lambda node: node.kind == Kind.SCALAR) for name in names.split()]


def constants(names: str) -> list[Variable]:
    """Variables for a number of the program's text."""
    return [Variable(name, lambda node: node.is_constant) for name in names.split()]


@dataclass(frozen=True, eq=False)
class Call(Pattern):
    """An op of patterns."""

    op: str
    args: tuple[Pattern, ...]

    def looks_at(self, row: Op) -> bool:
        """Whether a node of this op may match."""
        return self.op == row.name

    def may_be(self, node: Node) -> bool:
        return self.op == node.op

    def match(self, node: Node, bound: Bound) -> Iterator[Bound]:
        for args in (node.args, node.args[::-1]) if node.row.commutative else (node.args,):
            if all(map(_may_be, self.args, args)):
                yield from _each(self.args, args, bound)

    def build(self, nodes: Nodes, bound: Bound) -> Node:
        return nodes.call(self.op, *[arg.build(nodes, bound) for arg in self.args])

    def facts(self) -> set[str]:
        return set().union(*(arg.facts() for arg in self.args))

    @property
    def level(self) -> int:
        """How tightly its text binds."""
        return _LEVELS.get(self.op, _ATOM)

    def __str__(self) -> str:
        if self.op == "negative":
            return f"-{_bracketed(self.args[0], _ATOM)}"
        infix = OPS[self.op].infix if self.op in OPS else None
        if infix is None:
            return f"{self.op}({', '.join(map(str, self.args))})"
        left, right = self.args
        return f"{_bracketed(left, self.level)} {infix} {_bracketed(right, self.level + 1)}"


@dataclass(frozen=True, eq=False)
class Family:
    """Any op with a fact in its row, the same wherever it stands in an equation."""

    name: str
    fact: str
    has_it: Callable[[Op], bool]

    def __call__(self, *args: Pattern | float) -> Call:
        return FamilyCall(self.name, tuple(map(pattern, args)), self)


@dataclass(frozen=True, eq=False)
class FamilyCall(Call):
    """An op of a family, of patterns."""

    family: Family

    def looks_at(self, row: Op) -> bool:
        return self.family.has_it(row)

    def may_be(self, node: Node) -> bool:
        return self.family.has_it(node.row)

    def match(self, node: Node, bound: Bound) -> Iterator[Bound]:
        if bound.get(self.family, node.op) == node.op:
            yield from super().match(node, {**bound, self.family: node.op})

    def build(self, nodes: Nodes, bound: Bound) -> Node:
        return nodes.call(bound[self.family], *[arg.build(nodes, bound) for arg in self.args])

    def facts(self) -> set[str]:
        return super().facts() | {f"{self.family.fact} {self.family.name}"}


def _may_be(one: Pattern, node: Node) -> bool:
    return one.may_be(node)


def _each(patterns: tuple[Pattern, ...], args: tuple[Node, ...], bound: Bound) -> Iterator[Bound]:
    if not patterns:
        yield bound
        return
    for found in patterns[0].match(args[0], bound):
        yield from _each(patterns[1:], args[1:], found)


def _bracketed(inner: Pattern, level: int) -> str:
    return str(inner) if inner.level >= level else f"({inner})"


@dataclass(frozen=True, eq=False)
class Folded(Pattern):
    """The number that an op of constants is."""

    call: Call

    def build(self, nodes: Nodes, bound: Bound) -> Node:
        args = [arg.build(nodes, bound).value for arg in self.call.args]
        return nodes.constant(float(OPS[self.call.op].meaning(np, *args)))

    def __str__(self) -> str:
        return str(self.call)


class _Ops:
    """`op.sqrt(x)`, or `op("sqrt")(x)`: a pattern of any op of the language."""

    def __call__(self, name: str) -> Callable[..., Call]:
        if name not in OPS:
            raise AttributeError(f"no op is called {name!r}")
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
    """A comparison that intervals can prove."""

    left: Pattern
    sign: str
    right: Pattern

    def holds(self, range_of: Callable[[Node], Interval], bound: Bound) -> bool:
        """Whether it is proved."""
        sides = (side.interval(range_of, bound) for side in (self.left, self.right))
        return _PROVED[self.sign](*sides)

    def __str__(self) -> str:
        return f"{self.left} {self.sign} {self.right}"


def differs(x: Pattern, y: Pattern | float) -> Condition:
    """x is not y."""
    return Condition(x, "!=", pattern(y))
