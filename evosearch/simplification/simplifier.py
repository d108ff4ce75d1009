"""From a raw program to a rule that a person understands: algebra, effect, constants."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence

import proxies
from evosearch.errors import UsageError
from evosearch.measuring.job_runner import open_job_runner
from evosearch.measuring.ledger import Ledger
from evosearch.simplification.algebra import rewritten, with_names_of_roles
from evosearch.simplification.constants import TUNING_TRIALS, round_constants, tune
from evosearch.simplification.deciding import ERROR_RATE, LIMIT, LOOKS
from evosearch.simplification.effect import (
    ABLATION_SEEDS,
    CONFIRMING_SEEDS,
    SCREENING_SEEDS,
    Effects,
    OnStep,
)
from evosearch.simplification.record import Simplification, Step
from evosearch.simplification.trials import TUNING_SEEDS, Progress, Trials
from primitives import Program

DEFAULT_TASKS = ("digits-mlp", "photos-autoencoder", "digits-conv", "topics-attention")
"""Cheap ones of different shapes, for programs that come from no run."""


def simplify(
    program: Program,
    tasks: Sequence[str],
    *,
    screening: Sequence[str] | None = None,
    tuning: bool = False,
    seed: int = 0,
    limit: float = LIMIT,
    looks: Sequence[int] = LOOKS,
    minutes: float | None = None,
    workers: int | None = None,
    timeout: float | None = None,
    on_step: OnStep = lambda step: None,
    progress: Progress = lambda text, done, total: None,
    notify: Callable[[str], None] = lambda text: None,
    ledger: Ledger | None = None,
) -> Simplification:
    """`program` as a rule that a person would write, with every step and why it is allowed.

    Algebra first; then, measured against `program` on the tasks, statements whose removal costs
    less than `limit`, alone and in pairs; then constants with as few digits as cost no more; after
    both, algebra again on what they made possible. At the end the whole is measured on seeds that
    decided nothing, and without each of its statements.

    Args:
        program: a valid program.
        tasks: names of the tasks to measure on.
        screening: of cheaper ones to screen candidates on; None for `tasks`.
        tuning: whether to tune the constants before they are rounded.
        seed: all seeds follow from it; the result does not depend on `workers`.
        limit: a cost in log loss that a simpler rule is worth.
        looks: how many seeds there are at each look of a decision.
        minutes: after so long no more candidates are tried, and what is undecided stays; the rest,
            from rounding on, comes on top. None for no limit.
        workers: trainings at a time; None for one per core.
        timeout: maximum seconds of a training; see `evosearch.measuring.job_runner.open_backend`.
        on_step: told of each step as it is taken.
        progress: told what is going on.
        notify: called of trainings that failed.
        ledger: where trainings are kept, so that a second call goes on where the first one ended;
            None for nowhere.

    Raises:
        UsageError: no tasks.
        UnknownTaskError: there is no such task.
        EvosearchError: the program trains on a task at no learning rate.
    """
    if not tasks:
        raise UsageError("no task to measure on; `evosearch tasks` lists them")
    for name in (*tasks, *(screening or ())):
        proxies.load(name)  # one that is not there is told before anything is done
    until = time.monotonic() + 60 * minutes if minutes else math.inf
    steps: list[Step] = []

    def take(step: Step) -> None:
        steps.append(step)
        on_step(step)

    algebra = rewritten(program, take)

    with open_job_runner(workers, ledger or Ledger(), timeout=timeout, notify=notify) as runner:

        def trials_on(names: Sequence[str]) -> Trials:
            return Trials(program, names, seed, program.ops | algebra.ops, runner, progress)

        trials = cheap = trials_on(tasks)
        if screening is not None and list(screening) != list(tasks):
            cheap = trials_on(screening)
        effects = Effects(trials, cheap, take, limit, looks, until)
        shorter = rewritten(effects.drop(algebra), take)
        tuned = tune(shorter, effects, take) if tuning else shorter
        against = tuned if tuned is not shorter else None
        rounded = round_constants(tuned, effects, take, against)
        result = with_names_of_roles(rewritten(rounded, take), take)
        confirmation = effects.confirm(result)
        ablations = effects.ablations(result)
        settings = {
            "limit": limit,
            "error_rate": ERROR_RATE,
            "looks": list(looks),
            "screening_seeds": SCREENING_SEEDS,
            "screening_tasks": list(cheap.tasks),
            "confirming_seeds": CONFIRMING_SEEDS,
            "ablation_seeds": ABLATION_SEEDS,
            "tuning_seeds": TUNING_SEEDS,
            "constant_trials": TUNING_TRIALS if tuning else 0,
            "seed": seed,
            "minutes": minutes,
            "ended_early": effects.ended_early,
            "candidates": effects.considered,
            "trainings": sum(one.trainings for one in {trials, cheap}),
        }
        return Simplification(
            program, result, tuple(steps), trials.factors, confirmation, ablations, settings
        )
