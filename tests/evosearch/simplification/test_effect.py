"""What goes costs next to nothing against the original, cheapest first, alone or in pairs."""

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
from evosearch.simplification.effect import Effects
from evosearch.simplification.record import Cost, Step
from evosearch.simplification.simplifier import DEFAULT_TASKS
from primitives import Program, parse, semantic_key
from primitives import simplify as by_algebra
from primitives.explain.nearest import nearest

ROOT = Path(__file__).parents[3]


class KnownCosts:
    """Stands for `Trials`: programs cost what a function says, and noise of a given deviation."""

    def __init__(self, original: Program, worth: Callable[[Program], float], noise: float = 0.003):
        self.original, self.worth, self.noise = original, worth, noise
        self.tasks = ("one", "two")
        self.asked: list[Program] = []

    def say(self, text, done=0, total=None):
        """Nobody watches."""

    def request(self, programs, seeds):
        self.asked += programs

    def differences(self, program, reference, seeds):
        difference = self.worth(reference) - self.worth(program)
        return difference + np.array(
            [[self._draw(program, reference, seed, task) for seed in seeds] for task in self.tasks]
        )

    def _draw(self, program, reference, seed, task):
        keys = semantic_key(program), semantic_key(reference)
        if keys[0] == keys[1]:
            return 0.0
        entropy = hashlib.blake2b(f"{keys}{seed}{task}".encode(), digest_size=8).digest()
        return np.random.default_rng(int.from_bytes(entropy, "little")).normal(0, self.noise)

    def diverges(self, program, seeds):
        return False

    def cost(self, program, seeds, *, against=None, looks):
        found = self.differences(program, against or self.original, seeds)
        held = bounds(found.mean(axis=0), looks)
        return Cost(held.mean, held.low, held.high, {}, len(seeds))


def effects_of(text: str, worth: Callable[[Program], float]) -> tuple[Effects, list[Step]]:
    steps: list[Step] = []
    trials = KnownCosts(by_algebra(parse(text)).program, worth)
    return Effects(trials, trials, steps.append), steps


SINES = (
    "def train(w, g, lr):\n  a = sin(g)\n  b = tanh(a)\n  c = arctan(b)\n  u = c * lr\n  return u"
)


def ops(program: Program) -> set[str]:
    return set(program.ops)


def test_statements_go_in_the_order_of_least_cost() -> None:
    worths = {"sin": 0.002, "tanh": -0.01, "arctan": 1.0, "multiply": 1.0}
    effects, steps = effects_of(SINES, lambda p: sum(worths.get(op, 0) for op in ops(p)))
    result = effects.drop(effects.trials.original)
    assert [sorted(ops(s.before) - ops(s.after)) for s in steps] == [["tanh"], ["sin"]]
    assert ops(result) == {"arctan", "multiply"}
    for step in steps:
        assert step.rule == "drop"
        assert step.cost.high < LIMIT
        assert "becomes" in step.reason


def test_small_costs_do_not_add_up() -> None:
    """Each statement is worth 0.006: one may go, not two, for the cost is against the original."""
    effects, steps = effects_of(SINES, lambda p: 0.006 * len(ops(p) - {"multiply"}) + has_lr(p))
    effects.drop(effects.trials.original)
    assert len(steps) == 1


def has_lr(program: Program) -> float:
    return float("multiply" in ops(program))


def test_what_only_works_together_goes_together() -> None:
    """Neither sin nor arctan may go alone; without both nothing is lost."""

    def worth(program: Program) -> float:
        halves = len(ops(program) & {"sin", "arctan"})
        return has_lr(program) + ("tanh" in ops(program)) - 0.5 * (halves == 1)

    effects, steps = effects_of(SINES, worth)
    result = effects.drop(effects.trials.original)
    assert [step.rule for step in steps] == ["drop-pair"]
    assert ops(result) == {"tanh", "multiply"}


def test_what_only_screening_finds_useless_stays() -> None:
    """Screening is on cheaper tasks, where both sin and tanh are worth nothing."""
    program = by_algebra(parse(SINES)).program
    deciding = KnownCosts(program, lambda p: has_lr(p) + ("tanh" in ops(p)) + ("arctan" in ops(p)))
    screening = KnownCosts(program, lambda p: has_lr(p) + ("arctan" in ops(p)))
    assert ops(Effects(deciding, screening).drop(program)) == {"tanh", "arctan", "multiply"}


