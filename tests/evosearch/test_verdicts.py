"""Verdicts on both sides of their line, exactly on the line, and for NaN."""

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
    describe_over_tasks,
    describe_winner,
    difference_verdict,
    explain_missing_winner,
    fitness_verdict,
    format_estimate,
    is_below,
    is_needed,
    side_of,
    verdict_over_tasks,
    warn_of_single_runs,
)

NAN, INF = math.nan, math.inf
SMALLEST = 5e-324
"""The smallest number above 0."""
ABOVE, BELOW, AROUND = Interval(0.1, 0.05, 0.15), Interval(-0.1, -0.2, -0.01), Interval(0, -1, 1)
NO_NUMBERS = [
    Interval(NAN, NAN, NAN),
    Interval(0.1, NAN, 0.2),
    Interval(0.1, 0.05, NAN),
    Interval(NAN, 0.1, 0.2),
    Interval(INF, INF, INF),
    Interval(-INF, -INF, -INF),
    Interval(0.1, -INF, INF),
]


@pytest.mark.parametrize(
    ("estimate", "side"),
    [
        (ABOVE, 1),
        (BELOW, -1),
        (AROUND, 0),
        (Interval(0.1, 0.0, 0.2), 0),
        (Interval(-0.1, -0.2, 0.0), 0),
        (Interval(0.1, SMALLEST, 0.2), 1),
        (Interval(-0.1, -0.2, -SMALLEST), -1),
        (Interval(0.0, 0.0, 0.0), 0),
        (Interval(0.1, 0.05, INF), 1),
        *((invalid, 0) for invalid in NO_NUMBERS),
    ],
)
def test_an_interval_is_on_a_side_only_if_all_of_it_is(estimate: Interval, side: int) -> None:
    assert side_of(estimate) == side
    expected = {1: Verdict.BETTER, -1: Verdict.WORSE, 0: Verdict.UNDECIDED}
    assert fitness_verdict(estimate) == expected[side]
    shifted = Interval(*(number + 1.0 for number in estimate))
    assert (
        side_of(shifted, 1.0) == side
        or abs(estimate.low) == SMALLEST
        or abs(estimate.high) == SMALLEST
    )


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
def test_a_difference_is_significant_below_the_error_rate(
    mean: float, p_holm: float, verdict: Verdict
) -> None:
    assert difference_verdict(mean, p_holm) is verdict


LOWER, HIGHER = Interval(0.9, 0.8, 0.99), Interval(1.1, 1.01, 1.2)


@pytest.mark.parametrize(
    ("verdict_on_tasks", "ratio", "p_holm", "verdict"),
    [
        (Verdict.BETTER, LOWER, 0.01, Verdict.BETTER),
        (Verdict.WORSE, HIGHER, 0.01, Verdict.WORSE),
        (Verdict.BETTER, Interval(0.9, 0.8, 1.0), 0.01, Verdict.UNDECIDED),
        (Verdict.WORSE, Interval(1.1, 1.0, 1.2), 0.01, Verdict.UNDECIDED),
        (Verdict.BETTER, Interval(0.969, 0.5, 1.85), 0.01, Verdict.UNDECIDED),
        (Verdict.UNDECIDED, LOWER, 0.01, Verdict.UNDECIDED),
        (Verdict.UNDECIDED, HIGHER, 0.01, Verdict.UNDECIDED),
        (Verdict.WORSE, LOWER, 0.01, Verdict.UNDECIDED),
        (Verdict.BETTER, LOWER, 0.05, Verdict.UNDECIDED),
        (Verdict.BETTER, LOWER, 0.0499, Verdict.BETTER),
        (Verdict.BETTER, LOWER, NAN, Verdict.UNDECIDED),
        *((Verdict.BETTER, invalid, 0.01, Verdict.UNDECIDED) for invalid in NO_NUMBERS),
    ],
)
def test_a_verdict_over_tasks_needs_the_interval_the_tasks_and_the_seeds(
    verdict_on_tasks: Verdict, ratio: Interval, p_holm: float, verdict: Verdict
) -> None:
    assert verdict_over_tasks(verdict_on_tasks, ratio, p_holm) is verdict
    text = describe_over_tasks("lion", "adamw", 10, verdict_on_tasks, ratio, p_holm)
    assert ("lion is better than adamw" in text) == (verdict is Verdict.BETTER)
    assert ("lion is worse than adamw" in text) == (verdict is Verdict.WORSE)


