"""Expands nodes into products of powers, and into sums of such products."""

from __future__ import annotations

import math
from collections.abc import Iterable

from primitives.algebra.context import Context
from primitives.algebra.numbers import UNIT_ROUNDOFF, Coefficient
from primitives.algebra.order import Rank
from primitives.algebra.products import PRODUCT_OPS, SUM_OPS, Expansion, Key, Power, Product, Sum
from primitives.graph.nodes import Node

_ONE = Coefficient.from_constant(1.0)
_RECURRENT_ONE = Coefficient.from_constant(1.0, recurrent=True)
_MINUS_ONE = Coefficient.from_constant(-1.0)
_MIN_EXPONENT, _MAX_EXPONENT = 1e-12, 1e6
"""Powers are expanded only if the magnitudes of their exponents are between these numbers."""


class NoProductForm(Exception):  # noqa: N818 - no error for users: the rewrite is skipped
    """The product has a factor x / x whose x may be zero, or its coefficient overflows."""


class Expander:
    """Expands nodes into sums and products.

    Attributes:
        context: the graph of the nodes.
        expansion: which nodes are expanded.
        root: the node passed to `sum` or `product`, which is always expanded.
        skipped_shared: whether a shared node was not expanded, which `Expansion.ALL` would expand.
        expanded_sums: whether a sum was expanded, which `Expansion.PRODUCTS` would not expand.
    """

    def __init__(self, context: Context, expansion: Expansion):
        self.context = context
        self.expansion = expansion
        self.root: Node | None = None
        self.skipped_shared = False
        self.expanded_sums = False

    def product(self, node: Node) -> Product:
        """Return `node` as a product.

        Raises:
            NoProductForm: a base that cancels out may be zero, or a coefficient overflows.
        """
        self.root = node
        return self._without_unit_powers(self._product(node))

    def sum(self, node: Node) -> list[Product]:
        """Return `node` as a sum of products, sorted by the context's order of nodes."""
        self.root = node
        terms = [term for term in self._sum(node).values() if not term.coefficient.is_zero]
        if len(terms) <= 1:
            return terms
        rank = self.context.rank

        def sort_key(term: Product) -> list[tuple[Rank, Power]]:
            return sorted((rank(base), power) for base, power in term.powers.items())

        return sorted(terms, key=sort_key)

    def _expands(self, node: Node) -> bool:
        """Return whether `node` is expanded; set `skipped_shared` and `expanded_sums`."""
        if node is self.root:
            return True
        self.expanded_sums |= node.op in SUM_OPS
        if self.expansion == Expansion.ALL:
            return True
        if self.expansion == Expansion.PRODUCTS and node.op not in PRODUCT_OPS:
            return False
        shared = self.context.is_shared(node)
        self.skipped_shared |= shared
        return not shared

    def _product(self, node: Node) -> Product:
        """Return `node` as a product, in which bases that cancel out have exponent 0."""
        if node.is_constant and node.value:
            return Product(Coefficient.from_constant(node.value))
        if node.is_constant or node.op not in PRODUCT_OPS or not self._expands(node):
            return self._base(node)
        if not self._may_cache(node):
            return self._expand_product(node)
        cached = self.context.products.get((self.expansion, node))
        if cached is None:
            cached = self.context.products[self.expansion, node] = self._expand_product(node)
        return cached

    def _expand_product(self, node: Node) -> Product:
        args = [self._product(arg) for arg in node.args]
        match node.op:
            case "multiply":
                return self._multiply(*args)
            case "divide":
                return self._multiply(args[0], self._inverse(args[1]))
            case "reciprocal":
                return self._inverse(args[0])
            case "negative":
                return self._multiply(args[0], Product(_MINUS_ONE))
            case "abs":
                return self._abs(args[0])
            case "sign":
                return self._sign(args[0])
            case "cbrt":
                return self._cube_root(args[0])
            case "power":
                product = self._constant_power(args[0], node.args[1])
            case _:
                exponent = node.op_entry.exponent
                product = None if exponent is None else self._to_the(args[0], exponent)
        return product or self._base(node)

    def _base(self, node: Node) -> Product:
        """Return the product whose only base is `node`, with exponent 1."""
        depends_on_state = not self.context.graph.next_values.keys().isdisjoint(node.leaves)
        power = Power(1.0, not self.context.range(node).nonnegative)
        return Product(_RECURRENT_ONE if depends_on_state else _ONE, {node: power})

    def _multiply(self, x: Product, y: Product) -> Product:
        powers = dict(x.powers)
        for base, y_power in y.powers.items():
            x_power = powers.get(base, Power(0.0, False))
            exponent = x_power.exponent + y_power.exponent
            largest = max(abs(x_power.exponent), abs(y_power.exponent))
            signed = x_power.signed != y_power.signed
            powers[base] = Power(_rounded_exponent(exponent, largest), signed)
        coefficient = _finite_nonzero(x.coefficient.times(y.coefficient))
        return Product(coefficient, powers, x.under_root | y.under_root)

    def _inverse(self, x: Product) -> Product:
        powers = {base: Power(-power.exponent, power.signed) for base, power in x.powers.items()}
        return Product(_finite_nonzero(x.coefficient.inverse), powers, x.under_root)

    def _abs(self, x: Product) -> Product:
        powers = {base: Power(power.exponent, False) for base, power in x.powers.items()}
        return Product(x.coefficient.magnitude, powers)

    def _sign(self, x: Product) -> Product:
        powers = {
            base: Power(0.0, power.signed and base not in x.under_root)
            for base, power in x.powers.items()
        }
        return Product(_ONE if x.coefficient.value > 0 else _MINUS_ONE, powers, x.under_root)

    def _cube_root(self, x: Product) -> Product:
        root = x.coefficient.magnitude.to_the(1 / 3)
        signed_root = root if x.coefficient.value > 0 else root.times(_MINUS_ONE)
        powers = {base: Power(power.exponent / 3, power.signed) for base, power in x.powers.items()}
        return Product(signed_root, powers, x.under_root)

    def _constant_power(self, x: Product, exponent: Node) -> Product | None:
        if not exponent.is_constant or exponent.value == 0:
            return None
        return self._to_the(x, exponent.value)

    def _to_the(self, x: Product, exponent: float) -> Product | None:
        """Return x to a constant exponent, or None if no product of powers equals it.

        A root of a product with one base of unknown sign is the product of roots only if no other
        base can be zero: sqrt(0 * -1) is 0, but sqrt(0) * sqrt(-1) is NaN.
        """
        magnitudes = [
            abs(power.exponent * exponent) for power in x.powers.values() if power.exponent
        ]
        if not all(_MIN_EXPONENT < magnitude < _MAX_EXPONENT for magnitude in magnitudes):
            return None
        is_integer = exponent == int(exponent)
        is_even = is_integer and int(exponent) % 2 == 0
        is_odd = is_integer and not is_even
        is_negative = x.coefficient.value < 0
        of_unknown_sign = [
            base for base, power in x.powers.items() if power.signed and base not in x.under_root
        ]
        if not is_integer and (is_negative or len(of_unknown_sign) > 1):
            return None
        others = x.powers.keys() - of_unknown_sign
        if not is_integer and of_unknown_sign and not self._are_nonzero(others):
            return None
        try:
            coefficient = _finite_nonzero(x.coefficient.magnitude.to_the(exponent))
        except OverflowError:
            return None
        if is_negative and is_odd:
            coefficient = coefficient.times(_MINUS_ONE)
        powers = {
            base: Power(power.exponent * exponent, power.signed and is_odd)
            for base, power in x.powers.items()
        }
        under_root = x.under_root if is_integer else x.under_root.union(of_unknown_sign)
        return Product(coefficient, powers, under_root)

    def _are_nonzero(self, bases: Iterable[Node]) -> bool:
        return all(self.context.range(base).nonzero for base in bases)

    def _without_unit_powers(self, x: Product) -> Product:
        """Return x without bases that cancelled out; raise `NoProductForm` if one may be zero."""
        powers = {}
        for base, (exponent, signed) in x.powers.items():
            interval = self.context.range(base)
            signed = signed and not interval.nonnegative and base not in x.under_root
            if exponent == 0 and not signed:
                if not interval.nonzero:
                    raise NoProductForm
                continue
            powers[base] = Power(exponent, signed)
        return Product(x.coefficient, powers, x.under_root.intersection(powers))

    def _sum(self, node: Node) -> Sum:
        """Return `node` as a sum, in which products that cancel out have coefficient 0."""
        if not self._may_cache(node):
            return self._expand_sum(node)
        cached = self.context.sums.get((self.expansion, node))
        if cached is None:
            cached = self.context.sums[self.expansion, node] = self._expand_sum(node)
        return cached

    def _may_cache(self, node: Node) -> bool:
        """Return whether the expansion of `node` sets no flags and does not depend on the root."""
        if self.expansion == Expansion.ALL:
            return True
        return self.context.is_large and not (node is self.root and self.context.is_shared(node))

    def _expand_sum(self, node: Node) -> Sum:
        if node.is_constant and node.value == 0:
            return {}
        expands = node.op in SUM_OPS and self._expands(node)
        terms = self._terms(node) if expands else None
        if terms is None:
            return self._as_sum(node)
        products: dict[Key, Product] = {}
        for term, factor in terms:
            for key, product in self._sum(term).items():
                total = _scaled(product, factor)
                previous = products.get(key)
                if previous is not None:
                    coefficient = previous.coefficient.plus(total.coefficient)
                    under_root = total.under_root | previous.under_root
                    total = Product(coefficient, total.powers, under_root)
                products[key] = total
        return products

    def _terms(self, node: Node) -> list[tuple[Node, Coefficient]] | None:
        """Return the terms of a sum with their factors; None if a factor is not constant."""
        args = node.args
        match node.op:
            case "add":
                return [(args[0], _ONE), (args[1], _ONE)]
            case "subtract":
                return [(args[0], _ONE), (args[1], _MINUS_ONE)]
            case "negative":
                return [(args[0], _MINUS_ONE)]
        if not args[2].is_constant:
            return None
        second_weight = args[2].value
        return [
            (args[0], Coefficient.computed(1 - second_weight)),
            (args[1], Coefficient.from_constant(second_weight)),
        ]

    def _as_sum(self, node: Node) -> Sum:
        """Return the terms of `node` if it is a constant times a sum, else a single product."""
        try:
            product = self._without_unit_powers(self._product(node))
        except NoProductForm:
            product = self._base(node)
        if len(product.powers) == 1:
            ((base, power),) = product.powers.items()
            expands = base is not node and base.op in SUM_OPS and self._expands(base)
            equals_base = power.signed or self.context.range(base).nonnegative
            if expands and power.exponent == 1 and equals_base:
                terms = self._sum(base)
                return {key: _scaled(term, product.coefficient) for key, term in terms.items()}
        return {product.key: product}


def _finite_nonzero(coefficient: Coefficient) -> Coefficient:
    """Return the coefficient, or raise `NoProductForm` if it underflowed or overflowed."""
    if coefficient.value == 0 or not math.isfinite(coefficient.value):
        raise NoProductForm
    return coefficient


def _rounded_exponent(exponent: float, largest: float) -> float:
    """Return the multiple of 1/6 that equals `exponent` up to rounding, else `exponent`.

    Sums of halves and thirds are then exact. `largest` is the largest magnitude in the sum.
    """
    nearest = round(exponent * 6) / 6
    return nearest if abs(nearest - exponent) <= UNIT_ROUNDOFF * largest else exponent


def _scaled(product: Product, factor: Coefficient) -> Product:
    if factor is _ONE:
        return product
    return Product(product.coefficient.times(factor), product.powers, product.under_root)
