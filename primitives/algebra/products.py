"""Sums of products of powers, as data.

A sum is a set of products. A product is a coefficient times one power per base: |x|^p or
sign(x) * |x|^p for a base x. Division by zero gives zero in the language of programs. So a product
is zero wherever one of its bases is zero, for every exponent. Hence x * x / x is x, and
x / sqrt(x * x) is sign(x), but x / x is 1 only where x is proved nonzero.
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
        under_root: bases that were under a root and may be negative. Where such a base is
            negative, the product is NaN.
    """

    coefficient: Coefficient
    powers: Mapping[Node, Power] = field(default_factory=dict)
    under_root: frozenset[Node] = frozenset()

    @property
    def key(self) -> Key:
        """A hashable set of the powers; products with the same key can be added."""
        return frozenset(self.powers.items())


Sum: TypeAlias = Mapping[Key, Product]


class Expansion(IntEnum):
    """Which operands are expanded when a node is written as a sum or product."""

    PRODUCTS = 0
    """Products that only one statement reads."""
    UNSHARED = 1
    """Sums and products that only one statement reads."""
    ALL = 2
    """All sums and products."""
