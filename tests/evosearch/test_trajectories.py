"""The trajectories of programs on landscapes."""

from pathlib import Path

import numpy as np
import pytest

import proxies
from evosearch.errors import UsageError
from evosearch.evaluation.trajectories import Landscape, names, trajectories
from evosearch.report.plots import landscapes as plot
from primitives import zoo


@pytest.fixture(scope="module")
def saddle() -> tuple[Landscape, float]:
    """SGD and Lion on the saddle, and SGD's learning rate."""
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
    saddle: tuple[Landscape, float],
) -> None:
    """Along `x^2 / 2` each step multiplies x by 1 - lr."""
    landscape, lr = saddle
    sgd = landscape.trajectories[0]
    assert sgd.program == "sgd"
    x, y = sgd.weights[:20].T
    np.testing.assert_allclose(x, (1 - lr) ** np.arange(20), rtol=1e-3, atol=1e-6)
    height = 0.5 * x**2 + 0.25 * (y**2 - 1) ** 2 + 1e-9
    np.testing.assert_allclose(sgd.heights[:20], height, rtol=1e-3)
    assert sgd.steps.tolist() == list(range(500))


def test_a_plot_names_every_program(saddle: tuple[Landscape, float], tmp_path: Path) -> None:
    path = tmp_path / "saddle.svg"
    plot.draw([saddle[0]], path, "svg")
    text = path.read_text(encoding="utf-8")
    for word in ("sgd", "lion", "saddle", "second weight"):
        assert f">{word}" in text


def test_landscapes_are_the_diagnostic_tasks_without_data() -> None:
    assert {"rosenbrock", "saddle", "reddi", "valley"} <= set(names())
    assert not any(name.startswith("deep-") for name in names())
    assert all(proxies.load(name).split == "diagnostic" for name in names())
    with pytest.raises(UsageError, match="'digits-mlp' is not a landscape; use one of"):
        trajectories({"sgd": zoo.load("sgd")}, {"lion": zoo.load("lion")}, ["digits-mlp"])
