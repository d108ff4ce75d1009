"""Sums of products of powers, as data.

A product is a coefficient times, for each base x, a power |x|^p, with the sign of x or without it.
Division by zero gives zero, so a product is zero wherever one of its bases is, whatever its power;
hence x * x / x is x, x / sqrt(x * x) is sign(x), and x / x is 1 only where x is proved nonzero. A
sum is a set of products.
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
    """|x|^exponent, times sign(x) if `signed`."""

    exponent: float
    signed: bool


Key: TypeAlias = frozenset[tuple[Node, Power]]


@dataclass(frozen=True)
class Product:
    """A coefficient times powers.

    Attributes:
        coefficient: the coefficient.
        powers: the power of each base.
        rooted: bases of unknown sign under a root: not negative wherever the value is not NaN.
    """

    coefficient: Coefficient
    powers: Mapping[Node, Power] = field(default_factory=dict)
    rooted: frozenset[Node] = frozenset()

    @property
    def key(self) -> Key:
        """The powers, to compare products by."""
        return frozenset(self.powers.items())


Sum: TypeAlias = Mapping[Key, Product]


class Reach(IntEnum):
    """What is opened below the node that is read as a sum or product."""

    PRODUCTS = 0
    """Products that only one place reads."""
    OWN = 1
    """Sums and products that only one place reads."""
    ALL = 2
    """All sums and products."""
