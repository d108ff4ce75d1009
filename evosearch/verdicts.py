"""Verdicts: better, worse or undecided, from intervals and p-values, and the sentences for them.

All commands take their verdicts from here. A contender is better or worse only if its whole
interval lies on one side of the reference line. If the interval contains or touches the line, or
has a NaN, the verdict is undecided. Undecided does not mean that there is no difference.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from enum import StrEnum

from evosearch.statistics import Interval, interval

ERROR_RATE = 0.05
"""Family-wise error rate of a report.

The maximum probability that the report calls any difference significant although it is zero.
"""
_BASELINE = "tuned AdamW"
MIN_SEEDS = 2
"""Minimum number of seeds for an interval."""


class Verdict(StrEnum):
    """The verdict on a contender."""

    BETTER = "better"
    WORSE = "worse"
    UNDECIDED = "undecided"


def side_of(estimate: Interval, line: float = 0.0) -> int:
    """Return 1 if all of `estimate` is above `line`, -1 if all is below, else 0."""
    if not math.isfinite(estimate.mean):
        return 0
    if estimate.low > line and estimate.high > line:
        return 1
    return -1 if estimate.low < line and estimate.high < line else 0


def fitness_verdict(fitness: Interval) -> Verdict:
    """Return the verdict on a fitness; the baseline is at 0, and larger is better."""
    return {1: Verdict.BETTER, -1: Verdict.WORSE, 0: Verdict.UNDECIDED}[side_of(fitness)]


def difference_verdict(mean: float, p_holm: float) -> Verdict:
    """Return the verdict on a paired difference of log losses; smaller is better.

    The verdict generalizes to other seeds on the same tasks.

    Args:
        mean: log(loss / reference's loss), the mean over seeds.
        p_holm: p-value of `mean` after Holm's correction.
    """
    if not p_holm < ERROR_RATE or not math.isfinite(mean) or mean == 0:
        return Verdict.UNDECIDED
    return Verdict.BETTER if mean < 0 else Verdict.WORSE


def verdict_on_other_tasks(
    verdict_on_measured_tasks: Verdict, ratio: Interval, p_holm: float
) -> Verdict:
    """Return the verdict on a ratio of losses, generalized to other tasks of the same kinds.

    Args:
        verdict_on_measured_tasks: the verdict over seeds on the measured tasks, after Holm's
            correction.
        ratio: the geometric mean of loss / reference's loss; its interval comes from a bootstrap
            over tasks.
        p_holm: the p-value of the tasks' mean log ratios (Student's t), after Holm's correction
            for all contenders of the report. This p-value guards against a few tasks that agree by
            chance.
    """
    by_interval = {-1: Verdict.BETTER, 1: Verdict.WORSE, 0: Verdict.UNDECIDED}[side_of(ratio, 1.0)]
    agree = by_interval == verdict_on_measured_tasks and p_holm < ERROR_RATE
    return by_interval if agree else Verdict.UNDECIDED


def describe_verdict_on_other_tasks(
    name: str,
    reference: str,
    tasks: int,
    verdict_on_measured_tasks: Verdict,
    ratio: Interval,
    p_holm: float,
) -> str:
    """Return the result of `verdict_on_other_tasks` as a sentence with its figures."""
    change = _ratio_in_words(ratio.mean)
    bounds = f"{_ratio_as_percent(ratio.low)} to {_ratio_as_percent(ratio.high)}"
    verdict = verdict_on_other_tasks(verdict_on_measured_tasks, ratio, p_holm)
    if verdict is not Verdict.UNDECIDED:
        return (
            f"Over tasks, {name} is {verdict} than {reference}: its mean loss is {change} "
            f"(95% interval over tasks {bounds})."
        )
    if verdict_on_measured_tasks is Verdict.UNDECIDED:
        return (
            f"On these {tasks} tasks {name}'s mean loss is not shown to differ from {reference}'s."
        )
    claim = f"On these {tasks} tasks {name}'s mean loss is {change} than {reference}'s"
    if side_of(ratio, 1.0) == 0:
        return (
            f"{claim}; the interval over tasks ({bounds}) leaves open whether this holds on other "
            "tasks."
        )
    return (
        f"{claim}; the tasks are too few or differ too much to show that this holds on other tasks "
        f"(p = {p_holm:.2g} over tasks, after Holm's correction)."
    )


def _ratio_in_words(ratio: float) -> str:
    return f"{abs(100 * (ratio - 1)):.1f}% {'lower' if ratio < 1 else 'higher'}"


def _ratio_as_percent(ratio: float) -> str:
    return f"{100 * (ratio - 1):+.1f}%"


def format_estimate(fitness: Interval, seeds: int = MIN_SEEDS) -> str:
    """Return a fitness with its interval; a single seed has no interval."""
    if seeds < MIN_SEEDS:
        return f"{fitness.mean:+.3f} on one seed (no interval)"
    return f"{fitness.mean:+.3f}, 95% interval [{fitness.low:+.3f}, {fitness.high:+.3f}]"


def champion_verdict(fitness: Interval, seeds: int, *, confirmed: bool, initial: bool) -> Verdict:
    """Return the verdict on a run's champion.

    Seeds that selected a program overestimate its fitness, so a champion needs confirmation.

    Args:
        fitness: the reported fitness.
        seeds: number of seeds over which the fitness is the mean.
        confirmed: whether the seeds are the fresh seeds of a confirmation.
        initial: whether the champion is the initial program, which no seeds selected.
    """
    if seeds < MIN_SEEDS or not (confirmed or initial):
        return Verdict.UNDECIDED
    return fitness_verdict(fitness)


def describe_loss(fitness: Interval, seeds: int, seed_kind: str = "") -> str:
    """Return the verdict on a fitness and the change of loss, in words.

    Args:
        fitness: mean and 95% interval.
        seeds: number of seeds over which the fitness is the mean.
        seed_kind: adjective for the seeds with a trailing space, such as `"fresh "`.
    """
    change = _ratio_in_words(math.exp(-fitness.mean))
    if seeds < MIN_SEEDS:
        return f"on one seed (no interval), its loss is {change} than {_BASELINE}'s"
    low, high = (fitness_as_loss_percent(bound) for bound in (fitness.high, fitness.low))
    verdict = {
        Verdict.BETTER: f"better than {_BASELINE}",
        Verdict.WORSE: f"worse than {_BASELINE}",
        Verdict.UNDECIDED: f"not shown to differ from {_BASELINE}",
    }[fitness_verdict(fitness)]
    return (
        f"{verdict}; its loss is {change} (95% interval {low} to {high}, {seeds} {seed_kind}seeds)"
    )


def fitness_as_loss_percent(fitness: float) -> str:
    """Return the relative change of loss that a fitness means, such as "+5.1%"."""
    return _ratio_as_percent(math.exp(-fitness))


def describe_champion(fitness: Interval, seeds: int, *, confirmed: bool, initial: bool) -> str:
    """Return the verdict on a run's champion in words; for the arguments see `champion_verdict`."""
    if initial:
        loss = describe_loss(fitness, seeds)
        return f"the initial program, which no other program has beaten yet: {loss}"
    if confirmed:
        return describe_loss(fitness, seeds, "fresh ")
    change = _ratio_in_words(math.exp(-fitness.mean))
    return (
        f"not confirmed yet; its loss is {change} than {_BASELINE}'s on the seeds that selected "
        "it, which is too optimistic"
    )


