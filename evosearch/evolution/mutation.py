"""Mutation: one random edit of a program, as in Chen et al. 2023 (arXiv 2302.06675).

An edit inserts a random statement, deletes a statement or modifies one argument. Two further edits,
which are not in the paper, apply a random op to a value that the program uses, or change one
constant. An edited program is a draft. If a draft fails the kind check, the draft is rejected and
another edit of the same parent is drawn.
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
from evosearch.evolution.constants import have_equal_structure, rounded, without_constants
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
        analysis: the program with its kinds and semantic key.
        mutation: the edit in words, such as `insert 3: v2 = sign(m)`.
        rejects: number of earlier drafts that failed the kind check, by kind of edit.
    """

    analysis: Analysis
    mutation: str
    rejects: Counter[str]


def mutate(program: Program, rng: np.random.Generator, config: MutationConfig) -> Child:
    """Return a child of `program` by one random edit that changes its text.

    Args:
        program: the parent.
        rng: random generator.
        config: relative frequencies of the edits, and the ops to insert.

    Raises:
        UsageError: no valid child was found after `MAX_DRAFTS` drafts.

    Example:
        >>> import numpy as np
        >>> import evosearch
        >>> from evosearch.config import MutationConfig
        >>> from primitives import zoo
        >>> program, rng = zoo.load("lion"), np.random.default_rng(0)
        >>> evosearch.mutate(program, rng, MutationConfig()).analysis.program != program
        True
    """
    rejects: Counter[str] = Counter()
    edits = (_insert, _delete, _modify, _tune, _wrap)
    weights = (config.insert, config.delete, config.modify, config.tune, config.wrap)
    cumulative_weights = list(accumulate(weights))
    for _ in range(MAX_DRAFTS):
        edit = edits[bisect_right(cumulative_weights, rng.random() * cumulative_weights[-1])]
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
            analysis, mutation = _keep_step_size(program, analysis, mutation, config)
        return Child(analysis, mutation, rejects)
    raise UsageError(
        f"no mutation of program `{program.statements[-1] if program.statements else program}` "
        f"is possible: {MAX_DRAFTS} drafts failed; raise the weights of insert, delete "
        "and modify (tune needs a constant), or max_statements, in [mutation] of the configuration"
    )


def _keep_step_size(
    parent: Program, child: Analysis, mutation: str, config: MutationConfig
) -> tuple[Analysis, str]:
    """Rescale `child` to the parent's step size, unless they differ in constants only."""
    if have_equal_structure(child.program, parent) or child.key == analyse(parent).key:
        return child, mutation
    rescaled = with_step_size_of(child.program, parent)
    if rescaled == child.program or len(rescaled.statements) > config.max_statements:
        return child, mutation
    if len(rescaled.statements) == len(child.program.statements):
        return child.with_constants_of(rescaled), f"{mutation}; steps kept"
    return analyse(rescaled), f"{mutation}; steps kept"


_Draft = tuple[tuple[Statement, ...], str]
"""Statements of an edited program, and the edit in words."""


def _schedule(body: tuple[Statement, ...]) -> tuple[object, ...]:
    """Return the first statement with `lr` and all later statements, without constants."""
    uses_of_lr = [index for index, (target, _, args) in enumerate(body) if _LR in (target, *args)]
    first = min(uses_of_lr, default=len(body))
    return tuple(map(without_constants, body[first:]))


def _insert(program: Program, rng: np.random.Generator, config: MutationConfig) -> _Draft | None:
    body = program.statements
    if len(body) >= config.max_statements:
        return None
    index = int(rng.integers(len(body) + 1))
    variables = _variables_before(program, index)
    op_names = _op_names(config.op_set)
    op = op_names[int(rng.integers(len(op_names)))]
    args = tuple(_argument(variables, rng, config) for _ in range(OPS[op].arity))
    targets = _variables_before(program, len(body))
    if rng.random() < config.new_variable:
        target = _new_name(targets)
    else:
        target = targets[int(rng.integers(len(targets)))]
    statement = Statement(target, op, args)
    return (*body[:index], statement, *body[index:]), f"insert {index + 1}: {statement}"


def _delete(program: Program, rng: np.random.Generator, config: MutationConfig) -> _Draft | None:
    body = program.statements
    if len(body) <= 1:
        return None
    index = int(rng.integers(len(body)))
    return body[:index] + body[index + 1 :], f"delete {index + 1}: {body[index]}"


