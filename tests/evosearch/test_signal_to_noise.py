"""Signal to noise of tasks, on small examples computed by hand."""

import math

import numpy as np
import pytest

from evosearch.errors import EvosearchError
from evosearch.evaluation.results import Result, TaskReport
from evosearch.evaluation.signal_to_noise import from_report


def _report(logs: np.ndarray) -> TaskReport:
    results = tuple(
        Result(f"rule {i}", "", 1.0, {}, tuple(map(math.exp, row))) for i, row in enumerate(logs)
    )
    return TaskReport("task", "search", "loss", 10, results)


def test_signal_is_the_deviation_of_means_and_noise_that_of_seeds() -> None:
    result = from_report(_report(np.array([[0.0, 2.0], [3.0, 5.0]])))
    assert result.signal == pytest.approx(3 / math.sqrt(2))
    assert result.noise == pytest.approx(math.sqrt(2))
    assert result.ratio == pytest.approx(1.5)
    assert result.losses == pytest.approx({"rule 0": math.e, "rule 1": math.e**4})
    assert result.seeds == 2


def test_an_effect_shared_by_all_optimizers_is_not_in_the_paired_noise() -> None:
    rng = np.random.default_rng(0)
    means, shared, own = rng.normal(size=(50, 1)), rng.normal(size=40), rng.normal(size=(50, 40))
    result = from_report(_report(means + 0.5 * shared + 0.1 * own))
    assert result.noise == pytest.approx(math.hypot(0.5 * shared.std(ddof=1), 0.1), rel=0.03)
    assert result.paired == pytest.approx(0.1, rel=0.05)
    assert result.paired_ratio > result.ratio


def test_an_optimizer_that_diverges_is_left_out_and_named() -> None:
    result = from_report(_report(np.array([[0.0, 2.0], [math.inf, 1.0], [3.0, 5.0]])))
    assert result.left_out == ("rule 1",)
    assert result.ratio == pytest.approx(1.5)
    assert result.document()["left_out"] == ["rule 1"]


def test_a_single_optimizer_is_refused() -> None:
    with pytest.raises(EvosearchError, match="fewer than two"):
        from_report(_report(np.array([[0.0, 2.0], [math.inf, 1.0]])))


def test_a_ratio_without_noise_is_null_in_json() -> None:
    document = from_report(_report(np.array([[1.0, 1.0], [2.0, 2.0]]))).document()
    assert document["ratio"] is None
    assert document["paired_ratio"] is None
