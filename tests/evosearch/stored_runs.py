"""Searches and stored runs without training: scores are computed from the program and the seed."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np

from evosearch.config import Config, make_config
from evosearch.evolution.evolution import Evolution, Request
from evosearch.measuring.measurement import Engine, Measurement
from evosearch.measuring.tuning import Tuner
from evosearch.runs.database import BEST
from evosearch.runs.directory import make_run_directory
from evosearch.runs.store import Store
from primitives import Program, live, zoo

WEIGHTS = {"one": 1000, "two": 30}
"""Number of weights of each task in a stored run."""
NOISE_STD = 0.03
"""Standard deviation of the noise in the scores of a stored run."""
TrueScore = Callable[[Program], float]
"""Function from a program to its score without noise, which is the same on each task."""


def config(**settings: object) -> Config:
    """Return the configuration of a search with a small population; its tasks are never loaded."""
    return make_config(
        {
            "tasks": ["one", "two"],
            "init": str(zoo.load("adamw_paper")),
            "population": 20,
            "tournament": 3,
            **settings,
        }
    )


def draw_noise(request: Request, task: str, noise_std: float, noise_seed: int) -> float:
    """Return a draw from N(0, noise_std**2); equal arguments give equal draws."""
    name = f"{request.record.key}/{request.seed}/{task}".encode()
    entropy = int.from_bytes(hashlib.blake2b(name, digest_size=8).digest(), "little")
    rng = np.random.default_rng([entropy, noise_seed] if noise_seed else entropy)
    return float(rng.normal(0.0, noise_std))


def measure(
    request: Request, true_score: TrueScore, noise_std: float, noise_seed: int = 0
) -> dict[str, float]:
    """Return a program's true score plus noise on each task.

    Task `two` is missing if the race stops the program after `one`.
    """
    score_without_noise = true_score(request.program)
    scores: dict[str, float] = {}
    for task in ("one", "two"):
        scores[task] = score_without_noise + draw_noise(request, task, noise_std, noise_seed)
        if request.min_totals and sum(scores.values()) < request.min_totals[task]:
            break
    return scores


def evolve(
    evolution: Evolution,
    programs: int | None,
    true_score: TrueScore,
    noise_std: float = NOISE_STD,
    in_flight: int | None = None,
    trainings: int | None = None,
    noise_seed: int = 0,
) -> list[Request]:
    """Run a search to its end and return its requests in order.

    Each `noise_seed` gives different noise.
    """
    requests: list[Request] = []
    open_requests: list[Request] = []
    while True:
        while len(open_requests) < (in_flight or evolution.config.in_flight):
            request = evolution.ask(programs, trainings)
            if request is None:
                break
            open_requests.append(request)
        if not open_requests:
            return requests
        request = open_requests.pop(0)
        evolution.tell(request, measure(request, true_score, noise_std, noise_seed))
        requests.append(request)


def short_with_signs_is_better(program: Program) -> float:
    """Return a true score that rewards ops `sign` and short programs.

    The score rises by 0.2 for each of the first three ops `sign`, and falls by 0.02 for each
    statement.
    """
    signs = sum(statement.op == "sign" for statement in program.statements)
    return 0.2 * min(signs, 3) - 0.02 * len(program.statements)


def make_stored_run(directory: Path, programs: int, **settings: object) -> Evolution:
    """Write the run of a search without training; each measurement records 100 steps."""
    make_run_directory(directory, config(**settings), {})
    evolution = Evolution(config(**settings))
    store = Store.open(directory, "search")
    for task, weights in WEIGHTS.items():
        store.add_tuning(task, weights, Tuner(losses={1.0: 0.0}))
    for request in evolve(evolution, programs, short_with_signs_is_better):
        scores = measure(request, short_with_signs_is_better, NOISE_STD)
        measurements = {
            task: Measurement(1.0, math.exp(score), 100, "cosine", Engine.COMPILED)
            for task, score in scores.items()
        }
        store.add_measurements([(request, measurements)])
    store.add_births(evolution.births)
    for test in evolution.tests:
        store.add_test(test)
    for number, champion in enumerate(evolution.champions):
        store.add_champion(number, champion)
    store.set_progress(evolution, 1.0, "programs")
    best = str(live(evolution.champion.record.program))
    (directory / BEST).write_text(best, encoding="utf-8")
    store.close()
    return evolution
