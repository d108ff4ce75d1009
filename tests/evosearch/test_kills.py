"""Kills at every commit, at every write that creates a run, and at random moments of a search."""

from __future__ import annotations

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
    """The losses are fake, since the test is about the record."""
    fake_losses.use_fake_scorer(monkeypatch)
    settings = fake_losses.config(programs=10)
    config = _write_config(tmp_path / "fake.toml", settings)
    expected = fake_losses.reported_results(search(settings, tmp_path / "expected"))
    not_created = killed = 0
    for moment in (*({"write": n} for n in range(1, 40)), *({"commit": n} for n in range(2, 1000))):
        directory = tmp_path / f"killed-{killed}"
        arguments = ("search", config, "--workers", "1", "--out", directory)
        if zygote.run(*arguments, fake_losses=True, **moment) != KILLED:
            break
        killed += 1
        if (directory / DATABASE).exists():
            resume(directory)
        else:
            not_created += 1
            search(settings, directory)
        assert fake_losses.reported_results(Run(directory)) == expected, moment
        left = {path.name for path in directory.iterdir()} - fake_losses.FILES
        assert all(name.startswith(".evosearch-") for name in left), (moment, left)
    assert "commit" in moment
    assert not_created > 15
    assert killed > 48


def _search_command(run: Path, config: Path) -> tuple[str | Path, ...]:
    """Return the arguments of the command that starts or resumes the search in `run`."""
    if (run / DATABASE).exists():
        return "resume", run
    return "search", config, "--out", run


@pytest.mark.parametrize("kills", [20, pytest.param(100, marks=pytest.mark.slow)])
def test_a_search_killed_at_random_moments_resumes_to_the_same_result(
    kills: int, tmp_path: Path
) -> None:
    """Two parallel searches with real trainings are killed, from start-up to validation."""
    settings = small_config(programs=40, validation_seeds=2)
    config = _write_config(tmp_path / "c.toml", settings)
    expected = fake_losses.reported_results(search(settings, tmp_path / "expected"))

    def killed_often(number: int) -> list[Path]:
        """Run searches until they have been killed `kills` / 2 times; return their directories."""
        rng, killed = np.random.default_rng(number), 0
        runs = [tmp_path / f"killed-{number}-1"]
        with Zygote() as zygote:
            while killed < kills / 2:
                status = zygote.run(
                    *_search_command(runs[-1], config), seconds=rng.uniform(0.1, 1.5)
                )
                assert status in (0, KILLED)
                killed += status == KILLED
                if status == 0:
                    runs.append(tmp_path / f"killed-{number}-{len(runs) + 1}")
            assert zygote.run(*_search_command(runs[-1], config)) == 0
        return runs

    with ThreadPoolExecutor(2) as both:
        found = [run for runs in both.map(killed_often, (1, 2)) for run in runs]
    for run in found:
        assert fake_losses.reported_results(Run(run)) == expected, run
        store = Store.open(run)
        assert store.count(MEASUREMENTS)
        assert store.count(VALIDATIONS)


def test_a_simplification_killed_repeatedly_continues_where_it_stopped(
    zygote: Zygote, tmp_path: Path
) -> None:
    """Finished trainings are in the ledger, so each attempt gets further than the previous one."""
    search(small_config(programs=20), tmp_path / "run")
    program = f"{tmp_path / 'run'}#0"
    arguments = ("simplify", program, "--task", "points-teacher", "--minutes", "0.01")
    expected = (*arguments, "-o", tmp_path / "expected.json")
    for attempt in range(30):
        if zygote.run(*expected, seconds=2.0 * 1.5**attempt) == 0:
            break
    assert attempt > 0
    assert zygote.run(*arguments, "-o", tmp_path / "again.json") == 0

    def document(name: str) -> Any:
        derivation = json.loads((tmp_path / name).read_text())
        return {key: value for key, value in derivation.items() if key not in ("kept", "settings")}

    assert document("again.json") == document("expected.json")


@pytest.mark.parametrize("command", ["eval", "funnel"])
def test_a_long_command_killed_repeatedly_gives_the_same_result(
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

    def document() -> Any:
        if command == "funnel":
            return json.loads((run / "funnel.json").read_text())
        assert zygote.run(*arguments, "-o", tmp_path / "report.json") == 0
        return json.loads((tmp_path / "report.json").read_text())

    found = document()
    (tmp_path / "runs" / "evaluations.db").unlink()
    assert zygote.run(*arguments) == 0
    assert document() == found
