"""Tests of verdicts for estimates on both sides of a threshold, at the threshold, and NaN.

Also tests of the sentences that state verdicts.
"""

from __future__ import annotations

import math
from typing import Any

import pytest

from evosearch.cli.live import format_fitness
from evosearch.cli.status import print_status
from evosearch.evaluation.funnel import Entrant, FunnelResult, Stage
from evosearch.report.funnel import outcome
from evosearch.report.program import NearestOptimizer
from evosearch.report.run import BestProgram, RunOverview
from evosearch.runs.funnel_document import FunnelDocument
from evosearch.runs.summary import MeasuredProgram, RunStatus
from evosearch.statistics import Interval, interval
from evosearch.verdicts import (
    Verdict,
    bias_interval,
    champion_verdict,
    describe_bias,
    describe_champion,
    describe_verdict_on_other_tasks,
    describe_winner,
    difference_verdict,
    explain_missing_winner,
    fitness_verdict,
    format_estimate,
    is_below,
    is_needed,
    side_of,
    verdict_on_other_tasks,
    warn_of_single_runs,
)

NAN, INF = math.nan, math.inf
SMALLEST = 5e-324
"""The smallest float above 0."""
ABOVE_ZERO = Interval(0.1, 0.05, 0.15)
BELOW_ZERO = Interval(-0.1, -0.2, -0.01)
AROUND_ZERO = Interval(0, -1, 1)
NOT_FINITE = [
    Interval(NAN, NAN, NAN),
    Interval(0.1, NAN, 0.2),
    Interval(0.1, 0.05, NAN),
    Interval(NAN, 0.1, 0.2),
    Interval(INF, INF, INF),
    Interval(-INF, -INF, -INF),
    Interval(0.1, -INF, INF),
]


@pytest.mark.parametrize(
    ("estimate", "sign"),
    [
        (ABOVE_ZERO, 1),
        (BELOW_ZERO, -1),
        (AROUND_ZERO, 0),
        (Interval(0.1, 0.0, 0.2), 0),
        (Interval(-0.1, -0.2, 0.0), 0),
        (Interval(0.1, SMALLEST, 0.2), 1),
        (Interval(-0.1, -0.2, -SMALLEST), -1),
        (Interval(0.0, 0.0, 0.0), 0),
        (Interval(0.1, 0.05, INF), 1),
        *((estimate, 0) for estimate in NOT_FINITE),
    ],
)
def test_a_fitness_is_better_or_worse_only_if_its_interval_excludes_zero(
    estimate: Interval, sign: int
) -> None:
    """`sign` is 1 above zero, -1 below zero, and 0 if neither is shown."""
    assert side_of(estimate) == sign
    expected = {1: Verdict.BETTER, -1: Verdict.WORSE, 0: Verdict.UNDECIDED}
    assert fitness_verdict(estimate) == expected[sign]
    is_lost_in_rounding = SMALLEST in (abs(estimate.low), abs(estimate.high))
    if not is_lost_in_rounding:
        shifted = Interval(*(bound + 1.0 for bound in estimate))
        assert side_of(shifted, 1.0) == sign


@pytest.mark.parametrize(
    ("mean", "p_holm", "verdict"),
    [
        (-0.1, 0.049, Verdict.BETTER),
        (0.1, 0.049, Verdict.WORSE),
        (-0.1, 0.05, Verdict.UNDECIDED),
        (-0.1, NAN, Verdict.UNDECIDED),
        (NAN, 0.0, Verdict.UNDECIDED),
        (INF, 0.0, Verdict.UNDECIDED),
        (0.0, 0.0, Verdict.UNDECIDED),
    ],
)
def test_a_difference_is_significant_only_if_its_corrected_p_value_is_below_0_05(
    mean: float, p_holm: float, verdict: Verdict
) -> None:
    assert difference_verdict(mean, p_holm) is verdict


RATIO_BELOW_ONE, RATIO_ABOVE_ONE = Interval(0.9, 0.8, 0.99), Interval(1.1, 1.01, 1.2)


