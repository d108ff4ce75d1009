"""The record: resuming deletes nothing, and a record that does not replay is refused."""

from __future__ import annotations

import ast
import importlib
import json
import math
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

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
from tests.evosearch import fake_losses
from tests.evosearch.stored_runs import make_stored_run
from tests.evosearch.test_search import small

EXAMPLE = Path(__file__).parents[2] / "runs" / "example"
RECORDED = Path(__file__).parent / "data" / "runs"
OLDER = RECORDED / "schema-2-older"


def files(directory: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in directory.rglob("*")
        if path.is_file() and path.name not in ("lock", "log.jsonl")
    }


def alter_measurement(directory: Path, where: str, **values: Any) -> None:
    """Change the first measurement that `where` selects, with a valid checksum."""
    store = Store.open(directory, "search")
    row = store.select(MEASUREMENTS, f"where {where} order by rowid limit 1")[0]
    store.write(MEASUREMENTS, [row._replace(**values)])
    store.close()


# -- resuming ------------------------------------------------------------------------------------


@pytest.mark.parametrize("run", [OLDER, RECORDED / "schema-1"], ids=["schema-2-older", "schema-1"])
def test_a_run_of_another_version_is_refused_and_not_changed(run: Path, tmp_path: Path) -> None:
    """A resume by an earlier version silently reduced the 5,001 programs of a run to 2,430."""
    directory = tmp_path / "copy"
    shutil.copytree(run, directory)
    before, top = files(directory), Run(directory).top(None)
    with pytest.raises(EvosearchError) as caught:
        resume(directory)
    message = str(caught.value)
    assert "at request 18 its record has program" in message
    assert "but a replay gives program" in message
    assert "stored no digest" in message
    assert f"this is evosearch 0.1.0, code {code_digest()}" in message
    for remedy in ("status", "search --init", "--fork NEW"):
        assert f"`evosearch {remedy}" in message or remedy in message
    assert files(directory) == before
    assert Run(directory).top(None) == top


def test_the_example_run_replays_completely_with_this_version() -> None:
    """If a change makes another search, create the run again as `runs/README.md` describes."""
    run = Run(EXAMPLE)
    replayed = replay_as_ended(run.config, Store.open(EXAMPLE))
    assert replayed.set_aside_from is None
    assert replayed.evolution.counts.generated == run.status().generated
    quick = load_preset("quick") | {"init": run.config.init, "seed": 1}
    assert run.config == make_config(quick)


def test_an_older_run_of_the_current_schema_can_be_read_and_resumed(tmp_path: Path) -> None:
    """The run was made before jobs and backends existed."""
    directory = tmp_path / "copy"
    shutil.copytree(RECORDED / "schema-3", directory)
    run = Run(directory)
    assert (run.status().generated, len(run.champions())) == (120, 2)
    top = run.top(None)
    assert replay_as_ended(run.config, Store.open(directory)).set_aside_from is None
    assert resume(directory).top(None) == top
    assert resume(directory, programs=125).status().generated == 125


def test_a_run_of_the_previous_schema_replays_completely_and_is_migrated_with_a_backup(
    tmp_path: Path,
) -> None:
    directory = tmp_path / "copy"
    shutil.copytree(RECORDED / "schema-2", directory)
    before, original = Run(directory).top(None), (directory / DATABASE).read_bytes()
    assert replay_as_ended(Run(directory).config, Store.open(directory)).set_aside_from is None
    assert (directory / DATABASE).read_bytes() == original
    assert resume(directory).top(None) == before
    assert (directory / f"{DATABASE}.schema-2").stat().st_size == len(original)
    store = Store.open(directory)
    assert store.meta("schema_version") == str(SCHEMA_VERSION)
    assert not store.damaged_rows()


def test_a_run_with_an_altered_loss_is_refused_as_corrupt_and_not_changed(tmp_path: Path) -> None:
    """The altered row has a valid checksum, so only the replay detects the change."""
    directory = tmp_path / "run"
    search(small(programs=60), directory)
    alter_measurement(directory, "program = 0", loss=None, score=-math.log(4.0))
    store = Store.open(directory)
    counts = {table.name: store.count(table) for table in TABLES}
    store.close()
    with pytest.raises(EvosearchError, match="the code is the same, so the record is corrupt"):
        resume(directory, programs=90)
    store = Store.open(directory)
    assert {table.name: store.count(table) for table in TABLES} == counts


