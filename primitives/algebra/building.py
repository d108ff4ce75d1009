"""Builds the node of a sum of products, or of a product of powers.

Equal sums or products give the same node, even if they were expanded from different nodes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import reduce
from itertools import combinations

import numpy as np

from primitives.algebra.context import Context
from primitives.algebra.numbers import Coefficient, shortest_float32
from primitives.algebra.order import Rank
from primitives.algebra.products import Power, Product
from primitives.graph.nodes import STATE, Node
from primitives.kinds import Kind
from primitives.ops import POWERS

_ONE = Coefficient.from_constant(1.0)
_IDENTITY = Power(1.0, True)
_POWER_OPS = {exponent: name for exponent, name in POWERS.items() if exponent > 0}
"""Ops that raise to a positive power; a negative power is written as a division."""


class Unrepresentable(Exception):  # noqa: N818 - no error for users: the rewrite is skipped
    """No float32 is accurate enough for a coefficient."""


class Builder:
    """Builds nodes from sums and products in the graph of `context`."""

    def __init__(self, context: Context):
        self.context = context
        self.call = context.nodes.call

    def product(self, product: Product) -> Node:
        """Return the node of a product: factors of larger kinds, then divisors, then scalars.

        Raises:
            Unrepresentable: no float32 is accurate enough for the coefficient.
        """
        coefficient = product.coefficient
        if len(product.powers) == 1:
            ((base, power),) = product.powers.items()
            if power == _IDENTITY:
                return self._scaled(base, coefficient)
        numerator, denominator = self._factors(product)
        if not numerator:
            return self._constant_over(coefficient, denominator)
        scalars = [factor for factor in numerator if factor.kind == Kind.SCALAR]
        arrays = [factor for factor in numerator if factor.kind != Kind.SCALAR]
        result = reduce(self._multiply, arrays or scalars)
        for divisor in denominator:
            result = self.call("divide", result, divisor)
        if arrays and scalars:
            scalar_factor = self._scaled(reduce(self._multiply, scalars), coefficient)
            return self.call("multiply", result, scalar_factor)
        return self._scaled(result, coefficient)

    def sum(self, products: Sequence[Product]) -> Node:
        """Return the node of a sum: an average first, then positive terms, then negative terms.

        An average is an `interp` of two terms whose coefficients add up to 1.

        Raises:
            Unrepresentable: no float32 is accurate enough for a coefficient.
        """
        constant, terms = self._constant(products)
        average, terms = self._average(terms)
        positive = [term for term in terms if term.coefficient.value > 0]
        negative = [term for term in terms if term.coefficient.value < 0]
        added = [*([average] if average else []), *map(self.product, positive)]
        subtracted = [self.product(_negated(term)) for term in negative]
        if not added and not subtracted:
            return self.context.nodes.constant(constant)
        if added:
            result = reduce(self._add, added)
        elif constant > 0:
            result, constant = self.context.nodes.constant(constant), 0.0
        else:
            result, subtracted = self.product(negative[0]), subtracted[1:]
        for node in subtracted:
            result = self.call("subtract", result, node)
        if constant > 0:
            return self.call("add", result, constant)
        return self.call("subtract", result, -constant) if constant else result

    def common_factor(self, products: Sequence[Product]) -> Node | None:
        """Return the sum as a common factor times a sum, or None if there is no common factor.

        Raises:
            Unrepresentable: no float32 is accurate enough for a coefficient.
        """
        if len(products) < 2:
            return None
        common = set(products[0].powers.items())
        for product in products[1:]:
            common &= set(product.powers.items())
        magnitude = abs(products[0].coefficient.value)
        have_equal_magnitudes = all(
            abs(abs(product.coefficient.value) - magnitude) <= product.coefficient.tolerance
            for product in products
        )
        if not common and (magnitude == 1 or not have_equal_magnitudes):
            return None
        common_powers = {
            base: power for base, power in products[0].powers.items() if (base, power) in common
        }
        quotients = [_without_powers(product, common_powers) for product in products]
        average, _ = self._average(quotients)
        scale = _ONE if average else products[0].coefficient
        if scale.value != 1:
            quotients = [_divided(product, scale) for product in quotients]
        total = self.sum(quotients)
        if total in common_powers or total.is_constant:
            return None
        signed = not self.context.range(total).nonnegative
        under_root = reduce(frozenset.union, (product.under_root for product in products))
        return self.product(
            Product(
                scale,
                {**common_powers, total: Power(1.0, signed)},
                under_root.intersection(common_powers),
            )
        )

    def _factors(self, product: Product) -> tuple[list[Node], list[Node]]:
        """Return the factors of the numerator and the factors of the denominator."""
        numerator: list[Node] = []
        denominator: list[Node] = []
        grouped: dict[float, list[tuple[Node, Power]]] = {}
        for base, power in sorted(product.powers.items(), key=self._rank_of_base):
            magnitude = abs(power.exponent)
            if magnitude in (0, *_POWER_OPS) and self._op_gives_sign(base, power, product):
                grouped.setdefault(magnitude, []).append((base, power))
            else:
                self._add_power(base, power, product, numerator, denominator)
        for magnitude, members in grouped.items():
            if len(members) == 1:
                ((base, power),) = members
                self._add_power(base, power, product, numerator, denominator)
            else:
                # The member of the largest kind decides, as in g / sqrt(r * c / s).
                inverse = members[0][1].exponent < 0
                grouped_power = self._grouped_power(magnitude, members, inverse)
                (denominator if inverse else numerator).append(grouped_power)
        rank = self.context.rank
        numerator.sort(key=rank)
        denominator.sort(key=lambda divisor: (divisor.depth, rank(divisor)))
        return numerator, denominator

    def _rank_of_base(self, base_and_power: tuple[Node, Power]) -> Rank:
        base, _ = base_and_power
        return self.context.rank(base)

    def _grouped_power(
        self, magnitude: float, members: Iterable[tuple[Node, Power]], inverse: bool
    ) -> Node:
        """Return a root, a power or the sign of a product of several bases.

        Args:
            magnitude: the magnitude of the exponents of all bases; 0 gives the sign of the product.
            members: the bases and their powers.
            inverse: whether to return the inverse, which belongs into the denominator.
        """
        powers = {}
        for base, power in members:
            direction = -1.0 if (power.exponent < 0) != inverse else 1.0
            powers[base] = Power(direction, not self.context.range(base).nonnegative)
        return self.call(_POWER_OPS.get(magnitude, "sign"), self.product(Product(_ONE, powers)))

    def _op_gives_sign(self, base: Node, power: Power, product: Product) -> bool:
        """Return whether the op of the power's exponent, or `sign`, gives the right sign."""
        if self.context.range(base).nonnegative or base in product.under_root:
            return True
        if abs(power.exponent) == 1 / 2:
            return False  # the sign under a root depends on all bases of the product
        return power.signed == (abs(power.exponent) in (0, 3, 1 / 3))

    def _add_power(
        self,
        base: Node,
        power: Power,
        product: Product,
        numerator: list[Node],
        denominator: list[Node],
    ) -> None:
        """Append the nodes of one power of `product` to its numerator or denominator."""
        exponent, signed = power
        magnitude = abs(exponent)
        base_is_nonnegative = self.context.range(base).nonnegative or base in product.under_root
        if magnitude == 0:
            numerator.append(self.call("sign", base))
            return
        if magnitude not in (1, *_POWER_OPS):
            numerator.append(self._power(base, exponent, signed, base_is_nonnegative))
            return
        accepts_negative = signed if magnitude in (1, 3, 1 / 3) else magnitude == 2
        operand = base if base_is_nonnegative or accepts_negative else self.call("abs", base)
        value = operand if magnitude == 1 else self.call(_POWER_OPS[magnitude], operand)
        if magnitude in (1 / 2, 2) and signed and not base_is_nonnegative:
            numerator.append(self.call("sign", base))
        is_only_power = len(product.powers) == 1 and product.coefficient.value == 1
        if is_only_power and exponent < 0 and magnitude != 1:
            numerator.append(self._power(base, exponent, signed, base_is_nonnegative))
        else:
            (numerator if exponent > 0 else denominator).append(value)

    def _power(self, base: Node, exponent: float, signed: bool, base_is_nonnegative: bool) -> Node:
        """Return a power by the op `power`, which is NaN for a negative base and a fraction."""
        is_integer = exponent == int(exponent)
        is_odd = is_integer and int(exponent) % 2 == 1
        if base_is_nonnegative or (is_integer and signed == is_odd):
            return self.call("power", base, exponent)
        magnitude = self.call("power", self.call("abs", base), exponent)
        return self.call("multiply", self.call("sign", base), magnitude) if signed else magnitude

    def _constant_over(self, coefficient: Coefficient, denominator: list[Node]) -> Node:
        """Return a constant divided by the nodes of `denominator`."""
        if not denominator:
            return self.context.nodes.constant(_literal(coefficient))
        first, *others = denominator
        if coefficient.value == 1:
            result = self.call("reciprocal", first)
        else:
            result = self.call("divide", _literal(coefficient), first)
        for divisor in others:
            result = self.call("divide", result, divisor)
        return result

    def _scaled(self, node: Node, coefficient: Coefficient) -> Node:
        """Return a node multiplied by a constant."""
        if coefficient.equals(1):
            return node
        if coefficient.equals(-1):
            return self.call("negative", node)
        return self.call("multiply", node, _literal(coefficient))

    def _multiply(self, x: Node, y: Node) -> Node:
        return self.call("multiply", x, y)

    def _add(self, x: Node, y: Node) -> Node:
        return self.call("add", x, y)

    def _constant(self, products: Sequence[Product]) -> tuple[float, list[Product]]:
        """Return the constant term of a sum, 0.0 if there is none, and the other terms."""
        constant = next((product for product in products if not product.powers), None)
        others = [product for product in products if product.powers]
        return (_literal(constant.coefficient) if constant else 0.0), others

    def _average(self, products: list[Product]) -> tuple[Node | None, list[Product]]:
        """Return the `interp` of two products, and the other products.

        The two products are the first whose coefficients add up to 1. Without such products, the
        result is None and all products.
        """
        for (i, x), (j, y) in combinations(enumerate(products), 2):
            total = x.coefficient.plus(y.coefficient)
            if abs(total.value - 1) > 2 * total.tolerance or not (x.powers and y.powers):
                continue
            average = self._interp(x, y)
            if average is not None:
                return average, [*products[:i], *products[i + 1 : j], *products[j + 1 :]]
        return None, products

    def _interp(self, x: Product, y: Product) -> Node | None:
        """Return x + y as an `interp`; None if no float32 is an accurate weight."""
        if self._is_first_operand(y, x):
            x, y = y, x
        weight = _interp_weight(x.coefficient, y.coefficient)
        if weight is None:
            x, y = y, x
            weight = _interp_weight(x.coefficient, y.coefficient)
        if weight is None:
            return None
        first, second = (
            self.product(Product(_ONE, operand.powers, operand.under_root)) for operand in (x, y)
        )
        return self.call("interp", first, second, weight)

    def _is_first_operand(self, x: Product, y: Product) -> bool:
        """Return whether x, not y, is the first operand of their `interp`.

        x comes first if only y is a state's old value. If both or neither are old values of
        states, x comes first if y has the larger coefficient.
        """

        def priority(product: Product) -> tuple[bool, float]:
            ((base, power), *others) = product.powers.items()
            is_state = not others and power.exponent == 1 and base.op == STATE
            return is_state, round(abs(product.coefficient.value), 5)

        return priority(x) < priority(y)


