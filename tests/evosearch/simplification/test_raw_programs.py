"""Algebra on what evolution leaves: programs of a real search, raw, and a stream of mutants.

Run by hand, some minutes: `pytest -m slow -rP tests/evosearch/simplification/test_raw_programs.py`.
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

BORN = 5000
DRAWN = 1000
MUTANTS = 100_000
POPULATION = 1000


@pytest.mark.slow
def test_raw_programs_of_a_search_are_simplified_and_none_is_changed(tmp_path: Path) -> None:
    changes = {"init": str(zoo.load("adamw_paper")), "seed": 1, "programs": BORN, "minutes": None}
    run = search(make_config({**load_preset("quick"), **changes}), tmp_path / "run")
    drawn = [run.program(k) for k in sorted(random.Random(0).sample(range(BORN), DRAWN))]
    simplify(drawn[0])  # what the first call imports is not timed
    seconds, found = [], []
    for program in drawn:
        start = time.perf_counter()
        found.append(simplify(program))
        seconds.append(time.perf_counter() - start)
    shortened = [len(one.program.statements) for one in found]
    lengths = [len(live(program).statements) for program in drawn]
    assert all(short <= length for short, length in zip(shortened, lengths, strict=True))
    distinct = {str(one): (one, short) for one, short in zip(drawn, found, strict=True)}
    for program, derivation in distinct.values():
        assert derivation.refused == ()
        assert_same_updates(program, derivation)
    raw = [len(program.statements) for program in drawn]
    for what, numbers in {"raw": raw, "live": lengths, "simplified": shortened}.items():
        print(f"{what}: median {statistics.median(numbers)}, mean {statistics.mean(numbers):.2f}")
    print(f"{len(distinct)} distinct, none changed in what it computes")
    print(f"ms: median {statistics.median(seconds) * 1e3:.1f}, slowest {max(seconds) * 1e3:.1f}")


def drifting(first: Program, config: MutationConfig) -> Iterator[Program]:
    """Mutants of an ageing population of which each is as likely a parent as the next."""
    rng = np.random.default_rng(0)
    population = deque([first] * POPULATION, POPULATION)
    while True:
        parent = population[int(rng.integers(POPULATION))]
        population.append(mutate(parent, rng, config).analysis.program)
        yield population[-1]


@pytest.mark.slow
def test_algebra_would_find_a_few_more_mutants_seen_before_and_none_falsely() -> None:
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
    shared = [one for members in merged.values() if len(members) > 1 for one in members]
    assert shared
    for program, derivation in shared:
        assert_same_updates(program, derivation)
    for what, count in {"as they are": len(distinct), "after algebra": len(merged)}.items():
        print(f"{what}: {count:,} distinct of {MUTANTS:,}, {1 - count / MUTANTS:.2%} seen before")
    print(f"{len(shared)} merge, none falsely; {seconds * 1e3:.2f} ms a distinct program")
