"""Removal of statements and rounding of constants, with costs from a function or trainings."""

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
from primitives import simplify as by_algebra
from primitives.explain.nearest import nearest

ROOT = Path(__file__).parents[3]


class FakeTrainings:
    """Fake `PairedTrainings`: costs are differences of a function, with Gaussian noise."""

    def __init__(self, original: Program, worth: Callable[[Program], float], noise: float = 0.003):
        self.original, self.worth, self.noise_scale = original, worth, noise
        self.tasks = ("one", "two")
        self.requested: list[Program] = []

    def report(self, text, done=0, total=None):
        """Ignore reports."""

    def start_trainings(self, programs, seeds):
        self.requested += programs

    def differences(self, program, reference, seeds):
        difference = self.worth(reference) - self.worth(program)
        return difference + np.array(
            [[self._noise(program, reference, seed, task) for seed in seeds] for task in self.tasks]
        )

    def _noise(self, program, reference, seed, task):
        keys = semantic_key(program), semantic_key(reference)
        if keys[0] == keys[1]:
            return 0.0
        entropy = hashlib.blake2b(f"{keys}{seed}{task}".encode(), digest_size=8).digest()
        return np.random.default_rng(int.from_bytes(entropy, "little")).normal(0, self.noise_scale)

    def diverges(self, program, seeds):
        return False

    def cost(self, program, seeds, *, against=None, looks):
        values = self.differences(program, against or self.original, seeds)
        over_tasks = bounds(values.mean(axis=0), looks)
        return Cost(over_tasks.mean, over_tasks.low, over_tasks.high, {}, len(seeds))


def make_tester(text: str, worth: Callable[[Program], float]) -> tuple[EditTester, list[Step]]:
    steps: list[Step] = []
    trainings = FakeTrainings(by_algebra(parse(text)).program, worth)
    return EditTester(trainings, trainings, steps.append), steps


SINES = (
    "def train(w, g, lr):\n  a = sin(g)\n  b = tanh(a)\n  c = arctan(b)\n  u = c * lr\n  return u"
)


def ops(program: Program) -> set[str]:
    return set(program.ops)


def test_statements_are_removed_in_order_of_cost() -> None:
    op_worths = {"sin": 0.002, "tanh": -0.01, "arctan": 1.0, "multiply": 1.0}
    tester, steps = make_tester(SINES, lambda p: sum(op_worths.get(op, 0) for op in ops(p)))
    result = tester.remove_statements(tester.trainings.original)
    assert [sorted(ops(step.before) - ops(step.after)) for step in steps] == [["tanh"], ["sin"]]
    assert ops(result) == {"arctan", "multiply"}
    for step in steps:
        assert step.rule == "drop"
        assert step.cost.high < LIMIT
        assert "becomes" in step.reason


def test_small_costs_do_not_add_up() -> None:
    """Each statement is worth 0.006: one may be removed, but not two, since costs are against
    the original program.
    """
    tester, steps = make_tester(SINES, lambda p: 0.006 * len(ops(p) - {"multiply"}) + has_lr(p))
    tester.remove_statements(tester.trainings.original)
    assert len(steps) == 1


def has_lr(program: Program) -> float:
    return float("multiply" in ops(program))


def test_statements_that_only_work_together_are_removed_together() -> None:
    """Removing sin or arctan alone is costly; removing both costs nothing."""

    def worth(program: Program) -> float:
        halves = len(ops(program) & {"sin", "arctan"})
        return has_lr(program) + ("tanh" in ops(program)) - 0.5 * (halves == 1)

    tester, steps = make_tester(SINES, worth)
    result = tester.remove_statements(tester.trainings.original)
    assert [step.rule for step in steps] == ["drop-pair"]
    assert ops(result) == {"tanh", "multiply"}


