"""The programs of Chen et al. 2023 that became Lion, random programs, and comparison of updates."""

from pathlib import Path

import numpy as np

from primitives import initial_state, parse, step
from tests.strategies import programs

DATA = Path(__file__).parent / "data"
RAW_LION = parse((DATA / "raw_lion.txt").read_text())
PRUNED_LION = parse((DATA / "lion_pruned.txt").read_text())
medium_programs = programs(min_statements=5, max_statements=12)
"""Strategy for programs of 5 to 12 statements."""


def updates(program, steps=4, seed=0):
    """Run a program in float64 on random gradients; return its updates [steps, weights]."""
    rng = np.random.default_rng(seed)
    weights = {"a": rng.normal(size=(3, 2)), "b": rng.normal(size=4)}
    state = initial_state(program, weights, np)
    flat_updates = []
    for t in range(1, steps + 1):
        gradients = {"a": rng.normal(size=(3, 2)), "b": rng.normal(size=4)}
        update, state = step(program, state, weights, gradients, lr=1 / t, t=t, xp=np)
        flat_updates.append(np.concatenate([update["a"].ravel(), update["b"]]))
    return np.stack(flat_updates)


def updates_agree(first, second):
    """Return whether two arrays of updates are equal up to float64 rounding."""
    return np.allclose(first, second, rtol=1e-6, atol=1e-9, equal_nan=True)
