"""Tests that a search resumed after a failed write gives the result of an uninterrupted search.

As in the tests of SQLite, the n-th call that writes to a file fails, for n = 1, 2, 3, ...
"""

from __future__ import annotations

import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evosearch.errors import EvosearchError
from evosearch.measuring.job import JobResult
from evosearch.measuring.ledger import Ledger
from evosearch.pipeline.pipeline import resume, search
from evosearch.runs.database import DATABASE
from evosearch.runs.recovery import fork
from evosearch.runs.rows import MEASUREMENTS, SPARES
from evosearch.runs.run import Run
from evosearch.runs.store import Store
from tests.evosearch import fake_losses
from tests.evosearch.faults import fault_at_write
from tests.evosearch.test_ledger import RESULT

RECORDED_RUNS = Path(__file__).parent / "data" / "runs"


@pytest.fixture(autouse=True)
def _with_fake_losses(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_losses.use_fake_scorer(monkeypatch)


@pytest.fixture
def expected(tmp_path: Path) -> dict[str, Any]:
    """The reported results of an uninterrupted search."""
    return fake_losses.reported_results(
        search(fake_losses.config(), tmp_path / "expected", workers=1)
    )


def test_a_fault_at_any_write_does_not_change_the_result_of_a_search(
    tmp_path: Path, expected: dict[str, Any]
) -> None:
    with fault_at_write(None) as counter:
        search(fake_losses.config(), tmp_path / "counted", workers=1)
    assert counter.calls > 150
    assert len(expected["champions"]) > 1
    # Every one of the writes that create the run and its first rows fails, then every 13th.
    write_numbers = (*range(1, 60), *range(60, counter.calls + 1, 13))
    errors = 0
    for number in write_numbers:
        directory = tmp_path / "faulty"
        shutil.rmtree(directory, ignore_errors=True)
        with fault_at_write(number) as counter:
            try:
                search(fake_losses.config(), directory, workers=1)
            except EvosearchError:
                errors += 1
        assert counter.failed is not None
        has_run = (directory / DATABASE).exists()
        run = resume(directory) if has_run else search(fake_losses.config(), directory, workers=1)
        assert fake_losses.reported_results(run) == expected, (number, counter.failed)
        temporary_files = {path.name for path in directory.iterdir()} - fake_losses.FILES
        assert not temporary_files, (number, counter.failed)
    assert errors > 40


def test_a_fault_at_any_write_while_extending_a_search_loses_no_measurement(
    tmp_path: Path, expected: dict[str, Any]
) -> None:
    """At first, such a search sets aside the measurements after the limit of the shorter search."""
    search(fake_losses.config(programs=14), tmp_path / "short", workers=1)
    with fault_at_write(None) as counter:
        shutil.copytree(tmp_path / "short", tmp_path / "counted")
        resume(tmp_path / "counted", programs=25)
    for number in (*range(1, 24), *range(24, counter.calls + 1, 29)):
        directory = tmp_path / f"faulty-{number}"
        shutil.copytree(tmp_path / "short", directory)
        losses_before = stored_losses(directory)
        with fault_at_write(number) as counter, suppress(EvosearchError):
            resume(directory, programs=25)
        assert losses_before <= stored_losses(directory), (number, counter.failed)
        run = resume(directory, programs=25)
        assert fake_losses.reported_results(run) == expected, (number, counter.failed)


def stored_losses(directory: Path) -> set[tuple[Any, ...]]:
    """Return the losses in a run's database, each with program, seed and task."""
    store = Store.open(directory)
    rows = store.select(MEASUREMENTS) + store.select(SPARES)
    store.close()
    return {(row.key, row.stream, row.seed, row.task, row.loss) for row in rows}


@pytest.mark.parametrize("version", ["schema-1", "schema-2"])
def test_a_fault_at_any_write_of_a_migration_leaves_the_run_unchanged(
    version: str, tmp_path: Path
) -> None:
    original_top = Run(RECORDED_RUNS / version).top(None)
    shutil.copytree(RECORDED_RUNS / version, tmp_path / "counted")
    with fault_at_write(None) as counter:
        Store.open(tmp_path / "counted", "inject").close()
    assert counter.calls > 40
    for number in (*range(1, 8), *range(8, counter.calls + 1, 11)):
        directory = tmp_path / f"faulty-{number}"
        shutil.copytree(RECORDED_RUNS / version, directory)
        with fault_at_write(number) as counter, suppress(EvosearchError):
            Store.open(directory, "inject").close()
        assert Run(directory).top(None) == original_top, counter.failed
        Store.open(directory, "inject").close()
        store = Store.open(directory)
        assert not store.is_migrated_copy
        assert not store.damaged_rows()
        assert Run(directory).top(None) == original_top


def test_a_fault_while_forking_a_run_leaves_no_partial_copy(tmp_path: Path) -> None:
    search(fake_losses.config(programs=14), tmp_path / "run", workers=1)
    with fault_at_write(None) as counter:
        fork(tmp_path / "run", tmp_path / "counted")
    top_before = Run(tmp_path / "run").top(None)
    for number in range(1, counter.calls + 1, 3):
        with fault_at_write(number), suppress(EvosearchError):
            fork(tmp_path / "run", tmp_path / "fork")
        if (tmp_path / "fork").exists():
            assert Run(tmp_path / "fork").top(None) == top_before
            shutil.rmtree(tmp_path / "fork")
        assert Run(tmp_path / "run").top(None) == top_before


def test_after_a_power_failure_a_run_can_be_resumed_to_the_uninterrupted_result(
    tmp_path: Path, expected: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A power failure loses data of the write-ahead log that were written since its last sync.

    The test copies the run after each commit, and truncates files of some copies.
    """
    copies: list[Path] = []
    original_commit = Store.commit

    def commit_and_copy(store: Store) -> None:
        original_commit(store)
        copies.append(tmp_path / f"copy-{len(copies)}")
        shutil.copytree(store.directory, copies[-1])

    monkeypatch.setattr(Store, "commit", commit_and_copy)
    search(fake_losses.config(), tmp_path / "run", workers=1)
    monkeypatch.undo()
    fake_losses.use_fake_scorer(monkeypatch)
    rng = np.random.default_rng(0)
    damaged_logs = 0
    for copy in copies[:: max(1, len(copies) // 10)]:
        write_ahead_log, events = copy / f"{DATABASE}-wal", copy / "log.jsonl"
        (copy / f"{DATABASE}-shm").unlink(missing_ok=True)
        if write_ahead_log.exists() and (size := write_ahead_log.stat().st_size):
            kept = write_ahead_log.read_bytes()[: int(rng.integers(size))]
            write_ahead_log.write_bytes(kept + rng.bytes(int(rng.integers(200))))
            damaged_logs += 1
        if (copy / "best.txt").exists():
            (copy / "best.txt").write_bytes(b"")
        content = events.read_bytes() if events.exists() else b""
        events.write_bytes(content[: len(content) // 2])
        assert fake_losses.reported_results(resume(copy)) == expected
        assert not Store.open(copy).damaged_rows()
    assert damaged_logs > 5


def test_a_fault_at_any_write_of_the_ledger_loses_only_stored_trainings(
    tmp_path: Path,
) -> None:
    """With a callback `on_error` a fault is a notice, and otherwise an error."""

    def store_and_read_training(path: Path, **options: Any) -> JobResult | None:
        ledger = Ledger(path, **options)
        ledger.log("validation", ["digits-mlp-10x"], ["lion"])
        ledger.put("key", "digits-mlp-10x lion", RESULT)
        result = ledger.get("key")
        ledger.close()
        return result

    with fault_at_write(None) as counter:
        store_and_read_training(tmp_path / "counted" / "evaluations.db")
    assert counter.calls > 4
    for number in range(1, counter.calls + 1):
        path, notices = tmp_path / str(number) / "evaluations.db", list[str]()
        with fault_at_write(number) as counter:
            store_and_read_training(path, on_error=notices.append)
        assert counter.failed
        assert notices, counter.failed
        with fault_at_write(number), pytest.raises(EvosearchError):
            store_and_read_training(tmp_path / f"no-callback-{number}" / "evaluations.db")
        result = store_and_read_training(path)
        assert result is not None
        assert result.loss == RESULT.loss
