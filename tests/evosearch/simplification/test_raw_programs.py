"""Algebra on programs of a real search and on a stream of random mutants.

Slow, takes some minutes: `pytest -m slow -rP tests/evosearch/simplification/test_raw_programs.py`.
"""

import random
import statistics
import time
from collections import defaultdict, deque
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from evosearch import load_preset, make_config, mutate, search
from evosearch.config import MutationConfig
from primitives import Program, live, semantic_key, zoo
from primitives.algebra import Derivation, Domain, simplify
from tests.primitives.algebra.updates import assert_same_updates

GENERATED = 5000
SAMPLED = 1000
MUTANTS = 100_000
POPULATION = 1000


@pytest.mark.slow
def test_simplified_programs_of_a_search_compute_the_same_updates(tmp_path: Path) -> None:
    changes = {
        "init": str(zoo.load("adamw_paper")),
        "seed": 1,
        "programs": GENERATED,
        "minutes": None,
    }
    run = search(make_config({**load_preset("quick"), **changes}), tmp_path / "run")
    programs = [run.program(k) for k in sorted(random.Random(0).sample(range(GENERATED), SAMPLED))]
    simplify(programs[0])  # imports of the first call are not timed
    seconds, derivations = [], []
    for program in programs:
        start = time.perf_counter()
        derivations.append(simplify(program))
        seconds.append(time.perf_counter() - start)
    shortened = [len(derivation.program.statements) for derivation in derivations]
    lengths = [len(live(program).statements) for program in programs]
    assert all(short <= length for short, length in zip(shortened, lengths, strict=True))
    distinct = {
        str(program): (program, derivation)
        for program, derivation in zip(programs, derivations, strict=True)
    }
    for program, derivation in distinct.values():
        assert derivation.refused == ()
        assert_same_updates(program, derivation)
    raw = [len(program.statements) for program in programs]
    for name, numbers in {"raw": raw, "live": lengths, "simplified": shortened}.items():
        print(f"{name}: median {statistics.median(numbers)}, mean {statistics.mean(numbers):.2f}")
    print(f"{len(distinct)} distinct programs, all with the same updates as before")
    print(f"ms: median {statistics.median(seconds) * 1e3:.1f}, slowest {max(seconds) * 1e3:.1f}")


def drifting(first: Program, config: MutationConfig) -> Iterator[Program]:
    """Yield mutants of an ageing population with parents chosen uniformly."""
    rng = np.random.default_rng(0)
    population = deque([first] * POPULATION, POPULATION)
    while True:
        parent = population[int(rng.integers(POPULATION))]
        population.append(mutate(parent, rng, config).analysis.program)
        yield population[-1]


@pytest.mark.slow
def test_algebra_merges_only_mutants_that_compute_the_same_updates() -> None:
    config = MutationConfig(**load_preset("quick")["mutation"])
    distinct: dict[str, Program] = {}
    for program in islice(drifting(zoo.load("adamw_paper"), config), MUTANTS):
        distinct.setdefault(semantic_key(program), program)
    merged: dict[str, list[tuple[Program, Derivation]]] = defaultdict(list)
    start = time.perf_counter()
    for program in distinct.values():
        derivation = simplify(program, within=Domain.ALWAYS)
        merged[semantic_key(derivation.program)].append((program, derivation))
    seconds = (time.perf_counter() - start) / len(distinct)
    shared = [pair for pairs in merged.values() if len(pairs) > 1 for pair in pairs]
    assert shared
    for program, derivation in shared:
        assert_same_updates(program, derivation)
    for name, count in {"original": len(distinct), "after algebra": len(merged)}.items():
        print(f"{name}: {count:,} distinct of {MUTANTS:,}, {1 - count / MUTANTS:.2%} seen before")
    print(
        f"{len(shared)} merge, all with the same updates; {seconds * 1e3:.2f} ms a distinct program"
    )
