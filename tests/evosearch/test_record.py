"""Tests that resuming a run deletes no record, and that a record that does not replay is refused.

Also tests of forks, of `evosearch check`, of injected programs, and of changed tasks.
"""

from __future__ import annotations

import ast
import importlib
import itertools
import json
import math
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import pytest

from evosearch.config import make_config
from evosearch.errors import EvosearchError, UsageError
from evosearch.pipeline.checking import Finding, check
from evosearch.pipeline.limits import Limits
from evosearch.pipeline.observers import Observer
from evosearch.pipeline.pipeline import resume, search
from evosearch.pipeline.search import Search
from evosearch.presets import load_preset
from evosearch.runs.database import DATABASE
from evosearch.runs.directory import read_config
from evosearch.runs.lineage import lineage
from evosearch.runs.migrations import SCHEMA_VERSION
from evosearch.runs.provenance import DECIDING_MODULES, code_digest
from evosearch.runs.recovery import fork, replay_as_ended
from evosearch.runs.replay import Divergence
from evosearch.runs.rows import (
    CHAMPIONS,
    INJECTIONS,
    MEASUREMENTS,
    PROCESSES,
    PROGRAMS,
    SPARES,
    TABLES,
    TESTS,
)
from evosearch.runs.run import Run
from evosearch.runs.store import Store
from primitives import zoo
from proxies.user_tasks.files import _load
from tests.evosearch import fake_losses
from tests.evosearch.stored_runs import make_stored_run
from tests.evosearch.test_search import small_config

EXAMPLE_RUN = Path(__file__).parents[2] / "runs" / "example"
RECORDED_RUNS = Path(__file__).parent / "data" / "runs"
"""Runs that earlier versions of evosearch made."""
RUN_WITH_OLDER_SEARCH = RECORDED_RUNS / "schema-2-older"
"""A run that replays differently today, because the search has changed since."""


def contents_of_files(directory: Path) -> dict[str, bytes]:
    """Return the contents of a run's files by relative path, without the lock and the log."""
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in directory.rglob("*")
        if path.is_file() and path.name not in ("lock", "log.jsonl")
    }


def replace_initial_loss(directory: Path) -> None:
    """Make the first training of the initial program diverged, in a row with a valid checksum."""
    store = Store.open(directory, "search")
    row = store.select(MEASUREMENTS, "where program = 0 order by rowid limit 1")[0]
    store.write(MEASUREMENTS, [row._replace(loss=None, score=-math.log(4.0))])
    store.close()


# -- resuming ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "run",
    [RUN_WITH_OLDER_SEARCH, RECORDED_RUNS / "schema-1"],
    ids=["schema-2-older", "schema-1"],
)
def test_a_run_that_replays_differently_is_not_resumed_and_not_changed(
    run: Path, tmp_path: Path
) -> None:
    """A resume by an earlier version silently reduced the 5,001 programs of a run to 2,430."""
    directory = tmp_path / "copy"
    shutil.copytree(run, directory)
    contents_before, top_before = contents_of_files(directory), Run(directory).top(None)
    with pytest.raises(EvosearchError) as caught:
        resume(directory)
    message = str(caught.value)
    assert "at request 18 its record has program" in message
    assert "but a replay gives program" in message
    assert "stored no digest" in message
    assert f"this is evosearch 0.1.0, code {code_digest()}" in message
    for remedy in ("`evosearch status", "`evosearch search --init", "--fork NEW"):
        assert remedy in message
    assert contents_of_files(directory) == contents_before
    assert Run(directory).top(None) == top_before


def test_the_example_run_replays_completely_with_this_version() -> None:
    """After a change to the search, create the example run again as `runs/README.md` describes."""
    run = Run(EXAMPLE_RUN)
    replayed = replay_as_ended(run.config, Store.open(EXAMPLE_RUN))
    assert replayed.set_aside_from is None
    assert replayed.evolution.counts.generated == run.status().generated
    settings = load_preset("quick") | {"init": run.config.init, "seed": 1}
    assert run.config == make_config(settings)


