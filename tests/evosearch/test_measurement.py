"""Tests of `Scorer`: scores relative to the baseline, the hurdle and its error rate, the race."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import proxies
from evosearch.config import MeasurementConfig, MutationConfig
from evosearch.evolution.mutation import mutate
from evosearch.measuring.job import Job, JobResult, TaskSetup
from evosearch.measuring.job_runner import JobRunner
from evosearch.measuring.local import LocalBackend
from evosearch.measuring.measurement import Engine, Measurement
from evosearch.measuring.scorer import Scorer
from evosearch.seeds import Seed, Stream
from evosearch.statistics import LARGEST_SCORE
from primitives import Program, parse, zoo

SEED = Seed(Stream.SEARCH, 0)
STEPS = 200
"""Number of steps of a training on `digits-mlp`."""
RATES = {
    "digits-mlp": 8.0,
    "photos-autoencoder": 5.66,
    "digits-conv": 4.0,
    "topics-attention": 5.66,
}
"""Approximate best learning rates of the baseline."""
TOO_SLOW = parse(
    "def train(w, g, lr):\n    rate = lr * 0.001\n    update = rate * g\n    return update\n",
)
"""Gradient descent with a learning rate that is far too small."""


def make_scorer(hurdle: float, rates: Mapping[str, float]) -> Scorer:
    """Return a scorer on the tasks of `rates`, with the tuned learning rates of the baseline."""
    setups = {name: TaskSetup.of(proxies.load(name)) for name in rates}
    runner = JobRunner(LocalBackend(1))
    return Scorer(runner, setups, 0, rates, MeasurementConfig(hurdle=hurdle))


@pytest.fixture(scope="module")
def digits_scorer() -> Scorer:
    """A scorer on `digits-mlp` with a hurdle of -1 and the tuned baseline."""
    return make_scorer(-1.0, {"digits-mlp": 8.0})


def with_settings(digits_scorer: Scorer, hurdle: float, rate: float = 8.0) -> Scorer:
    """Return a scorer with another hurdle and another learning rate of the baseline."""
    settings = MeasurementConfig(hurdle=hurdle)
    rates = {"digits-mlp": rate}
    return Scorer(digits_scorer.runner, digits_scorer.setups, 0, rates, settings)


def test_a_score_is_the_log_ratio_of_the_tuned_baselines_loss_on_the_same_seed(
    digits_scorer: Scorer,
) -> None:
    """Without the tuned learning rate, the baseline's program is worse than the baseline."""
    program = zoo.load("adamw_paper")
    scorer_without_tuning = with_settings(digits_scorer, -1.0, rate=1.0)
    for number in range(3):
        seed = Seed(Stream.SEARCH, number)
        measurement = digits_scorer.measure(program, seed)["digits-mlp"]
        expected = math.log(measurement.baseline / measurement.loss)
        assert measurement.score == pytest.approx(expected)
        assert measurement.score < -0.2
        assert scorer_without_tuning.measure(program, seed)["digits-mlp"].score == 0.0


def test_a_training_whose_score_would_be_below_the_hurdle_is_stopped(
    digits_scorer: Scorer,
) -> None:
    stopped = digits_scorer.measure(TOO_SLOW, SEED)["digits-mlp"]
    assert stopped.stopped
    assert STEPS / 8 <= stopped.steps < STEPS
    assert stopped.score == -LARGEST_SCORE
    complete = with_settings(digits_scorer, hurdle=-10.0).measure(TOO_SLOW, SEED)["digits-mlp"]
    assert not complete.stopped
    assert complete.steps == STEPS
    assert complete.score < -1.0


def test_the_loss_limit_is_never_below_the_limit_for_the_baselines_final_loss(
    digits_scorer: Scorer,
) -> None:
    """The baseline may memorize its batches, whose loss is then lower than the final loss.

    The hurdle of -1 allows a loss of e times the baseline's.
    """
    baseline_loss = digits_scorer.measure(TOO_SLOW, SEED)["digits-mlp"].baseline
    limits = np.frombuffer(digits_scorer._cached_loss_limits["digits-mlp", SEED], np.float32)
    assert np.min(limits) == pytest.approx(math.e * baseline_loss, rel=1e-5)


