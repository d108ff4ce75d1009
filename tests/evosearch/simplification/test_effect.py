"""Tests that statements are removed, and constants rounded, if their measured cost is small.

Most tests compute costs from a function of the program; some tests train.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evosearch.seeds import Stream
from evosearch.simplification import Simplification, simplify
from evosearch.simplification.constants import round_constants, tune
from evosearch.simplification.deciding import LIMIT, bounds
from evosearch.simplification.derivation_files import read_derivation, save_derivation
from evosearch.simplification.effect import EditTester
from evosearch.simplification.record import Cost, Step
from evosearch.simplification.simplifier import DEFAULT_TASKS
from primitives import Program, parse, semantic_key
from primitives import simplify as simplify_by_algebra
from primitives.explain.nearest import nearest

ROOT = Path(__file__).parents[3]


class FakeTrainings:
    """Fake `PairedTrainings`: a cost is a difference of true scores plus Gaussian noise."""

    def __init__(
        self, original: Program, true_score: Callable[[Program], float], noise_std: float = 0.003
    ):
        self.original, self.true_score, self.noise_std = original, true_score, noise_std
        self.tasks = ("one", "two")
        self.requested: list[Program] = []

    def report(self, text, done=0, total=None):
        """Ignore the report of progress."""

    def start_trainings(self, programs, seeds):
        self.requested += programs

    def differences(self, program, reference, seeds):
        difference = self.true_score(reference) - self.true_score(program)
        return difference + np.array(
            [
                [self._draw_noise(program, reference, seed, task) for seed in seeds]
                for task in self.tasks
            ]
        )

    def _draw_noise(self, program, reference, seed, task):
        keys = semantic_key(program), semantic_key(reference)
        if keys[0] == keys[1]:
            return 0.0
        entropy = hashlib.blake2b(f"{keys}{seed}{task}".encode(), digest_size=8).digest()
        return np.random.default_rng(int.from_bytes(entropy, "little")).normal(0, self.noise_std)

    def diverges(self, program, seeds):
        return False

    def cost(self, program, seeds, *, reference=None, looks):
        values = self.differences(program, reference or self.original, seeds)
        over_tasks = bounds(values.mean(axis=0), looks)
        return Cost(over_tasks.mean, over_tasks.low, over_tasks.high, {}, len(seeds))


def make_tester(text: str, true_score: Callable[[Program], float]) -> tuple[EditTester, list[Step]]:
    """Return a tester of edits of a program, and the list to which the tester adds its steps."""
    steps: list[Step] = []
    trainings = FakeTrainings(simplify_by_algebra(parse(text)).program, true_score)
    return EditTester(trainings, trainings, steps.append), steps


FOUR_OPS = (
    "def train(w, g, lr):\n  a = sin(g)\n  b = tanh(a)\n  c = arctan(b)\n  u = c * lr\n  return u"
)
"""A program of four statements with the ops sin, tanh, arctan and multiply."""


def ops_of(program: Program) -> set[str]:
    """Return the names of a program's ops, each once."""
    return set(program.ops)


def score_of_ops(**scores: float) -> Callable[[Program], float]:
    """Return a true score that is the sum of the given scores of a program's ops."""
    return lambda program: sum(scores.get(op, 0.0) for op in ops_of(program))


def test_statements_are_removed_in_order_of_cost() -> None:
    true_score = score_of_ops(sin=0.002, tanh=-0.01, arctan=1.0, multiply=1.0)
    tester, steps = make_tester(FOUR_OPS, true_score)
    result = tester.remove_statements(tester.trainings.original)
    removed_ops = [sorted(ops_of(step.before) - ops_of(step.after)) for step in steps]
    assert removed_ops == [["tanh"], ["sin"]]
    assert ops_of(result) == {"arctan", "multiply"}
    for step in steps:
        assert step.rule == "drop"
        assert step.cost.high < LIMIT
        assert "becomes" in step.reason


