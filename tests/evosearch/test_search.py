"""Searches with real training: workers, kills, interrupts, limits and injections."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evosearch.config import Config, make_config
from evosearch.environment import describe
from evosearch.errors import UsageError
from evosearch.pipeline.observers import Observer, Snapshot
from evosearch.pipeline.pipeline import resume, search
from evosearch.pipeline.search import Search
from evosearch.runs.directory import make_run_directory, read_config
from evosearch.runs.rows import MEASUREMENTS, PROGRAMS
from evosearch.runs.run import Run
from evosearch.runs.store import Store
from primitives import zoo

TASK = "digits-mlp"


def small_config(programs: int = 120, **settings: Any) -> Config:
    return make_config(
        {
            "tasks": [TASK],
            "init": str(zoo.load("adamw_paper")),
            "programs": programs,
            "population": 30,
            "seed": 1,
            "measurement": {"test_seeds": 4, "confirm_seeds": 3, "tuning_seeds": 1},
            **settings,
        }
    )


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """An uninterrupted search by one worker."""
    return search(small_config(), tmp_path_factory.mktemp("runs") / "uninterrupted", workers=1)


def status_without_times(run: Run) -> dict[str, Any]:
    """Return a run's status without its name and times."""
    excluded = ("run", "elapsed_seconds", "programs_per_second")
    document = run.status().document()
    return {name: value for name, value in document.items() if name not in excluded}


@pytest.mark.parametrize("task", ["digits-mlp-10x", "topics-transformer", "quadratic"])
def test_a_search_touches_only_search_tasks(task: str, tmp_path: Path) -> None:
    """Other tasks are refused by the Python functions too."""
    with pytest.raises(UsageError, match=f"'{task}' is a .* task; search on some of "):
        search(small_config(tasks=[task]), tmp_path / "run")
    assert not (tmp_path / "run").exists()
    make_run_directory(tmp_path / "by-hand", small_config(tasks=[task]), {})
    with pytest.raises(UsageError, match=f"'{task}' is a .* task"):
        resume(tmp_path / "by-hand")


def test_the_result_does_not_depend_on_the_number_of_workers(
    uninterrupted: Run, tmp_path: Path
) -> None:
    two = search(small_config(), tmp_path / "two", workers=2)
    assert two.top(None) == uninterrupted.top(None)
    assert status_without_times(two) == status_without_times(uninterrupted)


class _StopsAfter(Observer):
    """An observer that interrupts the search after some number of programs."""

    def __init__(self, programs: int):
        self.programs = programs
        self.search: Search | None = None

    def update(self, snapshot: Snapshot) -> None:
        if snapshot.counts.generated >= self.programs and self.search is not None:
            self.search.interrupt()


def test_an_interrupted_search_resumes_to_the_uninterrupted_one(
    uninterrupted: Run, tmp_path: Path
) -> None:
    directory = tmp_path / "interrupted"
    make_run_directory(directory, small_config(), describe())
    for programs in (30, 70):
        observer = _StopsAfter(programs)
        observer.search = Search(directory, read_config(directory), workers=2, observer=observer)
        assert observer.search.run() == "interrupted"
        assert 0 < Run(directory).status().generated < 120
    assert resume(directory).top(None) == uninterrupted.top(None)
    assert status_without_times(Run(directory)) == status_without_times(uninterrupted)


def test_a_finished_search_is_extended_to_the_longer_search(
    uninterrupted: Run, tmp_path: Path
) -> None:
    directory = tmp_path / "extended"
    search(small_config(programs=60), directory)
    assert resume(directory, programs=120).top(None) == uninterrupted.top(None)


def _command(*words: str | Path) -> list[str]:
    code = "from evosearch.cli import main; main()"
    return [sys.executable, "-c", code, *map(str, words)]


def _killed_after_progress(words: list[str], directory: Path, more: int) -> None:
    """Start a command and kill it after `more` requests have been stored."""
    before = _requests(directory)
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while process.poll() is None and _requests(directory) < before + more:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.kill()
    process.wait()


