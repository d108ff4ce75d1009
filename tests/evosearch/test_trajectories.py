"""Tests of the trajectories of programs on landscapes, which are tasks of two weights."""

from pathlib import Path

import numpy as np
import pytest

import proxies
from evosearch.errors import UsageError
from evosearch.evaluation.trajectories import Landscape, names, trajectories
from evosearch.report.plots import landscapes as plot
from primitives import zoo


@pytest.fixture(scope="module")
def saddle_and_learning_rate() -> tuple[Landscape, float]:
    """The trajectories of SGD and Lion on the saddle, and the tuned learning rate of SGD."""
    evaluation, (landscape,) = trajectories(
        {"sgd": zoo.load("sgd")},
        {"lion": zoo.load("lion")},
        ["saddle"],
        schedule="constant",
        seeds=2,
        tuning_seeds=1,
    )
    return landscape, evaluation.tasks[0].results[0].lr


def test_gradient_descent_on_the_saddle_follows_the_formula(
    saddle_and_learning_rate: tuple[Landscape, float],
) -> None:
    """The height is x^2 / 2 + (y^2 - 1)^2 / 4, so each step multiplies x by 1 - lr."""
    landscape, lr = saddle_and_learning_rate
    sgd = landscape.trajectories[0]
    assert sgd.program == "sgd"
    x, y = sgd.weights[:20].T
    np.testing.assert_allclose(x, (1 - lr) ** np.arange(20), rtol=1e-3, atol=1e-6)
    expected_heights = 0.5 * x**2 + 0.25 * (y**2 - 1) ** 2 + 1e-9
    np.testing.assert_allclose(sgd.heights[:20], expected_heights, rtol=1e-3)
    assert sgd.steps.tolist() == list(range(500))


def test_a_plot_names_every_program(
    saddle_and_learning_rate: tuple[Landscape, float], tmp_path: Path
) -> None:
    path = tmp_path / "saddle.svg"
    plot.draw([saddle_and_learning_rate[0]], path, "svg")
    text = path.read_text(encoding="utf-8")
    for label in ("sgd", "lion", "saddle", "second weight"):
        assert f">{label}" in text


def test_landscapes_are_the_diagnostic_tasks_without_data() -> None:
    assert {"rosenbrock", "saddle", "reddi", "valley"} <= set(names())
    assert not any(name.startswith("deep-") for name in names())
    assert all(proxies.load(name).split == "diagnostic" for name in names())
    with pytest.raises(UsageError, match="'digits-mlp' is not a landscape; use one of"):
        trajectories({"sgd": zoo.load("sgd")}, {"lion": zoo.load("lion")}, ["digits-mlp"])
