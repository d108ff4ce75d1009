"""Simplification by algebra alone, without trainings and without JAX."""

from __future__ import annotations

from collections.abc import Callable

from evosearch.simplification.record import Simplification, Step
from primitives import Domain, Program
from primitives import simplify as apply_rewrite_rules
from primitives.explain.names import canonical


def simplify_by_algebra(
    program: Program, on_step: Callable[[Step], None] = lambda step: None
) -> Simplification:
    """Simplify a program with the rewrite rules of `primitives.simplify` only.

    Args:
        program: A valid program.
        on_step: Called with each step.
    """
    steps: list[Step] = []

    def record_step(step: Step) -> None:
        steps.append(step)
        on_step(step)

    result = rename_by_role(rewrite_by_algebra(program, record_step), record_step)
    return Simplification(program, result, tuple(steps))


def rewrite_by_algebra(program: Program, on_step: Callable[[Step], None]) -> Program:
    """Apply the rewrite rules to a program; call `on_step` with each step."""
    derivation = apply_rewrite_rules(program)
    for step in derivation.steps:
        on_step(Step.of_algebra(step))
    return derivation.program


def rename_by_role(program: Program, on_step: Callable[[Step], None]) -> Program:
    """Rename the states and values of a program by their roles, such as `momentum`."""
    renamed = canonical(program)
    if renamed != program:
        reason = "states and values are named by their roles"
        on_step(Step("names", reason, program, renamed, str(Domain.ALWAYS)))
    return renamed