def _modify(program: Program, rng: np.random.Generator, config: MutationConfig) -> _Draft | None:
    body = program.statements
    index = int(rng.integers(len(body)))
    old = body[index]
    if not old.args:
        return None
    operand = int(rng.integers(len(old.args)))
    arg = old.args[operand]
    if isinstance(arg, float) and rng.random() < config.rescale:
        new: Argument = _rescaled(arg, rng)
    else:
        new = _argument(_variables_before(program, index), rng, config)
    return _with_argument(program, index, operand, new, "modify")


def _tune(program: Program, rng: np.random.Generator, config: MutationConfig) -> _Draft | None:
    constants = [
        (index, operand, arg)
        for index, statement in enumerate(program.statements)
        for operand, arg in enumerate(statement.args)
        if isinstance(arg, float)
    ]
    if not constants:
        return None
    index, operand, old = constants[int(rng.integers(len(constants)))]
    new = _rescaled(old, rng) if rng.random() < config.rescale else _constant(rng)
    return _with_argument(program, index, operand, new, "tune")


def _wrap(program: Program, rng: np.random.Generator, config: MutationConfig) -> _Draft | None:
    """Apply a random op to the result of a statement, or to one operand of the statement."""
    body = program.statements
    if len(body) >= config.max_statements:
        return None
    op_names = [op for op in _op_names(config.op_set) if OPS[op].arity]
    op = op_names[int(rng.integers(len(op_names)))]
    index = int(rng.integers(len(body)))
    target, user_op, args = body[index]
    operands = [operand for operand, arg in enumerate(args) if isinstance(arg, str)]
    choice = int(rng.integers(len(operands) + 1))
    wraps_result = choice == len(operands)
    variables = _variables_before(program, index + wraps_result)
    arguments: list[Argument] = [_argument(variables, rng, config) for _ in range(OPS[op].arity)]
    wrapped_operand = int(rng.integers(len(arguments)))
    if wraps_result:
        arguments[wrapped_operand] = target
        wrapped = Statement(target, op, tuple(arguments))
        return (*body[: index + 1], wrapped, *body[index + 1 :]), f"wrap {index + 2}: {wrapped}"
    operand = operands[choice]
    arguments[wrapped_operand] = args[operand]
    wrapped = Statement(_new_name(_variables_before(program, len(body))), op, tuple(arguments))
    user = Statement(target, user_op, (*args[:operand], wrapped.target, *args[operand + 1 :]))
    text = f"wrap {index + 1}: {wrapped}; {user}"
    return (*body[:index], wrapped, user, *body[index + 1 :]), text


def _with_argument(program: Program, index: int, operand: int, arg: Argument, edit: str) -> _Draft:
    """Return the draft in which one operand of a statement is replaced by `arg`."""
    body = program.statements
    old = body[index]
    new = old._replace(args=(*old.args[:operand], arg, *old.args[operand + 1 :]))
    return (*body[:index], new, *body[index + 1 :]), f"{edit} {index + 1}: {old} -> {new}"


def _argument(variables: list[str], rng: np.random.Generator, config: MutationConfig) -> Argument:
    """Draw a constant or one of the variables."""
    if rng.random() < config.constant:
        return _constant(rng)
    return variables[int(rng.integers(len(variables)))]


def _constant(rng: np.random.Generator) -> float:
    return rounded(float(rng.normal()))


def _rescaled(constant: float, rng: np.random.Generator) -> float:
    """Return `constant` times 2^a, with a drawn from N(0, 1)."""
    return rounded(constant * 2.0 ** float(rng.normal()))


def _variables_before(program: Program, index: int) -> list[str]:
    """Return the distinct variables that are defined before the statement `index`."""
    names = [parameter.name for parameter in program.parameters]
    names += [statement.target for statement in program.statements[:index]]
    return list(dict.fromkeys(names))


def _new_name(used: list[str]) -> str:
    number = len(used)
    while f"v{number}" in used:
        number += 1
    return f"v{number}"


@lru_cache
def _op_names(op_set: Any) -> tuple[str, ...]:
    return ops.names(op_set)


def with_states(program: Program, states: int) -> Program:
    """Return `program` with unused tensor states, so that it has at least `states` states."""
    missing = states - len(program.states)
    if missing <= 0:
        return program
    used = _variables_before(program, len(program.statements))
    unused = (
        name for name in ("m", "v", *(f"s{number}" for number in range(1, 99))) if name not in used
    )
    added = [next(unused) for _ in range(missing)]
    return Program(
        (*program.parameters, *map(Parameter, added)),
        program.statements,
        (*program.returns, *added),
    )