def test_an_older_run_of_the_current_schema_can_be_read_and_resumed(tmp_path: Path) -> None:
    """The run was made before jobs and backends existed."""
    directory = tmp_path / "copy"
    shutil.copytree(RECORDED_RUNS / "schema-3", directory)
    run = Run(directory)
    assert run.status().generated == 120
    assert len(run.champions()) == 2
    top_before = run.top(None)
    assert replay_as_ended(run.config, Store.open(directory)).set_aside_from is None
    assert resume(directory).top(None) == top_before
    assert resume(directory, programs=125).status().generated == 125


def test_a_run_of_the_previous_schema_replays_completely_and_is_migrated_with_a_backup(
    tmp_path: Path,
) -> None:
    directory = tmp_path / "copy"
    shutil.copytree(RECORDED_RUNS / "schema-2", directory)
    top_before = Run(directory).top(None)
    original_database = (directory / DATABASE).read_bytes()
    assert replay_as_ended(Run(directory).config, Store.open(directory)).set_aside_from is None
    assert (directory / DATABASE).read_bytes() == original_database
    assert resume(directory).top(None) == top_before
    assert (directory / f"{DATABASE}.schema-2").stat().st_size == len(original_database)
    store = Store.open(directory)
    assert store.meta("schema_version") == str(SCHEMA_VERSION)
    assert not store.damaged_rows()


def test_a_run_with_an_altered_loss_is_refused_as_corrupt_and_not_changed(tmp_path: Path) -> None:
    """The altered row has a valid checksum, so only the replay detects the change."""
    directory = tmp_path / "run"
    search(small_config(programs=60), directory)
    replace_initial_loss(directory)
    store = Store.open(directory)
    row_counts = {table.name: store.count(table) for table in TABLES}
    store.close()
    with pytest.raises(EvosearchError, match="the code is the same, so the record is corrupt"):
        resume(directory, programs=90)
    store = Store.open(directory)
    assert {table.name: store.count(table) for table in TABLES} == row_counts


def test_an_interrupted_resume_with_a_higher_limit_keeps_every_measurement(
    tmp_path: Path,
) -> None:
    directory = tmp_path / "run"
    search(small_config(programs=60), directory)

    def stored_losses() -> set[tuple[Any, ...]]:
        store = Store.open(directory)
        rows = store.select(MEASUREMENTS) + store.select(SPARES)
        store.close()
        return {(row.key, row.stream, row.seed, row.task, row.loss) for row in rows}

    losses_before = stored_losses()

    class InterruptingObserver(Observer):
        search: Search

        def update(self, snapshot: object) -> None:
            self.search.interrupt()

    observer = InterruptingObserver()
    observer.search = Search(
        directory, read_config(directory), limits=Limits(programs=120), observer=observer
    )
    assert observer.search.run() == "interrupted"
    assert losses_before <= stored_losses()
    assert Store.open(directory).count(SPARES) > 0
    uninterrupted = search(small_config(programs=120), tmp_path / "uninterrupted")
    assert resume(directory, programs=120).top(None) == uninterrupted.top(None)
    assert losses_before <= stored_losses()


def test_a_record_without_one_program_or_one_measurement_does_not_replay(tmp_path: Path) -> None:
    make_stored_run(tmp_path / "run", programs=200)
    config = Run(tmp_path / "run").config
    for table, condition in ((PROGRAMS, "id = 40"), (MEASUREMENTS, "request = 30")):
        shutil.copytree(tmp_path / "run", tmp_path / table.name)
        with sqlite3.connect(tmp_path / table.name / DATABASE) as db:
            db.execute(f"delete from {table.name} where {condition}")
        with pytest.raises(Divergence):
            replay_as_ended(config, Store.open(tmp_path / table.name))


@pytest.mark.parametrize("table", [TESTS, CHAMPIONS], ids=["tests", "champions"])
def test_a_record_without_one_champion_test_or_one_champion_does_not_replay(
    table: Any, tmp_path: Path
) -> None:
    evolution = make_stored_run(tmp_path / "run", programs=1200)
    assert len(evolution.tests) > 1
    with sqlite3.connect(tmp_path / "run" / DATABASE) as db:
        db.execute(f"delete from {table.name} where number = 1")
    with pytest.raises(Divergence, match=table.name):
        replay_as_ended(evolution.config, Store.open(tmp_path / "run"))


