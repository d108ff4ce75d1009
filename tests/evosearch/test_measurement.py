"""Measuring real programs on real tasks: the hurdle, its error rate, and the race."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest

import proxies
from evosearch.config import MeasurementConfig, MutationConfig
from evosearch.evolution.mutation import mutate
from evosearch.measuring.job import TaskSetup
from evosearch.measuring.job_runner import JobRunner
from evosearch.measuring.local import LocalBackend
from evosearch.measuring.measurement import Engine, Measurement
from evosearch.measuring.scorer import Scorer
from evosearch.seeds import Seed, Stream
from evosearch.statistics import LARGEST_SCORE
from primitives import Program, parse, zoo

SEED = Seed(Stream.SEARCH, 0)
RATES = {
    "digits-mlp": 8.0,
    "photos-autoencoder": 5.66,
    "digits-conv": 4.0,
    "topics-attention": 5.66,
}
"""Approximate best learning rates of the baseline."""
CRAWLING = parse(
    "def train(w, g, lr):\n    rate = lr * 0.001\n    update = rate * g\n    return update\n",
)


def scorer(hurdle: float, rates: Mapping[str, float]) -> Scorer:
    setups = {name: TaskSetup.of(proxies.load(name)) for name in rates}
    runner = JobRunner(LocalBackend(1))
    return Scorer(runner, setups, 0, rates, MeasurementConfig(hurdle=hurdle))


@pytest.fixture(scope="module")
def digits() -> Scorer:
    return scorer(-1.0, {"digits-mlp": 8.0})


def with_hurdle(digits: Scorer, hurdle: float, rate: float = 8.0) -> Scorer:
    limits = MeasurementConfig(hurdle=hurdle)
    return Scorer(digits.runner, digits.setups, 0, {"digits-mlp": rate}, limits)


def test_a_score_is_paired_with_the_baseline_on_its_own_seed(digits: Scorer) -> None:
    program = zoo.load("adamw_paper")
    at_its_own_rate = with_hurdle(digits, -1.0, rate=1.0)
    for number in range(3):
        seed = Seed(Stream.SEARCH, number)
        slow = digits.measure(program, seed)["digits-mlp"]
        assert slow.score == pytest.approx(math.log(slow.baseline / slow.loss))
        assert slow.score < -0.2
        assert at_its_own_rate.measure(program, seed)["digits-mlp"].score == 0.0


def test_a_program_below_the_hurdle_is_stopped(digits: Scorer) -> None:
    stopped = digits.measure(CRAWLING, SEED)["digits-mlp"]
    assert stopped.stopped
    assert 200 / 8 <= stopped.steps < 200
    assert stopped.score == -LARGEST_SCORE
    complete = with_hurdle(digits, -10.0).measure(CRAWLING, SEED)["digits-mlp"]
    assert not complete.stopped
    assert complete.steps == 200
    assert complete.score < -1.0


def test_memorized_examples_do_not_lower_the_loss_limit(digits: Scorer) -> None:
    """A batch loss near the baseline's final loss never stops a training."""
    loss = digits.measure(CRAWLING, SEED)["digits-mlp"].baseline
    limits = np.frombuffer(digits._cached_loss_limits["digits-mlp", SEED], np.float32)
    assert np.min(limits) == pytest.approx(math.e * loss, rel=1e-5)


def test_a_training_does_not_trace_the_task_again(
    digits: Scorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The shapes of a task's weights are derived once, not at every training."""
    backend = digits.runner.backend
    assert isinstance(backend, LocalBackend)
    trainer = backend._trainers.of(digits.setups["digits-mlp"])
    expected = digits.measure(CRAWLING, SEED)

    def traced(key: object) -> None:
        raise AssertionError

    monkeypatch.setattr(trainer, "task", replace(trainer.task, init=traced))
    assert digits.measure(CRAWLING, SEED) == expected


def test_a_race_ends_after_the_task_at_which_the_sum_of_scores_is_below_the_minimum(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The scores are +0.5, -0.2, -0.2 and -0.2; the first counts as +0.3."""
    setups = {name: TaskSetup(name, 200) for name in "abcd"}
    settings = MeasurementConfig(largest_gain=0.3)
    four = Scorer(JobRunner(LocalBackend(1)), setups, 0, {}, settings)
    scores = {"a": 0.5, "b": -0.2, "c": -0.2, "d": -0.2}

    def measured(task: str, program: Program, seed: Seed) -> Measurement:
        return Measurement(math.exp(-scores[task]), 1.0, 200, "cosine", Engine.INTERPRETER)

    monkeypatch.setattr(four, "_measure", measured)
    assert "".join(four.measure(CRAWLING, SEED)) == "abcd"
    for min_total, last_task in ((-0.4, "d"), (0.0, "c"), (0.2, "b"), (0.4, "a")):
        min_totals = dict.fromkeys("abcd", min_total)
        assert list(four.measure(CRAWLING, SEED, min_totals))[-1] == last_task


@pytest.mark.slow
def test_the_hurdle_stops_hardly_any_program_that_would_have_been_good() -> None:
    """Random descendants of known optimizers are trained with and without the hurdle."""
    with_stops, without_stops = scorer(-1.0, RATES), scorer(-10.0, RATES)
    programs = _descendants(250)
    total_good = total_errors = 0
    for task in RATES:
        pairs = [
            (_measure(with_stops, task, program), _measure(without_stops, task, program))
            for program in programs
        ]
        stopped = [complete.score for cut, complete in pairs if cut.stopped]
        steps = sum(cut.steps for cut, _ in pairs) / sum(complete.steps for _, complete in pairs)
        good = sum(complete.score > -0.2 for _, complete in pairs)
        errors = sum(score > -0.2 for score in stopped)
        print(
            f"{task}: {len(stopped)} of {len(pairs)} stopped, {steps:.0%} of the steps run; "
            f"{good} would end above -0.2, {errors} of them stopped; "
            f"best score without the stop: {max(stopped):+.2f}"
        )
        assert len(stopped) > len(pairs) / 5
        assert good > 5
        total_good, total_errors = total_good + good, total_errors + errors
    assert total_errors <= total_good / 50


def _descendants(count: int) -> list[Program]:
    """Return programs that are one to six mutations away from a program of the zoo."""
    rng = np.random.default_rng(0)
    config = MutationConfig()
    programs = []
    for number in range(count):
        program = zoo.load(("adamw_paper", "lion", "momentum")[number % 3])
        for _ in range(1 + int(rng.integers(6))):
            program = mutate(program, rng, config).analysis.program
        programs.append(program)
    return programs


def _measure(scorer: Scorer, task: str, program: Program) -> Measurement:
    """Measure a program on one task only."""
    setups, rates = {task: scorer.setups[task]}, {task: scorer.baseline_rates[task]}
    single = Scorer(scorer.runner, setups, 0, rates, scorer.settings)
    return single.measure(program, SEED)[task]
