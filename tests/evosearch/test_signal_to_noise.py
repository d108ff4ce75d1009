"""Tests of a task's signal-to-noise ratio on small examples computed by hand."""

import math

import numpy as np
import pytest

from evosearch.errors import EvosearchError
from evosearch.evaluation.results import Result, TaskReport
from evosearch.evaluation.signal_to_noise import from_report


def report_with(log_losses: np.ndarray) -> TaskReport:
    """Return a report with the given logarithms of losses, an array [optimizers, seeds]."""
    results = tuple(
        Result(f"optimizer {index}", "", 1.0, {}, tuple(map(math.exp, log_losses_of_optimizer)))
        for index, log_losses_of_optimizer in enumerate(log_losses)
    )
    return TaskReport("task", "search", "loss", 10, results)


def test_signal_is_the_standard_deviation_over_optimizers_and_noise_that_over_seeds() -> None:
    result = from_report(report_with(np.array([[0.0, 2.0], [3.0, 5.0]])))
    assert result.signal == pytest.approx(3 / math.sqrt(2))
    assert result.noise == pytest.approx(math.sqrt(2))
    assert result.ratio == pytest.approx(1.5)
    assert result.losses == pytest.approx({"optimizer 0": math.e, "optimizer 1": math.e**4})
    assert result.seeds == 2


def test_the_paired_noise_excludes_what_a_seed_adds_to_the_loss_of_every_optimizer() -> None:
    rng = np.random.default_rng(0)
    means = rng.normal(size=(50, 1))
    shared_noise = 0.5 * rng.normal(size=40)
    separate_noise = 0.1 * rng.normal(size=(50, 40))
    result = from_report(report_with(means + shared_noise + separate_noise))
    assert result.noise == pytest.approx(math.hypot(shared_noise.std(ddof=1), 0.1), rel=0.03)
    assert result.paired == pytest.approx(0.1, rel=0.05)
    assert result.paired_ratio > result.ratio


def test_an_optimizer_that_diverges_is_left_out() -> None:
    result = from_report(report_with(np.array([[0.0, 2.0], [math.inf, 1.0], [3.0, 5.0]])))
    assert result.left_out == ("optimizer 1",)
    assert result.ratio == pytest.approx(1.5)
    assert result.document()["left_out"] == ["optimizer 1"]


def test_fewer_than_two_optimizers_that_do_not_diverge_are_an_error() -> None:
    with pytest.raises(EvosearchError, match="fewer than two"):
        from_report(report_with(np.array([[0.0, 2.0], [math.inf, 1.0]])))


def test_the_ratio_of_a_task_without_noise_is_null_in_json() -> None:
    document = from_report(report_with(np.array([[1.0, 1.0], [2.0, 2.0]]))).document()
    assert document["ratio"] is None
    assert document["paired_ratio"] is None
