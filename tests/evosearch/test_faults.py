"""Faults at every write: whatever fails, a resume gives the uninterrupted result.

As in SQLite's own tests, the n-th call that writes to a file fails, for n = 1, 2, 3, ...
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
from tests.evosearch.faults import faults
from tests.evosearch.test_ledger import RESULT

RECORDED = Path(__file__).parent / "data" / "runs"


@pytest.fixture(autouse=True)
def _with_fake_losses(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_losses.use_fake_scorer(monkeypatch)


@pytest.fixture
def expected(tmp_path: Path) -> dict[str, Any]:
    return fake_losses.reported_results(
        search(fake_losses.config(), tmp_path / "expected", workers=1)
    )


def test_a_fault_at_any_write_does_not_change_the_result_of_a_search(
    tmp_path: Path, expected: dict[str, Any]
) -> None:
    with faults(None) as layer:
        search(fake_losses.config(), tmp_path / "counted", workers=1)
    assert layer.calls > 150
    assert len(expected["champions"]) > 1
    first = range(1, 60)  # the writes that create the run, and the first results
    later = range(60, layer.calls + 1, 13)
    refused = 0
    for number in (*first, *later):
        directory = tmp_path / "faulty"
        shutil.rmtree(directory, ignore_errors=True)
        with faults(number) as layer:
            try:
                search(fake_losses.config(), directory, workers=1)
            except EvosearchError:
                refused += 1
        assert layer.failed is not None
        proceed = resume if (directory / DATABASE).exists() else _search
        assert fake_losses.reported_results(proceed(directory)) == expected, (number, layer.failed)
        extra = {path.name for path in directory.iterdir()} - fake_losses.FILES
        assert not extra, (number, layer.failed)
    assert refused > 40


def test_a_fault_at_any_write_while_extending_a_search_loses_no_measurement(
    tmp_path: Path, expected: dict[str, Any]
) -> None:
    """The first writes set aside the measurements after the limit of the shorter search."""
    search(fake_losses.config(programs=14), tmp_path / "short", workers=1)
    with faults(None) as layer:
        shutil.copytree(tmp_path / "short", tmp_path / "counted")
        resume(tmp_path / "counted", programs=25)
    for number in (*range(1, 24), *range(24, layer.calls + 1, 29)):
        directory = tmp_path / f"faulty-{number}"
        shutil.copytree(tmp_path / "short", directory)
        before = measured(directory)
        with faults(number) as layer, suppress(EvosearchError):
            resume(directory, programs=25)
        assert before <= measured(directory), (number, layer.failed)
        assert fake_losses.reported_results(resume(directory, programs=25)) == expected, (
            number,
            layer.failed,
        )


def measured(directory: Path) -> set[tuple[Any, ...]]:
    store = Store.open(directory)
    rows = store.select(MEASUREMENTS) + store.select(SPARES)
    store.close()
    return {(row.key, row.stream, row.seed, row.task, row.loss) for row in rows}


@pytest.mark.parametrize("version", ["schema-1", "schema-2"])
def test_a_fault_at_any_write_of_a_migration_leaves_the_run_unchanged(
    version: str, tmp_path: Path
) -> None:
    original = Run(RECORDED / version).top(None)
    shutil.copytree(RECORDED / version, tmp_path / "counted")
    with faults(None) as layer:
        Store.open(tmp_path / "counted", "inject").close()
    assert layer.calls > 40
    for number in (*range(1, 8), *range(8, layer.calls + 1, 11)):
        directory = tmp_path / f"faulty-{number}"
        shutil.copytree(RECORDED / version, directory)
        with faults(number) as layer, suppress(EvosearchError):
            Store.open(directory, "inject").close()
        assert Run(directory).top(None) == original, layer.failed
        Store.open(directory, "inject").close()
        store = Store.open(directory)
        assert not store.is_migrated_copy
        assert not store.damaged_rows()
        assert Run(directory).top(None) == original


def test_a_fault_while_forking_a_run_leaves_no_partial_copy(tmp_path: Path) -> None:
    search(fake_losses.config(programs=14), tmp_path / "run", workers=1)
    with faults(None) as layer:
        fork(tmp_path / "run", tmp_path / "counted")
    top = Run(tmp_path / "run").top(None)
    for number in range(1, layer.calls + 1, 3):
        with faults(number), suppress(EvosearchError):
            fork(tmp_path / "run", tmp_path / "new")
        if (tmp_path / "new").exists():
            assert Run(tmp_path / "new").top(None) == top
            shutil.rmtree(tmp_path / "new")
        assert Run(tmp_path / "run").top(None) == top


def test_power_loss_between_two_syncs_loses_results_and_never_the_run(
    tmp_path: Path, expected: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Data written since the last sync of the write-ahead log is lost wholly or in part."""
    snapshots: list[Path] = []
    commit = Store.commit

    def committed(store: Store) -> None:
        commit(store)
        snapshots.append(tmp_path / f"snapshot-{len(snapshots)}")
        shutil.copytree(store.directory, snapshots[-1])

    monkeypatch.setattr(Store, "commit", committed)
    search(fake_losses.config(), tmp_path / "run", workers=1)
    monkeypatch.undo()
    fake_losses.use_fake_scorer(monkeypatch)
    rng = np.random.default_rng(0)
    torn = 0
    for snapshot in snapshots[:: max(1, len(snapshots) // 10)]:
        log = snapshot / f"{DATABASE}-wal"
        (snapshot / f"{DATABASE}-shm").unlink(missing_ok=True)
        if log.exists() and (size := log.stat().st_size):
            kept = int(rng.integers(size))
            log.write_bytes(log.read_bytes()[:kept] + rng.bytes(int(rng.integers(200))))
            torn += 1
        if (snapshot / "best.txt").exists():
            (snapshot / "best.txt").write_bytes(b"")
        log = snapshot / "log.jsonl"
        lines = log.read_bytes() if log.exists() else b""
        log.write_bytes(lines[: len(lines) // 2])
        assert fake_losses.reported_results(resume(snapshot)) == expected
        assert not Store.open(snapshot).damaged_rows()
    assert torn > 5


def _search(directory: Path) -> Run:
    return search(fake_losses.config(), directory, workers=1)


def test_a_fault_at_any_write_of_the_ledger_loses_stored_trainings_only(
    tmp_path: Path,
) -> None:
    def use(path: Path, **options: Any) -> JobResult | None:
        ledger = Ledger(path, **options)
        ledger.log("validation", ["digits-mlp-10x"], ["lion"])
        ledger.put("key", "digits-mlp-10x lion", RESULT)
        result = ledger.get("key")
        ledger.close()
        return result

    with faults(None) as layer:
        use(tmp_path / "counted" / "evaluations.db")
    assert layer.calls > 4
    for number in range(1, layer.calls + 1):
        path, notices = tmp_path / str(number) / "evaluations.db", list[str]()
        with faults(number) as layer:
            use(path, on_error=notices.append)
        assert layer.failed
        assert notices, layer.failed
        with faults(number), pytest.raises(EvosearchError):
            use(tmp_path / f"no-callback-{number}" / "evaluations.db")
        result = use(path)
        assert result is not None
        assert result.loss == RESULT.loss
