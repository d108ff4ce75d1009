"""Equations in words that a person reads: nested, with operators, in a program's names."""

from __future__ import annotations

from collections.abc import Mapping, Set

from primitives.algebra.terms import Term, reachable, shortest
from primitives.ops import OPS


def equation(old: Term, new: Term, named: Mapping[Term, str]) -> str:
    """`old = new`, with the names of values that both are made of."""
    common = set(reachable([old])) & set(reachable([new]))
    if new in common:
        common -= {new} if new.is_call else set()
    kept = common - {old}
    return f"{_text(old, kept, named)} = {_text(new, kept, named)}"


def _text(term: Term, kept: Set[Term], named: Mapping[Term, str], *, inside: bool = False) -> str:
    if term.is_constant:
        return repr(shortest(term.value))
    if not term.is_call:
        return term.name
    if term in kept and term in named:
        return named[term]
    infix = OPS[term.op].infix
    operands = sorted(term.args, key=_weight) if OPS[term.op].commutative else term.args
    args = [_text(arg, kept, named, inside=bool(infix)) for arg in operands]
    if not infix:
        return f"{term.op}({', '.join(args)})"
    text = f" {infix} ".join(args)
    return f"({text})" if inside else text


def _weight(term: Term) -> tuple[int, bool, int]:
    """Large kinds first, constants last, deep before shallow."""
    return -int(term.kind), term.is_constant, -term.depth