def test_the_sum_of_the_costs_of_all_removals_is_limited() -> None:
    """Removing one statement costs 0.006, less than the limit of 0.01; removing two costs 0.012.

    Costs are measured relative to the original program, so only one statement may be removed.
    """
    true_score = score_of_ops(sin=0.006, tanh=0.006, arctan=0.006, multiply=1.0)
    tester, steps = make_tester(FOUR_OPS, true_score)
    tester.remove_statements(tester.trainings.original)
    assert len(steps) == 1


def test_statements_that_only_work_together_are_removed_together() -> None:
    """Removing sin or arctan alone costs 0.5; removing both costs nothing."""

    def true_score(program: Program) -> float:
        has_only_one = len(ops_of(program) & {"sin", "arctan"}) == 1
        return score_of_ops(multiply=1.0, tanh=1.0)(program) - 0.5 * has_only_one

    tester, steps = make_tester(FOUR_OPS, true_score)
    result = tester.remove_statements(tester.trainings.original)
    assert [step.rule for step in steps] == ["drop-pair"]
    assert ops_of(result) == {"tanh", "multiply"}


def test_a_statement_that_is_useless_only_on_the_screening_tasks_is_kept() -> None:
    """On the screening tasks sin and tanh have no effect, on the deciding tasks only sin."""
    program = simplify_by_algebra(parse(FOUR_OPS)).program
    deciding = FakeTrainings(program, score_of_ops(multiply=1.0, arctan=1.0, tanh=1.0))
    screening = FakeTrainings(program, score_of_ops(multiply=1.0, arctan=1.0))
    result = EditTester(deciding, screening).remove_statements(program)
    assert ops_of(result) == {"tanh", "arctan", "multiply"}


def test_screening_decisions_and_confirmation_use_different_seeds() -> None:
    streams_of_calls: list[set[Stream]] = []
    tester, _ = make_tester(FOUR_OPS, lambda program: float(len(ops_of(program))))
    original_differences = tester.trainings.differences

    def record_streams(program, reference, seeds):
        streams_of_calls.append({seed.stream for seed in seeds})
        return original_differences(program, reference, seeds)

    tester.trainings.differences = record_streams
    tester.remove_statements(tester.trainings.original)
    tester.decide(tester.trainings.original)
    tester.confirm(tester.trainings.original)
    assert {Stream.SIMPLIFY_SCREEN} in streams_of_calls
    assert {Stream.SIMPLIFY} in streams_of_calls
    assert {Stream.SIMPLIFY_CONFIRM} in streams_of_calls
    assert all(len(streams) == 1 for streams in streams_of_calls)


def test_statements_untested_at_the_deadline_are_kept() -> None:
    """The first removal is accepted before the deadline, and the next is due after the deadline."""
    seconds = 0.0
    tester, steps = make_tester(FOUR_OPS, score_of_ops(multiply=1.0))
    tester.deadline = 60.0

    def pass_deadline(step: Step) -> None:
        nonlocal seconds
        steps.append(step)
        seconds = 61.0

    tester.on_step = pass_deadline
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("evosearch.simplification.effect.time.monotonic", lambda: seconds)
        result = tester.remove_statements(tester.trainings.original)
    assert len(steps) == 1
    assert len(ops_of(result)) == len(ops_of(tester.trainings.original)) - 1
    assert tester.ended_early


def test_without_a_deadline_all_useless_statements_are_removed() -> None:
    tester, _ = make_tester(FOUR_OPS, score_of_ops(multiply=1.0))
    assert ops_of(tester.remove_statements(tester.trainings.original)) == {"multiply"}
    assert not tester.ended_early


def constants_of(program: Program) -> list[float]:
    return [
        argument
        for statement in program.statements
        for argument in statement.args
        if isinstance(argument, float)
    ]


