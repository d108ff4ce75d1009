"""Kills: at every commit, and at random moments of every command that takes long."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evosearch.searching.database import DATABASE
from evosearch.searching.driver import search
from evosearch.searching.run import Run
from tests.evosearch import planted
from tests.evosearch.killing import Zygote
from tests.evosearch.test_driver import small

KILLED = -signal.SIGKILL


@pytest.fixture(scope="module")
def zygote() -> Iterator[Zygote]:
    with Zygote() as process:
        yield process


def _configured(path: Path, config: Any) -> Path:
    path.write_text(config.to_toml(), encoding="utf-8")
    return path


def test_a_search_killed_at_any_commit_ends_as_one_that_never_was(
    zygote: Zygote, tmp_path: Path
) -> None:
    config = _configured(tmp_path / "planted.toml", planted.config(programs=25))
    words = ("search", config, "--workers", "1", "--out")
    assert zygote.run(*words, tmp_path / "whole", planted=True) == 0
    whole = planted.result(Run(tmp_path / "whole"))
    assert len(whole["champions"]) > 1
    killed = 0
    while True:
        directory = tmp_path / f"killed-{killed}"
        at = {"commit": killed // 2 + 1, "after": killed % 2 == 1}
        if zygote.run(*words, directory, planted=True, **at) != KILLED:
            break
        killed += 1
        assert zygote.run("resume", directory, planted=True) == 0
        assert planted.result(Run(directory)) == whole, at
    assert killed > 60


def test_a_search_killed_at_fifty_random_moments_ends_as_one_that_never_was(
    zygote: Zygote, tmp_path: Path
) -> None:
    """Creation, start-up, replay, search and validation, with real training."""
    settings = small(programs=40, validation_seeds=2)
    whole = search(settings, tmp_path / "whole")
    config, directory = _configured(tmp_path / "c.toml", settings), tmp_path / "killed"
    rng = np.random.default_rng(0)
    created = searched = 0
    for _ in range(50):
        exists = (directory / DATABASE).exists()
        words = ("resume", directory) if exists else ("search", config, "--out", directory)
        moment = rng.uniform(0, 0.1) if not exists else rng.uniform(0.1, 1.5)
        if zygote.run(*words, seconds=moment) == KILLED:
            created += not exists
            searched += exists
    assert created > 2
    assert searched > 20
    assert zygote.run("resume", directory) == 0
    assert planted.result(Run(directory)) == planted.result(whole)


COMMANDS: dict[str, tuple[str, ...]] = {
    "simplify": ("simplify", "lion", "--task", "points-teacher", "--minutes", "0.01", "--json"),
    "eval": ("eval", "lion", "--task", "points-teacher", "--seeds", "2", "-o", "report.json"),
}