@pytest.mark.parametrize(
    ("verdict_on_measured_tasks", "ratio", "p_holm", "verdict"),
    [
        (Verdict.BETTER, RATIO_BELOW_ONE, 0.01, Verdict.BETTER),
        (Verdict.WORSE, RATIO_ABOVE_ONE, 0.01, Verdict.WORSE),
        (Verdict.BETTER, Interval(0.9, 0.8, 1.0), 0.01, Verdict.UNDECIDED),
        (Verdict.WORSE, Interval(1.1, 1.0, 1.2), 0.01, Verdict.UNDECIDED),
        (Verdict.BETTER, Interval(0.969, 0.5, 1.85), 0.01, Verdict.UNDECIDED),
        (Verdict.UNDECIDED, RATIO_BELOW_ONE, 0.01, Verdict.UNDECIDED),
        (Verdict.UNDECIDED, RATIO_ABOVE_ONE, 0.01, Verdict.UNDECIDED),
        (Verdict.WORSE, RATIO_BELOW_ONE, 0.01, Verdict.UNDECIDED),
        (Verdict.BETTER, RATIO_BELOW_ONE, 0.05, Verdict.UNDECIDED),
        (Verdict.BETTER, RATIO_BELOW_ONE, 0.0499, Verdict.BETTER),
        (Verdict.BETTER, RATIO_BELOW_ONE, NAN, Verdict.UNDECIDED),
        *((Verdict.BETTER, ratio, 0.01, Verdict.UNDECIDED) for ratio in NOT_FINITE),
    ],
)
def test_a_verdict_on_other_tasks_needs_a_verdict_on_the_measured_tasks_an_interval_and_a_p_value(
    verdict_on_measured_tasks: Verdict, ratio: Interval, p_holm: float, verdict: Verdict
) -> None:
    """The interval of the ratio must exclude 1, and the p-value must be below 0.05."""
    assert verdict_on_other_tasks(verdict_on_measured_tasks, ratio, p_holm) is verdict
    text = describe_verdict_on_other_tasks(
        "lion", "adamw", 10, verdict_on_measured_tasks, ratio, p_holm
    )
    assert ("lion is better than adamw" in text) == (verdict is Verdict.BETTER)
    assert ("lion is worse than adamw" in text) == (verdict is Verdict.WORSE)


def test_a_difference_on_the_measured_tasks_alone_is_not_generalized() -> None:
    ratio = Interval(0.969, 0.50, 1.85)
    assert describe_verdict_on_other_tasks("lion", "adamw", 10, Verdict.BETTER, ratio, 0.9) == (
        "On these 10 tasks lion's mean loss is 3.1% lower than adamw's; the interval over tasks "
        "(-50.0% to +85.0%) leaves open whether this holds on other tasks."
    )
    assert describe_verdict_on_other_tasks(
        "lion", "adamw", 2, Verdict.WORSE, RATIO_ABOVE_ONE, 0.21
    ) == (
        "On these 2 tasks lion's mean loss is 10.0% higher than adamw's; the tasks are too few or "
        "differ too much to show that this holds on other tasks (p = 0.21 over tasks, after Holm's "
        "correction)."
    )
    assert describe_verdict_on_other_tasks(
        "lion", "adamw", 2, Verdict.UNDECIDED, RATIO_BELOW_ONE, 0.21
    ) == ("On these 2 tasks lion's mean loss is not shown to differ from adamw's.")


@pytest.mark.parametrize(
    ("fitness", "seeds", "confirmed", "initial", "verdict", "phrase"),
    [
        (ABOVE_ZERO, 16, True, False, Verdict.BETTER, "better than tuned AdamW"),
        (BELOW_ZERO, 16, True, False, Verdict.WORSE, "worse than tuned AdamW"),
        (AROUND_ZERO, 16, True, False, Verdict.UNDECIDED, "not shown to differ"),
        (Interval(0.1, 0.0, 0.2), 16, True, False, Verdict.UNDECIDED, "not shown to differ"),
        (ABOVE_ZERO, 16, False, False, Verdict.UNDECIDED, "not confirmed yet"),
        (BELOW_ZERO, 16, False, False, Verdict.UNDECIDED, "not confirmed yet"),
        (
            ABOVE_ZERO,
            16,
            False,
            True,
            Verdict.BETTER,
            "the initial program, which no other program has beaten",
        ),
        (ABOVE_ZERO, 1, True, False, Verdict.UNDECIDED, "on one seed (no interval)"),
        (ABOVE_ZERO, 1, False, True, Verdict.UNDECIDED, "the initial program"),
        *(
            (fitness, 16, True, False, Verdict.UNDECIDED, "not shown to differ")
            for fitness in NOT_FINITE
        ),
    ],
)
def test_a_champion_has_a_verdict_only_from_several_seeds_that_did_not_select_it(
    fitness: Interval, seeds: int, confirmed: bool, initial: bool, verdict: Verdict, phrase: str
) -> None:
    """No seed has selected the initial program, so the initial program needs no confirmation."""
    assert champion_verdict(fitness, seeds, confirmed=confirmed, initial=initial) is verdict
    text = describe_champion(fitness, seeds, confirmed=confirmed, initial=initial)
    assert phrase in text
    assert ("better than" in text) == (verdict is Verdict.BETTER)