def score_of_largest_constant(
    best: float, tolerance: float, slope: float = 100.0
) -> Callable[[Program], float]:
    """Return a true score that is 0 if the largest constant is close to the best value.

    Args:
        best: Best value of the constant.
        tolerance: Distance from `best` up to which the score is 0.
        slope: Decrease of the score per unit of further distance, down to a score of -1.
    """

    def true_score(program: Program) -> float:
        excess = max(0.0, abs(max(constants_of(program)) - best) - tolerance)
        return -min(1.0, excess * slope)

    return true_score


MOMENTUM = "def train(w, g, m, lr):\n  m = interp(g, m, 0.9187)\n  u = m * lr\n  return u, m"


@pytest.mark.parametrize(
    ("tolerance", "rounded"), [(0.05, "0.9"), (0.003, "0.92"), (0.0, "0.9187")]
)
def test_constants_are_rounded_to_the_fewest_digits_that_cost_nothing(
    tolerance: float, rounded: str
) -> None:
    tester, steps = make_tester(MOMENTUM, score_of_largest_constant(0.9187, tolerance))
    result = round_constants(tester.trainings.original, tester, steps.append)
    assert f", {rounded})" in str(result)
    assert len(steps) == (0 if rounded == "0.9187" else 1)


@pytest.mark.parametrize(
    ("tolerance", "rounded", "step_count"), [(0.05, "0.9", 1), (0.003, "0.92", 2)]
)
def test_constants_are_rounded_in_one_step_if_the_deciding_tasks_accept_it(
    tolerance: float, rounded: str, step_count: int
) -> None:
    """Screening proposes 0.9 and 0.06; if both cannot be accepted, each is rounded in a step."""
    program = simplify_by_algebra(parse(MOMENTUM.replace("m * lr", "m * 0.0571"))).program
    screening = FakeTrainings(program, score_of_largest_constant(0.9187, 0.05))
    deciding = FakeTrainings(program, score_of_largest_constant(0.9187, tolerance))
    steps: list[Step] = []
    result = round_constants(program, EditTester(deciding, screening), steps.append)
    assert f", {rounded})" in str(result)
    assert "0.06" in str(result)
    assert len(steps) == step_count
    assert all(step.cost.high < LIMIT for step in steps)


def test_after_the_deadline_constants_are_rounded_in_one_step_to_more_digits() -> None:
    """Screening proposes 0.9 and 0.06, which the deciding tasks reject."""
    program = simplify_by_algebra(parse(MOMENTUM.replace("m * lr", "m * 0.0571"))).program
    screening = FakeTrainings(program, score_of_largest_constant(0.9187, 0.05))
    deciding = FakeTrainings(program, score_of_largest_constant(0.9187, 0.003))
    steps: list[Step] = []
    result = round_constants(program, EditTester(deciding, screening, deadline=0.0), steps.append)
    assert ", 0.92)" in str(result)
    assert "0.057" in str(result)
    (step,) = steps
    assert step.cost.high < LIMIT
    assert "0.9187 is 0.92, 0.0571 is 0.057" in step.reason


@pytest.mark.parametrize(
    ("tolerance", "decay", "scale"), [(0.003, "0.92", "0.057"), (0.0005, "0.919", "0.0571")]
)
def test_after_the_deadline_constants_are_rounded_in_one_step_without_screening_tasks(
    tolerance: float, decay: str, scale: str
) -> None:
    program = simplify_by_algebra(parse(MOMENTUM.replace("m * lr", "m * 0.05713"))).program
    trainings = FakeTrainings(program, score_of_largest_constant(0.9187, tolerance))
    steps: list[Step] = []
    result = round_constants(program, EditTester(trainings, trainings, deadline=0.0), steps.append)
    assert f", {decay})" in str(result)
    assert f" {scale}\n" in str(result)
    (step,) = steps
    assert step.cost.high < LIMIT