def test_a_difference_on_the_measured_tasks_alone_is_not_generalized() -> None:
    ratio = Interval(0.969, 0.50, 1.85)
    assert describe_over_tasks("lion", "adamw", 10, Verdict.BETTER, ratio, 0.9) == (
        "On these 10 tasks lion's mean loss is 3.1% lower than adamw's; the interval over tasks "
        "(-50.0% to +85.0%) leaves open whether this holds on other tasks."
    )
    assert describe_over_tasks("lion", "adamw", 2, Verdict.WORSE, HIGHER, 0.21) == (
        "On these 2 tasks lion's mean loss is 10.0% higher than adamw's; the tasks are too few or "
        "differ too much to show that this holds on other tasks (p = 0.21 over tasks, after Holm's "
        "correction)."
    )
    assert describe_over_tasks("lion", "adamw", 2, Verdict.UNDECIDED, LOWER, 0.21) == (
        "On these 2 tasks lion's mean loss is not shown to differ from adamw's."
    )


@pytest.mark.parametrize(
    ("fitness", "seeds", "confirmed", "initial", "verdict", "words"),
    [
        (ABOVE, 16, True, False, Verdict.BETTER, "better than tuned AdamW"),
        (BELOW, 16, True, False, Verdict.WORSE, "worse than tuned AdamW"),
        (AROUND, 16, True, False, Verdict.UNDECIDED, "not shown to differ"),
        (Interval(0.1, 0.0, 0.2), 16, True, False, Verdict.UNDECIDED, "not shown to differ"),
        (ABOVE, 16, False, False, Verdict.UNDECIDED, "not confirmed yet"),
        (BELOW, 16, False, False, Verdict.UNDECIDED, "not confirmed yet"),
        (
            ABOVE,
            16,
            False,
            True,
            Verdict.BETTER,
            "the initial program, which no other program has beaten",
        ),
        (ABOVE, 1, True, False, Verdict.UNDECIDED, "on one seed (no interval)"),
        (ABOVE, 1, False, True, Verdict.UNDECIDED, "the initial program"),
        *((one, 16, True, False, Verdict.UNDECIDED, "not shown to differ") for one in NO_NUMBERS),
    ],
)
def test_a_champion_is_judged_by_seeds_that_did_not_select_it(
    fitness: Interval, seeds: int, confirmed: bool, initial: bool, verdict: Verdict, words: str
) -> None:
    assert champion_verdict(fitness, seeds, confirmed=confirmed, initial=initial) is verdict
    text = describe_champion(fitness, seeds, confirmed=confirmed, initial=initial)
    assert words in text
    assert ("better than" in text) == (verdict is Verdict.BETTER)


def test_one_seed_has_no_interval() -> None:
    assert format_estimate(ABOVE, 2) == "+0.100, 95% interval [+0.050, +0.150]"
    assert format_estimate(ABOVE, 1) == "+0.100 on one seed (no interval)"
    assert format_fitness(ABOVE, 1, fresh=False) == "+0.100  1 search seed"
    assert format_fitness(ABOVE, 2, fresh=False) == "+0.100  95% [+0.050, +0.150]  2 search seeds"
    assert format_fitness(ABOVE, 16, fresh=True) == "+0.100  95% [+0.050, +0.150]  16 fresh seeds"


@pytest.mark.parametrize(
    ("fitness", "words"),
    [
        (ABOVE, "better than the tuned baseline"),
        (BELOW, "worse than the tuned baseline"),
        (AROUND, "not shown to beat the tuned baseline"),
        (Interval(0.1, 0.0, 0.2), "not shown to beat the tuned baseline"),
        (NO_NUMBERS[0], "not shown to beat the tuned baseline"),
    ],
)
def test_a_winner_is_judged_by_its_fresh_seeds(fitness: Interval, words: str) -> None:
    assert describe_winner(fitness).startswith(words)


@pytest.mark.parametrize(
    ("entrants", "carries"),
    [
        ([BELOW, BELOW], "do not carry over"),
        ([BELOW, AROUND], "carry over is undecided"),
        ([BELOW, Interval(-0.1, -0.2, 0.0)], "carry over is undecided"),
        ([BELOW, NO_NUMBERS[0]], "carry over is undecided"),
        ([], "carry over is undecided"),
    ],
)
def test_a_missing_winner_is_explained_as_worse_or_as_undecided(
    entrants: list[Interval], carries: str
) -> None:
    assert carries in explain_missing_winner(entrants, "10x")


def entrant(fitness: Interval) -> Entrant:
    return Entrant("runs/x#1", "def train(w, g):\n    return g\n", fitness, {"a-10x": 0.1})


