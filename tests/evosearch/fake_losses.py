"""Searches with fake losses, computed from each program's length and semantic key.

All other code is that of real searches. A search with fake losses takes milliseconds and always
gives the same result, so tests can compare the records of two searches.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from evosearch.config import Config, make_config
from evosearch.measuring.measurement import Engine, Measurement
from evosearch.measuring.tuning import Tuner
from evosearch.pipeline import loop, search
from evosearch.runs.run import Run
from evosearch.runs.store import Store
from evosearch.seeds import Seed
from primitives import Program, semantic_key, zoo

FILES = {"run.db", "config.toml", "environment.json", "log.jsonl", "best.txt", "lock"}
"""Names of the files of a finished run."""
TASKS = ("digits-mlp", "points-teacher")


def config(programs: int = 25, **settings: Any) -> Config:
    """Return the configuration of a short search, which finds and confirms a new champion."""
    measurement = {"challenge_seeds": 2, "test_seeds": 3, "confirm_seeds": 2, "noise_floor": 0.01}
    return make_config(
        {
            "tasks": list(TASKS),
            "init": str(zoo.load("adamw_paper")),
            "programs": programs,
            "population": 12,
            "in_flight": 4,
            "measurement": measurement,
            **settings,
        }
    )


class FakeScorer:
    """Returns losses without training: lower for shorter programs, plus noise by seed and task."""

    def measure(
        self,
        program: Program,
        seed: Seed,
        min_totals: Mapping[str, float] | None = None,
        on_task: Callable[[str], None] = lambda task: None,
    ) -> dict[str, Measurement]:
        """Return fake measurements of a program on all tasks, as `Scorer.measure` does."""
        measurements = {}
        for task in TASKS:
            on_task(task)
            name = f"{semantic_key(program)}/{seed.stream}/{seed.number}/{task}".encode()
            noise = int.from_bytes(hashlib.blake2b(name, digest_size=4).digest(), "little") / 2**32
            score_of_length = 0.02 * (13 - len(program.statements))
            score = score_of_length + 0.02 * (noise - 0.5)
            loss = math.exp(-score)
            measurements[task] = Measurement(loss, 1.0, 100, "cosine", Engine.INTERPRETER)
        return measurements


def make_fake_scorer(config: Config, store: Store, *others: Any) -> FakeScorer:
    """Return a `FakeScorer`, as a replacement of `make_scorer` that does not tune the baseline."""
    for task in set(TASKS) - store.rates().keys():
        store.add_tuning(task, 1000, Tuner(losses={1.0: 0.0}))
    return FakeScorer()


def use_fake_scorer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make all searches measure with `FakeScorer`, and commit each result."""
    monkeypatch.setattr(search, "make_scorer", make_fake_scorer)
    monkeypatch.setattr(loop, "SECONDS_BETWEEN_COMMITS", 0.0)


def reported_results(run: Run) -> dict[str, Any]:
    """Return everything that the reports of a run show, except times and the run's path."""
    excluded = ("run", "elapsed_seconds", "programs_per_second")
    status = {key: value for key, value in run.status().document().items() if key not in excluded}
    return {"status": status, "top": run.top(None), "champions": run.champions()}
