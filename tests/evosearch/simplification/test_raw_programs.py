"""Tests that simplification by algebra keeps the updates of programs from real searches.

The tests take some minutes. To run them and print their results:
`pytest -m slow -rP tests/evosearch/simplification/test_raw_programs.py`.
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
"""Number of programs that the search generates."""
SAMPLED = 1000
"""Number of programs of the search that are simplified."""
DESCENDANTS = 100_000
POPULATION = 1000


@pytest.mark.slow
def test_simplified_programs_of_a_search_compute_the_same_updates(tmp_path: Path) -> None:
    settings = load_preset("quick") | {
        "init": str(zoo.load("adamw_paper")),
        "seed": 1,
        "programs": GENERATED,
        "minutes": None,
    }
    run = search(make_config(settings), tmp_path / "run")
    ids = sorted(random.Random(0).sample(range(GENERATED), SAMPLED))
    programs = [run.program(program_id) for program_id in ids]
    simplify(programs[0])  # imports of the first call are not timed
    seconds, derivations = [], []
    for program in programs:
        start = time.perf_counter()
        derivations.append(simplify(program))
        seconds.append(time.perf_counter() - start)
    live_lengths = [len(live(program).statements) for program in programs]
    simplified_lengths = [len(derivation.program.statements) for derivation in derivations]
    for simplified_length, live_length in zip(simplified_lengths, live_lengths, strict=True):
        assert simplified_length <= live_length
    distinct = {
        str(program): (program, derivation)
        for program, derivation in zip(programs, derivations, strict=True)
    }
    for program, derivation in distinct.values():
        assert derivation.refused == ()
        assert_same_updates(program, derivation)
    lengths = [len(program.statements) for program in programs]
    for name, values in {
        "all statements": lengths,
        "live statements": live_lengths,
        "statements after simplification": simplified_lengths,
    }.items():
        print(f"{name}: median {statistics.median(values)}, mean {statistics.mean(values):.2f}")
    print(f"{len(distinct)} distinct programs; simplification keeps the updates of all")
    print(f"ms: median {statistics.median(seconds) * 1e3:.1f}, slowest {max(seconds) * 1e3:.1f}")


def descendants_without_selection(first: Program, config: MutationConfig) -> Iterator[Program]:
    """Yield children of the last `POPULATION` programs, with parents chosen uniformly."""
    rng = np.random.default_rng(0)
    population = deque([first] * POPULATION, POPULATION)
    while True:
        parent = population[int(rng.integers(POPULATION))]
        population.append(mutate(parent, rng, config).analysis.program)
        yield population[-1]


@pytest.mark.slow
def test_programs_with_one_simplified_form_compute_the_same_updates() -> None:
    config = MutationConfig(**load_preset("quick")["mutation"])
    programs_by_key: dict[str, Program] = {}
    programs = descendants_without_selection(zoo.load("adamw_paper"), config)
    for program in islice(programs, DESCENDANTS):
        programs_by_key.setdefault(semantic_key(program), program)
    derivations_by_key: dict[str, list[tuple[Program, Derivation]]] = defaultdict(list)
    start = time.perf_counter()
    for program in programs_by_key.values():
        derivation = simplify(program, within=Domain.ALWAYS)
        derivations_by_key[semantic_key(derivation.program)].append((program, derivation))
    seconds_per_program = (time.perf_counter() - start) / len(programs_by_key)
    merged = [pair for pairs in derivations_by_key.values() if len(pairs) > 1 for pair in pairs]
    assert merged
    for program, derivation in merged:
        assert_same_updates(program, derivation)
    for name, count in {
        "before algebra": len(programs_by_key),
        "after algebra": len(derivations_by_key),
    }.items():
        print(
            f"{name}: {count:,} semantic keys of {DESCENDANTS:,} programs, "
            f"{1 - count / DESCENDANTS:.2%} of which repeat a key"
        )
    print(
        f"{len(merged)} keys share a simplified form, all with the same updates; "
        f"{seconds_per_program * 1e3:.2f} ms per key"
    )