@pytest.mark.parametrize(
    ("winner", "words", "verdict"),
    [
        (ABOVE, "at 10x the work of the search tasks, better than the tuned baseline", "better"),
        (AROUND, "at 10x the work of the search tasks, not shown to beat", "undecided"),
        (None, "no program is shown to beat the tuned baseline at 10x", None),
    ],
)
def test_the_funnel_states_the_verdict_of_its_figures(
    winner: Interval | None, words: str, verdict: str | None
) -> None:
    stage = Stage("10x", 4, (entrant(AROUND),), 0)
    found = FunnelResult((stage,), winner and entrant(winner))
    assert words in outcome(found)
    assert found.document()["verdict"] == verdict


@pytest.mark.parametrize(
    ("differences", "words"),
    [
        ([0.01, 0.011, 0.009], "reported fitness is too high"),
        ([-0.01, -0.011, -0.009], "reported fitness is too low"),
        ([0.01, -0.01], "no bias is shown"),
        ([0.015, 0.005], "no bias is shown"),  # at two standard errors exactly: two champions
        ([0.0, 0.0], "no bias is shown"),
        ([NAN, 0.1], "no bias is shown"),
        ([0.5], "one champion cannot distinguish a bias"),
    ],
)
def test_reports_are_biased_if_the_interval_of_champions_excludes_zero(
    differences: list[float], words: str
) -> None:
    assert words in describe_bias(sum(differences) / len(differences), bias_interval(differences))


def test_two_champions_show_a_bias_only_far_beyond_their_spread() -> None:
    """Student's t of one degree of freedom: 12.7 standard errors, not two."""
    near, far = [0.0115, 0.0085], [0.0101, 0.0099]
    assert side_of(interval(near, 0.0)) == 0
    assert side_of(interval(far, 0.0)) == 1


@pytest.mark.parametrize(
    ("high", "shown"), [(0.0099, True), (0.01, False), (0.02, False), (NAN, False), (INF, False)]
)
def test_a_cost_is_small_if_its_upper_bound_is_below_the_limit(high: float, shown: bool) -> None:
    assert is_below(high, 0.01) is shown


@pytest.mark.parametrize(
    ("low", "needed"), [(0.001, True), (0.0, False), (-0.1, False), (NAN, False), (INF, True)]
)
def test_a_statement_is_needed_if_the_lower_bound_of_its_cost_is_positive(
    low: float, needed: bool
) -> None:
    assert is_needed(low) is needed


def test_a_comparison_warns_of_searches_with_a_single_seed() -> None:
    assert warn_of_single_runs([("evolution", 3), ("random", 2)]) is None
    assert warn_of_single_runs([]) is None
    text = warn_of_single_runs([("evolution", 3), ("random", 1), ("tuning", 1)])
    assert text is not None
    assert "Only one run each of: random, tuning." in text


BEST = BestProgram(
    program="runs/x",
    source="def train(w, g):\n    return g\n",
    measured=False,
    in_words="The gradient.",
    nearest=NearestOptimizer("sgd", "SGD", 0.25),
)


def overview(funnel: FunnelDocument | None = None, **best: Any) -> RunOverview:
    """A killed search with a champion above the baseline; `best` overrides its fields."""
    champion: dict[str, Any] = {
        "id": 7,
        "fitness": Interval(0.1, 0.05, 0.15),
        "per_task": {"digits-mlp": 0.1},
        "seeds": 16,
        "confirmed": True,
        "measurements": 16,
        "statements": 0,
        "state_memory": 0.0,
        "source": BEST.source,
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
        best=MeasuredProgram(**champion | best),
        validation=None,
        funnel=funnel,
        stop_reason=None,
        running=False,
        workers=(),
    )
    return RunOverview(status, BEST)


def unwrapped(text: str) -> str:
    """Return `text` on one line."""
    return " ".join(text.split())


@pytest.mark.parametrize(
    ("best", "words"),
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
    best: dict[str, Any], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    print_status(overview(**best))
    text = unwrapped(capsys.readouterr().out)
    assert words in text
    assert "was killed; continue with `evosearch resume runs/x`" in text


def test_status_states_the_verdict_on_the_winner_of_a_funnel(
    capsys: pytest.CaptureFixture[str],
) -> None:
    winner = {
        "name": "runs/x#7",
        "fitness": 0.01,
        "fitness_low": -0.01,
        "fitness_high": 0.03,
        "per_task": {"digits-mlp-100x": 0.01},
        "source": BEST.source,
    }
    stage = {"scale": "100x", "seeds": 8, "through": 1, "entrants": [winner]}
    came = FunnelDocument.model_validate({"stages": [stage], "winner": winner})
    print_status(overview(came))
    assert "not shown to beat the tuned baseline on fresh seeds" in unwrapped(
        capsys.readouterr().out
    )
    print_status(overview(came.model_copy(update={"winner": None})))
    text = unwrapped(capsys.readouterr().out)
    assert "none was shown to beat the tuned baseline" in text
    assert "carry over" not in text