def test_a_statement_that_only_screening_finds_useless_is_kept() -> None:
    """On the screening tasks both sin and tanh are worth nothing."""
    program = by_algebra(parse(SINES)).program
    deciding = FakeTrainings(
        program, lambda p: has_lr(p) + ("tanh" in ops(p)) + ("arctan" in ops(p))
    )
    screening = FakeTrainings(program, lambda p: has_lr(p) + ("arctan" in ops(p)))
    assert ops(EditTester(deciding, screening).remove_statements(program)) == {
        "tanh",
        "arctan",
        "multiply",
    }


def test_decisions_use_other_seeds_than_screening() -> None:
    streams: list[set[Stream]] = []
    tester, _ = make_tester(SINES, lambda p: float(len(ops(p))))
    differences = tester.trainings.differences

    def recording(program, reference, seeds):
        streams.append({seed.stream for seed in seeds})
        return differences(program, reference, seeds)

    tester.trainings.differences = recording
    tester.remove_statements(tester.trainings.original)
    tester.decide(tester.trainings.original)
    tester.confirm(tester.trainings.original)
    assert {Stream.SIMPLIFY_SCREEN} in streams
    assert {Stream.SIMPLIFY} in streams
    assert {Stream.SIMPLIFY_CONFIRM} in streams
    assert all(len(used) == 1 for used in streams)


def test_statements_untested_at_the_deadline_are_kept() -> None:
    """The first candidate is accepted in time; the others are untested, which is recorded."""
    now = [0.0]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("evosearch.simplification.effect.time.monotonic", lambda: now[0])
        tester, steps = make_tester(SINES, has_lr)
        tester.deadline = 60.0
        tester.on_step = lambda step: (steps.append(step), now.__setitem__(0, 61.0))
        result = tester.remove_statements(tester.trainings.original)
    assert len(steps) == 1
    assert len(ops(result)) == len(ops(tester.trainings.original)) - 1
    assert tester.ended_early
    unlimited, _ = make_tester(SINES, has_lr)
    assert len(ops(unlimited.remove_statements(unlimited.trainings.original))) < len(ops(result))
    assert not unlimited.ended_early


def decay_worth(best: float, width: float, slope: float = 10.0) -> Callable[[Program], float]:
    """Return a worth that is 0 if the largest constant is within `width` of the best."""

    def worth(program: Program) -> float:
        values = [a for s in program.statements for a in s.args if isinstance(a, float)]
        return -min(1.0, max(0.0, abs(max(values) - best) - width) * slope)

    return worth


MOMENTUM = "def train(w, g, m, lr):\n  m = interp(g, m, 0.9187)\n  u = m * lr\n  return u, m"


@pytest.mark.parametrize(("width", "rounded"), [(0.05, "0.9"), (0.003, "0.92"), (0.0, "0.9187")])
def test_constants_are_rounded_to_the_fewest_digits_without_cost(
    width: float, rounded: str
) -> None:
    tester, steps = make_tester(MOMENTUM, decay_worth(0.9187, width, slope=100.0))
    result = round_constants(tester.trainings.original, tester, steps.append)
    assert f", {rounded})" in str(result)
    assert len(steps) == (rounded != "0.9187")


def test_constants_are_rounded_jointly_as_screening_proposes() -> None:
    """If the measuring tasks reject the proposal, constants are rounded one at a time."""
    program = by_algebra(parse(MOMENTUM.replace("m * lr", "m * 0.0571"))).program
    screening = FakeTrainings(program, decay_worth(0.9187, 0.05, slope=100.0))
    for width, rounded in ((0.05, "0.9"), (0.003, "0.92")):
        steps: list[Step] = []
        deciding = FakeTrainings(program, decay_worth(0.9187, width, slope=100.0))
        result = round_constants(program, EditTester(deciding, screening), steps.append)
        assert f", {rounded})" in str(result)
        assert "0.06" in str(result)
        assert len(steps) == (1 if rounded == "0.9" else 2)
        assert all(step.cost.high < LIMIT for step in steps)


