"""What can be derived again of a run: everything but its measurements and what people put in."""

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
from evosearch.runs.replay import Divergence, Replayed, replay
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
    """How much of a run `fork` copied.

    Attributes:
        copied_requests: Number of requests that replay and were copied.
        total_requests: Number of requests in the original run.
    """

    copied_requests: int
    total_requests: int


def replay_as_ended(config: Config, store: Store, *, derive: bool = False) -> Replayed:
    """Replays a run under the limit that it reached, so that nothing is set aside.

    Raises:
        Divergence: what is stored is not what the present code makes.
        EvosearchError: the database is damaged.
    """
    progress = store.progress_or_guess()
    programs = None if progress.limited_from is None else progress.generated
    return replay(config, store, programs=programs, derive=derive)


def rebuild(directory: Path) -> None:
    """Writes anew what follows from a run's measurements: programs, tests, champions, counts.

    Raises:
        EvosearchError: the measurements do not replay, are damaged, or a process searches there.
    """
    config = read_config(directory)
    store = Store.open(directory, "search")
    try:
        check_config(store, config)
        try:
            replayed = replay_as_ended(config, store, derive=True)
        except Divergence as divergence:
            raise divergence_error(divergence, store) from None
        _check_none_is_lost(store, replayed.evolution)
        write_derived(store, replayed.evolution)
    except BaseException:
        store.rollback()
        raise
    finally:
        store.close()


def _check_none_is_lost(store: Store, evolution: Evolution) -> None:
    """Whether the measurements lead to everything that is stored.

    If some are lost, so would be the programs and verdicts that followed from them.

    Raises:
        EvosearchError: they do not.
    """
    counted = store.progress_or_guess()
    made = evolution.counts
    followed = (
        (PROGRAMS, made.generated + 1),
        (TESTS, len(evolution.tests)),
        (CHAMPIONS, len(evolution.champions)),
    )
    for table, derived in followed:  # they tell where the counts are gone too
        if store.count(table) > derived:
            raise EvosearchError(
                f"measurements are lost: those that are left lead to {derived:,} rows of table "
                f"{table.name}, which has {store.count(table):,}; restore run.db from a copy, or "
                f"continue from what is left by `evosearch resume {store.directory} --fork NEW`"
            )
    if counted.measurements > made.measurements or counted.generated > made.generated:
        raise EvosearchError(
            f"measurements are lost: {counted.measurements:,} were counted, of "
            f"{counted.generated:,} programs, and those that are left lead to "
            f"{made.measurements:,} and {made.generated:,}; restore run.db from a copy, or "
            f"continue from what is left by `evosearch resume {store.directory} --fork NEW`"
        )


def fork(directory: Path, new: Path) -> ForkResult:
    """Copies what still replays of the run in `directory` into a new run, which can be resumed.

    Measurements are copied up to the first that is damaged or that the present code would not ask
    for; injected programs that were taken up later wait again. The run itself stays as it is.

    Raises:
        UsageError: there is no run, or `new` exists.
        EvosearchError: the run cannot be read, or `new` cannot be written.
    """
    if new.exists():
        raise UsageError(f"{new} exists; give --fork a name that does not")
    config = read_config(directory)
    source = Store.open(directory)
    check_config(source, config)
    partial = new.with_name(f".{new.name}.{os.getpid()}")
    try:
        make_run_directory(partial, config, read_environment(directory))
        copy = Store.open(partial, "search")
        try:
            with source.snapshot():
                copied, total = _copy(source, copy, config)
            now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
            copy.set_meta("forked_from", f"{directory.absolute()}, {copied} requests, {now}")
        finally:
            copy.close()
            source.close()
        if Run(partial).best() is not None:
            write_text(partial / BEST, str(Run(partial).champion()), follow=False)
        with explain_file_errors(new):
            os.rename(partial, new)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return ForkResult(copied, total)


def _copy(source: Store, copy: Store, config: Config) -> tuple[int, int]:
    """Copies measurements as far as they replay; how many requests, and of how many."""
    measured = source.readable(MEASUREMENTS)
    if len(measured) < source.count(MEASUREMENTS) and measured:
        # The request of the last readable row may have lost the others.
        measured = [row for row in measured if row.request < measured[-1].request]
    broken = _first_incomplete(measured, config)
    if broken is not None:
        measured = [row for row in measured if row.request < broken]
    injections = source.readable(INJECTIONS)
    copy.write(META, source.select(META, "where +key = 'tasks'"))
    copy.write(TUNING, source.select(TUNING))
    copy.write(MEASUREMENTS, measured)
    copy.write(INJECTIONS, injections)
    copy.write(PROGRESS, [source.progress_or_guess()])
    try:
        replayed = replay_as_ended(config, copy, derive=True)
    except Divergence as divergence:
        copy.clear(MEASUREMENTS)
        copy.clear(PROGRESS)  # and with it the limit, which lay beyond
        copy.write(MEASUREMENTS, [row for row in measured if row.request < divergence.request])
        later = [row for row in injections if (row.request or 0) >= divergence.request]
        copy.write(INJECTIONS, [row._replace(request=None) for row in later])
        replayed = replay(config, copy, derive=True)
    write_derived(copy, replayed.evolution)
    programs = {row.id for row in copy.select(PROGRAMS)}
    copy.write(
        VALIDATIONS, [row for row in source.readable(VALIDATIONS) if row.program in programs]
    )
    requests = len({row.request for row in copy.select(MEASUREMENTS)})
    return requests, source.largest(MEASUREMENTS, "request") or 0


def _first_incomplete(rows: Iterable[MeasurementRow], config: Config) -> int | None:
    """The first request that lacks a task which neither hurdle nor race spared it; None for none.

    Its rows are gone, and without them the task would count as spared, with the worst score.
    """
    limits = config.measurement
    for _, group in itertools.groupby(rows, lambda row: row.request):
        measured = list(group)
        tasks = [row.task for row in measured]
        raced = limits.race is not None and measured[0].reason == "child"
        spared = raced or measured[-1].score < limits.hurdle
        if tasks != config.tasks[: len(tasks)] or (len(tasks) < len(config.tasks) and not spared):
            return measured[0].request
    return None