def test_every_schema_version_has_a_recorded_run() -> None:
    recorded_versions = {
        sqlite3.connect(path / DATABASE)
        .execute("select value from meta where key = 'schema_version'")
        .fetchone()[0]
        for path in RECORDED_RUNS.iterdir()
    }
    assert recorded_versions == {str(version) for version in range(1, SCHEMA_VERSION + 1)}


def test_no_file_is_written_through_a_symbolic_link_in_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run from an untrusted source may contain links to any file of the user."""
    fake_losses.use_fake_scorer(monkeypatch)
    directory, outside = tmp_path / "run", tmp_path / "outside"
    search(fake_losses.config(programs=12), directory)
    for name in ("best.txt", "environment.json", "activity.json", "funnel.json"):
        (directory / name).unlink(missing_ok=True)
        (directory / name).symlink_to(outside)
    outside.write_text("file of the user")
    resume(directory, programs=20)
    Run(directory).save_funnel({"stages": [], "winner": None})
    assert outside.read_text() == "file of the user"
    assert not (directory / "best.txt").is_symlink()
    (directory / "log.jsonl").unlink()
    (directory / "log.jsonl").symlink_to(outside)
    with pytest.raises(EvosearchError, match=r"log\.jsonl"):
        resume(directory, programs=30)
    assert outside.read_text() == "file of the user"


# -- provenance ----------------------------------------------------------------------------------


def test_a_run_records_each_process_that_searched_in_it(tmp_path: Path) -> None:
    search(small_config(programs=20), tmp_path / "run")
    resume(tmp_path / "run", programs=30)
    first, second = Store.open(tmp_path / "run").select(PROCESSES, "order by number")
    assert (first.number, second.number) == (1, 2)
    assert first.first_request == 1 < second.first_request
    assert first.code == second.code == code_digest()
    assert "jax " in first.libraries


def _defining_modules(module: str) -> set[str]:
    """Return the project's modules that define the names which `module` imports."""
    source = Path(importlib.import_module(module).__file__ or "").read_text(encoding="utf-8")
    modules = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module:
            imported = importlib.import_module(node.module)
            for alias in node.names:
                value = getattr(imported, alias.name)
                if isinstance(value, ModuleType):
                    modules.add(value.__name__)
                else:
                    modules.add(getattr(value, "__module__", node.module))
    packages = ("evosearch", "primitives", "proxies")
    return {name for name in modules if name.split(".")[0] in packages}


def test_the_code_digest_covers_all_modules_that_evolution_uses() -> None:
    """Exceptions are modules for messages, LaTeX and schedules, and a package of re-exports."""
    modules_without_decisions = {
        "evosearch.errors",
        "evosearch.files",
        "primitives",
        "primitives.text.formula",
        "primitives.text.notation",
        "primitives.text.wording",
        "proxies.training.schedules",
    }
    used_modules = {"evosearch.evolution.evolution"}
    unvisited = list(used_modules)
    while unvisited:
        imported = _defining_modules(unvisited.pop())
        new_modules = imported - used_modules - modules_without_decisions
        used_modules |= new_modules
        unvisited += new_modules
    assert used_modules == set(DECIDING_MODULES)


# -- forking -------------------------------------------------------------------------------------


def test_a_fork_copies_what_replays_and_leaves_the_original_run_unchanged(
    tmp_path: Path,
) -> None:
    directory, fork_directory = tmp_path / "run", tmp_path / "fork"
    search(small_config(programs=60), directory)
    replace_initial_loss(directory)
    contents_before = contents_of_files(directory)
    forked = fork(directory, fork_directory)
    assert 0 < forked.copied_requests < forked.total_requests
    assert contents_of_files(directory) == contents_before
    assert resume(fork_directory).status().generated == 60
    with pytest.raises(UsageError, match="exists"):
        fork(directory, fork_directory)
    temporary_files = [path for path in tmp_path.iterdir() if path.name.startswith(".")]
    assert not temporary_files