def test_after_the_deadline_constants_are_rounded_jointly_to_more_digits() -> None:
    """The proposal is rejected, and there is no time for one constant at a time."""
    program = by_algebra(parse(MOMENTUM.replace("m * lr", "m * 0.0571"))).program
    screening = FakeTrainings(program, decay_worth(0.9187, 0.05, slope=100.0))
    deciding = FakeTrainings(program, decay_worth(0.9187, 0.003, slope=100.0))
    steps: list[Step] = []
    result = round_constants(program, EditTester(deciding, screening, deadline=0.0), steps.append)
    assert ", 0.92)" in str(result)
    assert "0.057" in str(result)
    (step,) = steps
    assert step.cost.high < LIMIT
    assert "0.9187 is 0.92, 0.0571 is 0.057" in step.reason


@pytest.mark.parametrize(
    ("width", "decay", "scale"), [(0.003, "0.92", "0.057"), (0.0005, "0.919", "0.0571")]
)
def test_after_the_deadline_constants_are_rounded_jointly_without_screening_tasks(
    width: float, decay: str, scale: str
) -> None:
    program = by_algebra(parse(MOMENTUM.replace("m * lr", "m * 0.05713"))).program
    trainings = FakeTrainings(program, decay_worth(0.9187, width, slope=100.0))
    steps: list[Step] = []
    result = round_constants(program, EditTester(trainings, trainings, deadline=0.0), steps.append)
    assert f", {decay})" in str(result)
    assert f" {scale}\n" in str(result)
    (step,) = steps
    assert step.cost.high < LIMIT


def test_tuning_finds_a_better_constant_and_reports_the_number_of_trials() -> None:
    tester, steps = make_tester(MOMENTUM, decay_worth(0.98, 0.0))
    result = tune(tester.trainings.original, tester, steps.append, trials=30)
    (value,) = [a for s in result.statements for a in s.args if isinstance(a, float)]
    assert value == pytest.approx(0.98, abs=0.004)
    assert steps[0].rule == "tune"
    assert "trials of Nelder-Mead" in steps[0].reason
    assert steps[0].cost.high < 0


def test_tuning_without_improvement_changes_nothing() -> None:
    tester, steps = make_tester(MOMENTUM, decay_worth(0.9187, 0.0))
    assert tune(tester.trainings.original, tester, steps.append, 20) == tester.trainings.original
    assert steps == []


NOISY = """
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


def simplify_quickly(workers: int, **settings: Any) -> Simplification:
    return simplify(parse(NOISY), ["quadratic"], looks=(8, 16), workers=workers, **settings)


def test_a_program_of_useless_statements_becomes_momentum_for_any_number_of_workers(
    tmp_path: Path,
) -> None:
    derivation = simplify_quickly(workers=2)
    assert save_derivation(tmp_path, 7, derivation)
    assert read_derivation(tmp_path, 7) == derivation
    assert derivation == simplify_quickly(workers=1)
    assert ops(derivation.program) <= {"ema", "multiply"}
    assert any(step.rule == "drop" and step.cost.high < LIMIT for step in derivation.steps)
    assert derivation.confirmation.high < LIMIT
    assert derivation.confirmation.seeds >= 8
    assert len(derivation.ablations) >= 1
    assert derivation.settings["trainings"] > 0
    assert set(derivation.tasks) == {"quadratic"}
    chain = [derivation.source, *(step.after for step in derivation.steps)]
    assert [step.before for step in derivation.steps] == chain[:-1]
    assert chain[-1] == derivation.program


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
    dropped = {
        op: step.cost
        for step in derivation.steps
        if step.cost
        for op in ops(step.before) - ops(step.after)
    }
    assert {"clip", "arcsin"} == set(dropped)
    assert all(cost.high < LIMIT for cost in dropped.values())
    assert derivation.confirmation.seeds >= 32
    assert all(high < LIMIT for _, high in derivation.confirmation.per_task.values())


def test_candidates_may_be_screened_on_cheaper_tasks() -> None:
    derivation = simplify_quickly(workers=2, screening=["rosenbrock"])
    assert set(derivation.tasks) == {"quadratic"}
    assert derivation.settings["screening_tasks"] == ["rosenbrock"]
    assert set(derivation.confirmation.per_task) == {"quadratic"}
