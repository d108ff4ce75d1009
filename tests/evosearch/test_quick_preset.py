"""The results of ten searches with the quick preset, on an idle and on a busy machine.

Run by hand on an otherwise idle machine of two cores, in three quarters of an hour:
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
    """Return the JSON document of `evosearch search --seed SEED`."""
    code = "from evosearch.cli import main; main()"
    words = ("search", "--seed", str(seed), "--out", str(folder / f"quick-{seed}"), "--json")
    done = subprocess.run(
        [sys.executable, "-c", code, *words],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert done.returncode == 0, done.stderr
    document: dict[str, Any] = json.loads(done.stdout)
    own, tenfold = document["best"], document["validation"]
    nearest = document["found"]["nearest"]
    print(
        f"{seed:4}  {document['generated']:8,}  {document['trainings']:9,}  "
        f"{document['elapsed_seconds']:7.0f}  {_format_estimate(own)}  "
        f"{_format_estimate(tenfold)}  {nearest['name']} {nearest['distance']:.2f}",
        flush=True,
    )
    return document


def _format_estimate(estimate: dict[str, Any]) -> str:
    mean, low, high = (estimate[key] for key in ("fitness", "fitness_low", "fitness_high"))
    return f"{mean:+.3f} ({low:+.3f} to {high:+.3f})"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("concurrent", "min_better_at_10x"), [(1, 9), (2, 8)], ids=["idle", "busy"]
)
def test_a_first_search_beats_tuned_adamw_within_three_minutes(
    concurrent: int, min_better_at_10x: int, tmp_path: Path
) -> None:
    """Two concurrent searches share the machine."""
    print("\nseed  programs  trainings  seconds  own tasks                    ten times the work")
    with ThreadPoolExecutor(concurrent) as executor:
        documents = list(executor.map(lambda seed: run_search(seed, tmp_path), SEEDS))
    assert all(d["best"]["confirmed"] and d["best"]["fitness_low"] > 0 for d in documents)
    assert sum(d["validation"]["fitness_low"] > 0 for d in documents) >= min_better_at_10x
    assert all(d["elapsed_seconds"] < 180 for d in documents)