def describe_winner(fitness: Interval) -> str:
    """Return the verdict on a funnel's winner in words, from fresh seeds of the last stage."""
    return {
        Verdict.BETTER: "better than the tuned baseline on fresh seeds",
        Verdict.WORSE: "worse than the tuned baseline on fresh seeds; the seeds that selected it "
        "were too optimistic",
        Verdict.UNDECIDED: "not shown to beat the tuned baseline on fresh seeds",
    }[fitness_verdict(fitness)]


def explain_missing_winner(entrants: Sequence[Interval], scale: str) -> str:
    """Return why a funnel has no winner.

    Args:
        entrants: the fitness of each program of the last stage.
        scale: the work of the last stage relative to the search tasks, such as `10x`.
    """
    if entrants and all(fitness_verdict(fitness) is Verdict.WORSE for fitness in entrants):
        return (
            f"every program is worse than the tuned baseline at {scale} the work of the search "
            "tasks: the gains of the search do not carry over"
        )
    return (
        f"no program is shown to beat the tuned baseline at {scale} the work of the search tasks: "
        "whether the gains of the search carry over is undecided"
    )


def bias_interval(differences: Sequence[float]) -> Interval | None:
    """Return the mean of (reported fitness - fitness on fresh seeds) over champions.

    The interval is Student's t. The result is None if there is only one champion.
    """
    return interval(differences, 0.0) if len(differences) > 1 else None


def describe_bias(mean: float, bias: Interval | None) -> str:
    """Return in words whether reported fitness is biased.

    Args:
        mean: the mean of (reported - fresh) over champions.
        bias: the result of `bias_interval`.
    """
    if bias is None:
        return (
            f"reported - fresh is {mean:+.4f}; one champion cannot distinguish a bias from chance: "
            "audit several runs"
        )
    conclusion = {
        0: "which contains zero: no bias is shown",
        1: "above zero: reported fitness is too high",
        -1: "below zero: reported fitness is too low",
    }[side_of(bias)]
    return (
        f"The mean of reported - fresh is {mean:+.4f}, 95% interval [{bias.low:+.4f}, "
        f"{bias.high:+.4f}], {conclusion}."
    )


def is_below(high: float, limit: float) -> bool:
    """Return whether the upper bound of a cost is below `limit`; False for NaN."""
    return high < limit


def is_needed(low: float) -> bool:
    """Return whether leaving out a statement has a cost, given the cost's lower bound."""
    return low > 0


def warn_of_single_runs(runs: Iterable[tuple[str, int]]) -> str | None:
    """Return a warning if a configuration was searched with one seed only, else None.

    Args:
        runs: the name of each configuration and its number of runs, each with another seed.
    """
    single = [name for name, count in runs if count < MIN_SEEDS]
    if not single:
        return None
    return (
        f"Only one run each of: {', '.join(single)}. Differences may be due to the seed; add seeds."
    )
