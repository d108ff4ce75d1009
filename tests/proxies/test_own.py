"""A user's own tasks, from a Python file, arrays and a text."""

from __future__ import annotations

from pathlib import Path

import jax
import numpy as np
import optax
import pytest

import proxies
from proxies import OwnTaskError, data, own

FACTORY = """
import dataclasses
import proxies

def task():
    return dataclasses.replace(proxies.load("quadratic"), split="search", steps=30)

def number():
    return 7

def broken():
    return 1 / 0
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Files that are tasks, and some that are none."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((600, 5))
    classes = (x[:, 0] + x[:, 1] ** 2 > 1).astype(int)
    np.savez(tmp_path / "classes.npz", x=x, y=classes)
    np.savez(tmp_path / "numbers.npz", x=x, y=x @ rng.standard_normal(5))
    np.savez(tmp_path / "short.npz", x=x[:40], y=classes[:40])
    np.savez(tmp_path / "unequal.npz", x=x, y=classes[:-1])
    np.savez(tmp_path / "nan.npz", x=x * np.nan, y=classes)
    np.savez(tmp_path / "nameless.npz", a=x)
    (tmp_path / "none.npz").write_text("not arrays")
    (tmp_path / "task.py").write_text(FACTORY)
    words = ["quick", "brown", "fox", "jumps", "over", "lazy", "dog", "while", "it", "rains\n"]
    (tmp_path / "notes.txt").write_text(" ".join(rng.choice(words, 6000)))
    (tmp_path / "brief.txt").write_text("too short")
    return tmp_path


def improvement(task: proxies.Task, steps: int, rate: float) -> float:
    """The final loss over that of an untrained model."""
    trained = proxies.train(task, optax.adam(rate), steps=steps, key=jax.random.key(0))
    untrained = proxies.train(task, optax.sgd(0.0), steps=1, key=jax.random.key(0))
    return float(trained.loss / untrained.loss)


@pytest.mark.parametrize(
    ("name", "steps", "at_most"),
    [
        ("task.py:task", 30, 0.7),
        ("classes.npz", 200, 0.6),
        ("numbers.npz", 200, 0.2),
        ("notes.txt", 100, 0.8),
    ],
)
def test_a_file_becomes_a_task_that_trains(
    folder: Path, name: str, steps: int, at_most: float
) -> None:
    task = proxies.load(f"{folder}/{name}")
    assert task is proxies.load(f"{folder}/{name}")
    assert task.name == f"{folder}/{name}"
    assert task.split == "search"
    assert improvement(task, steps, 0.02) < at_most


@pytest.mark.parametrize("name", ["classes.npz", "notes.txt"])
def test_the_parts_of_a_users_data_share_nothing(folder: Path, name: str) -> None:
    parts = {part: proxies.load(f"{folder}/{name}@{part}") for part in data.PARTS}
    rows = {
        part: {row.tobytes() for row in np.asarray(task.data[0])} for part, task in parts.items()
    }
    assert [parts[part].split for part in data.PARTS] == list(data.PARTS)
    assert not rows["search"] & rows["held-out"]
    assert not rows["validation"] & (rows["search"] | rows["held-out"])
    assert all(rows.values())


@pytest.mark.parametrize(
    ("name", "culprit"),
    [
        ("missing.npz", "cannot read"),
        ("task.py", "which function"),
        ("task.py:tusk", "no attribute 'tusk'"),
        ("task.py:number", "returned int; return a proxies.Task"),
        ("task.py:broken", "failed with ZeroDivisionError"),
        ("short.npz", "give at least 32 in each part"),
        ("brief.txt", "a longer text"),
        ("unequal.npz", "x has 600 rows and y 599"),
        ("nan.npz", "NaN or infinity"),
        ("nameless.npz", "has a; save arrays x and y"),
        ("none.npz", "no .npz of arrays"),
        ("classes.npz:forest", "use network, linear"),
        ("classes.npz@test", "use one of search, validation, held-out"),
    ],
)
def test_a_file_that_is_no_task_is_explained(folder: Path, name: str, culprit: str) -> None:
    with pytest.raises(OwnTaskError, match=culprit) as caught:
        proxies.load(f"{folder}/{name}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["digits-mlp", "digits-mlp-10x", "adamw", "a.csv"])
def test_other_names_are_not_files(name: str) -> None:
    assert not own.is_own(name)
