"""Construction of nodes from sums and products of powers.

Equal sums and products give the same node, whichever nodes they were expanded from.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import reduce

import numpy as np

from primitives.algebra.context import Context
from primitives.algebra.numbers import Coefficient, shortest_float32
from primitives.algebra.products import Power, Product
from primitives.graph.nodes import STATE, Node
from primitives.kinds import Kind
from primitives.ops import POWERS

_ONE = Coefficient.from_constant(1.0)
_IDENTITY = Power(1.0, True)
_POWER_OPS = {exponent: name for exponent, name in POWERS.items() if exponent > 0}
"""Ops that raise to a positive power; a negative power is written as a division."""


class Unrepresentable(Exception):  # noqa: N818 - not an error: the rewrite is not tried
    """No float32 is accurate enough for a coefficient."""


class Builder:
    """Builds nodes from sums and products in the graph of `context`."""

    def __init__(self, context: Context):
        self.context = context
        self.call = context.nodes.call

    def product(self, product: Product) -> Node:
        """Return the node of a product: arrays first, then divisors, then scalars.

        Raises:
            Unrepresentable: no float32 is accurate enough for the coefficient.
        """
        c = product.coefficient
        if len(product.powers) == 1:
            ((base, power),) = product.powers.items()
            if power == _IDENTITY:
                return self._scaled(base, c)
        numerator, denominator = self._factors(product)
        numbers = [x for x in numerator if x.kind == Kind.SCALAR]
        arrays = [x for x in numerator if x.kind != Kind.SCALAR]
        if not arrays:
            arrays, numbers = numbers, []
        if not arrays:
            return self._constant_over(c, denominator)
        result = reduce(self._multiply, arrays)
        for divisor in denominator:
            result = self.call("divide", result, divisor)
        if numbers:
            return self.call("multiply", result, self._scaled(reduce(self._multiply, numbers), c))
        return self._scaled(result, c)

    def sum(self, products: Sequence[Product]) -> Node:
        """Return the node of a sum: an average first, then positive terms, then negative ones.

        Raises:
            Unrepresentable: no float32 is accurate enough for a coefficient.
        """
        constant, rest = self._constant(products)
        average, rest = self._average(rest)
        added = [average] if average else []
        added += [self.product(x) for x in rest if x.coefficient.value > 0]
        subtracted = [self.product(_negated(x)) for x in rest if x.coefficient.value < 0]
        if not added and not subtracted:
            return self.context.nodes.constant(constant)
        if added:
            result = reduce(self._add, added)
        elif constant > 0:
            result, constant = self.context.nodes.constant(constant), 0.0
        else:
            negative = next(x for x in rest if x.coefficient.value < 0)
            result, subtracted = self.product(negative), subtracted[1:]
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
        shared = {
            base: power for base, power in products[0].powers.items() if (base, power) in common
        }
        inner = [_without_powers(product, shared) for product in products]
        under_root = reduce(frozenset.union, (product.under_root for product in products))
        scale = _ONE if self._average(inner)[0] else products[0].coefficient
        if scale.value != 1:
            inner = [_divided(product, scale) for product in inner]
        total = self.sum(inner)
        signed = not self.context.range(total).nonnegative
        outer = Product(
            scale, {**shared, total: Power(1.0, signed)}, under_root.intersection(shared)
        )
        if total in shared or total.is_constant:
            return None
        return self.product(outer)

    def _factors(self, product: Product) -> tuple[list[Node], list[Node]]:
        """Return the factors of the numerator and the factors of the denominator."""
        numerator: list[Node] = []
        denominator: list[Node] = []
        grouped: dict[float, list[tuple[Node, Power]]] = {}
        for base, power in sorted(product.powers.items(), key=lambda x: self.context.rank(x[0])):
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
                inverse = members[0][1].exponent < 0  # largest kind first: g / sqrt(r * c / s)
                grouped_power = self._grouped_power(magnitude, members, inverse)
                (denominator if inverse else numerator).append(grouped_power)
        rank = self.context.rank
        return sorted(numerator, key=rank), sorted(denominator, key=lambda x: (x.depth, rank(x)))

    def _grouped_power(
        self, magnitude: float, members: Iterable[tuple[Node, Power]], inverse: bool
    ) -> Node:
        """Return one root, power or sign of a product of several bases.

        Args:
            magnitude: the magnitude of the bases' exponents; 0 is the sign.
            members: the bases and their powers.
            inverse: whether to write the inverse of this product, for the denominator.
        """
        powers = {}
        for base, power in members:
            direction = -1.0 if (power.exponent < 0) != inverse else 1.0
            powers[base] = Power(direction, not self.context.range(base).nonnegative)
        return self.call(_POWER_OPS.get(magnitude, "sign"), self.product(Product(_ONE, powers)))

    def _op_gives_sign(self, base: Node, power: Power, product: Product) -> bool:
        """Whether the op with this exponent returns the power with the right sign."""
        if self.context.range(base).nonnegative or base in product.under_root:
            return True
        if abs(power.exponent) == 1 / 2:
            return False  # a root of a product needs the signs of all bases
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
        nonnegative_base = self.context.range(base).nonnegative or base in product.under_root
        if magnitude == 0:
            numerator.append(self.call("sign", base))
            return
        if magnitude in (1, *_POWER_OPS):
            takes_sign = signed if magnitude in (1, 3, 1 / 3) else magnitude == 2
            inside = base if nonnegative_base or takes_sign else self.call("abs", base)
            value = inside if magnitude == 1 else self.call(_POWER_OPS[magnitude], inside)
            if magnitude in (1 / 2, 2) and signed and not nonnegative_base:
                numerator.append(self.call("sign", base))
            is_only_power = len(product.powers) == 1 and product.coefficient.value == 1
            if is_only_power and exponent < 0 and magnitude != 1:
                numerator.append(self._power(base, exponent, signed, nonnegative_base))
            else:
                (numerator if exponent > 0 else denominator).append(value)
            return
        numerator.append(self._power(base, exponent, signed, nonnegative_base))

    def _power(self, base: Node, exponent: float, signed: bool, nonnegative_base: bool) -> Node:
        is_integer = exponent == int(exponent)
        if nonnegative_base or (is_integer and signed == bool(int(exponent) % 2)):
            return self.call("power", base, exponent)
        magnitude = self.call("power", self.call("abs", base), exponent)
        return self.call("multiply", self.call("sign", base), magnitude) if signed else magnitude

    def _constant_over(self, c: Coefficient, denominator: list[Node]) -> Node:
        if not denominator:
            return self.context.nodes.constant(_literal(c))
        first, *others = denominator
        result = (
            self.call("reciprocal", first)
            if c.value == 1
            else self.call("divide", _literal(c), first)
        )
        for divisor in others:
            result = self.call("divide", result, divisor)
        return result

    def _scaled(self, node: Node, c: Coefficient) -> Node:
        if c.equals(1):
            return node
        if c.equals(-1):
            return self.call("negative", node)
        return self.call("multiply", node, _literal(c))

    def _multiply(self, x: Node, y: Node) -> Node:
        return self.call("multiply", x, y)

    def _add(self, x: Node, y: Node) -> Node:
        return self.call("add", x, y)

    def _constant(self, products: Sequence[Product]) -> tuple[float, list[Product]]:
        constant = next((product for product in products if not product.powers), None)
        rest = [product for product in products if product.powers]
        return (_literal(constant.coefficient) if constant else 0.0), rest

    def _average(self, products: list[Product]) -> tuple[Node | None, list[Product]]:
        """Return `interp` of the first two products whose coefficients add up to 1, and the rest.

        The `interp` is None if the coefficients of no two products add up to 1.
        """
        for i, x in enumerate(products):
            for j in range(i + 1, len(products)):
                y = products[j]
                total = x.coefficient.plus(y.coefficient)
                if abs(total.value - 1) > 2 * total.tolerance or not (x.powers and y.powers):
                    continue
                average = self._interp(x, y)
                if average is not None:
                    return average, [
                        product for k, product in enumerate(products) if k not in (i, j)
                    ]
        return None, products

    def _interp(self, x: Product, y: Product) -> Node | None:
        if self._is_first_operand(y, x):
            x, y = y, x
        weight = _interp_weight(x.coefficient, y.coefficient)
        if weight is None:
            x, y = y, x
            weight = _interp_weight(x.coefficient, y.coefficient)
        if weight is None:
            return None
        first, second = (self.product(Product(_ONE, f.powers, f.under_root)) for f in (x, y))
        return self.call("interp", first, second, weight)

    def _is_first_operand(self, x: Product, y: Product) -> bool:
        """Whether x is the first operand of `interp`.

        x comes first if only y is a state's old value. If both or neither are old values of
        states, x comes first if y has the larger coefficient.
        """

        def priority(product: Product) -> tuple[bool, float]:
            ((base, power), *others) = product.powers.items()
            is_state = not others and power.exponent == 1 and base.op == STATE
            return is_state, round(abs(product.coefficient.value), 5)

        return priority(x) < priority(y)


def _interp_weight(x: Coefficient, y: Coefficient) -> float | None:
    """Return a float32 `a` with 1 - a close to `x` and a close to `y`, or None."""
    tolerance = min(x.tolerance, y.tolerance)
    weight = y.value if y.exact else shortest_float32(y.value, tolerance)
    if weight is None:
        return None
    rest = float(np.float32(1 - weight))  # as `interp` computes it
    is_close = abs(rest - x.value) <= x.tolerance and abs(weight - y.value) <= y.tolerance
    return weight if is_close else None


def _negated(product: Product) -> Product:
    return Product(
        product.coefficient.times(Coefficient.from_constant(-1.0)),
        product.powers,
        product.under_root,
    )


def _without_powers(product: Product, shared: dict[Node, Power]) -> Product:
    remaining = {base: power for base, power in product.powers.items() if base not in shared}
    return Product(product.coefficient, remaining, product.under_root.intersection(remaining))


def _divided(product: Product, by: Coefficient) -> Product:
    c = _ONE if product.coefficient == by else product.coefficient.times(by.inverse)
    return Product(c, product.powers, product.under_root)


def _literal(c: Coefficient) -> float:
    number = c.literal()
    if number is None:
        raise Unrepresentable
    return number
