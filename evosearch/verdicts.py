"""What may be said of a measurement, and where its line is.

Every verdict of a command is one of these functions of intervals and counts. `better` and `worse`
are said only where the whole interval lies on one side of the line. An interval that holds or
touches it, or that is no number, leaves it undecided, which is not the same as no difference.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from enum import StrEnum

from evosearch.statistics import Interval, interval

ERROR_RATE = 0.05
"""Chance that a report calls any difference real that is none."""
_BASELINE = "tuned AdamW"
LEAST_SEEDS = 2
"""Fewer have no spread, and so no interval."""


class Verdict(StrEnum):
    """What an interval says of a contender and its line."""

    BETTER = "better"
    WORSE = "worse"
    UNDECIDED = "undecided"


def lies(found: Interval, line: float = 0.0) -> int:
    """1 where all of the interval is above `line`, -1 where all is below, else 0."""
    if not math.isfinite(found.mean):
        return 0
    if found.low > line and found.high > line:
        return 1
    return -1 if found.low < line and found.high < line else 0


def of_fitness(fitness: Interval) -> Verdict:
    """A fitness, of which more is better, against the baseline at 0."""
    return {1: Verdict.BETTER, -1: Verdict.WORSE, 0: Verdict.UNDECIDED}[lies(fitness)]


def of_difference(mean: float, p_holm: float) -> Verdict:
    """A paired difference of log losses, by its p-value after Holm's correction.

    It holds for the tasks that were measured, over other seeds.
    """
    if not p_holm < ERROR_RATE or not math.isfinite(mean) or mean == 0:
        return Verdict.UNDECIDED
    return Verdict.BETTER if mean < 0 else Verdict.WORSE


def over_tasks(on_these: Verdict, ratio: Interval, p_holm: float) -> Verdict:
    """A ratio of losses over tasks that stand for others.

    Args:
        on_these: the verdict on these very tasks, over seeds, after Holm's correction.
        ratio: the geometric mean of loss / reference's loss, with an interval that draws tasks.
        p_holm: of the tasks' mean log ratios (Student's t), after Holm's correction for all
            contenders of the report: few tasks agree by chance.
    """
    by_interval = {-1: Verdict.BETTER, 1: Verdict.WORSE, 0: Verdict.UNDECIDED}[lies(ratio, 1.0)]
    agree = by_interval == on_these and p_holm < ERROR_RATE
    return by_interval if agree else Verdict.UNDECIDED


def over_tasks_in_words(
    name: str, reference: str, tasks: int, on_these: Verdict, ratio: Interval, p_holm: float
) -> str:
    """`over_tasks` as a sentence, with the figures that it goes by."""
    change = _change(ratio.mean)
    bounds = f"{_percent(ratio.low)} to {_percent(ratio.high)}"
    verdict = over_tasks(on_these, ratio, p_holm)
    if verdict is not Verdict.UNDECIDED:
        return (
            f"Over tasks, {name} is {verdict} than {reference}: its mean loss is {change} "
            f"(95% interval over tasks {bounds})."
        )
    if on_these is Verdict.UNDECIDED:
        return (
            f"On these {tasks} tasks {name}'s mean loss is not shown to differ from {reference}'s."
        )
    here = f"On these {tasks} tasks {name}'s mean loss is {change} than {reference}'s"
    if lies(ratio, 1.0) == 0:
        return (
            f"{here}; the interval over tasks ({bounds}) does not tell whether that holds beyond "
            "them."
        )
    return (
        f"{here}; they are too few or too unlike to tell whether that holds beyond them "
        f"(p = {p_holm:.2g} over tasks, by Holm's correction)."
    )


def _change(ratio: float) -> str:
    return f"{abs(100 * (ratio - 1)):.1f}% {'lower' if ratio < 1 else 'higher'}"


def _percent(ratio: float) -> str:
    return f"{100 * (ratio - 1):+.1f}%"


def estimate(fitness: Interval, seeds: int = LEAST_SEEDS) -> str:
    """A fitness with its interval; a single seed has none."""
    if seeds < LEAST_SEEDS:
        return f"{fitness.mean:+.3f} on one seed, which tells no interval"
    return f"{fitness.mean:+.3f}, 95% interval [{fitness.low:+.3f}, {fitness.high:+.3f}]"


def of_champion(fitness: Interval, seeds: int, *, confirmed: bool, initial: bool) -> Verdict:
    """A run's champion against the baseline.

    Args:
        fitness: as the run reports it.
        seeds: how many it is from.
        confirmed: whether they decided nothing; those that selected a program flatter it.
        initial: whether it is the initial program, which no seeds selected.
    """
    if seeds < LEAST_SEEDS or not (confirmed or initial):
        return Verdict.UNDECIDED
    return of_fitness(fitness)


def loss_in_words(fitness: Interval, seeds: int, which: str = "") -> str:
    """A fitness against the baseline as a verdict and a change of loss.

    Args:
        fitness: mean and 95% interval.
        seeds: how many it is from.
        which: seeds they are, such as `fresh `.
    """
    change = _change(math.exp(-fitness.mean))
    if seeds < LEAST_SEEDS:
        return f"on one seed, which tells no interval, its loss is {change} than {_BASELINE}'s"
    low, high = (change_of_loss(bound) for bound in (fitness.high, fitness.low))
    verdict = {
        Verdict.BETTER: f"better than {_BASELINE}",
        Verdict.WORSE: f"worse than {_BASELINE}",
        Verdict.UNDECIDED: f"not shown to differ from {_BASELINE}",
    }[of_fitness(fitness)]
    return f"{verdict}; its loss is {change} (95% interval {low} to {high}, {seeds} {which}seeds)"


def change_of_loss(fitness: float) -> str:
    """How much larger a loss is than the baseline's, from log(baseline's loss / loss)."""
    return _percent(math.exp(-fitness))


def champion_in_words(fitness: Interval, seeds: int, *, confirmed: bool, initial: bool) -> str:
    """A run's champion against the baseline; the arguments are those of `of_champion`."""
    if initial:
        found = loss_in_words(fitness, seeds)
        return f"the initial program, which no other has beaten yet: {found}"
    if confirmed:
        return loss_in_words(fitness, seeds, "fresh ")
    change = _change(math.exp(-fitness.mean))
    return (
        f"not confirmed yet; its loss is {change} than {_BASELINE}'s on the seeds that selected "
        "it, which flatter it"
    )


