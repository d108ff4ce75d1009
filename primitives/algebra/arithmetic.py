"""Arithmetic written in normal form: what the rules on sums and products give."""

from __future__ import annotations

from collections.abc import Callable

from primitives.algebra.building import Builder, Unwritable
from primitives.algebra.context import Context
from primitives.algebra.forms import Expander, Inexpressible
from primitives.algebra.products import Reach
from primitives.algebra.terms import Term, growth, may_replace, read_only_for, substitute

_REACHES = (Reach.OWN, Reach.ALL, Reach.PRODUCTS)


def sum_form(context: Context, term: Term) -> Term | None:
    """`term` as a sum of products, opened as far as makes the program shortest."""
    return _shortest(context, "sum", term, lambda e: Builder(context).sum(e.sum(term)))


def product_form(context: Context, term: Term) -> Term | None:
    """`term` as a product of powers, opened as far as makes the program shortest."""
    return _shortest(context, "product", term, lambda e: Builder(context).product(e.product(term)))


def common_factor(context: Context, term: Term) -> Term | None:
    """The sum `term` as a common factor times a sum."""
    return _shortest(context, "factor", term, lambda e: Builder(context).common_factor(e.sum(term)))


def folded_sum(context: Context, term: Term) -> Term | None:
    """`term` as a sum of products of what is furthest from it, if that may be as short."""
    forms = Expander(context, Reach.ALL).sum(term)
    if len(forms) > 1 + sum(one.is_call for one in read_only_for(context.graph, term)):
        return None  # to add them up takes more statements than what would go
    try:
        return Builder(context).sum(forms)
    except Unwritable:
        return None


def _shortest(
    context: Context, form: str, term: Term, written: Callable[[Expander], Term | None]
) -> Term | None:
    """The candidate that makes the shortest program; the first of equals."""
    if (form, term) not in context.forms:
        context.forms[form, term] = _written_shortest(context, term, written)
    return context.forms[form, term]


def _written_shortest(
    context: Context, term: Term, written: Callable[[Expander], Term | None]
) -> Term | None:
    candidates: dict[Term, None] = {}
    own = Expander(context, Reach.OWN)
    for reach in _REACHES[:1] if context.is_long else _REACHES:
        if reach == Reach.ALL and not own.left_shared:
            continue
        if reach == Reach.PRODUCTS and not own.opened_sums:
            continue
        try:
            new = written(own if reach == Reach.OWN else Expander(context, reach))
        except (Inexpressible, Unwritable):
            continue
        if new is None or new is term:
            continue
        if may_replace(context.graph, context.terms, term, new):
            candidates[new] = None
    if len(candidates) <= 1:
        return next(iter(candidates), None)

    def size(new: Term) -> int:
        grown = growth(context.graph, term, new)
        if grown is None:
            return substitute(context.graph, context.terms, {term: new}).size
        return context.graph.size + grown.size

    return min(candidates, key=size)