def _requests(directory: Path) -> int:
    if not (directory / "config.toml").exists():
        return 0
    store = Store.open(directory)
    count = len({row.request for row in store.select(MEASUREMENTS)})
    store.close()
    return count


def test_ctrl_c_stops_cleanly_says_how_to_resume_and_exits_with_130(tmp_path: Path) -> None:
    directory = tmp_path / "stopped"
    make_run_directory(directory, small_config(programs=100_000), describe())
    process = subprocess.Popen(
        _command("resume", directory, "--json"), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    while _requests(directory) < 5:
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert json.loads(out)["stop_reason"] == "interrupted"
    assert f"evosearch resume {directory}" in err.decode()
    assert "Traceback" not in err.decode()


def test_an_injected_program_becomes_the_next_child_and_is_replayed(tmp_path: Path) -> None:
    directory = tmp_path / "injected"
    config = small_config(programs=40)
    search(config, directory)
    store = Store.open(directory, "inject")
    number = store.inject(str(zoo.load("lion")))
    store.close()
    run = resume(directory, programs=60)
    rows = Store.open(directory).select(PROGRAMS, "where mutation like 'injected%'")
    assert [row.mutation for row in rows] == [f"injected {number}"]
    assert run.injected(number) == zoo.load("lion")
    before = run.top(None)
    assert resume(directory, programs=60).top(None) == before


def test_a_time_limit_ends_the_search_with_a_confirmed_or_the_first_champion(
    tmp_path: Path,
) -> None:
    run = search(small_config(programs=None, minutes=0.05), tmp_path / "timed")
    status = run.status()
    assert status.stop_reason == "minutes"
    best = status.best
    assert best is not None
    assert best.confirmed or best.id == 0


def test_a_resume_with_a_limit_below_the_counts_of_the_run_is_refused(tmp_path: Path) -> None:
    run = search(small_config(60), tmp_path / "run")
    before = run.top(100)
    with pytest.raises(UsageError, match="60 programs already"):
        resume(run.directory, programs=12)
    assert Run(run.directory).top(100) == before
    resume(run.directory, programs=70, minutes=1e-6)
    assert Run(run.directory).status().generated >= 60


def test_a_limit_of_trainings_is_kept_resumed_and_raised_like_one_of_programs(
    tmp_path: Path,
) -> None:
    long = search(small_config(programs=None, trainings=120), tmp_path / "long")
    assert long.status().stop_reason == "trainings"
    assert long.status().trainings >= 120
    directory = tmp_path / "short"
    search(small_config(programs=None, trainings=60), directory)
    before = Run(directory).top(None)
    assert resume(directory).top(None) == before
    with pytest.raises(UsageError, match=r"trainings already.*--trainings"):
        resume(directory, trainings=30)
    assert resume(directory, trainings=120).top(None) == long.top(None)
    assert status_without_times(Run(directory)) == status_without_times(long)
    # A resume without limits uses the last ones that were given.
    assert resume(directory).top(None) == long.top(None)
    with pytest.raises(UsageError, match="more than the limit of 60"):
        resume(directory, trainings=60)


def test_new_limits_replace_all_of_the_runs_own(tmp_path: Path) -> None:
    search(small_config(programs=None, minutes=1e-6), tmp_path / "run")
    assert resume(tmp_path / "run", programs=40).status().generated == 40
    assert resume(tmp_path / "run", minutes=1e-6).status().stop_reason == "minutes"


def test_a_run_whose_config_was_changed_is_not_resumed(tmp_path: Path) -> None:
    """Settings that do not change the record, such as limits, may change."""
    run = search(small_config(programs=20), tmp_path / "run")
    before = run.top(None)
    config = run.directory / "config.toml"
    text = config.read_text()
    config.write_text(text.replace("seed = 1", "seed = 2"))
    with pytest.raises(UsageError, match=r"created \(seed\).*evosearch search .*config.toml"):
        resume(run.directory)
    with pytest.raises(UsageError, match=r"created \(seed\).*check .* --repair"):
        Run(run.directory)
    config.write_text(text)
    assert Run(run.directory).top(None) == before
    config.write_text(text.replace("programs = 20", "programs = 25"))
    assert resume(run.directory).status().generated == 25


def test_a_run_leaves_its_config_environment_log_and_best_program(uninterrupted: Run) -> None:
    names = {path.name for path in uninterrupted.directory.iterdir()}
    assert {"config.toml", "environment.json", "log.jsonl", "best.txt", "run.db"} <= names
    events = [json.loads(line) for line in (uninterrupted.directory / "log.jsonl").open()]
    assert {"phase", "champion", "stop"} <= {event["event"] for event in events}
    environment = json.loads((uninterrupted.directory / "environment.json").read_text())
    assert environment["packages"]["jax"]
    assert environment["data_sha256"]
    assert (uninterrupted.directory / "best.txt").read_text() == str(uninterrupted.champion())


def test_the_pareto_front_has_no_dominated_program(uninterrupted: Run) -> None:
    front = uninterrupted.top(None, pareto=True)
    assert front[0] == uninterrupted.top(1)[0]
    points = [(-row.fitness.low, row.statements, row.state_memory) for row in front]
    for point in points:
        assert not any(
            other != point and all(a <= b for a, b in zip(other, point, strict=True))
            for other in points
        )


def test_a_champion_that_misses_the_hurdle_is_still_shown(tmp_path: Path) -> None:
    """The initial program diverges: its fitness is the worst score, and no task is left out."""
    tasks = [TASK, "photos-autoencoder"]
    init = "def train(w, g, lr):\n    update = g * -1e30\n    return update\n"
    run = search(small_config(programs=5, tasks=tasks, init=init), tmp_path / "hopeless")
    best = run.best()
    assert best is not None
    assert best.fitness.mean == pytest.approx(-np.log(4))
    assert set(best.per_task) == set(tasks)


def test_a_failing_worker_names_the_program_and_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from evosearch.errors import EvosearchError
    from evosearch.measuring.scorer import Scorer

    directory = tmp_path / "failing"
    make_run_directory(directory, small_config(), describe())
    original = Scorer.measure
    calls = iter(range(1000))

    def failing(self: Scorer, *args: Any) -> Any:
        if next(calls) == 20:
            raise MemoryError("out of memory")
        return original(self, *args)

    monkeypatch.setattr(Scorer, "measure", failing)
    with pytest.raises(EvosearchError, match=r"program \d+ failed \(MemoryError.*evosearch resume"):
        Search(directory, read_config(directory), workers=1).run()
    assert Run(directory).status().measurements >= 20 - 1
    monkeypatch.setattr(Scorer, "measure", original)
    assert Search(directory, read_config(directory)).run() == "programs"


@pytest.mark.slow
def test_the_quick_preset_killed_ten_times_gives_the_same_top_document(tmp_path: Path) -> None:
    """Runs 2,000 programs with one worker, with two, and with ten kills; takes minutes."""
    words = ("--preset", "quick", "--seed", "1", "--programs", "2000", "--json")

    def top(directory: Path) -> Any:
        return json.loads(subprocess.check_output(_command("top", directory, "-n", "50", "--json")))

    tops = []
    for workers in (1, 2):
        directory = tmp_path / f"workers{workers}"
        arguments = (*words, "--out", str(directory), "--workers", str(workers))
        subprocess.run(_command("search", *arguments), check=True, stdout=subprocess.DEVNULL)
        tops.append(top(directory))
    directory = tmp_path / "killed"
    rng = np.random.default_rng(int(os.environ.get("KILL_SEED", "0")))
    _killed_after_progress(
        _command("search", *words, "--out", directory), directory, int(rng.integers(1, 120))
    )
    for _ in range(9):
        _killed_after_progress(_command("resume", directory), directory, int(rng.integers(1, 120)))
    subprocess.run(_command("resume", directory), check=True, stdout=subprocess.DEVNULL)
    tops.append(top(directory))
    assert tops[0] == tops[1] == tops[2]
