"""Arithmetic written in normal form: what the rules on sums and products give."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress

from primitives.algebra.building import Builder, Unwritable
from primitives.algebra.context import Context
from primitives.algebra.forms import Expander, Inexpressible
from primitives.algebra.products import Reach
from primitives.algebra.rewriting import growth, may_replace, read_only_for, substitute
from primitives.graph.nodes import Node


def sum_form(context: Context, node: Node) -> Node | None:
    """`node` as a sum of products, opened as far as makes the program shortest."""
    return _kept(context, "sum", node, _write_sums)


def product_form(context: Context, node: Node) -> Node | None:
    """`node` as a product of powers, opened as far as makes the program shortest."""
    return _kept(context, "product", node, _write_products)


def common_factor(context: Context, node: Node) -> Node | None:
    """The sum `node` as a common factor times a sum."""
    return _kept(context, "factor", node, _write_sums)


def folded_sum(context: Context, node: Node) -> Node | None:
    """`node` as a sum of products of what is furthest from it, if that may be as short."""
    forms = Expander(context, Reach.ALL).sum(node)
    if len(forms) > 1 + sum(one.is_call for one in read_only_for(context.graph, node)):
        return None  # to add them up takes more statements than what would go
    try:
        return Builder(context).sum(forms)
    except Unwritable:
        return None


def _kept(
    context: Context, form: str, node: Node, write: Callable[[Context, Node], None]
) -> Node | None:
    if (form, node) not in context.forms:
        write(context, node)
    return context.forms[form, node]


def _write_sums(context: Context, node: Node) -> None:
    """Both ways to write sums; they share what takes longest."""
    builder = Builder(context)
    sums: dict[Node | None, None] = {}
    factors: dict[Node | None, None] = {}
    for expander in _expanders(context):
        forms = expander.sum(node)
        with suppress(Unwritable):
            sums[builder.sum(forms)] = None
        with suppress(Unwritable):
            factors[builder.common_factor(forms)] = None
    context.forms["sum", node] = _shortest(context, node, sums)
    context.forms["factor", node] = _shortest(context, node, factors)


def _write_products(context: Context, node: Node) -> None:
    builder = Builder(context)
    products: dict[Node | None, None] = {}
    for expander in _expanders(context):
        with suppress(Inexpressible, Unwritable):
            products[builder.product(expander.product(node))] = None
    context.forms["product", node] = _shortest(context, node, products)


def _expanders(context: Context) -> Iterator[Expander]:
    """What reads a node in all ways that differ; the first has to have read it for the rest."""
    own = Expander(context, Reach.OWN)
    yield own
    if context.is_long:
        return
    if own.left_shared:
        yield Expander(context, Reach.ALL)
    if own.opened_sums:
        yield Expander(context, Reach.PRODUCTS)


def _shortest(context: Context, node: Node, written: Iterable[Node | None]) -> Node | None:
    """The candidate that makes the shortest program; the first of equals."""
    candidates = [
        new
        for new in written
        if new is not None
        and new is not node
        and may_replace(context.graph, context.nodes, node, new)
    ]
    if len(candidates) <= 1:
        return next(iter(candidates), None)

    def size(new: Node) -> int:
        grown = growth(context.graph, node, new)
        if grown is None:
            return substitute(context.graph, context.nodes, {node: new}).size
        return context.graph.size + grown.size

    return min(candidates, key=size)