def test_a_resume_beyond_the_limit_that_is_interrupted_keeps_every_measurement(
    tmp_path: Path,
) -> None:
    directory = tmp_path / "run"
    search(small(programs=60), directory)

    def measured() -> set[tuple[Any, ...]]:
        store = Store.open(directory)
        rows = store.select(MEASUREMENTS) + store.select(SPARES)
        store.close()
        return {(row.key, row.stream, row.seed, row.task, row.loss) for row in rows}

    before = measured()

    class InterruptingObserver(Observer):
        search: Search

        def update(self, snapshot: object) -> None:
            self.search.interrupt()

    observer = InterruptingObserver()
    observer.search = Search(
        directory, read_config(directory), limits=Limits(programs=120), observer=observer
    )
    assert observer.search.run() == "interrupted"
    assert before <= measured()
    assert Store.open(directory).count(SPARES) > 0
    uninterrupted = search(small(programs=120), tmp_path / "uninterrupted")
    assert resume(directory, programs=120).top(None) == uninterrupted.top(None)
    assert before <= measured()


def test_a_missing_program_or_measurement_is_a_divergence(tmp_path: Path) -> None:
    make_stored_run(tmp_path / "run", programs=200)
    config = Run(tmp_path / "run").config
    for table, where in ((PROGRAMS, "id = 40"), (MEASUREMENTS, "request = 30")):
        shutil.copytree(tmp_path / "run", tmp_path / table.name)
        with sqlite3.connect(tmp_path / table.name / DATABASE) as db:
            db.execute(f"delete from {table.name} where {where}")
        with pytest.raises(Divergence):
            replay_as_ended(config, Store.open(tmp_path / table.name))


@pytest.mark.parametrize("table", [TESTS, CHAMPIONS], ids=["tests", "champions"])
def test_a_verdict_that_contradicts_the_measurements_is_a_divergence(
    table: Any, tmp_path: Path
) -> None:
    evolution = make_stored_run(tmp_path / "run", programs=1200)
    assert len(evolution.tests) > 1
    with sqlite3.connect(tmp_path / "run" / DATABASE) as db:
        db.execute(f"delete from {table.name} where number = 1")
    with pytest.raises(Divergence, match=table.name):
        replay_as_ended(evolution.config, Store.open(tmp_path / "run"))


def test_every_schema_version_has_a_recorded_run() -> None:
    versions = {
        sqlite3.connect(path / DATABASE)
        .execute("select value from meta where key = 'schema_version'")
        .fetchone()[0]
        for path in RECORDED.iterdir()
    }
    assert versions == {str(number) for number in range(1, SCHEMA_VERSION + 1)}