def test_a_fork_of_an_undamaged_run_is_complete(tmp_path: Path) -> None:
    make_stored_run(tmp_path / "run", programs=300)
    forked = fork(tmp_path / "run", tmp_path / "fork")
    assert forked.copied_requests == forked.total_requests
    assert Run(tmp_path / "fork").top(None) == Run(tmp_path / "run").top(None)
    assert Run(tmp_path / "fork").champions() == Run(tmp_path / "run").champions()


# -- checking ------------------------------------------------------------------------------------


def failed_subjects(findings: list[Finding]) -> set[str]:
    """Return what `check` examined and found wrong, such as "rows" or "best.txt"."""
    return {finding.subject for finding in findings if not finding.ok}


@pytest.fixture(scope="module")
def undamaged_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a finished run; tests damage copies of the directory."""
    directory = tmp_path_factory.mktemp("checked") / "run"
    with pytest.MonkeyPatch.context() as patch:
        fake_losses.use_fake_scorer(patch)
        search(fake_losses.config(programs=120), directory)
    return directory


def change_setting(run: Path) -> None:
    """Change a setting in the configuration of a run."""
    path = run / "config.toml"
    path.write_text(path.read_text().replace("noise_floor = 0.01", "noise_floor = 0.11"))


def execute_sql(run: Path, statement: str) -> None:
    """Execute an SQL statement in the database of a run."""
    with sqlite3.connect(run / DATABASE) as db:
        db.execute(statement)


def sql(statement: str) -> Callable[[Path], None]:
    """Return a function that executes an SQL statement in the database of a run."""
    return lambda run: execute_sql(run, statement)


class Damage(NamedTuple):
    """A function that damages a run, and what `check` must report."""

    apply: Callable[[Path], object]
    failed_subject: str
    can_be_repaired: bool


DAMAGE = {
    "changed setting": Damage(change_setting, "configuration", can_be_repaired=True),
    "changed program": Damage(
        sql("update programs set mutation = 'x' where id = 7"), "rows", can_be_repaired=True
    ),
    "missing program": Damage(
        sql("delete from programs where id = 7"), "rows", can_be_repaired=True
    ),
    "changed champion test": Damage(
        sql("update tests set won = 1 - won where number = 1"), "rows", can_be_repaired=True
    ),
    "missing champion": Damage(
        sql("delete from champions where number = 1"), "rows", can_be_repaired=True
    ),
    "invalid counts": Damage(
        sql("update progress set generated = 'many'"), "rows", can_be_repaired=True
    ),
    "missing counts": Damage(sql("delete from progress"), "rows", can_be_repaired=True),
    "invalid best.txt": Damage(
        lambda run: (run / "best.txt").write_bytes(b"\xff"), "best.txt", can_be_repaired=True
    ),
    "changed loss": Damage(
        sql("update measurements set loss = 2 where rowid = 5"), "rows", can_be_repaired=False
    ),
    "invalid log": Damage(
        lambda run: (run / "log.jsonl").write_bytes(b"{\n"), "log.jsonl", can_be_repaired=False
    ),
}


def rows_of_tables(run: Path) -> dict[str, list[Any]]:
    """Return all rows of a run's database, by table."""
    store = Store.open(run)
    return {table.name: list(store.select(table)) for table in TABLES}


def test_lost_measurements_are_detected_even_if_the_counts_are_lost(
    undamaged_run: Path, tmp_path: Path
) -> None:
    """Stored programs and champion tests reveal the loss; repair and resume delete no rows."""
    run = tmp_path / "run"
    shutil.copytree(undamaged_run, run)
    execute_sql(run, "delete from progress")
    execute_sql(run, "delete from measurements where request > 30")
    rows_before = rows_of_tables(run)
    messages = {
        finding.subject: finding.text for finding in check(run, repair=True) if not finding.ok
    }
    assert "measurements are lost" in messages["rows"]
    with pytest.raises(EvosearchError, match="its counts are missing"):
        resume(run)
    assert rows_of_tables(run) == rows_before