def test_a_fitness_on_one_seed_is_printed_without_an_interval() -> None:
    assert format_estimate(ABOVE_ZERO, 2) == "+0.100, 95% interval [+0.050, +0.150]"
    assert format_estimate(ABOVE_ZERO, 1) == "+0.100 on one seed (no interval)"
    assert format_fitness(ABOVE_ZERO, 1, fresh=False) == "+0.100  1 search seed"
    assert (
        format_fitness(ABOVE_ZERO, 2, fresh=False) == "+0.100  95% [+0.050, +0.150]  2 search seeds"
    )
    assert (
        format_fitness(ABOVE_ZERO, 16, fresh=True) == "+0.100  95% [+0.050, +0.150]  16 fresh seeds"
    )


@pytest.mark.parametrize(
    ("fitness", "phrase"),
    [
        (ABOVE_ZERO, "better than the tuned baseline"),
        (BELOW_ZERO, "worse than the tuned baseline"),
        (AROUND_ZERO, "not shown to beat the tuned baseline"),
        (Interval(0.1, 0.0, 0.2), "not shown to beat the tuned baseline"),
        (NOT_FINITE[0], "not shown to beat the tuned baseline"),
    ],
)
def test_the_verdict_on_a_funnels_winner_follows_from_its_interval(
    fitness: Interval, phrase: str
) -> None:
    assert describe_winner(fitness).startswith(phrase)


@pytest.mark.parametrize(
    ("entrants", "phrase"),
    [
        ([BELOW_ZERO, BELOW_ZERO], "do not carry over"),
        ([BELOW_ZERO, AROUND_ZERO], "carry over is undecided"),
        ([BELOW_ZERO, Interval(-0.1, -0.2, 0.0)], "carry over is undecided"),
        ([BELOW_ZERO, NOT_FINITE[0]], "carry over is undecided"),
        ([], "carry over is undecided"),
    ],
)
def test_a_missing_winner_is_explained_as_worse_or_as_undecided(
    entrants: list[Interval], phrase: str
) -> None:
    assert phrase in explain_missing_winner(entrants, "10x")


def entrant_with(fitness: Interval) -> Entrant:
    """Return an entrant of a funnel with the given fitness."""
    return Entrant("runs/x#1", "def train(w, g):\n    return g\n", fitness, {"a-10x": 0.1})


@pytest.mark.parametrize(
    ("winner", "phrase", "verdict"),
    [
        (
            ABOVE_ZERO,
            "at 10x the work of the search tasks, better than the tuned baseline",
            "better",
        ),
        (AROUND_ZERO, "at 10x the work of the search tasks, not shown to beat", "undecided"),
        (None, "no program is shown to beat the tuned baseline at 10x", None),
    ],
)
def test_the_outcome_of_a_funnel_states_the_verdict_on_its_winner(
    winner: Interval | None, phrase: str, verdict: str | None
) -> None:
    stage = Stage("10x", 4, (entrant_with(AROUND_ZERO),), 0)
    result = FunnelResult((stage,), winner and entrant_with(winner))
    assert phrase in outcome(result)
    assert result.document()["verdict"] == verdict


@pytest.mark.parametrize(
    ("differences", "phrase"),
    [
        ([0.01, 0.011, 0.009], "reported fitness is too high"),
        ([-0.01, -0.011, -0.009], "reported fitness is too low"),
        ([0.01, -0.01], "no bias is shown"),
        ([0.015, 0.005], "no bias is shown"),  # the mean is exactly two standard errors above zero
        ([0.0, 0.0], "no bias is shown"),
        ([NAN, 0.1], "no bias is shown"),
        ([0.5], "one champion cannot distinguish a bias"),
    ],
)
def test_reported_fitness_is_biased_if_the_interval_of_the_differences_excludes_zero(
    differences: list[float], phrase: str
) -> None:
    mean = sum(differences) / len(differences)
    assert phrase in describe_bias(mean, bias_interval(differences))


def test_two_champions_show_a_bias_only_if_the_mean_exceeds_12_7_standard_errors() -> None:
    """12.7 is the 97.5% quantile of Student's t distribution with one degree of freedom."""
    at_7_standard_errors, at_100_standard_errors = [0.0115, 0.0085], [0.0101, 0.0099]
    assert side_of(interval(at_7_standard_errors, 0.0)) == 0
    assert side_of(interval(at_100_standard_errors, 0.0)) == 1


@pytest.mark.parametrize(
    ("upper_bound", "is_small"),
    [(0.0099, True), (0.01, False), (0.02, False), (NAN, False), (INF, False)],
)
def test_a_cost_is_small_if_its_upper_bound_is_below_the_limit(
    upper_bound: float, is_small: bool
) -> None:
    assert is_below(upper_bound, 0.01) is is_small