def _interp_weight(x: Coefficient, y: Coefficient) -> float | None:
    """Return a float32 `a` such that a is close to `y` and 1 - a is close to `x`, or None."""
    tolerance = min(x.tolerance, y.tolerance)
    weight = y.value if y.exact else shortest_float32(y.value, tolerance)
    if weight is None:
        return None
    complement = float(np.float32(1 - weight))  # in float32, as `interp` computes 1 - a
    is_close = abs(complement - x.value) <= x.tolerance and abs(weight - y.value) <= y.tolerance
    return weight if is_close else None


def _negated(product: Product) -> Product:
    return Product(
        product.coefficient.times(Coefficient.from_constant(-1.0)),
        product.powers,
        product.under_root,
    )


def _without_powers(product: Product, removed: dict[Node, Power]) -> Product:
    remaining = {base: power for base, power in product.powers.items() if base not in removed}
    return Product(product.coefficient, remaining, product.under_root.intersection(remaining))


def _divided(product: Product, divisor: Coefficient) -> Product:
    is_equal = product.coefficient == divisor
    quotient = _ONE if is_equal else product.coefficient.times(divisor.inverse)
    return Product(quotient, product.powers, product.under_root)


def _literal(coefficient: Coefficient) -> float:
    """Return the float32 to write for a coefficient, or raise `Unrepresentable`."""
    number = coefficient.literal()
    if number is None:
        raise Unrepresentable
    return number
