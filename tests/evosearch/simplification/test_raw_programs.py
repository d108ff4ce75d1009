"""Algebra on what evolution leaves: programs of a real search, raw.

Run by hand, some minutes: `pytest -m slow -rP -k raw_programs`.
"""

import random
import statistics
import time
from pathlib import Path

import pytest

from evosearch import load_preset, make_config, search
from primitives import live, zoo
from primitives.algebra import simplify
from tests.primitives.algebra.updates import assert_same_updates

BORN = 5000
DRAWN = 1000


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
