"""Tests that the key of a stored training changes when a file of its task is edited."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import proxies
from evosearch.measuring.ledger import training_key
from proxies.user_tasks.files import _load

TASK = """
import dataclasses, numpy as np, proxies, helper
from pathlib import Path
def task():
    points = np.load(Path(__file__).with_name("points.npy"))
    return dataclasses.replace(proxies.load("quadratic"), split="search", data=(points,))
"""


@pytest.mark.parametrize(
    ("edit", "changes_key"),
    [
        (lambda folder: None, False),
        (lambda folder: (folder / "my_optimizer.py").write_text("x = 1"), False),
        (lambda folder: (folder / "helper.py").write_text("STEPS = 3  # comment"), True),
        (lambda folder: (folder / "task.py").write_text(TASK + "\n"), True),
        (lambda folder: np.save(folder / "points.npy", np.arange(4.0) + 1), True),
    ],
    ids=["nothing", "other file", "imported module", "task file", "data"],
)
def test_editing_a_file_that_the_task_uses_changes_the_key(
    tmp_path: Path, edit: Callable[[Path], object], changes_key: bool
) -> None:
    (tmp_path / "task.py").write_text(TASK)
    (tmp_path / "helper.py").write_text("STEPS = 3")
    np.save(tmp_path / "points.npy", np.arange(4.0))

    def key_of_training() -> str:
        _load.cache_clear()
        return training_key(proxies.load(f"{tmp_path}/task.py:task"), "lion")

    original_key = key_of_training()
    edit(tmp_path)
    assert (key_of_training() != original_key) is changes_key


def test_after_the_first_key_of_a_task_a_thousand_keys_take_less_than_a_second() -> None:
    task = proxies.load("digits-mlp")
    training_key(task, "lion")
    start = time.perf_counter()
    for seed in range(1000):
        training_key(task, "lion", seed)
    assert time.perf_counter() - start < 1.0
