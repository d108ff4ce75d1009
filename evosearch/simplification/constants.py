"""Tuning of a program's constants, and rounding to the fewest digits of negligible cost."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice

import numpy as np

from evosearch.evolution.constants import constants, with_constants
from evosearch.evolution.space import Space
from evosearch.seeds import Stream
from evosearch.simplification.effect import EditTester, OnStep, first_seeds
from evosearch.simplification.record import Step
from evosearch.statistics import LARGEST_SCORE
from primitives import Program

_MAX_DIGITS = 6
_JOINT_ATTEMPTS = 2
"""Maximum number of tests of the program with all constants rounded."""
TUNING_TRIALS = 60
"""Maximum number of settings that the tuning of the constants tries."""
_SEEDS_PER_TRIAL = 8
_INITIAL_SIMPLEX_SIZE = 0.4
"""Size of the initial simplex around the program's constants, in the units of `Space`."""
_LARGEST_COST = LARGEST_SCORE
"""Absolute value at which costs, which are log ratios of losses, are clipped."""


def roundings(value: float) -> Iterator[float]:
    """Yield `value` rounded to 1, 2, ... digits, without duplicates, until it equals `value`."""
    seen = set()
    for digits in range(1, _MAX_DIGITS + 1):
        rounded = float(f"{value:.{digits}g}")
        if np.float32(rounded) == np.float32(value):
            return
        if rounded not in seen:
            seen.add(rounded)
            yield rounded


def round_constants(
    program: Program, tester: EditTester, on_step: OnStep, reference: Program | None = None
) -> Program:
    """Round each constant to the fewest digits for which the cost is below the limit.

    If there are cheaper screening tasks, trainings on these tasks determine how far each constant
    can be rounded, and the program with all constants rounded is tested on the measuring tasks.
    Without screening tasks, or if this program is rejected, the constants are rounded one at a
    time on the measuring tasks.

    After the deadline, constants are no longer rounded one at a time on the measuring tasks.
    Without screening tasks, all constants are then rounded together, to two digits. If the program
    with all constants rounded is rejected, the program with one more digit in each constant is
    tested.

    Args:
        program: The program whose constants are rounded.
        tester: Decides whether a rounded program is accepted.
        on_step: Called with each step.
        reference: The program against which costs are measured; None for the program that the
            simplification started from.
    """
    rounded = program
    if tester.screening_trainings is not tester.trainings:
        screening_tester = replace(tester, trainings=tester.screening_trainings)
        rounded = _round_one_by_one(program, screening_tester, lambda step: None, reference)
    elif tester.is_out_of_time():
        rounded = _with_second_rounding(program)
    for _ in range(_JOINT_ATTEMPTS):
        if rounded == program:
            break
        tester.trainings.report("testing the program with all constants rounded")
        decision = tester.decide(rounded, reference)
        if decision.accepted:
            cost = tester.cost(rounded, decision.seeds)
            on_step(Step("round", _describe_changes(program, rounded), program, rounded, cost=cost))
            return rounded
        if not tester.is_out_of_time():
            break
        rounded = _with_next_rounding(program, rounded)
    if tester.is_out_of_time():
        return program
    return _round_one_by_one(program, tester, on_step, reference)


def _describe_changes(program: Program, rounded: Program) -> str:
    """Return the text of the changed constants, such as "0.8999 is 0.9"."""
    before, after = constants(program), constants(rounded)
    changed = [position for position in before if before[position] != after[position]]
    return ", ".join(f"{before[position]!r} is {after[position]!r}" for position in changed)


def _with_second_rounding(program: Program) -> Program:
    """Replace each constant by the second of its `roundings`, or by the last if there are fewer.

    A constant without roundings is kept.
    """
    rounded = {}
    for position, value in constants(program).items():
        candidates = [value, *islice(roundings(value), 2)]
        rounded[position] = candidates[-1]
    return with_constants(program, rounded)


def _with_next_rounding(program: Program, rounded: Program) -> Program:
    """Replace each constant by the one of its `roundings` that follows its value in `rounded`.

    A constant whose last rounding is in `rounded` gets its value in `program`.
    """
    current = constants(rounded)
    finer = {}
    for position, value in constants(program).items():
        candidates = [*roundings(value), value]
        index = candidates.index(current[position]) + 1
        finer[position] = candidates[min(index, len(candidates) - 1)]
    return with_constants(program, finer)


def _round_one_by_one(
    program: Program, tester: EditTester, on_step: OnStep, reference: Program | None
) -> Program:
    """Round one constant after the other to the fewest digits for which a test accepts it."""
    for position, value in constants(program).items():
        for rounded in roundings(value):
            candidate = with_constants(program, {position: rounded})
            tester.trainings.report(f"rounding {value:g} to {rounded:g}")
            decision = tester.decide(candidate, reference)
            if decision.accepted:
                cost = tester.cost(candidate, decision.seeds)
                reason = f"{value!r} is {rounded!r} in `{program.statements[position[0]]}`"
                on_step(Step("round", reason, program, candidate, cost=cost))
                program = candidate
                break
    return program


def tune(
    program: Program, tester: EditTester, on_step: OnStep, trials: int = TUNING_TRIALS
) -> Program:
    """Tune the constants of a program; return the program itself if that gives no improvement.

    The Nelder-Mead simplex method minimizes the mean cost (log loss minus that of the untuned
    program) on a few seeds, the same for every trial. Then the result is tested on other seeds and
    accepted if it is better than `program`.

    Args:
        program: The program whose constants are tuned.
        tester: Decides whether the tuned program is accepted.
        on_step: Called with the step, if the result is accepted.
        trials: Maximum number of settings of the constants to try.

    References:
        Nelder and Mead, A simplex method for function minimization, 1965, Computer Journal 7:308.
    """
    from scipy.optimize import minimize  # its import is slow

    space = Space(program)
    if not len(space):
        return program
    objective = _objective(space, tester, trials)
    start = np.zeros(len(space))
    simplex = np.vstack([start, _INITIAL_SIMPLEX_SIZE * np.eye(len(space))])
    optimum = minimize(
        objective,
        start,
        method="Nelder-Mead",
        options={"maxfev": trials, "initial_simplex": simplex},
    )
    tuned = space.program_at(optimum.x)
    tester.trainings.report("testing the program with tuned constants")
    decision = tester.is_better(tuned, program)
    if not decision.accepted:
        return program
    cost = tester.cost(tuned, decision.seeds)
    reason = (
        f"constants after {optimum.nfev} trials of Nelder-Mead on {_SEEDS_PER_TRIAL} seeds: better "
        f"than before on {decision.seeds} other seeds"
    )
    on_step(Step("tune", reason, program, tuned, cost=cost))
    return tuned


def _objective(space: Space, tester: EditTester, trials: int) -> Callable[[np.ndarray], float]:
    """Return the function from coordinates in `space` to the mean cost, which `tune` minimizes."""
    seeds = first_seeds(Stream.SIMPLIFY_TUNE, _SEEDS_PER_TRIAL)
    trial = 0

    def mean_cost(coordinates: np.ndarray) -> float:
        nonlocal trial
        trial += 1
        tester.trainings.report(f"tuning constants: trial {trial} of at most {trials}")
        program = space.program_at(coordinates)
        costs = tester.trainings.differences(program, space.program, seeds)
        return float(costs.mean()) if np.isfinite(costs).all() else _LARGEST_COST

    return mean_cost