def test_a_fork_of_a_run_that_lost_only_its_counts_is_complete(
    undamaged_run: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(undamaged_run, run)
    execute_sql(run, "delete from progress")
    forked = fork(run, tmp_path / "fork")
    assert forked.copied_requests == forked.total_requests
    assert Run(tmp_path / "fork").top(None) == Run(undamaged_run).top(None)


@pytest.mark.parametrize(
    "lost_row", ["rowid = (select max(rowid) from measurements)", "rowid = 60"]
)
def test_a_run_that_lost_a_measurement_is_not_resumed(
    lost_row: str, undamaged_run: Path, tmp_path: Path
) -> None:
    """Otherwise the task of the lost measurement would count as skipped, with the worst score.

    A fork has the requests before the lost measurement.
    """
    run = tmp_path / "run"
    shutil.copytree(undamaged_run, run)
    execute_sql(run, f"delete from measurements where {lost_row}")
    rows_before = rows_of_tables(run)
    with pytest.raises(EvosearchError, match="table measurements has"):
        resume(run)
    assert rows_of_tables(run) == rows_before
    forked = fork(run, tmp_path / "fork")
    assert forked.copied_requests < forked.total_requests
    complete = rows_of_tables(undamaged_run)["measurements"]
    copied = rows_of_tables(tmp_path / "fork")["measurements"]
    assert copied == complete[: len(copied)]
    (lost,) = set(complete) - set(rows_before["measurements"])
    requests_before_loss = {row.request for row in complete[: complete.index(lost)]}
    assert {row.request for row in copied} == requests_before_loss - {lost.request}


@pytest.mark.parametrize("name", DAMAGE)
def test_check_finds_damage_and_repairs_what_follows_from_measurements(
    name: str, undamaged_run: Path, tmp_path: Path
) -> None:
    damage = DAMAGE[name]
    run = tmp_path / "run"
    shutil.copytree(undamaged_run, run)
    assert not failed_subjects(check(run))
    damage.apply(run)
    assert damage.failed_subject in failed_subjects(check(run))
    findings = check(run, repair=True)
    if not damage.can_be_repaired:
        assert damage.failed_subject in failed_subjects(findings)
        return
    assert not failed_subjects(findings)
    assert damage.failed_subject in {finding.subject for finding in findings if finding.repaired}
    assert not failed_subjects(check(run))
    assert Run(run).top(None) == Run(undamaged_run).top(None)
    assert Run(run).champions() == Run(undamaged_run).champions()
    repaired_status = Run(run).status().document()
    original_status = Run(undamaged_run).status().document()
    # The time spent and the stop reason cannot be derived from measurements.
    not_derived = {"run", "elapsed_seconds", "programs_per_second", "stop_reason"}
    for key in original_status.keys() - not_derived:
        assert repaired_status[key] == original_status[key]
    best = Run(run).top(1)[0].id
    assert lineage(Run(run), best) == lineage(Run(undamaged_run), best)


def test_a_run_can_be_checked_and_forked_while_a_process_is_searching_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Checks and forks read a consistent state between two commits."""
    fake_losses.use_fake_scorer(monkeypatch)
    original_commit, commit_numbers = Store.commit, itertools.count()
    findings_of_checks: list[list[Finding]] = []

    def commit_then_check_and_fork(store: Store) -> None:
        """Commit; after every ninth commit of the run, check the run and fork it."""
        original_commit(store)
        number = next(commit_numbers)
        if number % 9 == 8 and store.directory.name == "run":
            findings_of_checks.append(check(store.directory))
            fork(store.directory, tmp_path / f"fork-{number}")

    monkeypatch.setattr(Store, "commit", commit_then_check_and_fork)
    search(fake_losses.config(), tmp_path / "run", workers=1)
    assert len(findings_of_checks) > 3
    # `best.txt` is written after the commit of the first champion, so it may be missing.
    for findings in findings_of_checks:
        assert failed_subjects(findings) <= {"best.txt"}
    for path in tmp_path.glob("fork-*"):
        assert failed_subjects(check(path)) <= {"best.txt"}


# -- injections ----------------------------------------------------------------------------------


def test_an_invalid_injected_program_is_set_aside_with_a_notice_and_the_search_continues(
    tmp_path: Path,
) -> None:
    directory = tmp_path / "run"
    search(small_config(programs=20), directory)
    store = Store.open(directory, "inject")
    invalid_id = store.inject("def train(w, g, lr):\n    if = g * lr\n    return if\n")
    valid_id = store.inject(str(zoo.load("lion")))
    store.close()
    resume(directory, programs=50)
    rows = {row.id: row for row in Store.open(directory).select(INJECTIONS)}
    assert rows[invalid_id].request is None
    assert rows[invalid_id].withdrawn
    assert rows[valid_id].request is not None
    assert f"injected program i{invalid_id} is set aside" in (directory / "log.jsonl").read_text()
    assert resume(directory, programs=50).status().generated == 50


def test_a_withdrawn_program_is_never_used_and_a_used_program_cannot_be_withdrawn(
    tmp_path: Path,
) -> None:
    directory = tmp_path / "run"
    search(small_config(programs=20), directory)
    store = Store.open(directory, "inject")
    lion_id, adam_id = store.inject(str(zoo.load("lion"))), store.inject(str(zoo.load("adam")))
    store.withdraw(lion_id, "withdrawn by hand")
    with pytest.raises(UsageError, match="no injected program i9"):
        store.withdraw(9, "")
    store.close()
    resume(directory, programs=50)
    store = Store.open(directory, "inject")
    rows = {row.id: row for row in store.select(INJECTIONS)}
    assert rows[lion_id].request is None
    assert rows[adam_id].request is not None
    with pytest.raises(UsageError, match="used it at request"):
        store.withdraw(adam_id, "")
    store.close()


# -- tasks ---------------------------------------------------------------------------------------

USER_TASK = """
from dataclasses import replace
from pathlib import Path
import numpy as np
import proxies
import helper

def task():
    shift = float(np.load(Path(__file__).parent / "shift.npz")["x"])
    base = proxies.load("digits-mlp")
    return replace(base, loss=lambda *args: base.loss(*args) + helper.transform(shift))
"""
"""A task that imports a module and reads a file of arrays, both in its own folder."""


def test_a_run_with_an_edited_task_is_not_resumed_and_the_error_names_the_file(
    tmp_path: Path,
) -> None:
    import numpy as np

    (tmp_path / "my.py").write_text(USER_TASK)
    (tmp_path / "helper.py").write_text("transform = abs\n")
    (tmp_path / "unrelated.py").write_text("x = 1\n")
    np.savez(tmp_path / "shift.npz", x=0.0)
    name = f"{tmp_path}/my.py:task"
    run = search(small_config(programs=6, tasks=[name]), tmp_path / "run")

    def load_task_and_resume() -> None:
        _load.cache_clear()
        resume(run.directory, programs=7)

    edits: dict[str, Callable[[], object]] = {
        "my.py": lambda: (tmp_path / "my.py").write_text(USER_TASK + "\n"),
        "helper.py": lambda: (tmp_path / "helper.py").write_text("transform = float\n"),
        "shift.npz": lambda: np.savez(tmp_path / "shift.npz", x=0.5),
    }
    for file, edit in edits.items():
        original_content = (tmp_path / file).read_bytes()
        edit()
        with pytest.raises(UsageError, match=f"{name}.*{file} changed.*undo the change"):
            load_task_and_resume()
        assert failed_subjects(check(run.directory)) == {"tasks"}
        (tmp_path / file).write_bytes(original_content)
    (tmp_path / "unrelated.py").write_text("x = 2\n")
    load_task_and_resume()
    assert Run(run.directory).status().generated == 7


def test_a_run_with_changed_bundled_data_is_not_resumed(tmp_path: Path) -> None:
    """An upgrade of the library that bundles the data, such as scikit-learn, may change the data.

    The test changes the stored digest of the data instead.
    """
    run = search(small_config(programs=6), tmp_path / "run")
    store = Store.open(run.directory, "search")
    stored_digests = store.meta("tasks")
    assert stored_digests is not None
    digest = json.loads(stored_digests)["digits-mlp"]["arrays of the task's data"]
    store.set_meta("tasks", stored_digests.replace(digest, "0" * len(digest)))
    store.close()
    with pytest.raises(UsageError, match=r"digits-mlp.*arrays of the task's data changed"):
        resume(run.directory, programs=7)
