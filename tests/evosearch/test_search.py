"""Tests of searches with real trainings: workers, interrupts, kills, limits, injected programs."""

from __future__ import annotations

import itertools
import json
import operator
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
from evosearch.errors import EvosearchError, UsageError
from evosearch.measuring.scorer import Scorer
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
    """Return the configuration of a search of few programs, with few seeds, on one task."""
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
def test_searches_and_resumes_refuse_tasks_of_other_splits(task: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=f"'{task}' is a .* task; search on some of "):
        search(small_config(tasks=[task]), tmp_path / "run")
    assert not (tmp_path / "run").exists()
    make_run_directory(tmp_path / "by-hand", small_config(tasks=[task]), {})
    with pytest.raises(UsageError, match=f"'{task}' is a .* task"):
        resume(tmp_path / "by-hand")


def test_the_result_does_not_depend_on_the_number_of_workers(
    uninterrupted: Run, tmp_path: Path
) -> None:
    by_two_workers = search(small_config(), tmp_path / "run", workers=2)
    assert by_two_workers.top(None) == uninterrupted.top(None)
    assert status_without_times(by_two_workers) == status_without_times(uninterrupted)


class InterruptingObserver(Observer):
    """An observer that interrupts `search` after a number of generated programs."""

    def __init__(self, programs: int):
        self.programs = programs
        self.search: Search | None = None

    def update(self, snapshot: Snapshot) -> None:
        if snapshot.counts.generated >= self.programs and self.search is not None:
            self.search.interrupt()


def test_a_search_that_is_interrupted_and_resumed_gives_the_result_of_the_uninterrupted_search(
    uninterrupted: Run, tmp_path: Path
) -> None:
    directory = tmp_path / "interrupted"
    make_run_directory(directory, small_config(), describe())
    for programs in (30, 70):
        observer = InterruptingObserver(programs)
        observer.search = Search(directory, read_config(directory), workers=2, observer=observer)
        assert observer.search.run() == "interrupted"
        assert 0 < Run(directory).status().generated < 120
    assert resume(directory).top(None) == uninterrupted.top(None)
    assert status_without_times(Run(directory)) == status_without_times(uninterrupted)


def test_a_finished_search_resumed_with_more_programs_gives_the_result_of_the_longer_search(
    uninterrupted: Run, tmp_path: Path
) -> None:
    directory = tmp_path / "extended"
    search(small_config(programs=60), directory)
    assert resume(directory, programs=120).top(None) == uninterrupted.top(None)


def _command_line(*arguments: str | Path) -> list[str]:
    """Return the command line that runs `evosearch` with these arguments in a new process."""
    code = "from evosearch.cli import main; main()"
    return [sys.executable, "-c", code, *map(str, arguments)]


