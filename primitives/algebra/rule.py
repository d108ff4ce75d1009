"""What a rule is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from primitives.algebra.context import Context
from primitives.algebra.domains import Domain
from primitives.graph.nodes import Node

Rewrite: TypeAlias = Callable[[Context, Node], Node | None]


@dataclass(frozen=True)
class Rule:
    """One way to rewrite a node.

    Attributes:
        name: the rule's name.
        equation: what it says; x, y are values, a, b, c numbers, f an op.
        domain: where the equation holds.
        roots: the ops that a node may have for the rule to look at it.
        rewrite: gives the equal node, or None.
        folds: it may also be taken where it leaves as many statements, if they are less nested.
    """

    name: str
    equation: str
    domain: Domain
    roots: frozenset[str]
    rewrite: Rewrite
    folds: bool = False


def rule(
    name: str, equation: str, domain: Domain, roots: str, rewrite: Rewrite, *, folds: bool = False
) -> Rule:
    """A row; `roots` are the ops' names with spaces between."""
    return Rule(name, equation, domain, frozenset(roots.split()), rewrite, folds)
