"""Nodes for sums and products, in one way that depends on the form alone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import reduce

import numpy as np

from primitives.algebra.context import Context
from primitives.algebra.numbers import Coefficient, neat
from primitives.algebra.products import Power, Product
from primitives.graph.nodes import STATE, Node
from primitives.kinds import Kind
from primitives.ops import POWERS

_ONE = Coefficient.of(1.0)
_ITSELF = Power(1.0, True)
_NAMED = {exponent: name for exponent, name in POWERS.items() if exponent > 0}
"""The ops that raise to a power; what is below a fraction bar is divided by."""


class Unwritable(Exception):  # noqa: N818 - not an error: the rewrite is not taken
    """A coefficient that float32 cannot hold without losing digits that matter."""


class Builder:
    """Builds nodes for forms."""

    def __init__(self, context: Context):
        self.context = context
        self.call = context.nodes.call

    def product(self, form: Product) -> Node:
        """A coefficient times powers: tensors first, then divisors, then numbers.

        Raises:
            Unwritable: the coefficient has no float32.
        """
        c = form.coefficient
        if len(form.powers) == 1:
            ((base, power),) = form.powers.items()
            if power == _ITSELF:
                return self._scaled(base, c)
        above, below = self._factors(form)
        numbers = [x for x in above if x.kind == Kind.SCALAR]
        arrays = [x for x in above if x.kind != Kind.SCALAR]
        if not arrays:
            arrays, numbers = numbers, []
        if not arrays:
            return self._over(c, below)
        result = reduce(self._multiply, arrays)
        for divisor in below:
            result = self.call("divide", result, divisor)
        if numbers:
            return self.call("multiply", result, self._scaled(reduce(self._multiply, numbers), c))
        return self._scaled(result, c)

    def sum(self, forms: Sequence[Product]) -> Node:
        """A sum of products: averages first, then what is added, then what is subtracted.

        Raises:
            Unwritable: a coefficient has no float32.
        """
        constant, rest = self._constant(forms)
        average, rest = self._average(rest)
        added = [average] if average else []
        added += [self.product(x) for x in rest if x.coefficient.value > 0]
        taken = [self.product(_negated(x)) for x in rest if x.coefficient.value < 0]
        if not added and not taken:
            return self.context.nodes.constant(constant)
        if added:
            result = reduce(self._add, added)
        elif constant > 0:
            result, constant = self.context.nodes.constant(constant), 0.0
        else:
            negative = next(x for x in rest if x.coefficient.value < 0)
            result, taken = self.product(negative), taken[1:]
        for node in taken:
            result = self.call("subtract", result, node)
        if constant > 0:
            return self.call("add", result, constant)
        return self.call("subtract", result, -constant) if constant else result

    def common_factor(self, forms: Sequence[Product]) -> Node | None:
        """The sum as a common factor times a sum, or None where there is no common factor."""
        if len(forms) < 2:
            return None
        common = set(forms[0].powers.items())
        for form in forms[1:]:
            common &= set(form.powers.items())
        size = abs(forms[0].coefficient.value)
        alike = all(
            abs(abs(form.coefficient.value) - size) <= form.coefficient.slack for form in forms
        )
        if not common and (size == 1 or not alike):
            return None
        shared = {base: power for base, power in forms[0].powers.items() if (base, power) in common}
        inner = [_without(form, shared) for form in forms]
        rooted = reduce(frozenset.union, (form.rooted for form in forms))
        scale = _ONE if self._average(inner)[0] else forms[0].coefficient
        if scale.value != 1:
            inner = [_divided(form, scale) for form in inner]
        total = self.sum(inner)
        signed = not self.context.range(total).nonnegative
        outer = Product(scale, {**shared, total: Power(1.0, signed)}, rooted.intersection(shared))
        if total in shared or total.is_constant:
            return None
        return self.product(outer)

    def _factors(self, form: Product) -> tuple[list[Node], list[Node]]:
        """What is multiplied and what is divided by."""
        above: list[Node] = []
        below: list[Node] = []
        grouped: dict[float, list[tuple[Node, Power]]] = {}
        for base, power in sorted(form.powers.items(), key=lambda x: self.context.rank(x[0])):
            size = abs(power.exponent)
            if size in (0, *_NAMED) and self._is_natural(base, power, form):
                grouped.setdefault(size, []).append((base, power))
            else:
                self._place(base, power, form, above, below, alone=len(form.powers) == 1)
        for size, members in grouped.items():
            if len(members) == 1:
                ((base, power),) = members
                self._place(base, power, form, above, below, alone=len(form.powers) == 1)
            else:
                inverse = members[0][1].exponent < 0  # largest first: g / sqrt(r * c / s)
                (below if inverse else above).append(self._root_of(size, members, inverse))
        rank = self.context.rank
        return sorted(above, key=rank), sorted(below, key=lambda x: (x.depth, rank(x)))

    def _root_of(self, size: float, members: Iterable[tuple[Node, Power]], inverse: bool) -> Node:
        """One root, power or sign for several bases, or for their inverses."""
        powers = {}
        for base, power in members:
            direction = -1.0 if (power.exponent < 0) != inverse else 1.0
            powers[base] = Power(direction, not self.context.range(base).nonnegative)
        return self.call(_NAMED.get(size, "sign"), self.product(Product(_ONE, powers)))

    def _is_natural(self, base: Node, power: Power, form: Product) -> bool:
        """Whether the op that is named for the power gives it its sign."""
        if self.context.range(base).nonnegative or base in form.rooted:
            return True
        if abs(power.exponent) == 1 / 2:
            return False  # a root of a product needs the signs of all
        return power.signed == (abs(power.exponent) in (0, 3, 1 / 3))

    def _place(
        self,
        base: Node,
        power: Power,
        form: Product,
        above: list[Node],
        below: list[Node],
        *,
        alone: bool,
    ) -> None:
        exponent, signed = power
        size = abs(exponent)
        sure = self.context.range(base).nonnegative or base in form.rooted
        if size == 0:
            above.append(self.call("sign", base))
            return
        if size in (1, *_NAMED):
            takes_sign = signed if size in (1, 3, 1 / 3) else size == 2
            inside = base if sure or takes_sign else self.call("abs", base)
            value = inside if size == 1 else self.call(_NAMED[size], inside)
            if size in (1 / 2, 2) and signed and not sure:
                above.append(self.call("sign", base))
            only_inverse = alone and exponent < 0 and size != 1
            if only_inverse and form.coefficient.value == 1:
                above.append(self._power(base, exponent, signed, sure))
            else:
                (above if exponent > 0 else below).append(value)
            return
        above.append(self._power(base, exponent, signed, sure))

    def _power(self, base: Node, exponent: float, signed: bool, sure: bool) -> Node:
        whole = exponent == int(exponent)
        if sure or (whole and signed == bool(int(exponent) % 2)):
            return self.call("power", base, exponent)
        size = self.call("power", self.call("abs", base), exponent)
        return self.call("multiply", self.call("sign", base), size) if signed else size

    def _over(self, c: Coefficient, below: list[Node]) -> Node:
        if not below:
            return self.context.nodes.constant(_written(c))
        first, *others = below
        result = (
            self.call("reciprocal", first)
            if c.value == 1
            else self.call("divide", _written(c), first)
        )
        for divisor in others:
            result = self.call("divide", result, divisor)
        return result

    def _scaled(self, node: Node, c: Coefficient) -> Node:
        if c.is_near(1):
            return node
        if c.is_near(-1):
            return self.call("negative", node)
        return self.call("multiply", node, _written(c))

    def _multiply(self, x: Node, y: Node) -> Node:
        return self.call("multiply", x, y)

    def _add(self, x: Node, y: Node) -> Node:
        return self.call("add", x, y)

    def _constant(self, forms: Sequence[Product]) -> tuple[float, list[Product]]:
        constant = next((form for form in forms if not form.powers), None)
        rest = [form for form in forms if form.powers]
        return (_written(constant.coefficient) if constant else 0.0), rest

    def _average(self, forms: list[Product]) -> tuple[Node | None, list[Product]]:
        """`interp` of the first two products whose coefficients add up to 1, and what is left."""
        for i, x in enumerate(forms):
            for j in range(i + 1, len(forms)):
                y = forms[j]
                total = x.coefficient.plus(y.coefficient)
                if abs(total.value - 1) > 2 * total.slack or not (x.powers and y.powers):
                    continue
                found = self._interp(x, y)
                if found is not None:
                    return found, [form for k, form in enumerate(forms) if k not in (i, j)]
        return None, forms

    def _interp(self, x: Product, y: Product) -> Node | None:
        if self._comes_first(y, x):
            x, y = y, x
        share = _share(x.coefficient, y.coefficient)
        if share is None:
            x, y = y, x
            share = _share(x.coefficient, y.coefficient)
        if share is None:
            return None
        first, second = (self.product(Product(_ONE, f.powers, f.rooted)) for f in (x, y))
        return self.call("interp", first, second, share)

    def _comes_first(self, x: Product, y: Product) -> bool:
        """Whether x is what is averaged: y is a state's old value, or weighs more."""

        def weight(form: Product) -> tuple[bool, float]:
            ((base, power), *others) = form.powers.items()
            is_state = not others and power.exponent == 1 and base.op == STATE
            return is_state, round(abs(form.coefficient.value), 5)

        return weight(x) < weight(y)


def _share(x: Coefficient, y: Coefficient) -> float | None:
    """A float32 `a` with 1 - a near `x` and a near `y`."""
    slack = min(x.slack, y.slack)
    share = y.value if y.exact else neat(y.value, slack)
    if share is None:
        return None
    rest = float(np.float32(1 - share))  # as `interp` computes it
    agrees = abs(rest - x.value) <= x.slack and abs(share - y.value) <= y.slack
    return share if agrees else None


def _negated(form: Product) -> Product:
    return Product(form.coefficient.times(Coefficient.of(-1.0)), form.powers, form.rooted)


def _without(form: Product, shared: dict[Node, Power]) -> Product:
    left = {base: power for base, power in form.powers.items() if base not in shared}
    return Product(form.coefficient, left, form.rooted.intersection(left))


def _divided(form: Product, by: Coefficient) -> Product:
    c = _ONE if form.coefficient == by else form.coefficient.times(by.inverse)
    return Product(c, form.powers, form.rooted)


def _written(c: Coefficient) -> float:
    number = c.written()
    if number is None:
        raise Unwritable
    return number
