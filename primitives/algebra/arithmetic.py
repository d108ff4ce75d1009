"""The functions of the rewrite rules that write sums and products in normal form."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress

from primitives.algebra.building import Builder, Unrepresentable
from primitives.algebra.context import Context
from primitives.algebra.forms import Expander, NoProductForm
from primitives.algebra.products import Expansion
from primitives.algebra.rewriting import exclusive_operands, may_replace, size_change, substitute
from primitives.graph.nodes import Node


def sum_form(context: Context, node: Node) -> Node | None:
    """Return `node` as a sum of products, or None if no such form may replace `node`.

    Products are expanded to the extent that gives the shortest program.
    """
    return _cached_form(context, "sum", node, _write_sums)


def product_form(context: Context, node: Node) -> Node | None:
    """Return `node` as a product of powers, or None if no such form may replace `node`.

    Sums are expanded to the extent that gives the shortest program.
    """
    return _cached_form(context, "product", node, _write_products)


def common_factor(context: Context, node: Node) -> Node | None:
    """Return the sum `node` as a common factor times a sum, or None if there is no such form."""
    return _cached_form(context, "factor", node, _write_sums)


def folded_sum(context: Context, node: Node) -> Node | None:
    """Return `node` as one fully expanded sum of products, or None if this form is longer."""
    terms = Expander(context, Expansion.ALL).sum(node)
    removed_statements = sum(operand.is_call for operand in exclusive_operands(context.graph, node))
    if len(terms) > 1 + removed_statements:
        return None  # adding the products takes more statements than are removed
    try:
        return Builder(context).sum(terms)
    except Unrepresentable:
        return None


def _cached_form(
    context: Context, form: str, node: Node, write: Callable[[Context, Node], None]
) -> Node | None:
    if (form, node) not in context.forms:
        write(context, node)
    return context.forms[form, node]


def _write_sums(context: Context, node: Node) -> None:
    """Cache the sum form and the common-factor form of `node`.

    Both forms are built from the same expansion, which takes most of the time.
    """
    builder = Builder(context)
    sum_forms: dict[Node | None, None] = {}
    factored_forms: dict[Node | None, None] = {}
    for expander in _expanders(context):
        terms = expander.sum(node)
        with suppress(Unrepresentable):
            sum_forms[builder.sum(terms)] = None
        with suppress(Unrepresentable):
            factored_forms[builder.common_factor(terms)] = None
    context.forms["sum", node] = _shortest(context, node, sum_forms)
    context.forms["factor", node] = _shortest(context, node, factored_forms)


def _write_products(context: Context, node: Node) -> None:
    builder = Builder(context)
    products: dict[Node | None, None] = {}
    for expander in _expanders(context):
        with suppress(NoProductForm, Unrepresentable):
            products[builder.product(expander.product(node))] = None
    context.forms["product", node] = _shortest(context, node, products)


def _expanders(context: Context) -> Iterator[Expander]:
    """Yield the expanders that may give different expansions of a node.

    The caller must expand the node with the first expander before requesting the next expander:
    the flags of the first expander decide which others may give different expansions.
    """
    unshared = Expander(context, Expansion.UNSHARED)
    yield unshared
    if context.is_large:
        return
    if unshared.skipped_shared:
        yield Expander(context, Expansion.ALL)
    if unshared.expanded_sums:
        yield Expander(context, Expansion.PRODUCTS)


def _shortest(context: Context, node: Node, forms: Iterable[Node | None]) -> Node | None:
    """Return the form that gives the shortest program; on ties, the first such form."""
    candidates = [
        new
        for new in forms
        if new is not None
        and new is not node
        and may_replace(context.graph, context.nodes, node, new)
    ]
    if len(candidates) <= 1:
        return next(iter(candidates), None)

    def size(new: Node) -> int:
        change = size_change(context.graph, node, new)
        if change is None:
            return substitute(context.graph, context.nodes, {node: new}).size
        return context.graph.size + change.statements

    return min(candidates, key=size)