def test_deciding_uses_seeds_that_screening_has_not_seen() -> None:
    streams: list[set[Stream]] = []
    effects, _ = effects_of(SINES, lambda p: float(len(ops(p))))
    differences = effects.trials.differences

    def watched(program, reference, seeds):
        streams.append({seed.stream for seed in seeds})
        return differences(program, reference, seeds)

    effects.trials.differences = watched
    effects.drop(effects.trials.original)
    effects.decide(effects.trials.original)
    effects.confirm(effects.trials.original)
    assert {Stream.SIMPLIFY_SCREEN} in streams
    assert {Stream.SIMPLIFY} in streams
    assert {Stream.SIMPLIFY_CONFIRM} in streams
    assert all(len(one) == 1 for one in streams)


def test_what_is_untried_when_time_is_up_stays() -> None:
    """The first candidate is taken in time, the others are left, and it is said."""
    now = [0.0]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("evosearch.simplification.effect.time.monotonic", lambda: now[0])
        effects, steps = effects_of(SINES, has_lr)
        effects.until = 60.0
        effects.on_step = lambda step: (steps.append(step), now.__setitem__(0, 61.0))
        result = effects.drop(effects.trials.original)
    assert len(steps) == 1
    assert len(ops(result)) == len(ops(effects.trials.original)) - 1
    assert effects.ended_early
    whole, _ = effects_of(SINES, has_lr)
    assert len(ops(whole.drop(whole.trials.original))) < len(ops(result))
    assert not whole.ended_early


def decay_worth(best: float, width: float, slope: float = 10.0) -> Callable[[Program], float]:
    """Worth by the one constant below 1: nothing is lost within `width` of the best."""

    def worth(program: Program) -> float:
        values = [a for s in program.statements for a in s.args if isinstance(a, float)]
        return -min(1.0, max(0.0, abs(max(values) - best) - width) * slope)

    return worth


MOMENTUM = "def train(w, g, m, lr):\n  m = interp(g, m, 0.9187)\n  u = m * lr\n  return u, m"


@pytest.mark.parametrize(("width", "rounded"), [(0.05, "0.9"), (0.003, "0.92"), (0.0, "0.9187")])
def test_constants_keep_the_fewest_digits_that_cost_nothing(width: float, rounded: str) -> None:
    effects, steps = effects_of(MOMENTUM, decay_worth(0.9187, width, slope=100.0))
    result = round_constants(effects.trials.original, effects, steps.append)
    assert f", {rounded})" in str(result)
    assert len(steps) == (rounded != "0.9187")


def test_constants_are_rounded_at_once_as_cheaper_tasks_propose() -> None:
    """Where the tasks that decide mind, one at a time instead."""
    program = by_algebra(parse(MOMENTUM.replace("m * lr", "m * 0.0571"))).program
    screening = KnownCosts(program, decay_worth(0.9187, 0.05, slope=100.0))
    for width, rounded in ((0.05, "0.9"), (0.003, "0.92")):
        steps: list[Step] = []
        deciding = KnownCosts(program, decay_worth(0.9187, width, slope=100.0))
        result = round_constants(program, Effects(deciding, screening), steps.append)
        assert f", {rounded})" in str(result)
        assert "0.06" in str(result)
        assert len(steps) == (1 if rounded == "0.9" else 2)
        assert all(step.cost.high < LIMIT for step in steps)


def test_late_constants_are_still_rounded_at_once_if_less_far() -> None:
    """What cheaper tasks propose is refused; there is no time for one constant at a time."""
    program = by_algebra(parse(MOMENTUM.replace("m * lr", "m * 0.0571"))).program
    screening = KnownCosts(program, decay_worth(0.9187, 0.05, slope=100.0))
    deciding = KnownCosts(program, decay_worth(0.9187, 0.003, slope=100.0))
    steps: list[Step] = []
    result = round_constants(program, Effects(deciding, screening, until=0.0), steps.append)
    assert ", 0.92)" in str(result)
    assert "0.057" in str(result)
    (step,) = steps
    assert step.cost.high < LIMIT
    assert "0.9187 is 0.92, 0.0571 is 0.057" in step.reason


