"""What a first search finds, over ten seeds, on an idle machine and with half its time taken.

Run by hand on an otherwise idle machine of two cores, three quarters of an hour:
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


def searched(seed: int, folder: Path) -> dict[str, Any]:
    """What `evosearch search --seed SEED` says at its end."""
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
    found: dict[str, Any] = json.loads(done.stdout)
    own, tenfold = found["best"], found["validation"]
    print(
        f"{seed:4}  {found['generated']:8,}  {found['trainings']:9,}  "
        f"{found['elapsed_seconds']:7.0f}  {_estimate(own)}  {_estimate(tenfold)}  "
        f"{found['found']['nearest']['name']} {found['found']['nearest']['distance']:.2f}",
        flush=True,
    )
    return found


def _estimate(found: dict[str, Any]) -> str:
    return f"{found['fitness']:+.3f} ({found['fitness_low']:+.3f} to {found['fitness_high']:+.3f})"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("at_once", "least_at_10x"), [(1, 9), (2, 8)], ids=["idle", "half the time taken"]
)
def test_a_first_search_beats_tuned_adamw_within_three_minutes(
    at_once: int, least_at_10x: int, tmp_path: Path
) -> None:
    """With two searches at once each takes half the machine's time from the other."""
    print("\nseed  programs  trainings  seconds  own tasks                    ten times the work")
    with ThreadPoolExecutor(at_once) as both:
        found = list(both.map(lambda seed: searched(seed, tmp_path), SEEDS))
    assert all(one["best"]["confirmed"] and one["best"]["fitness_low"] > 0 for one in found)
    assert sum(one["validation"]["fitness_low"] > 0 for one in found) >= least_at_10x
    assert all(one["elapsed_seconds"] < 180 for one in found)
