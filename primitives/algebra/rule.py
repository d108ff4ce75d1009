"""What a rule is: equations with a domain, or a function where no equation says it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import TypeAlias

from primitives.algebra.context import Context
from primitives.algebra.patterns import Call, Condition, Pattern, pattern
from primitives.graph.nodes import Node
from primitives.op import Op

Rewrite: TypeAlias = Callable[[Context, Node], Node | None]


class Domain(IntEnum):
    """Where the two sides of a rewrite are equal, up to rounding; each holds in those before."""

    ALWAYS = 0
    FINITE = 1
    REAL = 2

    def __str__(self) -> str:
        return self.name.lower()

    @property
    def meaning(self) -> str:
        """The domain in words."""
        return _MEANINGS[self]


_MEANINGS = {
    Domain.ALWAYS: "for every float32, zeros, subnormals, infinities and NaN included",
    Domain.FINITE: "where every value of the program is finite: neither infinite nor NaN",
    Domain.REAL: "in real arithmetic: where, besides, nothing overflows, underflows or loses its "
    "digits in a cancelling sum",
}


@dataclass(frozen=True)
class Equation:
    """`left` may be replaced by `right` where the conditions are proved."""

    left: Call
    right: Pattern
    when: tuple[Condition, ...]

    def rewritten(self, context: Context, node: Node) -> Node | None:
        """The right side where the left one is `node`."""
        if not self.left.may_be(node):
            return None
        for bound in self.left.match(node, {}):
            if all(condition.holds(context.range, bound) for condition in self.when):
                return self.right.build(context.nodes, bound)
        return None

    def __str__(self) -> str:
        return f"{self.left} = {self.right}"

    @property
    def conditions(self) -> str:
        """Where it holds, in words."""
        words = ", ".join([*sorted(self.left.facts()), *map(str, self.when)])
        return f" for {words}" if words else ""


@dataclass(frozen=True)
class Rule:
    """One way to rewrite a node.

    Attributes:
        name: the rule's name.
        equation: what it says; x, y, z are values, a, b, c numbers, f an op.
        domain: where the equation holds.
        looks_at: whether a node of an op is worth a look.
        rewrite: gives the equal node, or None.
        folds: it may also be taken where it leaves as many statements, if they are less nested.
        equations: what it is, unless it is a function.
    """

    name: str
    equation: str
    domain: Domain
    looks_at: Callable[[Op], bool]
    rewrite: Rewrite
    folds: bool = False
    equations: tuple[Equation, ...] = ()

    def also(self, left: Call, right: Pattern | float, *when: Condition) -> Rule:
        """The rule with one more equation, tried after the others."""
        added = Equation(left, pattern(right), when)
        return _from_equations(self.name, self.domain, *self.equations, added)


def rewrite(
    name: str, left: Call, right: Pattern | float, *when: Condition, domain: Domain
) -> Rule:
    """The rule that `left` may be replaced by `right` where the conditions are proved."""
    return _from_equations(name, domain, Equation(left, pattern(right), when))


def rewrites(name: str, *sides: tuple[Call, Pattern | float], domain: Domain) -> Rule:
    """The rule of several equations, each its two sides."""
    equations = (Equation(left, pattern(right), ()) for left, right in sides)
    return _from_equations(name, domain, *equations)


def _from_equations(name: str, domain: Domain, *equations: Equation) -> Rule:
    conditions = [equation.conditions for equation in equations]
    if len(set(conditions)) == 1:
        text = ", ".join(map(str, equations)) + conditions[0]
    else:
        pairs = zip(equations, conditions, strict=True)
        text = ", ".join(f"{equation}{condition}" for equation, condition in pairs)

    def looks_at(row: Op) -> bool:
        return any(equation.left.looks_at(row) for equation in equations)

    def rewritten(context: Context, node: Node) -> Node | None:
        for equation in equations:
            new = equation.rewritten(context, node)
            if new is not None:
                return new
        return None

    return Rule(name, text, domain, looks_at, rewritten, equations=equations)
