"""Tests of `behaviour`, a program's updates for sequences of scalar gradients, and of its plot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from primitives import parse, zoo
from primitives.explain.behaviour import STEPS, WEIGHT, behaviour

SGD = parse("def train(w, g, lr):\n  u = g * 0.1\n  u = u * lr\n  return u")


def test_the_updates_of_sgd_are_proportional_to_the_gradients() -> None:
    result = behaviour(SGD)
    np.testing.assert_allclose(result.updates, 0.1 * result.gradients, rtol=1e-6)
    np.testing.assert_allclose(result.first_updates, result.updates)
    for gradients, updates in result.responses.values():
        np.testing.assert_allclose(updates, 0.1 * gradients, rtol=1e-6)
    mean_sizes = [result.step_sizes[scale].mean() for scale in (0.01, 1.0, 100.0)]
    np.testing.assert_allclose(np.divide(mean_sizes, mean_sizes[0]), [1, 100, 10000], rtol=1e-6)


def test_without_weight_decay_all_updates_of_lion_have_the_size_of_its_learning_rate() -> None:
    learning_rate = 1e-4
    result = behaviour(zoo.load("lion"))
    weight_decay = 0.1 * WEIGHT
    sizes = np.abs(result.updates - learning_rate * weight_decay)
    np.testing.assert_allclose(sizes[result.gradients != 0], learning_rate, rtol=1e-3)
    for step_sizes in result.step_sizes.values():
        np.testing.assert_allclose(step_sizes, learning_rate, rtol=0.02)


def test_after_a_spike_the_updates_of_momentum_decay_by_0_9_in_each_step() -> None:
    gradients, updates = behaviour(zoo.load("momentum")).responses["spike"]
    spike = int(np.argmax(gradients))
    assert not updates[:spike].any()
    np.testing.assert_allclose(updates[spike : spike + 5], 0.9 ** np.arange(5), rtol=1e-6)


def test_the_sequences_of_gradients_are_what_their_names_say() -> None:
    sequences = {name: gradients for name, (gradients, _) in behaviour(SGD).responses.items()}
    assert set(sequences) == {"step", "spike", "noise", "flat"}
    assert all(len(gradients) == STEPS for gradients in sequences.values())
    assert sequences["spike"].sum() == 1
    assert set(np.unique(sequences["step"])) == {0, 1}
    sizes_of_flat = np.abs(sequences["flat"])
    assert sizes_of_flat.min() < 0.002 < 0.5 < sizes_of_flat.max()


def test_show_draws_the_graph_as_svg_and_the_behaviour_as_png_by_default(
    run: Any, tmp_path: Path
) -> None:
    pytest.importorskip("matplotlib")
    png_path = tmp_path / "sgd.png"
    result = run("show", "sgd", "-o", png_path)
    assert result.status == 0, result.err
    assert png_path.stat().st_size > 1000
    graph_path, behaviour_path = tmp_path / "graph.svg", tmp_path / "behaviour.svg"
    assert run("show", "sgd", "-o", graph_path).status == 0
    assert run("show", "sgd", "--as", "behaviour", "-o", behaviour_path).status == 0
    graph, plot = (path.read_text(encoding="utf-8") for path in (graph_path, behaviour_path))
    assert graph != plot


def test_show_refuses_to_print_the_behaviour_or_to_write_it_as_text(
    run: Any, tmp_path: Path
) -> None:
    result = run("show", "sgd", "--as", "behaviour")
    assert result.status == 2
    assert "-o" in result.err
    assert run("show", "sgd", "--as", "behaviour", "-o", tmp_path / "a.txt").status == 2


def test_the_error_for_missing_matplotlib_says_what_to_install(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("evosearch.report.plots.find_spec", lambda name: None)
    result = run("show", "sgd", "--as", "behaviour", "-o", tmp_path / "a.png")
    assert result.status == 2
    assert "evosearch[plot]" in result.err
