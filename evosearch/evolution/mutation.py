"""Mutation: one random edit of a program, as in Chen et al. 2023 (arXiv 2302.06675).

Insert a random statement, delete one, or change one argument; and, beyond the paper, wrap a value
that is in use in a random op, or change one constant to another, for a search of constants alone.
An edit whose result is ill-kinded is rejected and drawn again from the same parent.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import accumulate
from typing import Any

import numpy as np

from evosearch.config import MutationConfig
from evosearch.errors import UsageError
from evosearch.evolution.constants import rounded, shape, without_constants
from evosearch.evolution.step_size import with_step_size_of
from evosearch.fixed import MAX_DRAFTS
from primitives import OPS, Parameter, Program, Statement, analyse, ops
from primitives.graph.analysis import Analysis, StatementError
from primitives.program import Argument

_LR = "lr"


@dataclass(frozen=True)
class Child:
    """A valid child.

    Attributes:
        analysis: the program with what is known about it.
        mutation: the edit in words, e.g. `insert 3: v2 = sign(m)`.
        rejects: the drafts that were ill-kinded before it, counted by the kind of edit.
    """

    analysis: Analysis
    mutation: str
    rejects: Counter[str]


def mutate(program: Program, rng: np.random.Generator, config: MutationConfig) -> Child:
    """One random edit of `program` that passes abstract execution and changes its text."""
    rejects: Counter[str] = Counter()
    edits = (_insert, _delete, _modify, _tune, _wrap)
    weights = (config.insert, config.delete, config.modify, config.tune, config.wrap)
    bounds = list(accumulate(weights))
    for _ in range(MAX_DRAFTS):
        edit = edits[bisect_right(bounds, rng.random() * bounds[-1])]
        draft = edit(program, rng, config)
        if draft is None:
            continue
        statements, mutation = draft
        if statements == program.statements:
            continue
        if config.keep_schedule and _schedule(statements) != _schedule(program.statements):
            continue
        try:
            analysis = analyse(replace(program, statements=statements))
        except StatementError:
            rejects[mutation.split(" ", 1)[0]] += 1
            continue
        if config.keep_step_size and rng.random() < config.keep_step_size:
            analysis, mutation = _with_steps_kept(program, analysis, mutation, config)
        return Child(analysis, mutation, rejects)
    raise UsageError(
        f"no mutation of program `{program.statements[-1] if program.statements else program}` "
        f"is possible: {MAX_DRAFTS} drafts failed; give insert, delete and modify weights (tune "
        "needs a constant), or raise max_statements, in [mutation] of the configuration"
    )


def _with_steps_kept(
    parent: Program, child: Analysis, mutation: str, config: MutationConfig
) -> tuple[Analysis, str]:
    """`child` with steps as large as its parent's, if it is another rule and not just constants."""
    if shape(child.program) == shape(parent) or child.key == analyse(parent).key:
        return child, mutation
    kept = with_step_size_of(child.program, parent)
    if kept == child.program or len(kept.statements) > config.max_statements:
        return child, mutation
    return analyse(kept), f"{mutation}; steps kept"


_Draft = tuple[tuple[Statement, ...], str]


def _schedule(body: tuple[Statement, ...]) -> tuple[object, ...]:
    """All from the first statement with `lr` on, but for the constants in it."""
    uses = [place for place, (target, _, args) in enumerate(body) if _LR in (target, *args)]
    return tuple(map(without_constants, body[min(uses, default=len(body)) :]))


def _insert(program: Program, rng: np.random.Generator, config: MutationConfig) -> _Draft | None:
    body = program.statements
    if len(body) >= config.max_statements:
        return None
    place = int(rng.integers(len(body) + 1))
    scope = _scope(program, place)
    table = _op_names(config.op_set)
    op = table[int(rng.integers(len(table)))]
    args = tuple(_argument(scope, rng, config) for _ in range(OPS[op].arity))
    everything = _scope(program, len(body))
    if rng.random() < config.new_variable:
        target = _new_name(everything)
    else:
        target = everything[int(rng.integers(len(everything)))]
    statement = Statement(target, op, args)
    return (*body[:place], statement, *body[place:]), f"insert {place + 1}: {statement}"


def _delete(program: Program, rng: np.random.Generator, config: MutationConfig) -> _Draft | None:
    body = program.statements
    if len(body) <= 1:
        return None
    place = int(rng.integers(len(body)))
    return body[:place] + body[place + 1 :], f"delete {place + 1}: {body[place]}"