@pytest.mark.parametrize(
    ("lower_bound", "expected"),
    [(0.001, True), (0.0, False), (-0.1, False), (NAN, False), (INF, True)],
)
def test_a_statement_is_needed_if_the_lower_bound_of_its_cost_is_positive(
    lower_bound: float, expected: bool
) -> None:
    assert is_needed(lower_bound) is expected


def test_a_comparison_warns_of_groups_with_a_single_run() -> None:
    assert warn_of_single_runs([("evolution", 3), ("random", 2)]) is None
    assert warn_of_single_runs([]) is None
    text = warn_of_single_runs([("evolution", 3), ("random", 1), ("tuning", 1)])
    assert text is not None
    assert "Only one run each of: random, tuning." in text


BEST_PROGRAM = BestProgram(
    program="runs/x",
    source="def train(w, g):\n    return g\n",
    measured=False,
    in_words="The gradient.",
    nearest=NearestOptimizer("sgd", "SGD", 0.25),
)


def overview_with(funnel: FunnelDocument | None = None, **champion_fields: Any) -> RunOverview:
    """Return the overview of a killed search whose champion is better than the baseline.

    Args:
        funnel: Result of the funnel; None if none ran.
        **champion_fields: Fields of the champion that replace the defaults.
    """
    default_fields: dict[str, Any] = {
        "id": 7,
        "fitness": Interval(0.1, 0.05, 0.15),
        "per_task": {"digits-mlp": 0.1},
        "seeds": 16,
        "confirmed": True,
        "measurements": 16,
        "statements": 0,
        "state_memory": 0.0,
        "source": BEST_PROGRAM.source,
    }
    status = RunStatus(
        run="runs/x",
        generated=0,
        invalid=0,
        cache_hits=0,
        cache_hit_rate=0.0,
        evaluated=0,
        redundant_fraction=0.0,
        measurements=0,
        trainings=0,
        weight_updates=0,
        programs_per_second=0.0,
        elapsed_seconds=0.0,
        best=MeasuredProgram(**default_fields | champion_fields),
        validation=None,
        funnel=funnel,
        stop_reason=None,
        running=False,
        workers=(),
    )
    return RunOverview(status, BEST_PROGRAM)


def on_one_line(text: str) -> str:
    return " ".join(text.split())


@pytest.mark.parametrize(
    ("champion_fields", "text"),
    [
        ({}, "tasks: better than tuned AdamW; its loss is 9.5% lower (95% interval -13.9% to"),
        (
            {"fitness": Interval(0.1, 0.0, 0.15)},
            "not shown to differ from tuned AdamW; its loss is 9.5% lower (",
        ),
        (
            {"fitness": Interval(-0.1, -0.15, -0.05)},
            "tasks: worse than tuned AdamW; its loss is 10.5% higher (95% interval +5.1% to",
        ),
        (
            {"confirmed": False},
            "not confirmed yet; its loss is 9.5% lower than tuned AdamW's on the",
        ),
        (
            {"confirmed": False, "id": 0},
            "the initial program, which no other program has beaten yet",
        ),
        (
            {"confirmed": False, "id": 0, "seeds": 1},
            "on one seed (no interval), its loss is 9.5% lower",
        ),
    ],
)
def test_status_states_the_verdict_on_the_champion(
    champion_fields: dict[str, Any], text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    print_status(overview_with(**champion_fields))
    output = on_one_line(capsys.readouterr().out)
    assert text in output
    assert "was killed; continue with `evosearch resume runs/x`" in output


def test_status_states_the_verdict_on_the_winner_of_a_funnel(
    capsys: pytest.CaptureFixture[str],
) -> None:
    winner = {
        "name": "runs/x#7",
        "fitness": 0.01,
        "fitness_low": -0.01,
        "fitness_high": 0.03,
        "per_task": {"digits-mlp-100x": 0.01},
        "source": BEST_PROGRAM.source,
    }
    stage = {"scale": "100x", "seeds": 8, "through": 1, "entrants": [winner]}
    with_winner = FunnelDocument.model_validate({"stages": [stage], "winner": winner})
    print_status(overview_with(with_winner))
    output = on_one_line(capsys.readouterr().out)
    assert "not shown to beat the tuned baseline on fresh seeds" in output
    without_winner = with_winner.model_copy(update={"winner": None})
    print_status(overview_with(without_winner))
    output = on_one_line(capsys.readouterr().out)
    assert "none was shown to beat the tuned baseline" in output
    assert "carry over" not in output
