"""Classes of rewrite rules on values: equations with a domain, or functions."""

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
    """The numbers for which the two sides of a rewrite are equal up to rounding.

    Domains are ordered from the widest to the narrowest. A rule that holds on a domain also holds
    on all narrower domains.

    Example:
        >>> str(Domain.FINITE)
        'finite'
        >>> Domain.ALWAYS < Domain.FINITE < Domain.REAL
        True
    """

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
    Domain.ALWAYS: "for every float32, including zeros, subnormals, infinities and NaN",
    Domain.FINITE: "where every value of the program is finite: neither infinite nor NaN",
    Domain.REAL: "in real arithmetic: where all values are finite, and nothing overflows, "
    "underflows or cancels in a sum so far that digits are lost",
}


@dataclass(frozen=True)
class Equation:
    """An equation: `left` may be replaced by `right` where all conditions in `when` are proved."""

    left: Call
    right: Pattern
    when: tuple[Condition, ...]

    def rewritten(self, context: Context, node: Node) -> Node | None:
        """Return the right side if `node` matches the left side, else None."""
        if not self.left.may_match(node):
            return None
        for bindings in self.left.match(node, {}):
            if all(condition.holds(context.range, bindings) for condition in self.when):
                return self.right.build(context.nodes, bindings)
        return None

    def __str__(self) -> str:
        return f"{self.left} = {self.right}"

    @property
    def conditions(self) -> str:
        """The text of the conditions, such as " for x > 0"; empty if there are no conditions."""
        conditions = ", ".join([*sorted(self.left.families()), *map(str, self.when)])
        return f" for {conditions}" if conditions else ""


@dataclass(frozen=True)
class Rule:
    """A rewrite rule on values.

    Attributes:
        name: the rule's name.
        equation: the equation as text. In it, x, y and z are values of any kind, a, b and c are
            scalars or constants, and f is an op.
        domain: where the equation holds.
        may_apply: whether the rule can rewrite nodes of the given op.
        rewrite: returns an equal node, or None if the rule does not apply.
        accepts_less_nested: whether a rewrite is also accepted if it leaves the number of
            statements unchanged and makes the statements less nested.
        equations: the equations as data; empty if the rule is a function.
    """

    name: str
    equation: str
    domain: Domain
    may_apply: Callable[[Op], bool]
    rewrite: Rewrite
    accepts_less_nested: bool = False
    equations: tuple[Equation, ...] = ()

    def also(self, left: Call, right: Pattern | float, *when: Condition) -> Rule:
        """Return the rule with an additional equation, which is tried last."""
        equation = Equation(left, pattern(right), when)
        return _from_equations(self.name, self.domain, *self.equations, equation)


def rewrite(
    name: str, left: Call, right: Pattern | float, *when: Condition, domain: Domain
) -> Rule:
    """Return the rule that replaces `left` by `right` where the conditions are proved."""
    return _from_equations(name, domain, Equation(left, pattern(right), when))


def rewrite_any(name: str, *sides: tuple[Call, Pattern | float], domain: Domain) -> Rule:
    """Return the rule of several unconditional equations, each given by its two sides."""
    equations = (Equation(left, pattern(right), ()) for left, right in sides)
    return _from_equations(name, domain, *equations)


def _from_equations(name: str, domain: Domain, *equations: Equation) -> Rule:
    conditions = [equation.conditions for equation in equations]
    if len(set(conditions)) == 1:
        text = ", ".join(map(str, equations)) + conditions[0]
    else:
        pairs = zip(equations, conditions, strict=True)
        text = ", ".join(f"{equation}{condition}" for equation, condition in pairs)

    def may_apply(op_entry: Op) -> bool:
        return any(equation.left.may_apply(op_entry) for equation in equations)

    def rewrite_node(context: Context, node: Node) -> Node | None:
        for equation in equations:
            new = equation.rewritten(context, node)
            if new is not None:
                return new
        return None

    return Rule(name, text, domain, may_apply, rewrite_node, equations=equations)