def test_a_run_is_never_written_through_a_link(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An untrusted run may have links to any file."""
    fake_losses.use_fake_scorer(monkeypatch)
    directory, outside = tmp_path / "run", tmp_path / "outside"
    search(fake_losses.config(programs=12), directory)
    for name in ("best.txt", "environment.json", "activity.json", "funnel.json"):
        (directory / name).unlink(missing_ok=True)
        (directory / name).symlink_to(outside)
    outside.write_text("mine")
    resume(directory, programs=20)
    Run(directory).save_funnel({"stages": [], "winner": None})
    assert outside.read_text() == "mine"
    assert not (directory / "best.txt").is_symlink()
    (directory / "log.jsonl").unlink()
    (directory / "log.jsonl").symlink_to(outside)
    with pytest.raises(EvosearchError, match=r"log\.jsonl"):
        resume(directory, programs=30)
    assert outside.read_text() == "mine"


# -- provenance ----------------------------------------------------------------------------------


def test_a_run_records_each_process_that_searched_in_it(tmp_path: Path) -> None:
    search(small(programs=20), tmp_path / "run")
    resume(tmp_path / "run", programs=30)
    first, second = Store.open(tmp_path / "run").select(PROCESSES, "order by number")
    assert (first.number, second.number) == (1, 2)
    assert first.first_request == 1 < second.first_request
    assert first.code == second.code == code_digest()
    assert "jax " in first.libraries


def _defining_modules(module: str) -> set[str]:
    """Return the project's modules that define the names which `module` imports."""
    source = Path(importlib.import_module(module).__file__ or "").read_text(encoding="utf-8")
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module:
            imported = importlib.import_module(node.module)
            for alias in node.names:
                value = getattr(imported, alias.name)
                if isinstance(value, type(ast)):
                    found.add(value.__name__)
                else:
                    found.add(getattr(value, "__module__", node.module))
    packages = ("evosearch", "primitives", "proxies")
    return {home for home in found if home.split(".")[0] in packages}


def test_the_code_digest_covers_all_modules_that_evolution_uses() -> None:
    """Exceptions are modules for messages, LaTeX and schedules, and a package of re-exports."""
    decides_nothing = {
        "evosearch.errors",
        "evosearch.files",
        "primitives",
        "primitives.text.formula",
        "primitives.text.notation",
        "primitives.text.wording",
        "proxies.training.schedules",
    }
    reached = {"evosearch.evolution.evolution"}
    waiting = list(reached)
    while waiting:
        for home in _defining_modules(waiting.pop()) - reached - decides_nothing:
            reached.add(home)
            waiting.append(home)
    assert reached == set(DECIDING_MODULES)


# -- forking -------------------------------------------------------------------------------------


def test_a_fork_copies_what_replays_and_leaves_the_original_run_unchanged(
    tmp_path: Path,
) -> None:
    directory, new = tmp_path / "run", tmp_path / "new"
    search(small(programs=60), directory)
    alter_measurement(directory, "program = 0", loss=None, score=-math.log(4.0))
    before = files(directory)
    forked = fork(directory, new)
    assert 0 < forked.copied_requests < forked.total_requests
    assert files(directory) == before
    assert resume(new).status().generated == 60
    with pytest.raises(UsageError, match="exists"):
        fork(directory, new)
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_a_fork_of_an_undamaged_run_is_complete(tmp_path: Path) -> None:
    make_stored_run(tmp_path / "run", programs=300)
    forked = fork(tmp_path / "run", tmp_path / "new")
    assert forked.copied_requests == forked.total_requests
    assert Run(tmp_path / "new").top(None) == Run(tmp_path / "run").top(None)
    assert Run(tmp_path / "new").champions() == Run(tmp_path / "run").champions()


# -- checking ------------------------------------------------------------------------------------


def failed_subjects(findings: list[Finding]) -> set[str]:
    return {finding.subject for finding in findings if not finding.ok}


@pytest.fixture(scope="module")
def undamaged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("checked") / "run"
    with pytest.MonkeyPatch.context() as patch:
        fake_losses.use_fake_scorer(patch)
        search(fake_losses.config(programs=120), directory)
    return directory


def _edit_config(pattern: str, replacement: str) -> Callable[[Path], None]:
    def damage(run: Path) -> None:
        path = run / "config.toml"
        path.write_text(path.read_text().replace(pattern, replacement))

    return damage


def _run_sql(statement: str) -> Callable[[Path], None]:
    def damage(run: Path) -> None:
        with sqlite3.connect(run / DATABASE) as db:
            db.execute(statement)

    return damage


DAMAGE: dict[str, tuple[Callable[[Path], None], set[str], bool]] = {
    "a setting": (
        _edit_config("noise_floor = 0.01", "noise_floor = 0.11"),
        {"configuration"},
        True,
    ),
    "a program": (_run_sql("update programs set mutation = 'x' where id = 7"), {"rows"}, True),
    "a missing program": (_run_sql("delete from programs where id = 7"), {"rows"}, True),
    "a verdict": (_run_sql("update tests set won = 1 - won where number = 1"), {"rows"}, True),
    "a missing champion": (_run_sql("delete from champions where number = 1"), {"rows"}, True),
    "counts": (_run_sql("update progress set generated = 'many'"), {"rows"}, True),
    "best.txt": (lambda run: (run / "best.txt").write_bytes(b"\xff"), {"best.txt"}, True),
    "no counts": (_run_sql("delete from progress"), {"rows"}, True),
    "a loss": (_run_sql("update measurements set loss = 2 where rowid = 5"), {"rows"}, False),
    "a log": (lambda run: (run / "log.jsonl").write_bytes(b"{\n"), {"log.jsonl"}, False),
}


def _rows(run: Path) -> dict[str, list[Any]]:
    store = Store.open(run)
    return {table.name: list(store.select(table)) for table in TABLES}


def test_lost_measurements_are_detected_even_if_the_counts_are_lost(
    undamaged: Path, tmp_path: Path
) -> None:
    """The stored programs and tests reveal the loss; neither repair nor resume deletes them."""
    run = tmp_path / "run"
    shutil.copytree(undamaged, run)
    _run_sql("delete from progress")(run)
    _run_sql("delete from measurements where request > 30")(run)
    before = _rows(run)
    failed = {
        finding.subject: finding.text for finding in check(run, repair=True) if not finding.ok
    }
    assert "measurements are lost" in failed["rows"]
    with pytest.raises(EvosearchError, match="its counts are missing"):
        resume(run)
    assert _rows(run) == before


def test_a_fork_of_a_run_that_lost_only_its_counts_is_complete(
    undamaged: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(undamaged, run)
    _run_sql("delete from progress")(run)
    forked = fork(run, tmp_path / "fork")
    assert forked.copied_requests == forked.total_requests
    assert Run(tmp_path / "fork").top(None) == Run(undamaged).top(None)


@pytest.mark.parametrize("where", ["rowid = (select max(rowid) from measurements)", "rowid = 60"])
def test_a_run_that_lost_a_measurement_is_not_resumed(
    where: str, undamaged: Path, tmp_path: Path
) -> None:
    """A lost task of a request would otherwise count as skipped, with the worst score.

    A fork has the requests before the loss.
    """
    run = tmp_path / "run"
    shutil.copytree(undamaged, run)
    _run_sql(f"delete from measurements where {where}")(run)
    before = _rows(run)
    with pytest.raises(EvosearchError, match="table measurements has"):
        resume(run)
    assert _rows(run) == before
    forked = fork(run, tmp_path / "fork")
    assert forked.copied_requests < forked.total_requests  # up to the request that lost a row
    copied, complete = (_rows(path)["measurements"] for path in (tmp_path / "fork", undamaged))
    assert copied == complete[: len(copied)]
    remaining = before["measurements"]
    lost = next((n for n, row in enumerate(remaining) if row != complete[n]), len(remaining))
    expected_requests = {row.request for row in complete[:lost]} - {complete[lost].request}
    assert {row.request for row in copied} == expected_requests


@pytest.mark.parametrize("name", DAMAGE)
def test_check_finds_damage_and_repairs_what_follows_from_measurements(
    name: str, undamaged: Path, tmp_path: Path
) -> None:
    damage, subjects, can_be_repaired = DAMAGE[name]
    run = tmp_path / "run"
    shutil.copytree(undamaged, run)
    assert not failed_subjects(check(run))
    damage(run)
    assert subjects <= failed_subjects(check(run))
    repaired = check(run, repair=True)
    assert not can_be_repaired or not failed_subjects(repaired)
    if can_be_repaired:
        assert {finding.subject for finding in repaired if finding.repaired} & subjects
        assert not failed_subjects(check(run))
        assert Run(run).top(None) == Run(undamaged).top(None)
        assert Run(run).champions() == Run(undamaged).champions()
        # The time spent and the stop reason cannot be derived again.
        unknown = {"run", "elapsed_seconds", "programs_per_second", "stop_reason"}
        after, before = (Run(path).status().document() for path in (run, undamaged))
        assert all(after[key] == before[key] for key in after.keys() - unknown)
        best = Run(run).top(1)[0].id
        assert lineage(Run(run), best) == lineage(Run(undamaged), best)
    else:
        assert subjects <= failed_subjects(repaired)


def test_a_run_can_be_checked_and_forked_while_a_process_is_searching_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Checks and forks read a consistent state between two commits."""
    fake_losses.use_fake_scorer(monkeypatch)
    commit, commits = Store.commit, iter(range(10_000))
    results: list[list[Finding]] = []

    def committed(store: Store) -> None:
        commit(store)
        number = next(commits)
        if number % 9 == 8 and store.directory.name == "run":
            results.append(check(store.directory))
            fork(store.directory, tmp_path / f"fork-{number}")

    monkeypatch.setattr(Store, "commit", committed)
    search(fake_losses.config(), tmp_path / "run", workers=1)
    assert len(results) > 3
    for findings in results:
        # `best.txt` is written after the commit of the first champion.
        assert failed_subjects(findings) <= {"best.txt"}
    for path in tmp_path.glob("fork-*"):
        assert not failed_subjects(check(path)) - {"best.txt"}


# -- injections ----------------------------------------------------------------------------------


def test_an_invalid_injection_is_set_aside_with_a_notice_and_the_search_continues(
    tmp_path: Path,
) -> None:
    directory = tmp_path / "run"
    search(small(programs=20), directory)
    store = Store.open(directory, "inject")
    bad = store.inject("def train(w, g, lr):\n    if = g * lr\n    return if\n")
    good = store.inject(str(zoo.load("lion")))
    store.close()
    resume(directory, programs=50)
    rows = {row.id: row for row in Store.open(directory).select(INJECTIONS)}
    assert rows[bad].request is None
    assert rows[bad].withdrawn
    assert rows[good].request is not None
    assert f"injected program i{bad} is set aside" in (directory / "log.jsonl").read_text()
    assert resume(directory, programs=50).status().generated == 50


def test_a_withdrawn_injection_is_never_used_and_a_used_one_cannot_be_withdrawn(
    tmp_path: Path,
) -> None:
    directory = tmp_path / "run"
    search(small(programs=20), directory)
    store = Store.open(directory, "inject")
    one, two = store.inject(str(zoo.load("lion"))), store.inject(str(zoo.load("adam")))
    store.withdraw(one, "withdrawn by hand")
    with pytest.raises(UsageError, match="no injected program i9"):
        store.withdraw(9, "")
    store.close()
    resume(directory, programs=50)
    store = Store.open(directory, "inject")
    rows = {row.id: row for row in store.select(INJECTIONS)}
    assert rows[one].request is None
    assert rows[two].request is not None
    with pytest.raises(UsageError, match="used it at request"):
        store.withdraw(two, "")
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
    return replace(base, loss=lambda *words: base.loss(*words) + helper.more(shift))
"""


def test_a_run_with_an_edited_task_is_not_resumed_and_the_error_names_the_file(
    tmp_path: Path,
) -> None:
    import numpy as np

    from proxies.user_tasks import files as own

    (tmp_path / "my.py").write_text(USER_TASK)
    (tmp_path / "helper.py").write_text("more = abs\n")
    (tmp_path / "unrelated.py").write_text("x = 1\n")
    np.savez(tmp_path / "shift.npz", x=0.0)
    name = f"{tmp_path}/my.py:task"
    run = search(small(programs=6, tasks=[name]), tmp_path / "run")

    def again() -> None:
        own._load.cache_clear()
        resume(run.directory, programs=7)

    edits: dict[str, Callable[[], object]] = {
        "my.py": lambda: (tmp_path / "my.py").write_text(USER_TASK + "\n"),
        "helper.py": lambda: (tmp_path / "helper.py").write_text("more = float\n"),
        "shift.npz": lambda: np.savez(tmp_path / "shift.npz", x=0.5),
    }
    for file, edit in edits.items():
        before = (tmp_path / file).read_bytes()
        edit()
        with pytest.raises(UsageError, match=f"{name}.*{file} changed.*undo the change"):
            again()
        assert failed_subjects(check(run.directory)) == {"tasks"}
        (tmp_path / file).write_bytes(before)
    (tmp_path / "unrelated.py").write_text("x = 2\n")
    again()
    assert Run(run.directory).status().generated == 7


def test_a_run_with_changed_bundled_data_is_not_resumed(tmp_path: Path) -> None:
    """An upgrade of the library that bundles the data may change them."""
    run = search(small(programs=6), tmp_path / "run")
    store = Store.open(run.directory, "search")
    kept = store.meta("tasks")
    assert kept is not None
    digest = json.loads(kept)["digits-mlp"]["arrays of the task's data"]
    store.set_meta("tasks", kept.replace(digest, "0" * len(digest)))
    store.close()
    with pytest.raises(UsageError, match=r"digits-mlp.*arrays of the task's data changed"):
        resume(run.directory, programs=7)