def _run_and_kill(command_line: list[str], directory: Path, new_requests: int) -> None:
    """Start a command, and kill its process when the run has `new_requests` more requests."""
    target = _count_requests(directory) + new_requests
    process = subprocess.Popen(command_line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while process.poll() is None and _count_requests(directory) < target:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.kill()
    process.wait()


def _count_requests(directory: Path) -> int:
    """Return the number of requests with stored measurements; 0 before the run exists."""
    if not (directory / "config.toml").exists():
        return 0
    store = Store.open(directory)
    count = len({row.request for row in store.select(MEASUREMENTS)})
    store.close()
    return count


def test_ctrl_c_ends_a_search_with_status_130_and_a_message_how_to_resume(tmp_path: Path) -> None:
    directory = tmp_path / "stopped"
    make_run_directory(directory, small_config(programs=100_000), describe())
    process = subprocess.Popen(
        _command_line("resume", directory, "--json"), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    while _count_requests(directory) < 5:
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
    injection_id = store.inject(str(zoo.load("lion")))
    store.close()
    run = resume(directory, programs=60)
    rows = Store.open(directory).select(PROGRAMS, "where mutation like 'injected%'")
    assert [row.mutation for row in rows] == [f"injected {injection_id}"]
    assert run.injected(injection_id) == zoo.load("lion")
    top_before = run.top(None)
    assert resume(directory, programs=60).top(None) == top_before


def test_a_search_with_a_time_limit_ends_with_a_confirmed_champion_or_the_initial_program(
    tmp_path: Path,
) -> None:
    run = search(small_config(programs=None, minutes=0.05), tmp_path / "timed")
    status = run.status()
    assert status.stop_reason == "minutes"
    best = status.best
    assert best is not None
    assert best.confirmed or best.id == 0


def test_a_resume_with_fewer_programs_than_the_run_has_is_refused(tmp_path: Path) -> None:
    run = search(small_config(60), tmp_path / "run")
    top_before = run.top(100)
    with pytest.raises(UsageError, match="60 programs already"):
        resume(run.directory, programs=12)
    assert Run(run.directory).top(100) == top_before
    resume(run.directory, programs=70, minutes=1e-6)
    assert Run(run.directory).status().generated >= 60


def test_a_search_limited_by_trainings_can_be_resumed_with_a_higher_limit(
    tmp_path: Path,
) -> None:
    long = search(small_config(programs=None, trainings=120), tmp_path / "long")
    assert long.status().stop_reason == "trainings"
    assert long.status().trainings >= 120
    directory = tmp_path / "short"
    search(small_config(programs=None, trainings=60), directory)
    top_before = Run(directory).top(None)
    assert resume(directory).top(None) == top_before
    with pytest.raises(UsageError, match=r"trainings already.*--trainings"):
        resume(directory, trainings=30)
    assert resume(directory, trainings=120).top(None) == long.top(None)
    assert status_without_times(Run(directory)) == status_without_times(long)
    # A resume without limits uses the limits of the previous resume.
    assert resume(directory).top(None) == long.top(None)
    with pytest.raises(UsageError, match="more than the limit of 60"):
        resume(directory, trainings=60)


def test_a_resume_with_a_limit_ignores_all_limits_of_the_configuration(tmp_path: Path) -> None:
    search(small_config(programs=None, minutes=1e-6), tmp_path / "run")
    assert resume(tmp_path / "run", programs=40).status().generated == 40
    assert resume(tmp_path / "run", minutes=1e-6).status().stop_reason == "minutes"


def test_a_run_whose_configuration_was_changed_is_not_resumed(tmp_path: Path) -> None:
    """Settings that do not affect the record, such as limits, may be changed."""
    run = search(small_config(programs=20), tmp_path / "run")
    top_before = run.top(None)
    config_path = run.directory / "config.toml"
    original_text = config_path.read_text()
    config_path.write_text(original_text.replace("seed = 1", "seed = 2"))
    with pytest.raises(UsageError, match=r"created \(seed\).*evosearch search .*config.toml"):
        resume(run.directory)
    with pytest.raises(UsageError, match=r"created \(seed\).*check .* --repair"):
        Run(run.directory)
    config_path.write_text(original_text)
    assert Run(run.directory).top(None) == top_before
    config_path.write_text(original_text.replace("programs = 20", "programs = 25"))
    assert resume(run.directory).status().generated == 25


def test_a_search_writes_its_configuration_environment_log_and_best_program(
    uninterrupted: Run,
) -> None:
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
    costs = [(-program.fitness.low, program.statements, program.state_memory) for program in front]

    def dominates(first: tuple[float, ...], second: tuple[float, ...]) -> bool:
        is_at_least_as_good = all(map(operator.le, first, second))
        return is_at_least_as_good and first != second

    assert not any(dominates(first, second) for first in costs for second in costs)


def test_an_initial_program_that_diverges_has_the_worst_score_on_every_task(
    tmp_path: Path,
) -> None:
    """A race or a hurdle leaves out no task of the initial program."""
    tasks = [TASK, "photos-autoencoder"]
    init = "def train(w, g, lr):\n    update = g * -1e30\n    return update\n"
    run = search(small_config(programs=5, tasks=tasks, init=init), tmp_path / "diverging")
    best = run.best()
    assert best is not None
    assert best.fitness.mean == pytest.approx(-np.log(4))
    assert set(best.per_task) == set(tasks)


def test_an_exception_in_a_worker_names_the_program_and_keeps_earlier_measurements(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = tmp_path / "failing"
    make_run_directory(directory, small_config(), describe())
    original_measure = Scorer.measure
    calls = itertools.count()

    def measure_and_fail_at_call_20(self: Scorer, *args: Any) -> Any:
        if next(calls) == 20:
            raise MemoryError("out of memory")
        return original_measure(self, *args)

    monkeypatch.setattr(Scorer, "measure", measure_and_fail_at_call_20)
    with pytest.raises(EvosearchError, match=r"program \d+ failed \(MemoryError.*evosearch resume"):
        Search(directory, read_config(directory), workers=1).run()
    assert Run(directory).status().measurements >= 20 - 1
    monkeypatch.setattr(Scorer, "measure", original_measure)
    assert Search(directory, read_config(directory)).run() == "programs"


@pytest.mark.slow
def test_a_quick_search_gives_the_same_result_with_one_or_two_workers_or_ten_kills(
    tmp_path: Path,
) -> None:
    """Each of the three searches generates 2,000 programs, so the test takes minutes."""
    settings = ("--preset", "quick", "--seed", "1", "--programs", "2000", "--json")

    def run_command(*arguments: str | Path) -> None:
        subprocess.run(_command_line(*arguments), check=True, stdout=subprocess.DEVNULL)

    def top_programs(directory: Path) -> Any:
        command_line = _command_line("top", directory, "-n", "50", "--json")
        return json.loads(subprocess.check_output(command_line))

    one_worker, two_workers, killed = (
        tmp_path / name for name in ("one-worker", "two-workers", "killed")
    )
    run_command("search", *settings, "--out", one_worker, "--workers", "1")
    run_command("search", *settings, "--out", two_workers, "--workers", "2")
    rng = np.random.default_rng(int(os.environ.get("KILL_SEED", "0")))
    search_command = _command_line("search", *settings, "--out", killed)
    _run_and_kill(search_command, killed, int(rng.integers(1, 120)))
    for _ in range(9):
        _run_and_kill(_command_line("resume", killed), killed, int(rng.integers(1, 120)))
    run_command("resume", killed)
    assert top_programs(one_worker) == top_programs(two_workers) == top_programs(killed)
