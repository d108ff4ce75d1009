"""The behaviour of programs on scalar streams of gradients, and its plot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from primitives import parse, zoo
from primitives.explain.behaviour import STEPS, WEIGHT, behaviour

SGD = parse("def train(w, g, lr):\n  u = g * 0.1\n  u = u * lr\n  return u")


def test_the_update_of_sgd_is_the_gradient() -> None:
    measured = behaviour(SGD)
    np.testing.assert_allclose(measured.updates, 0.1 * measured.gradients, rtol=1e-6)
    np.testing.assert_allclose(measured.first_updates, measured.updates)
    for gradient, update in measured.responses.values():
        np.testing.assert_allclose(update, 0.1 * gradient, rtol=1e-6)
    sizes = [measured.step_sizes[scale].mean() for scale in (0.01, 1.0, 100.0)]
    np.testing.assert_allclose(np.divide(sizes, sizes[0]), [1, 100, 10000], rtol=1e-6)


def test_lion_takes_steps_of_one_size() -> None:
    measured = behaviour(zoo.load("lion"))
    decay = 0.1 * WEIGHT
    sizes = np.abs(measured.updates - 1e-4 * decay)
    np.testing.assert_allclose(sizes[measured.gradients != 0], 1e-4, rtol=1e-3)
    for scale in measured.step_sizes:
        np.testing.assert_allclose(measured.step_sizes[scale], 1e-4, rtol=0.02)


def test_momentum_remembers_a_spike() -> None:
    gradient, update = behaviour(zoo.load("momentum")).responses["spike"]
    at = int(np.argmax(gradient))
    assert not update[:at].any()
    np.testing.assert_allclose(update[at : at + 5], 0.9 ** np.arange(5), rtol=1e-6)


def test_each_stream_matches_its_name() -> None:
    streams = {name: gradient for name, (gradient, _) in behaviour(SGD).responses.items()}
    assert set(streams) == {"step", "spike", "noise", "flat"}
    assert all(len(stream) == STEPS for stream in streams.values())
    assert streams["spike"].sum() == 1
    assert set(np.unique(streams["step"])) == {0, 1}
    assert np.abs(streams["flat"]).min() < 0.002 < 0.5 < np.abs(streams["flat"]).max()


def test_show_draws_behaviour(run: Any, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    path = tmp_path / "sgd.png"
    result = run("show", "sgd", "-o", path)
    assert result.status == 0, result.err
    assert path.stat().st_size > 1000
    graph, behaviour = tmp_path / "graph.svg", tmp_path / "behaviour.svg"
    assert run("show", "sgd", "-o", graph).status == 0
    assert run("show", "sgd", "--as", "behaviour", "-o", behaviour).status == 0
    assert graph.read_text(encoding="utf-8") != behaviour.read_text(encoding="utf-8")


def test_behaviour_is_a_picture_and_needs_a_file(run: Any, tmp_path: Path) -> None:
    result = run("show", "sgd", "--as", "behaviour")
    assert result.status == 2
    assert "-o" in result.err
    assert run("show", "sgd", "--as", "behaviour", "-o", tmp_path / "a.txt").status == 2


def test_behaviour_without_matplotlib_says_what_to_install(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("evosearch.report.plots.find_spec", lambda name: None)
    result = run("show", "sgd", "--as", "behaviour", "-o", tmp_path / "a.png")
    assert result.status == 2
    assert "evosearch[plot]" in result.err
