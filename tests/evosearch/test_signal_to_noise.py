"""Signal to noise against numbers that can be computed by hand."""

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


def test_signal_is_the_spread_of_means_and_noise_that_of_seeds() -> None:
    found = from_report(_report(np.array([[0.0, 2.0], [3.0, 5.0]])))
    assert found.signal == pytest.approx(3 / math.sqrt(2))
    assert found.noise == pytest.approx(math.sqrt(2))
    assert found.ratio == pytest.approx(1.5)
    assert found.losses == pytest.approx({"rule 0": math.e, "rule 1": math.e**4})
    assert found.seeds == 2


def test_what_a_seed_does_to_all_alike_is_noise_but_not_paired_noise() -> None:
    rng = np.random.default_rng(0)
    means, shared, own = rng.normal(size=(50, 1)), rng.normal(size=40), rng.normal(size=(50, 40))
    found = from_report(_report(means + 0.5 * shared + 0.1 * own))
    assert found.noise == pytest.approx(math.hypot(0.5 * shared.std(ddof=1), 0.1), rel=0.03)
    assert found.paired == pytest.approx(0.1, rel=0.05)
    assert found.paired_ratio > found.ratio


def test_an_optimizer_that_diverges_is_left_out_and_named() -> None:
    found = from_report(_report(np.array([[0.0, 2.0], [math.inf, 1.0], [3.0, 5.0]])))
    assert found.left_out == ("rule 1",)
    assert found.ratio == pytest.approx(1.5)
    assert found.document()["left_out"] == ["rule 1"]


def test_one_optimizer_alone_has_no_spread() -> None:
    with pytest.raises(EvosearchError, match="fewer than two"):
        from_report(_report(np.array([[0.0, 2.0], [math.inf, 1.0]])))


def test_a_ratio_without_noise_is_null_in_json() -> None:
    document = from_report(_report(np.array([[1.0, 1.0], [2.0, 2.0]]))).document()
    assert document["ratio"] is None
    assert document["paired_ratio"] is None
