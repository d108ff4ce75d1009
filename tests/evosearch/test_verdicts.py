"""Every verdict on both sides of its line, exactly at it, and where there is no number."""

from __future__ import annotations

import math
from typing import Any

import pytest

from evosearch.cli.live import format_fitness
from evosearch.cli.status import print_status
from evosearch.evaluation.funnel import Entrant, Funnelled, Stage
from evosearch.report.funnel import outcome
from evosearch.report.program import NearestKnown
from evosearch.report.run import Found, Standing
from evosearch.runs.funnel_document import FunnelDocument
from evosearch.runs.summary import MeasuredProgram, RunStatus
from evosearch.statistics import Interval, interval
from evosearch.verdicts import (
    Verdict,
    bias_in_words,
    champion_in_words,
    estimate,
    is_below,
    is_needed,
    lies,
    no_winner_in_words,
    of_bias,
    of_champion,
    of_difference,
    of_fitness,
    over_tasks,
    over_tasks_in_words,
    single_runs,
    winner_in_words,
)

NAN, INF = math.nan, math.inf
JUST = 5e-324
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
    ("found", "side"),
    [
        (ABOVE, 1),
        (BELOW, -1),
        (AROUND, 0),
        (Interval(0.1, 0.0, 0.2), 0),
        (Interval(-0.1, -0.2, 0.0), 0),
        (Interval(0.1, JUST, 0.2), 1),
        (Interval(-0.1, -0.2, -JUST), -1),
        (Interval(0.0, 0.0, 0.0), 0),
        (Interval(0.1, 0.05, INF), 1),
        *((none, 0) for none in NO_NUMBERS),
    ],
)
def test_an_interval_lies_on_a_side_only_with_all_of_itself(found: Interval, side: int) -> None:
    assert lies(found) == side
    said = {1: Verdict.BETTER, -1: Verdict.WORSE, 0: Verdict.UNDECIDED}
    assert of_fitness(found) == said[side]
    shifted = Interval(*(number + 1.0 for number in found))
    assert lies(shifted, 1.0) == side or abs(found.low) == JUST or abs(found.high) == JUST


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
def test_a_difference_is_real_below_the_error_rate(
    mean: float, p_holm: float, verdict: Verdict
) -> None:
    assert of_difference(mean, p_holm) is verdict


LOWER, HIGHER = Interval(0.9, 0.8, 0.99), Interval(1.1, 1.01, 1.2)


@pytest.mark.parametrize(
    ("on_these", "ratio", "p_holm", "verdict"),
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
        *((Verdict.BETTER, none, 0.01, Verdict.UNDECIDED) for none in NO_NUMBERS),
    ],
)
def test_better_over_tasks_takes_the_interval_the_tasks_and_the_seeds(
    on_these: Verdict, ratio: Interval, p_holm: float, verdict: Verdict
) -> None:
    assert over_tasks(on_these, ratio, p_holm) is verdict
    said = over_tasks_in_words("lion", "adamw", 10, on_these, ratio, p_holm)
    assert ("lion is better than adamw" in said) == (verdict is Verdict.BETTER)
    assert ("lion is worse than adamw" in said) == (verdict is Verdict.WORSE)


def test_what_holds_on_these_tasks_alone_is_said_of_them_alone() -> None:
    ratio = Interval(0.969, 0.50, 1.85)
    assert over_tasks_in_words("lion", "adamw", 10, Verdict.BETTER, ratio, 0.9) == (
        "On these 10 tasks lion's mean loss is 3.1% lower than adamw's; the interval over tasks "
        "(-50.0% to +85.0%) does not tell whether that holds beyond them."
    )
    assert over_tasks_in_words("lion", "adamw", 2, Verdict.WORSE, HIGHER, 0.21) == (
        "On these 2 tasks lion's mean loss is 10.0% higher than adamw's; they are too few or too "
        "unlike to tell whether that holds beyond them (p = 0.21 over tasks, by Holm's correction)."
    )
    assert over_tasks_in_words("lion", "adamw", 2, Verdict.UNDECIDED, LOWER, 0.21) == (
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
        (ABOVE, 16, False, True, Verdict.BETTER, "the initial program, which no other has beaten"),
        (ABOVE, 1, True, False, Verdict.UNDECIDED, "on one seed, which tells no interval"),
        (ABOVE, 1, False, True, Verdict.UNDECIDED, "the initial program"),
        *((one, 16, True, False, Verdict.UNDECIDED, "not shown to differ") for one in NO_NUMBERS),
    ],
)
def test_a_champion_is_better_by_seeds_that_did_not_select_it(
    fitness: Interval, seeds: int, confirmed: bool, initial: bool, verdict: Verdict, words: str
) -> None:
    assert of_champion(fitness, seeds, confirmed=confirmed, initial=initial) is verdict
    said = champion_in_words(fitness, seeds, confirmed=confirmed, initial=initial)
    assert words in said
    assert ("better than" in said) == (verdict is Verdict.BETTER)


def test_one_seed_has_no_interval() -> None:
    assert estimate(ABOVE, 2) == "+0.100, 95% interval [+0.050, +0.150]"
    assert estimate(ABOVE, 1) == "+0.100 on one seed, which tells no interval"
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
def test_a_winner_is_what_its_fresh_seeds_say(fitness: Interval, words: str) -> None:
    assert winner_in_words(fitness).startswith(words)


