"""Tests that a search or a command that was killed gives the same result when repeated.

Processes are killed at every commit, at every write that creates a run, and at random times.
"""

from __future__ import annotations

import itertools
import json
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evosearch.pipeline.pipeline import resume, search
from evosearch.runs.database import DATABASE
from evosearch.runs.rows import MEASUREMENTS, VALIDATIONS
from evosearch.runs.run import Run
from evosearch.runs.store import Store
from tests.evosearch import fake_losses
from tests.evosearch.killing import Zygote
from tests.evosearch.test_search import small_config

KILLED = -signal.SIGKILL


@pytest.fixture(scope="module")
def zygote() -> Iterator[Zygote]:
    with Zygote() as process:
        yield process


def _write_config(path: Path, config: Any) -> Path:
    path.write_text(config.to_toml(), encoding="utf-8")
    return path


def test_a_search_killed_at_any_write_or_commit_resumes_to_the_same_result(
    zygote: Zygote, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A killed search is resumed, or repeated if it was killed before the run existed."""
    fake_losses.use_fake_scorer(monkeypatch)
    config = fake_losses.config(programs=10)
    config_path = _write_config(tmp_path / "fake.toml", config)
    expected = fake_losses.reported_results(search(config, tmp_path / "expected"))
    writes = [{"write": number} for number in range(1, 40)]
    commits = [{"commit": number} for number in range(2, 1000)]
    repeated = killed = 0
    for moment in (*writes, *commits):
        directory = tmp_path / f"killed-{killed}"
        arguments = ("search", config_path, "--workers", "1", "--out", directory)
        if zygote.run(*arguments, fake_losses=True, **moment) != KILLED:
            break  # the search has ended before this commit
        killed += 1
        if (directory / DATABASE).exists():
            resume(directory)
        else:
            repeated += 1
            search(config, directory)
        assert fake_losses.reported_results(Run(directory)) == expected, moment
        other_files = {path.name for path in directory.iterdir()} - fake_losses.FILES
        assert all(name.startswith(".evosearch-") for name in other_files), (moment, other_files)
    assert "commit" in moment
    assert repeated > 15
    assert killed > 48


def _search_command(run: Path, config: Path) -> tuple[str | Path, ...]:
    """Return the arguments of the command that resumes the run, or starts it if none exists."""
    if (run / DATABASE).exists():
        return "resume", run
    return "search", config, "--out", run


@pytest.mark.parametrize("kills", [20, pytest.param(100, marks=pytest.mark.slow)])
def test_a_search_killed_at_random_moments_resumes_to_the_same_result(
    kills: int, tmp_path: Path
) -> None:
    """Searches with real trainings, two at a time, are killed between start and validation."""
    config = small_config(programs=40, validation_seeds=2)
    config_path = _write_config(tmp_path / "c.toml", config)
    expected = fake_losses.reported_results(search(config, tmp_path / "expected"))

    def run_and_kill_searches(seed: int) -> list[Path]:
        """Run searches until they have been killed `kills` / 2 times; return their directories."""
        rng, killed = np.random.default_rng(seed), 0
        runs = [tmp_path / f"killed-{seed}-1"]
        with Zygote() as zygote:
            while killed < kills / 2:
                status = zygote.run(
                    *_search_command(runs[-1], config_path), seconds=rng.uniform(0.1, 1.5)
                )
                assert status in (0, KILLED)
                killed += status == KILLED
                if status == 0:
                    runs.append(tmp_path / f"killed-{seed}-{len(runs) + 1}")
            assert zygote.run(*_search_command(runs[-1], config_path)) == 0
        return runs

    with ThreadPoolExecutor(2) as threads:
        lists_of_runs = list(threads.map(run_and_kill_searches, (1, 2)))
    for run in itertools.chain(*lists_of_runs):
        assert fake_losses.reported_results(Run(run)) == expected, run
        store = Store.open(run)
        assert store.count(MEASUREMENTS)
        assert store.count(VALIDATIONS)


def test_a_simplification_killed_repeatedly_gives_the_result_of_an_uninterrupted_one(
    zygote: Zygote, tmp_path: Path
) -> None:
    """Finished trainings are in the ledger, so each attempt repeats none of the previous attempts.

    Each attempt runs for a longer time, until one is not killed.
    """
    search(small_config(programs=20), tmp_path / "run")
    program = f"{tmp_path / 'run'}#0"
    arguments = ("simplify", program, "--task", "points-teacher", "--minutes", "0.01")
    for attempt in range(30):
        seconds = 2.0 * 1.5**attempt
        if zygote.run(*arguments, "-o", tmp_path / "killed.json", seconds=seconds) == 0:
            break
    assert attempt > 0
    assert zygote.run(*arguments, "-o", tmp_path / "uninterrupted.json") == 0

    def document_without_settings(name: str) -> Any:
        document = json.loads((tmp_path / name).read_text())
        return {key: value for key, value in document.items() if key not in ("kept", "settings")}

    assert document_without_settings("killed.json") == document_without_settings(
        "uninterrupted.json"
    )


@pytest.mark.parametrize("command", ["eval", "funnel"])
def test_an_evaluation_or_funnel_killed_repeatedly_gives_the_same_result(
    command: str, zygote: Zygote, tmp_path: Path
) -> None:
    run = search(
        small_config(programs=8, tasks=["points-teacher"]), tmp_path / "runs" / "run"
    ).directory
    arguments: tuple[str | Path, ...] = {
        "eval": ("eval", run, "--task", "points-teacher", "--seeds", "4"),
        "funnel": ("funnel", run, "--to", "10x", "--entrants", "1"),
    }[command]
    kills = 0
    while zygote.run(*arguments, seconds=0.5 * 2**kills) == KILLED:
        kills += 1
    assert kills > 0

    def result_document() -> Any:
        if command == "funnel":
            return json.loads((run / "funnel.json").read_text())
        assert zygote.run(*arguments, "-o", tmp_path / "report.json") == 0
        return json.loads((tmp_path / "report.json").read_text())

    document_after_kills = result_document()
    # Without the ledger, all trainings are repeated.
    (tmp_path / "runs" / "evaluations.db").unlink()
    assert zygote.run(*arguments) == 0
    assert result_document() == document_after_kills
