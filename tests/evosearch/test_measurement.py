"""Measuring real programs on real tasks: the hurdle, and how often it errs."""

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
"""About the baseline's best rates."""
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


def with_hurdle(given: Scorer, hurdle: float, rate: float = 8.0) -> Scorer:
    limits = MeasurementConfig(hurdle=hurdle)
    return Scorer(given.runner, given.setups, 0, {"digits-mlp": rate}, limits)


def test_a_score_is_paired_with_the_baseline_on_its_own_seed(digits: Scorer) -> None:
    program = zoo.load("adamw_paper")
    at_its_own_rate = with_hurdle(digits, -1.0, rate=1.0)
    for number in range(3):
        seed = Seed(Stream.SEARCH, number)
        slow = digits.measure(program, seed)["digits-mlp"]
        assert slow.score == pytest.approx(math.log(slow.baseline / slow.loss))
        assert slow.score < -0.2
        assert at_its_own_rate.measure(program, seed)["digits-mlp"].score == 0.0


def test_a_program_far_behind_is_stopped_and_what_is_left_is_spared(digits: Scorer) -> None:
    found = digits.measure(CRAWLING, SEED)["digits-mlp"]
    assert found.stopped
    assert 200 / 8 <= found.steps < 200
    assert found.score == -LARGEST_SCORE
    whole = with_hurdle(digits, -10.0).measure(CRAWLING, SEED)["digits-mlp"]
    assert not whole.stopped
    assert whole.steps == 200
    assert whole.score < -1.0


def test_knowing_the_examples_by_heart_sets_no_limit(digits: Scorer) -> None:
    """No batch loss that is near the baseline's evaluation ends a training."""
    loss = digits.measure(CRAWLING, SEED)["digits-mlp"].baseline
    limits = np.frombuffer(digits._limits_on["digits-mlp", SEED], np.float32)
    assert np.min(limits) == pytest.approx(math.e * loss, rel=1e-5)


def test_a_training_traces_nothing(digits: Scorer, monkeypatch: pytest.MonkeyPatch) -> None:
    """What can be known of a task beforehand is not found out at every training."""
    backend = digits.runner.backend
    assert isinstance(backend, LocalBackend)
    trainer = backend._trainers.of(digits.setups["digits-mlp"])
    found = digits.measure(CRAWLING, SEED)

    def traced(key: object) -> None:
        raise AssertionError

    monkeypatch.setattr(trainer, "task", replace(trainer.task, init=traced))
    assert digits.measure(CRAWLING, SEED) == found


def test_a_race_ends_with_the_task_after_which_the_bounded_scores_sum_up_to_too_little(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Scores of +0.5, -0.2, -0.2 and -0.2, of which the first counts +0.3."""
    setups = {name: TaskSetup(name, 200) for name in "abcd"}
    limits = MeasurementConfig(largest_gain=0.3)
    four = Scorer(JobRunner(LocalBackend(1)), setups, 0, {}, limits)
    scores = {"a": 0.5, "b": -0.2, "c": -0.2, "d": -0.2}

    def measured(task: str, program: Program, seed: Seed) -> Measurement:
        return Measurement(math.exp(-scores[task]), 1.0, 200, "cosine", Engine.INTERPRETER)

    monkeypatch.setattr(four, "_measure", measured)
    assert "".join(four.measure(CRAWLING, SEED)) == "abcd"
    for least, ended in ((-0.4, "d"), (0.0, "c"), (0.2, "b"), (0.4, "a")):
        floors = dict.fromkeys("abcd", least)
        assert list(four.measure(CRAWLING, SEED, floors))[-1] == ended


@pytest.mark.slow
def test_the_hurdle_stops_hardly_any_program_that_would_have_been_good() -> None:
    """Random descendants of known optimizers, trained to the end with and without the hurdle."""
    stopping, free = scorer(-1.0, RATES), scorer(-10.0, RATES)
    programs = _descendants(250)
    total_good = total_wronged = 0
    for task in RATES:
        pairs = [
            (_alone(stopping, task, program), _alone(free, task, program)) for program in programs
        ]
        stopped = [whole.score for cut, whole in pairs if cut.stopped]
        steps = sum(cut.steps for cut, _ in pairs) / sum(whole.steps for _, whole in pairs)
        good = sum(whole.score > -0.2 for _, whole in pairs)
        wronged = sum(score > -0.2 for score in stopped)
        print(
            f"{task}: {len(stopped)} of {len(pairs)} stopped, {steps:.0%} of the steps run; "
            f"{good} would end above -0.2, {wronged} of the stopped ones, "
            f"the best of which at {max(stopped):+.2f}"
        )
        assert len(stopped) > len(pairs) / 5
        assert good > 5
        total_good, total_wronged = total_good + good, total_wronged + wronged
    assert total_wronged <= total_good / 50


def _descendants(count: int) -> list[Program]:
    """Programs one to six mutations from one in the zoo."""
    rng = np.random.default_rng(0)
    config = MutationConfig()
    found = []
    for number in range(count):
        program = zoo.load(("adamw_paper", "lion", "momentum")[number % 3])
        for _ in range(1 + int(rng.integers(6))):
            program = mutate(program, rng, config).analysis.program
        found.append(program)
    return found


def _alone(scorer: Scorer, task: str, program: Program) -> Measurement:
    setups, rates = {task: scorer.setups[task]}, {task: scorer.rates[task]}
    single = Scorer(scorer.runner, setups, 0, rates, scorer.limits)
    return single.measure(program, SEED)[task]
