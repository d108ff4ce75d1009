"""Repair and forking of runs: all other rows are recomputed from the measurements that replay."""

from __future__ import annotations

import itertools
import os
import shutil
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from evosearch.config import Config
from evosearch.errors import EvosearchError, UsageError
from evosearch.evolution.evolution import Evolution
from evosearch.files import explain_file_errors, write_text
from evosearch.runs.database import BEST
from evosearch.runs.directory import (
    check_config,
    make_run_directory,
    read_config,
    read_environment,
)
from evosearch.runs.provenance import divergence_error
from evosearch.runs.recorder import write_derived
from evosearch.runs.replay import Divergence, ReplayResult, replay
from evosearch.runs.rows import (
    CHAMPIONS,
    INJECTIONS,
    MEASUREMENTS,
    META,
    PROGRAMS,
    PROGRESS,
    TESTS,
    TUNING,
    VALIDATIONS,
    MeasurementRow,
)
from evosearch.runs.run import Run
from evosearch.runs.store import Store


@dataclass(frozen=True)
class ForkResult:
    """Result of `fork`.

    Attributes:
        copied_requests: Number of requests that replay and were copied.
        total_requests: Number of requests in the original run.
    """

    copied_requests: int
    total_requests: int


def replay_as_ended(config: Config, store: Store, *, derive: bool = False) -> ReplayResult:
    """Replay a run with the limit at which it ended, so that no measurement is set aside.

    Args:
        config: The run's configuration.
        store: The run's store.
        derive: As in `replay`.

    Raises:
        Divergence: The replay differs from the record.
        EvosearchError: The database is damaged.
    """
    progress = store.progress_or_guess()
    programs = None if progress.limited_from is None else progress.generated
    return replay(config, store, programs=programs, derive=derive)


def rebuild(directory: Path) -> None:
    """Recompute a run's programs, tests, champions and counts from its measurements.

    Raises:
        EvosearchError: The measurements are damaged or do not replay, or a process is searching in
            the run.
    """
    config = read_config(directory)
    store = Store.open(directory, "search")
    try:
        check_config(store, config)
        try:
            replayed = replay_as_ended(config, store, derive=True)
        except Divergence as divergence:
            raise divergence_error(divergence, store) from None
        _check_no_measurements_lost(store, replayed.evolution)
        write_derived(store, replayed.evolution)
    except BaseException:
        store.rollback()
        raise
    finally:
        store.close()


def _check_no_measurements_lost(store: Store, evolution: Evolution) -> None:
    """Check that a replay derives at least as many rows and counts as are stored.

    If a replay derives fewer, measurements are lost, and a repair would also delete the programs,
    tests and champions that followed from these measurements.

    Raises:
        EvosearchError: Measurements are lost.
    """
    stored = store.progress_or_guess()
    derived = evolution.counts
    derived_row_counts = (
        (PROGRAMS, derived.generated + 1),
        (TESTS, len(evolution.tests)),
        (CHAMPIONS, len(evolution.champions)),
    )
    # The comparison of tables detects the loss even if the stored counts are lost too.
    for table, derived_count in derived_row_counts:
        if store.count(table) > derived_count:
            raise EvosearchError(
                f"measurements are lost: table {table.name} has {store.count(table):,} rows, but "
                f"only {derived_count:,} follow from the remaining measurements; restore run.db "
                "from a "
                "copy, or continue from the remaining measurements with "
                f"`evosearch resume {store.directory} --fork NEW`"
            )
    if stored.measurements > derived.measurements or stored.generated > derived.generated:
        raise EvosearchError(
            f"measurements are lost: the run had {stored.measurements:,} measurements and "
            f"{stored.generated:,} programs, but a replay gives {derived.measurements:,} and "
            f"{derived.generated:,}; restore run.db from a copy, or continue from the remaining "
            f"measurements with `evosearch resume {store.directory} --fork NEW`"
        )