def _modify(program: Program, rng: np.random.Generator, config: MutationConfig) -> _Draft | None:
    body = program.statements
    place = int(rng.integers(len(body)))
    old = body[place]
    if not old.args:
        return None
    which = int(rng.integers(len(old.args)))
    arg = old.args[which]
    if isinstance(arg, float) and rng.random() < config.rescale:
        changed: Argument = _rescaled(arg, rng)
    else:
        changed = _argument(_scope(program, place), rng, config)
    return _with_argument(program, place, which, changed, "modify")


def _tune(program: Program, rng: np.random.Generator, config: MutationConfig) -> _Draft | None:
    constants = [
        (place, which, arg)
        for place, statement in enumerate(program.statements)
        for which, arg in enumerate(statement.args)
        if isinstance(arg, float)
    ]
    if not constants:
        return None
    place, which, old = constants[int(rng.integers(len(constants)))]
    new = _rescaled(old, rng) if rng.random() < config.rescale else _constant(rng)
    return _with_argument(program, place, which, new, "tune")


def _wrap(program: Program, rng: np.random.Generator, config: MutationConfig) -> _Draft | None:
    """A random op on an operand of a statement, for that statement alone, or on its result."""
    body = program.statements
    if len(body) >= config.max_statements:
        return None
    table = [op for op in _op_names(config.op_set) if OPS[op].arity]
    op = table[int(rng.integers(len(table)))]
    place = int(rng.integers(len(body)))
    target, used_by, args = body[place]
    variables = [which for which, arg in enumerate(args) if isinstance(arg, str)]
    chosen = int(rng.integers(len(variables) + 1))
    result = chosen == len(variables)
    scope = _scope(program, place + result)
    inside: list[Argument] = [_argument(scope, rng, config) for _ in range(OPS[op].arity)]
    where = int(rng.integers(len(inside)))
    if result:
        inside[where] = target
        wrapped = Statement(target, op, tuple(inside))
        return (*body[: place + 1], wrapped, *body[place + 1 :]), f"wrap {place + 2}: {wrapped}"
    which = variables[chosen]
    inside[where] = args[which]
    wrapped = Statement(_new_name(_scope(program, len(body))), op, tuple(inside))
    user = Statement(target, used_by, (*args[:which], wrapped.target, *args[which + 1 :]))
    text = f"wrap {place + 1}: {wrapped}; {user}"
    return (*body[:place], wrapped, user, *body[place + 1 :]), text


def _with_argument(program: Program, place: int, which: int, arg: Argument, edit: str) -> _Draft:
    body = program.statements
    old = body[place]
    new = old._replace(args=(*old.args[:which], arg, *old.args[which + 1 :]))
    return (*body[:place], new, *body[place + 1 :]), f"{edit} {place + 1}: {old} -> {new}"


def _argument(scope: list[str], rng: np.random.Generator, config: MutationConfig) -> Argument:
    if rng.random() < config.constant:
        return _constant(rng)
    return scope[int(rng.integers(len(scope)))]


def _constant(rng: np.random.Generator) -> float:
    return rounded(float(rng.normal()))


def _rescaled(constant: float, rng: np.random.Generator) -> float:
    """`constant` times 2^a, a from N(0, 1)."""
    return rounded(constant * 2.0 ** float(rng.normal()))


def _scope(program: Program, place: int) -> list[str]:
    """The variables that have a value before statement `place`, each once."""
    names = [parameter.name for parameter in program.parameters]
    names += [statement.target for statement in program.statements[:place]]
    return list(dict.fromkeys(names))


def _new_name(taken: list[str]) -> str:
    number = len(taken)
    while f"v{number}" in taken:
        number += 1
    return f"v{number}"


@lru_cache
def _op_names(op_set: Any) -> tuple[str, ...]:
    return ops.names(op_set)


def with_states(program: Program, states: int) -> Program:
    """`program` with unused tensor states added until it has `states` of them."""
    missing = states - len(program.states)
    if missing <= 0:
        return program
    taken = _scope(program, len(program.statements))
    spare = (name for name in ("m", "v", *(f"s{i}" for i in range(1, 99))) if name not in taken)
    added = [next(spare) for _ in range(missing)]
    return Program(
        (*program.parameters, *map(Parameter, added)),
        program.statements,
        (*program.returns, *added),
    )
