"""Constants: rounded to the fewest digits that cost nothing, and, on request, tuned."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice

import numpy as np

from evosearch.evolution.constants import constants, with_constants
from evosearch.evolution.space import Space
from evosearch.seeds import Stream
from evosearch.simplification.effect import Effects, OnStep, drawn
from evosearch.simplification.record import Step
from evosearch.statistics import LARGEST_SCORE
from primitives import Program

_MOST_DIGITS = 6
_TRIES_AT_ONCE = 2
TUNING_TRIALS = 60
_SEEDS_OF_A_TRIAL = 8
_FIRST_STEP = 0.4
"""The size of the first simplex around the program's own constants, in `Space`'s units."""


def roundings(value: float) -> Iterator[float]:
    """`value` with one digit, two and so on, as long as that is not yet `value` itself."""
    seen = set()
    for digits in range(1, _MOST_DIGITS + 1):
        rounded = float(f"{value:.{digits}g}")
        if np.float32(rounded) == np.float32(value):
            return
        if rounded not in seen:
            seen.add(rounded)
            yield rounded


def round_constants(
    program: Program, effects: Effects, on_step: OnStep, against: Program | None = None
) -> Program:
    """`program` with the fewest digits that cost less than the limit.

    Where there are cheaper tasks to screen on, these say how far each constant can be rounded, and
    then it is decided on all at once. Where there are none, or that is refused, it is decided on
    one at a time; but if it is late, on all at once again: to two digits, or a digit more each.

    Args:
        program: whose constants are rounded.
        effects: decides, by the rule for statements.
        on_step: told of each step.
        against: what costs are against, by default the original program.
    """
    guess = program
    if effects.screening is not effects.trials:
        screening = replace(effects, trials=effects.screening)
        guess = _one_by_one(program, screening, lambda step: None, against)
    elif effects.gives_up():
        guess = _two_digits(program)
    for _ in range(_TRIES_AT_ONCE):
        if guess == program:
            break
        effects.trials.say("deciding on all constants rounded")
        decision = effects.decide(guess, against)
        if decision.taken:
            cost = effects.cost(guess, decision.seeds)
            on_step(Step("round", _changes(program, guess), program, guess, cost=cost))
            return guess
        if not effects.gives_up():
            break
        guess = _finer(program, guess)
    if effects.gives_up():
        return program
    return _one_by_one(program, effects, on_step, against)


def _changes(program: Program, rounded: Program) -> str:
    before, after = constants(program), constants(rounded)
    changed = [place for place in before if before[place] != after[place]]
    return ", ".join(f"{before[place]!r} is {after[place]!r}" for place in changed)


def _two_digits(program: Program) -> Program:
    """`program` with constants of at most two digits."""
    short = {
        place: [value, *islice(roundings(value), 2)][-1]
        for place, value in constants(program).items()
    }
    return with_constants(program, short)


def _finer(program: Program, rounded: Program) -> Program:
    """`program` with each constant rounded to a digit more than in `rounded`."""
    kept = constants(rounded)
    finer = {}
    for place, value in constants(program).items():
        further = [*roundings(value), value]
        finer[place] = further[min(further.index(kept[place]) + 1, len(further) - 1)]
    return with_constants(program, finer)


def _one_by_one(
    program: Program, effects: Effects, on_step: OnStep, against: Program | None
) -> Program:
    for place, value in constants(program).items():
        for rounded in roundings(value):
            shorter = with_constants(program, {place: rounded})
            effects.trials.say(f"rounding {value:g} to {rounded:g}")
            decision = effects.decide(shorter, against)
            if decision.taken:
                cost = effects.cost(shorter, decision.seeds)
                reason = f"{value!r} is {rounded!r} in `{program.statements[place[0]]}`"
                on_step(Step("round", reason, program, shorter, cost=cost))
                program = shorter
                break
    return program


def tune(
    program: Program, effects: Effects, on_step: OnStep, trials: int = TUNING_TRIALS
) -> Program:
    """`program` with constants that train better, if that is surely so; else `program`.

    The simplex method of Nelder and Mead (1965, Computer Journal 7:308) minimises the mean log loss
    on a few seeds, the same for every trial; whether what it ends at is better than `program` is
    decided on others.

    Args:
        program: whose constants are tuned.
        effects: measures and decides.
        on_step: told of the step.
        trials: settings of the constants that are tried.
    """
    from scipy.optimize import minimize  # here, since it takes a while to import

    space = Space(program)
    if not len(space):
        return program
    objective = _objective(space, effects, trials)
    start = np.zeros(len(space))
    simplex = np.vstack([start, _FIRST_STEP * np.eye(len(space))])
    found = minimize(
        objective,
        start,
        method="Nelder-Mead",
        options={"maxfev": trials, "initial_simplex": simplex},
    )
    tuned = space.at(found.x)
    effects.trials.say("deciding on the tuned constants")
    decision = effects.is_better(tuned, program)
    if not decision.taken:
        return program
    cost = effects.cost(tuned, decision.seeds)
    reason = (
        f"constants after {found.nfev} trials of Nelder-Mead on {_SEEDS_OF_A_TRIAL} seeds: better "
        f"than before on {decision.seeds} other seeds"
    )
    on_step(Step("tune", reason, program, tuned, cost=cost))
    return tuned


def _objective(space: Space, effects: Effects, trials: int) -> Callable[[np.ndarray], float]:
    seeds = drawn(Stream.SIMPLIFY_TUNE, _SEEDS_OF_A_TRIAL)
    done = 0

    def mean_cost(x: np.ndarray) -> float:
        nonlocal done
        done += 1
        effects.trials.say(f"tuning constants: trial {done} of at most {trials}")
        found = effects.trials.differences(space.at(x), space.program, seeds)
        return float(found.mean()) if np.isfinite(found).all() else LARGEST_SCORE

    return mean_cost