def winner_in_words(fitness: Interval) -> str:
    """What the fresh seeds of a funnel's winner say of it, on the tasks of the last stage."""
    return {
        Verdict.BETTER: "better than the tuned baseline on seeds that chose nothing",
        Verdict.WORSE: "worse than the tuned baseline on seeds that chose nothing: those that did "
        "flattered it",
        Verdict.UNDECIDED: "not shown to beat the tuned baseline on seeds that chose nothing",
    }[of_fitness(fitness)]


def no_winner_in_words(entrants: Sequence[Interval], scale: str) -> str:
    """Why a funnel has no winner, from what its last stage measured."""
    if entrants and all(of_fitness(one) is Verdict.WORSE for one in entrants):
        return (
            f"every program is worse than the tuned baseline at {scale} the work: "
            "what the search found does not carry over"
        )
    return (
        f"no program is shown to beat the tuned baseline at {scale} the work: "
        "whether what the search found carries over is undecided"
    )


def of_bias(differences: Sequence[float]) -> Interval | None:
    """The mean of (reported - fresh) over champions, Student's t; None with a single one."""
    return interval(differences, 0.0) if len(differences) > 1 else None


def bias_in_words(mean: float, found: Interval | None) -> str:
    """Whether reports flatter, from `of_bias`."""
    if found is None:
        return (
            f"reported - fresh is {mean:+.4f}; one champion cannot tell chance from a bias: "
            "audit several runs"
        )
    said = {
        0: "which holds zero: no bias is shown",
        1: "above zero: the reports flatter",
        -1: "below zero: the reports understate",
    }[lies(found)]
    return (
        f"The mean of reported - fresh is {mean:+.4f}, 95% interval [{found.low:+.4f}, "
        f"{found.high:+.4f}], {said}."
    )


def is_below(high: float, limit: float) -> bool:
    """Whether a cost is shown to be below a limit, by its upper bound; NaN shows nothing."""
    return high < limit


def is_needed(low: float) -> bool:
    """Whether leaving a statement out is shown to cost anything, by the lower bound."""
    return low > 0


def single_runs(runs: Iterable[tuple[str, int]]) -> str | None:
    """What a comparison of searches cannot tell, from how many runs (seeds) each has."""
    single = [name for name, count in runs if count < LEAST_SEEDS]
    if not single:
        return None
    return (
        f"One run tells nothing of what another seed would find: {', '.join(single)}. "
        "Differences that large may be chance; add seeds."
    )
