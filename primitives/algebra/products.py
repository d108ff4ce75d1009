"""Sums of products of powers, as data.

A product is a coefficient times one power per base: |x|^p or sign(x) * |x|^p for a base x. Division
by zero gives zero in this language. So a product is zero wherever one of its bases is zero, for
every exponent. Hence x * x / x is x, x / sqrt(x * x) is sign(x), and x / x is 1 only where x is
proved nonzero. A sum is a set of products.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import NamedTuple, TypeAlias

from primitives.algebra.numbers import Coefficient
from primitives.graph.nodes import Node
from primitives.ops import POWERS

PRODUCT_OPS = frozenset(
    ["multiply", "divide", "negative", "abs", "sign", "power", *POWERS.values()]
)
SUM_OPS = frozenset(["add", "subtract", "negative", "interp"])


class Power(NamedTuple):
    """|x|^exponent for a base x, multiplied by sign(x) if `signed`."""

    exponent: float
    signed: bool


Key: TypeAlias = frozenset[tuple[Node, Power]]


@dataclass(frozen=True)
class Product:
    """A coefficient times powers.

    Attributes:
        coefficient: the coefficient.
        powers: the power of each base.
        under_root: bases that were under a root. The sign of such a base is not proved, but where
            the base is negative, the product is NaN.
    """

    coefficient: Coefficient
    powers: Mapping[Node, Power] = field(default_factory=dict)
    under_root: frozenset[Node] = frozenset()

    @property
    def key(self) -> Key:
        """The powers, hashable; products with the same key can be added."""
        return frozenset(self.powers.items())


Sum: TypeAlias = Mapping[Key, Product]


class Expansion(IntEnum):
    """Which nodes are expanded below the node that is read as a sum or product."""

    PRODUCTS = 0
    """Products that are read once."""
    UNSHARED = 1
    """Sums and products that are read once."""
    ALL = 2
    """All sums and products."""