@pytest.mark.parametrize(
    ("width", "decay", "scale"), [(0.003, "0.92", "0.057"), (0.0005, "0.919", "0.0571")]
)
def test_late_constants_are_rounded_at_once_where_no_tasks_are_cheaper(
    width: float, decay: str, scale: str
) -> None:
    program = by_algebra(parse(MOMENTUM.replace("m * lr", "m * 0.05713"))).program
    trials = KnownCosts(program, decay_worth(0.9187, width, slope=100.0))
    steps: list[Step] = []
    result = round_constants(program, Effects(trials, trials, until=0.0), steps.append)
    assert f", {decay})" in str(result)
    assert f" {scale}\n" in str(result)
    (step,) = steps
    assert step.cost.high < LIMIT


def test_tuning_finds_a_better_constant_and_says_how_many_trials_it_took() -> None:
    effects, steps = effects_of(MOMENTUM, decay_worth(0.98, 0.0))
    result = tune(effects.trials.original, effects, steps.append, trials=30)
    (value,) = [a for s in result.statements for a in s.args if isinstance(a, float)]
    assert value == pytest.approx(0.98, abs=0.004)
    assert steps[0].rule == "tune"
    assert "trials of Nelder-Mead" in steps[0].reason
    assert steps[0].cost.high < 0


def test_tuning_that_finds_nothing_better_changes_nothing() -> None:
    effects, steps = effects_of(MOMENTUM, decay_worth(0.9187, 0.0))
    assert tune(effects.trials.original, effects, steps.append, 20) == effects.trials.original
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


def quickly(workers: int, **settings: Any) -> Simplification:
    return simplify(parse(NOISY), ["quadratic"], looks=(8, 16), workers=workers, **settings)


def test_a_program_of_useless_statements_becomes_momentum_whoever_works(tmp_path: Path) -> None:
    found = quickly(workers=2)
    assert save_derivation(tmp_path, 7, found)
    assert read_derivation(tmp_path, 7) == found
    assert found == quickly(workers=1)
    assert ops(found.program) <= {"ema", "multiply"}
    assert any(step.rule == "drop" and step.cost.high < LIMIT for step in found.steps)
    assert found.confirmation.high < LIMIT
    assert found.confirmation.seeds >= 8
    assert len(found.ablations) >= 1
    assert found.settings["trainings"] > 0
    assert set(found.tasks) == {"quadratic"}
    chain = [found.source, *(step.after for step in found.steps)]
    assert [step.before for step in found.steps] == chain[:-1]
    assert chain[-1] == found.program


@pytest.mark.slow
def test_raw_lion_becomes_lion() -> None:
    """Seven statements, beta1 0.9, one momentum; clip and arcsin go by effect, within bounds."""
    raw = parse((ROOT / "tests/primitives/data/raw_lion.txt").read_text(encoding="utf-8"))
    found = simplify(raw, DEFAULT_TASKS)
    assert [one.op for one in found.program.statements] == [
        "interp", "ema", "sign", "multiply", "add", "multiply", "multiply",
    ]  # fmt: skip
    assert [state.name for state in found.program.states] == ["momentum"]
    assert "interp(g, momentum, 0.9)" in str(found.program)
    assert nearest(found.program).name == "lion"
    assert nearest(found.program).distance == 0
    dropped = {op: s.cost for s in found.steps if s.cost for op in ops(s.before) - ops(s.after)}
    assert {"clip", "arcsin"} == set(dropped)
    assert all(cost.high < LIMIT for cost in dropped.values())
    assert found.confirmation.seeds >= 32
    assert all(high < LIMIT for _, high in found.confirmation.per_task.values())


def test_candidates_may_be_screened_on_cheaper_tasks() -> None:
    found = quickly(workers=2, screening=["rosenbrock"])
    assert set(found.tasks) == {"quadratic"}
    assert found.settings["screening_tasks"] == ["rosenbrock"]
    assert set(found.confirmation.per_task) == {"quadratic"}
