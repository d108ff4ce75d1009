"""Keys of stored trainings: editing a file of the task changes the key."""

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
    ("edit", "same"),
    [
        (lambda folder: None, True),
        (lambda folder: (folder / "my_optimizer.py").write_text("x = 1"), True),
        (lambda folder: (folder / "helper.py").write_text("STEPS = 3  # as before"), False),
        (lambda folder: (folder / "task.py").write_text(TASK + "\n"), False),
        (lambda folder: np.save(folder / "points.npy", np.arange(4.0) + 1), False),
    ],
)
def test_editing_a_file_of_the_task_changes_the_key(
    tmp_path: Path, edit: Callable[[Path], object], same: bool
) -> None:
    (tmp_path / "task.py").write_text(TASK)
    (tmp_path / "helper.py").write_text("STEPS = 3")
    np.save(tmp_path / "points.npy", np.arange(4.0))

    def key() -> str:
        _load.cache_clear()
        return training_key(proxies.load(f"{tmp_path}/task.py:task"), "lion", 1.0)

    before = key()
    edit(tmp_path)
    assert (key() == before) is same


def test_keys_are_cheap_after_the_first_of_a_task() -> None:
    task = proxies.load("digits-mlp")
    training_key(task, "lion")
    start = time.perf_counter()
    for number in range(1000):
        training_key(task, "lion", number)
    assert time.perf_counter() - start < 1.0