def test_tuning_finds_a_better_constant_and_reports_the_number_of_trials() -> None:
    tester, steps = make_tester(MOMENTUM, score_of_largest_constant(0.98, 0.0, slope=10.0))
    result = tune(tester.trainings.original, tester, steps.append, trials=30)
    (constant,) = constants_of(result)
    assert constant == pytest.approx(0.98, abs=0.004)
    assert steps[0].rule == "tune"
    assert "trials of Nelder-Mead" in steps[0].reason
    assert steps[0].cost.high < 0


def test_tuning_without_improvement_changes_nothing() -> None:
    tester, steps = make_tester(MOMENTUM, score_of_largest_constant(0.9187, 0.0, slope=10.0))
    original = tester.trainings.original
    assert tune(original, tester, steps.append, trials=20) == original
    assert steps == []


WITH_USELESS_STATEMENTS = """
def train(w, g, m, v, lr):
    x = w - w
    g = g + x
    v = cosh(v)
    m = interp(g, m, 0.5003)
    a = g * 0.00001
    m2 = m + a
    u = m2 * lr
    u = u * 0.0997
    return u, m, v
"""
"""Momentum with statements that have no effect or a negligible effect."""


def simplify_on_few_seeds(workers: int, **settings: Any) -> Simplification:
    """Return the simplification of `WITH_USELESS_STATEMENTS` on at most 16 seeds of one task."""
    program = parse(WITH_USELESS_STATEMENTS)
    return simplify(program, ["quadratic"], looks=(8, 16), workers=workers, **settings)


def test_a_program_with_useless_statements_becomes_momentum_for_any_number_of_workers(
    tmp_path: Path,
) -> None:
    derivation = simplify_on_few_seeds(workers=2)
    assert save_derivation(tmp_path, 7, derivation)
    assert read_derivation(tmp_path, 7) == derivation
    assert derivation == simplify_on_few_seeds(workers=1)
    assert ops_of(derivation.program) <= {"ema", "multiply"}
    assert any(step.rule == "drop" and step.cost.high < LIMIT for step in derivation.steps)
    assert derivation.confirmation.high < LIMIT
    assert derivation.confirmation.seeds >= 8
    assert len(derivation.ablations) >= 1
    assert derivation.settings["trainings"] > 0
    assert set(derivation.tasks) == {"quadratic"}
    programs = [derivation.source, *(step.after for step in derivation.steps)]
    assert [step.before for step in derivation.steps] == programs[:-1]
    assert programs[-1] == derivation.program


@pytest.mark.slow
def test_raw_lion_becomes_lion() -> None:
    """The result has seven statements, beta1 0.9 and one momentum; clip and arcsin are removed."""
    raw = parse((ROOT / "tests/primitives/data/raw_lion.txt").read_text(encoding="utf-8"))
    derivation = simplify(raw, DEFAULT_TASKS)
    assert [statement.op for statement in derivation.program.statements] == [
        "interp", "ema", "sign", "multiply", "add", "multiply", "multiply",
    ]  # fmt: skip
    assert [state.name for state in derivation.program.states] == ["momentum"]
    assert "interp(g, momentum, 0.9)" in str(derivation.program)
    assert nearest(derivation.program).name == "lion"
    assert nearest(derivation.program).distance == 0
    costs_of_removed_ops = {
        op: step.cost
        for step in derivation.steps
        if step.cost
        for op in ops_of(step.before) - ops_of(step.after)
    }
    assert set(costs_of_removed_ops) == {"clip", "arcsin"}
    assert all(cost.high < LIMIT for cost in costs_of_removed_ops.values())
    assert derivation.confirmation.seeds >= 32
    assert all(high < LIMIT for _, high in derivation.confirmation.per_task.values())


def test_edits_can_be_screened_on_cheaper_tasks() -> None:
    derivation = simplify_on_few_seeds(workers=2, screening=["rosenbrock"])
    assert set(derivation.tasks) == {"quadratic"}
    assert derivation.settings["screening_tasks"] == ["rosenbrock"]
    assert set(derivation.confirmation.per_task) == {"quadratic"}
