"""Arithmetic written in normal form: what the rules on sums and products give."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress

from primitives.algebra.building import Builder, Unwritable
from primitives.algebra.context import Context
from primitives.algebra.forms import Expander, Inexpressible
from primitives.algebra.products import Reach
from primitives.algebra.terms import Term, growth, may_replace, read_only_for, substitute


def sum_form(context: Context, term: Term) -> Term | None:
    """`term` as a sum of products, opened as far as makes the program shortest."""
    return _kept(context, "sum", term, _write_sums)


def product_form(context: Context, term: Term) -> Term | None:
    """`term` as a product of powers, opened as far as makes the program shortest."""
    return _kept(context, "product", term, _write_products)


def common_factor(context: Context, term: Term) -> Term | None:
    """The sum `term` as a common factor times a sum."""
    return _kept(context, "factor", term, _write_sums)


def folded_sum(context: Context, term: Term) -> Term | None:
    """`term` as a sum of products of what is furthest from it, if that may be as short."""
    forms = Expander(context, Reach.ALL).sum(term)
    if len(forms) > 1 + sum(one.is_call for one in read_only_for(context.graph, term)):
        return None  # to add them up takes more statements than what would go
    try:
        return Builder(context).sum(forms)
    except Unwritable:
        return None


def _kept(
    context: Context, form: str, term: Term, write: Callable[[Context, Term], None]
) -> Term | None:
    if (form, term) not in context.forms:
        write(context, term)
    return context.forms[form, term]


def _write_sums(context: Context, term: Term) -> None:
    """Both ways to write sums; they share what takes longest."""
    builder = Builder(context)
    sums: dict[Term | None, None] = {}
    factors: dict[Term | None, None] = {}
    for expander in _expanders(context):
        forms = expander.sum(term)
        with suppress(Unwritable):
            sums[builder.sum(forms)] = None
        with suppress(Unwritable):
            factors[builder.common_factor(forms)] = None
    context.forms["sum", term] = _shortest(context, term, sums)
    context.forms["factor", term] = _shortest(context, term, factors)


def _write_products(context: Context, term: Term) -> None:
    builder = Builder(context)
    products: dict[Term | None, None] = {}
    for expander in _expanders(context):
        with suppress(Inexpressible, Unwritable):
            products[builder.product(expander.product(term))] = None
    context.forms["product", term] = _shortest(context, term, products)


def _expanders(context: Context) -> Iterator[Expander]:
    """What reads a term in all ways that differ; the first has to have read it for the rest."""
    own = Expander(context, Reach.OWN)
    yield own
    if context.is_long:
        return
    if own.left_shared:
        yield Expander(context, Reach.ALL)
    if own.opened_sums:
        yield Expander(context, Reach.PRODUCTS)


def _shortest(context: Context, term: Term, written: Iterable[Term | None]) -> Term | None:
    """The candidate that makes the shortest program; the first of equals."""
    candidates = [
        new
        for new in written
        if new is not None
        and new is not term
        and may_replace(context.graph, context.terms, term, new)
    ]
    if len(candidates) <= 1:
        return next(iter(candidates), None)

    def size(new: Term) -> int:
        grown = growth(context.graph, term, new)
        if grown is None:
            return substitute(context.graph, context.terms, {term: new}).size
        return context.graph.size + grown.size

    return min(candidates, key=size)
