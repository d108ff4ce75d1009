"""A laboratory without training: scores that follow from a program's text and a seed."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import numpy as np

from evosearch.config import Config, make_config
from evosearch.evolution import Evolution, Request
from primitives import Program, zoo

Worth = Callable[[Program], float]


def config(**settings: object) -> Config:
    """A small configuration; the tasks are never loaded."""
    return make_config(
        {
            "tasks": ["one", "two"],
            "init": str(zoo.load("adamw_paper")),
            "population": 20,
            "tournament": 3,
            **settings,
        }
    )


def noise(request: Request, task: str, deviation: float) -> float:
    """A draw from N(0, deviation), decided by key, seed and task."""
    name = f"{request.record.key}/{request.seed}/{task}".encode()
    entropy = int.from_bytes(hashlib.blake2b(name, digest_size=8).digest(), "little")
    return float(np.random.default_rng(entropy).normal(0.0, deviation))


def measure(request: Request, worth: Worth, deviation: float) -> dict[str, float]:
    """Scores on two tasks: what the program is worth and noise."""
    value = worth(request.program)
    return {task: value + noise(request, task, deviation) for task in ("one", "two")}


def evolve(
    evolution: Evolution,
    programs: int | None,
    worth: Worth,
    deviation: float = 0.03,
    in_flight: int | None = None,
    trainings: int | None = None,
) -> list[Request]:
    """Runs a search to its end; the requests in the order told."""
    told: list[Request] = []
    waiting: list[Request] = []
    while True:
        while len(waiting) < (in_flight or evolution.config.in_flight):
            request = evolution.ask(programs, trainings)
            if request is None:
                break
            waiting.append(request)
        if not waiting:
            return told
        request = waiting.pop(0)
        evolution.tell(request, measure(request, worth, deviation))
        told.append(request)


def shorter_is_better(program: Program) -> float:
    """Worth for tests: fewer statements and more of `sign`, bounded."""
    signs = sum(statement.op == "sign" for statement in program.statements)
    return 0.2 * min(signs, 3) - 0.02 * len(program.statements)
