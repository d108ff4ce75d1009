"""Tests the results of ten searches with the quick preset, one or two at a time.

The tests take 45 minutes on an otherwise idle computer with two cores:
`pytest -m slow -s tests/evosearch/test_quick_preset.py`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

SEEDS = range(1, 11)


def run_search(seed: int, folder: Path) -> dict[str, Any]:
    """Run a search, print one line about it, and return the JSON document of the search."""
    code = "from evosearch.cli import main; main()"
    arguments = ("search", "--seed", str(seed), "--out", str(folder / f"quick-{seed}"), "--json")
    process = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert process.returncode == 0, process.stderr
    document: dict[str, Any] = json.loads(process.stdout)
    nearest = document["found"]["nearest"]
    print(
        f"{seed:4}  {document['generated']:8,}  {document['trainings']:9,}  "
        f"{document['elapsed_seconds']:7.0f}  {_format_estimate(document['best'])}  "
        f"{_format_estimate(document['validation'])}  "
        f"{nearest['name']} {nearest['distance']:.2f}",
        flush=True,
    )
    return document


def _format_estimate(estimate: dict[str, Any]) -> str:
    mean, low, high = (estimate[key] for key in ("fitness", "fitness_low", "fitness_high"))
    return f"{mean:+.3f} ({low:+.3f} to {high:+.3f})"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("concurrent_searches", "min_better_at_10x"),
    [(1, 9), (2, 8)],
    ids=["one at a time", "two at a time"],
)
def test_a_quick_search_beats_tuned_adamw_within_three_minutes(
    concurrent_searches: int, min_better_at_10x: int, tmp_path: Path
) -> None:
    """All champions beat the baseline on the search tasks, and most also at ten times the work."""
    print("\nseed  programs  trainings  seconds  search tasks             ten times the work")
    with ThreadPoolExecutor(concurrent_searches) as executor:
        documents = list(executor.map(lambda seed: run_search(seed, tmp_path), SEEDS))
    for document in documents:
        assert document["best"]["confirmed"]
        assert document["best"]["fitness_low"] > 0
        assert document["elapsed_seconds"] < 180
    better_at_10x = [document["validation"]["fitness_low"] > 0 for document in documents]
    assert sum(better_at_10x) >= min_better_at_10x