def test_a_second_training_does_not_trace_the_task_again(
    digits_scorer: Scorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The shapes of a task's weights are derived once, not in every training."""
    backend = digits_scorer.runner.backend
    assert isinstance(backend, LocalBackend)
    trainer = backend._trainers.of(digits_scorer.setups["digits-mlp"])
    expected = digits_scorer.measure(TOO_SLOW, SEED)

    def fail_to_trace(key: object) -> None:
        raise AssertionError

    monkeypatch.setattr(trainer, "task", replace(trainer.task, init=fail_to_trace))
    assert digits_scorer.measure(TOO_SLOW, SEED) == expected


def test_a_race_ends_after_the_task_at_which_the_sum_of_scores_is_below_the_minimum(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The scores are +0.5, -0.2, -0.2 and -0.2, of which `largest_gain` reduces the first to +0.3.

    The sums of scores are therefore 0.3, 0.1, -0.1 and -0.3.
    """
    setups = {name: TaskSetup(name, STEPS) for name in "abcd"}
    settings = MeasurementConfig(largest_gain=0.3)
    scorer = Scorer(JobRunner(LocalBackend(1)), setups, 0, {}, settings)
    scores = {"a": 0.5, "b": -0.2, "c": -0.2, "d": -0.2}

    def fake_measure(task: str, program: Program, seed: Seed) -> Measurement:
        return Measurement(math.exp(-scores[task]), 1.0, STEPS, "cosine", Engine.INTERPRETER)

    monkeypatch.setattr(scorer, "_measure", fake_measure)
    assert list(scorer.measure(TOO_SLOW, SEED)) == ["a", "b", "c", "d"]
    for min_total, last_task in ((-0.4, "d"), (0.0, "c"), (0.2, "b"), (0.4, "a")):
        min_totals = dict.fromkeys("abcd", min_total)
        assert list(scorer.measure(TOO_SLOW, SEED, min_totals))[-1] == last_task


class FakeBackend:
    """Trains at once: a program has a score on each task, and the baseline's loss is 1."""

    capacity = 1
    scores: Mapping[str, float] = {"a": 0.5, "b": -0.2, "c": -0.2, "d": -1.5, "e": 0.1}

    def engine(self, setup: TaskSetup, program: Program, trainings: int) -> Engine:
        return Engine.BATCHED

    def train(self, job: Job) -> JobResult:
        losses = np.ones(job.conditions.steps, np.float32)
        score = 0.0 if job.contender == zoo.load("adamw_paper") else self.scores[job.setup.task]
        return JobResult(math.exp(-score), 200, job.engine, losses, False, losses[:0])

    def submit(self, job: Job) -> Future[JobResult]:
        future: Future[JobResult] = Future()
        future.set_result(self.train(job))
        return future


def fake_scorer(backend: Any) -> Scorer:
    setups = {name: TaskSetup(name, 200) for name in "abcde"}
    return Scorer(JobRunner(backend), setups, 0, dict.fromkeys("abcde", 1.0), MeasurementConfig())


def test_a_submitted_program_gets_the_measurements_of_measure() -> None:
    for min_total, last_task in ((None, "d"), (-9.0, "d"), (0.2, "c"), (0.4, "b"), (0.6, "a")):
        min_totals = None if min_total is None else dict.fromkeys("abcde", min_total)
        submitted = fake_scorer(FakeBackend()).submit(TOO_SLOW, SEED, min_totals).result(0)
        assert submitted == fake_scorer(FakeBackend()).measure(TOO_SLOW, SEED, min_totals)
        assert list(submitted)[-1] == last_task


def test_an_error_of_a_submitted_training_is_the_error_of_the_measurement() -> None:
    class FailingBackend(FakeBackend):
        def submit(self, job: Job) -> Future[JobResult]:
            if job.setup.task == "b" and job.contender == TOO_SLOW:
                raise RuntimeError("the device fell off the bus")
            return super().submit(job)

    with pytest.raises(RuntimeError, match="fell off the bus"):
        fake_scorer(FailingBackend()).submit(TOO_SLOW, SEED).result(0)


def test_the_baseline_is_trained_on_later_seeds_in_advance_and_once_on_each() -> None:
    class CountingBackend(FakeBackend):
        def __init__(self) -> None:
            self.baselines = Counter[tuple[str, Seed]]()

        def submit(self, job: Job) -> Future[JobResult]:
            self.baselines[job.setup.task, job.seed] += job.contender != TOO_SLOW
            return super().submit(job)

    backend = CountingBackend()
    four = fake_scorer(backend)
    four._seeds_ahead = 2
    for number in (7, 7, 8):
        four.submit(TOO_SLOW, Seed(Stream.SEARCH, number)).result(0)
    four.submit(TOO_SLOW, Seed(Stream.TEST, 3)).result(0)
    seeds = [Seed(Stream.SEARCH, number) for number in (7, 8, 9, 10)] + [Seed(Stream.TEST, 3)]
    assert +backend.baselines == Counter((task, seed) for task in "abcde" for seed in seeds)


@pytest.mark.slow
def test_the_hurdle_stops_at_most_2_percent_of_the_programs_with_a_score_above_minus_0_2() -> None:
    """Random descendants of known optimizers are trained with and without the hurdle."""
    with_hurdle, without_hurdle = make_scorer(-1.0, RATES), make_scorer(-10.0, RATES)
    programs = _descendants(250)
    total_good = total_errors = 0
    for task in RATES:
        limited = [_measure_on(task, program, with_hurdle) for program in programs]
        complete = [_measure_on(task, program, without_hurdle) for program in programs]
        scores_of_stopped = [
            full.score for cut, full in zip(limited, complete, strict=True) if cut.stopped
        ]
        steps_with_hurdle = sum(measurement.steps for measurement in limited)
        steps_without_hurdle = sum(measurement.steps for measurement in complete)
        step_fraction = steps_with_hurdle / steps_without_hurdle
        good = sum(measurement.score > -0.2 for measurement in complete)
        errors = sum(score > -0.2 for score in scores_of_stopped)
        print(
            f"{task}: the hurdle stopped {len(scores_of_stopped)} of {len(programs)} trainings, "
            f"which ran {step_fraction:.0%} of the steps; "
            f"without it {good} have a score above -0.2, of which it stopped {errors}; "
            f"best score of a stopped program: {max(scores_of_stopped):+.2f}"
        )
        assert len(scores_of_stopped) > len(programs) / 5
        assert good > 5
        total_good += good
        total_errors += errors
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


def _measure_on(task: str, program: Program, scorer: Scorer) -> Measurement:
    """Measure a program on only one of the scorer's tasks."""
    setups, rates = {task: scorer.setups[task]}, {task: scorer.baseline_rates[task]}
    scorer_of_task = Scorer(scorer.runner, setups, 0, rates, scorer.settings)
    return scorer_of_task.measure(program, SEED)[task]
