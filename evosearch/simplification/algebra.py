"""Simplification by algebra alone, which needs no training and no JAX."""

from __future__ import annotations

from collections.abc import Callable

from evosearch.simplification.record import Simplification, Step
from primitives import Domain, Program
from primitives import simplify as by_algebra
from primitives.explain.names import canonical


def simplify_by_algebra(
    program: Program, on_step: Callable[[Step], None] = lambda step: None
) -> Simplification:
    """`program` after the rules of `primitives.simplify`, without a training."""
    steps: list[Step] = []

    def take(step: Step) -> None:
        steps.append(step)
        on_step(step)

    result = with_names_of_roles(rewritten(program, take), take)
    return Simplification(program, result, tuple(steps))


def rewritten(program: Program, on_step: Callable[[Step], None]) -> Program:
    """`program` after the rules of algebra."""
    derivation = by_algebra(program)
    for step in derivation.steps:
        on_step(Step.of_algebra(step))
    return derivation.program


def with_names_of_roles(program: Program, on_step: Callable[[Step], None]) -> Program:
    """`program` with its states and values named by their roles."""
    named = canonical(program)
    if named != program:
        reason = "states and values are named by their roles"
        on_step(Step("names", reason, program, named, str(Domain.ALWAYS)))
    return named