@pytest.mark.parametrize(
    ("entrants", "carries"),
    [
        ([BELOW, BELOW], "does not carry over"),
        ([BELOW, AROUND], "carries over is undecided"),
        ([BELOW, Interval(-0.1, -0.2, 0.0)], "carries over is undecided"),
        ([BELOW, NO_NUMBERS[0]], "carries over is undecided"),
        ([], "carries over is undecided"),
    ],
)
def test_a_funnel_without_a_winner_tells_a_refusal_from_too_little_evidence(
    entrants: list[Interval], carries: str
) -> None:
    assert carries in no_winner_in_words(entrants, "10x")


def entrant(fitness: Interval) -> Entrant:
    return Entrant("runs/x#1", "def train(w, g):\n    return g\n", fitness, {"a-10x": 0.1})


@pytest.mark.parametrize(
    ("winner", "words", "verdict"),
    [
        (ABOVE, "at 10x the work, better than the tuned baseline", "better"),
        (AROUND, "at 10x the work, not shown to beat", "undecided"),
        (None, "no program is shown to beat the tuned baseline at 10x", None),
    ],
)
def test_the_funnel_says_what_its_figures_say(
    winner: Interval | None, words: str, verdict: str | None
) -> None:
    stage = Stage("10x", 4, (entrant(AROUND),), 0)
    found = Funnelled((stage,), winner and entrant(winner))
    assert words in outcome(found)
    assert found.document()["verdict"] == verdict


@pytest.mark.parametrize(
    ("differences", "words"),
    [
        ([0.01, 0.011, 0.009], "flatter"),
        ([-0.01, -0.011, -0.009], "understate"),
        ([0.01, -0.01], "no bias is shown"),
        ([0.015, 0.005], "no bias is shown"),  # at two standard errors exactly: two champions
        ([0.0, 0.0], "no bias is shown"),
        ([NAN, 0.1], "no bias is shown"),
        ([0.5], "one champion cannot tell"),
    ],
)
def test_reports_are_biased_where_the_interval_of_champions_says_so(
    differences: list[float], words: str
) -> None:
    assert words in bias_in_words(sum(differences) / len(differences), of_bias(differences))


def test_two_champions_flatter_only_by_more_than_their_spread_can_give() -> None:
    """Student's t of one degree of freedom: 12.7 standard errors, not two."""
    near, far = [0.0115, 0.0085], [0.0101, 0.0099]
    assert lies(interval(near, 0.0)) == 0
    assert lies(interval(far, 0.0)) == 1


@pytest.mark.parametrize(
    ("high", "shown"), [(0.0099, True), (0.01, False), (0.02, False), (NAN, False), (INF, False)]
)
def test_a_cost_is_small_where_its_bound_is_below_the_limit(high: float, shown: bool) -> None:
    assert is_below(high, 0.01) is shown


@pytest.mark.parametrize(
    ("low", "needed"), [(0.001, True), (0.0, False), (-0.1, False), (NAN, False), (INF, True)]
)
def test_a_statement_is_needed_where_the_lower_bound_of_its_cost_is_above_zero(
    low: float, needed: bool
) -> None:
    assert is_needed(low) is needed


def test_a_comparison_names_searches_of_a_single_seed() -> None:
    assert single_runs([("evolution", 3), ("random", 2)]) is None
    assert single_runs([]) is None
    said = single_runs([("evolution", 3), ("random", 1), ("tuning", 1)])
    assert said is not None
    assert "would find: random, tuning." in said


FOUND = Found(
    program="runs/x",
    source="def train(w, g):\n    return g\n",
    measured=False,
    in_words="The gradient.",
    nearest=NearestKnown("sgd", "SGD", 0.25),
)


def standing(funnel: FunnelDocument | None = None, **best: Any) -> Standing:
    """A search that was killed, whose champion is better than the baseline but for `best`."""
    champion: dict[str, Any] = {
        "id": 7,
        "fitness": Interval(0.1, 0.05, 0.15),
        "per_task": {"digits-mlp": 0.1},
        "seeds": 16,
        "confirmed": True,
        "measurements": 16,
        "statements": 0,
        "state_memory": 0.0,
        "source": FOUND.source,
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
    return Standing(status, FOUND)


def unwrapped(text: str) -> str:
    """`text` as if it had been printed on one line, whatever the width of the terminal was."""
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
        ({"confirmed": False, "id": 0}, "the initial program, which no other has beaten yet"),
        (
            {"confirmed": False, "id": 0, "seeds": 1},
            "on one seed, which tells no interval, its loss is 9.5% lower",
        ),
    ],
)
def test_status_says_of_the_champion_what_its_seeds_show(
    best: dict[str, Any], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    print_status(standing(**best))
    said = unwrapped(capsys.readouterr().out)
    assert words in said
    assert "was killed; continue with `evosearch resume runs/x`" in said


def test_status_says_of_a_funnel_what_its_winner_shows(capsys: pytest.CaptureFixture[str]) -> None:
    winner = {
        "name": "runs/x#7",
        "fitness": 0.01,
        "fitness_low": -0.01,
        "fitness_high": 0.03,
        "per_task": {"digits-mlp-100x": 0.01},
        "source": FOUND.source,
    }
    stage = {"scale": "100x", "seeds": 8, "through": 1, "entrants": [winner]}
    came = FunnelDocument.model_validate({"stages": [stage], "winner": winner})
    print_status(standing(came))
    assert "not shown to beat the tuned baseline on seeds" in unwrapped(capsys.readouterr().out)
    print_status(standing(came.model_copy(update={"winner": None})))
    said = unwrapped(capsys.readouterr().out)
    assert "none was shown to beat the tuned baseline" in said
    assert "carry over" not in said