def fork(directory: Path, new: Path) -> ForkResult:
    """Copy the measurements of a run that replay into a new run, which can be resumed.

    Measurements are copied up to the first one that is damaged or that the current code would not
    request. Injected programs that the search used after the last copied request are injected again
    in the new run. The original run is not changed.

    Args:
        directory: Directory of the run to copy.
        new: Directory of the new run.

    Raises:
        UsageError: There is no run in `directory`, or `new` exists.
        EvosearchError: The run cannot be read, or `new` cannot be written.
    """
    if new.exists():
        raise UsageError(f"{new} exists; choose another name for --fork")
    config = read_config(directory)
    source = Store.open(directory)
    check_config(source, config)
    temporary = new.with_name(f".{new.name}.{os.getpid()}")
    try:
        make_run_directory(temporary, config, read_environment(directory))
        copy = Store.open(temporary, "search")
        try:
            with source.snapshot():
                copied, total = _copy(source, copy, config)
            now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
            copy.set_meta("forked_from", f"{directory.absolute()}, {copied} requests, {now}")
        finally:
            copy.close()
            source.close()
        if Run(temporary).best() is not None:
            write_text(temporary / BEST, str(Run(temporary).champion()), follow=False)
        with explain_file_errors(new):
            os.rename(temporary, new)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    return ForkResult(copied, total)


def _copy(source: Store, copy: Store, config: Config) -> tuple[int, int]:
    """Copy the measurements that replay, and return the numbers of copied and of all requests."""
    measurements = source.select_until_damaged(MEASUREMENTS)
    if len(measurements) < source.count(MEASUREMENTS) and measurements:
        # The request of the last readable row may be incomplete.
        measurements = [row for row in measurements if row.request < measurements[-1].request]
    incomplete = _first_incomplete_request(measurements, config)
    if incomplete is not None:
        measurements = [row for row in measurements if row.request < incomplete]
    injections = source.select_until_damaged(INJECTIONS)
    copy.write(META, source.select(META, "where +key = 'tasks'"))
    copy.write(TUNING, source.select(TUNING))
    copy.write(MEASUREMENTS, measurements)
    copy.write(INJECTIONS, injections)
    copy.write(PROGRESS, [source.progress_or_guess()])
    try:
        replayed = replay_as_ended(config, copy, derive=True)
    except Divergence as divergence:
        copy.clear(MEASUREMENTS)
        copy.clear(PROGRESS)  # its limit was reached after the divergence
        copy.write(MEASUREMENTS, [row for row in measurements if row.request < divergence.request])
        used_later = [row for row in injections if (row.request or 0) >= divergence.request]
        copy.write(INJECTIONS, [row._replace(request=None) for row in used_later])
        replayed = replay(config, copy, derive=True)
    write_derived(copy, replayed.evolution)
    programs = {row.id for row in copy.select(PROGRAMS)}
    copy.write(
        VALIDATIONS,
        [row for row in source.select_until_damaged(VALIDATIONS) if row.program in programs],
    )
    requests = len({row.request for row in copy.select(MEASUREMENTS)})
    return requests, source.largest(MEASUREMENTS, "request") or 0


def _first_incomplete_request(rows: Iterable[MeasurementRow], config: Config) -> int | None:
    """Return the first request that has lost a row; None if no request has.

    A request may have no row of a task only if the hurdle or the race skipped the task. A lost row
    would count as a skipped task, with the worst score.
    """
    settings = config.measurement
    for _, group in itertools.groupby(rows, lambda row: row.request):
        request_rows = list(group)
        tasks = [row.task for row in request_rows]
        can_lose_race = settings.race is not None and request_rows[0].reason == "child"
        is_below_hurdle = request_rows[-1].score < settings.hurdle
        may_skip_tasks = can_lose_race or is_below_hurdle
        is_prefix = tasks == config.tasks[: len(tasks)]
        if not is_prefix or (len(tasks) < len(config.tasks) and not may_skip_tasks):
            return request_rows[0].request
    return None
