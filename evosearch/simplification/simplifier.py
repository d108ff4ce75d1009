"""Simplification of a program: algebra, removal of statements, rounding of constants."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence

import proxies
from evosearch.errors import UsageError
from evosearch.measuring.job_runner import open_job_runner
from evosearch.measuring.ledger import Ledger
from evosearch.simplification.algebra import rename_by_role, rewrite_by_algebra
from evosearch.simplification.constants import TUNING_TRIALS, round_constants, tune
from evosearch.simplification.deciding import ERROR_RATE, LIMIT, LOOKS
from evosearch.simplification.effect import (
    ABLATION_SEEDS,
    CONFIRMING_SEEDS,
    SCREENING_SEEDS,
    EditTester,
    OnStep,
)
from evosearch.simplification.paired_trainings import TUNING_SEEDS, PairedTrainings, Progress
from evosearch.simplification.record import Simplification, Step
from primitives import Program

DEFAULT_TASKS = ("digits-mlp", "photos-autoencoder", "digits-conv", "topics-attention")
"""Cheap tasks with different models, the default for programs that are not from a run."""


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
    """Simplify a program and record each step with its reason.

    First the program is rewritten by algebra. Then statements are removed, alone and in pairs, if
    their removal costs less than `limit`, measured against `program` on the tasks. Then constants
    are rounded to as few digits as the same limit allows. Algebra is applied again after the
    removals and after the rounding. Finally the result, and the result without each of its
    statements, are measured on fresh seeds.

    Args:
        program: A valid program.
        tasks: Names of the measuring tasks.
        screening: Names of cheaper tasks on which candidates are screened; None for `tasks`.
        tuning: Whether to tune the constants before they are rounded.
        seed: The number from which all seeds are derived.
        limit: Maximum cost of an accepted candidate, as a difference of log losses.
        looks: Number of seeds at each look of a test.
        minutes: Time limit for testing candidates; None means unlimited. The limit does not include
            rounding and the final measurements.
        workers: Number of concurrent trainings, which does not affect the result; None for one
            per core.
        timeout: Maximum seconds of a training; see `evosearch.measuring.job_runner.open_backend`.
        on_step: Called with each step.
        progress: Called with a description of the current work.
        notify: Called with a message about each failed training.
        ledger: Database of finished trainings, so that an interrupted simplification can continue;
            None to store nothing.

    Raises:
        UsageError: `tasks` is empty.
        UnknownTaskError: There is no such task.
        EvosearchError: The program diverges on a task at every learning rate.
    """
    if not tasks:
        raise UsageError("no task to measure on; list the tasks with `evosearch tasks`")
    for name in (*tasks, *(screening or ())):
        proxies.load(name)  # report an unknown task before any work
    deadline = time.monotonic() + 60 * minutes if minutes else math.inf
    steps: list[Step] = []

    def record_step(step: Step) -> None:
        steps.append(step)
        on_step(step)

    rewritten = rewrite_by_algebra(program, record_step)

    with open_job_runner(workers, ledger or Ledger(), timeout=timeout, notify=notify) as runner:

        def trainings_on(names: Sequence[str]) -> PairedTrainings:
            ops = program.ops | rewritten.ops
            return PairedTrainings(program, names, seed, ops, runner, progress)

        trainings = screening_trainings = trainings_on(tasks)
        if screening is not None and list(screening) != list(tasks):
            screening_trainings = trainings_on(screening)
        tester = EditTester(trainings, screening_trainings, record_step, limit, looks, deadline)
        shorter = rewrite_by_algebra(tester.remove_statements(rewritten), record_step)
        tuned = tune(shorter, tester, record_step) if tuning else shorter
        reference = None if tuned is shorter else tuned
        rounded = round_constants(tuned, tester, record_step, reference)
        result = rename_by_role(rewrite_by_algebra(rounded, record_step), record_step)
        confirmation = tester.confirm(result)
        ablations = tester.ablations(result)
        settings = {
            "limit": limit,
            "error_rate": ERROR_RATE,
            "looks": list(looks),
            "screening_seeds": SCREENING_SEEDS,
            "screening_tasks": list(screening_trainings.tasks),
            "confirming_seeds": CONFIRMING_SEEDS,
            "ablation_seeds": ABLATION_SEEDS,
            "tuning_seeds": TUNING_SEEDS,
            "constant_trials": TUNING_TRIALS if tuning else 0,
            "seed": seed,
            "minutes": minutes,
            "ended_early": tester.ended_early,
            "candidates": tester.tested_count,
            "trainings": sum(each.num_trainings for each in {trainings, screening_trainings}),
        }
        return Simplification(
            program, result, tuple(steps), trainings.factors, confirmation, ablations, settings
        )
