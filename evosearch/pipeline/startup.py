"""The start-up of a search: load tasks, compile engines, tune the baseline."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait

import proxies
from evosearch.config import Config
from evosearch.environment import Compilations, count_compilations
from evosearch.errors import EvosearchError, UsageError, describe_error
from evosearch.measuring.job import TaskSetup
from evosearch.measuring.job_runner import JobRunner
from evosearch.measuring.measurement import Engine
from evosearch.measuring.scorer import (
    BASELINE,
    Scorer,
    scorer_of,
    setups_of,
    tune_baseline,
)
from evosearch.measuring.tuning import Tuner
from evosearch.runs.provenance import check_tasks
from evosearch.runs.store import Store
from evosearch.seeds import Seed, Stream
from primitives import zoo


def check_for_searching(tasks: Iterable[str]) -> None:
    """Check that all tasks are search tasks.

    Validation and held-out tasks show whether results generalize only if no search has used them.

    Raises:
        UsageError: a task is not a search task.
    """
    for name in tasks:
        split = proxies.split(name)
        if split != "search":
            raise UsageError(
                f"task {name!r} is a {split} task; search on some of "
                f"{', '.join(proxies.names('search'))}"
            )


def make_scorer(
    config: Config,
    store: Store,
    runner: JobRunner,
    phase: Callable[[str], None],
    interrupted: threading.Event,
    on_activity: Callable[[str], None],
) -> Scorer | None:
    """Prepare all tasks and return the scorer; None if interrupted.

    The baseline's learning rates are read from the store, or tuned and stored there. One task is
    tuned while another is compiled: tracing holds Python's global interpreter lock (GIL),
    training does not.

    Args:
        config: configuration of the search.
        store: store of the run.
        runner: runs the trainings.
        phase: called with a message about progress.
        interrupted: event that ends the preparation.
        on_activity: called with a description of what the calling thread does; "" at the end.

    Raises:
        UsageError: a task changed since the run was created.
        EvosearchError: a task cannot be trained with the baseline, or the store fails.
    """
    phase("loading tasks")
    rounds = config.measurement.rounds
    setups = setups_of(config)
    check_tasks(store, {name: proxies.load(name) for name in setups})
    stored_rates = store.rates()
    backend = runner.backend
    compiling = threading.Semaphore(backend.capacity)

    def prepare(name: str, setup: TaskSetup) -> Tuner | None:
        program = zoo.load(BASELINE)
        engine = backend.engine(setup, program, trainings=1)
        on_activity(f"compiling {name}")
        if engine is not Engine.COMPILED:
            with compiling:
                if not interrupted.is_set():
                    backend.prepare(setup, program, engine)
        if name in stored_rates or interrupted.is_set():
            return None
        task_index = config.tasks.index(name)
        seeds = [Seed(Stream.TUNE, n) for n in range(config.measurement.tuning_seeds)]
        conditions = {seed: rounds.of(seed, task_index, setup.steps) for seed in seeds}
        on_activity(f"tuning the baseline on {name}")
        return tune_baseline(setup, runner, config.seed, conditions)

    def prepare_and_clear(name: str, setup: TaskSetup) -> Tuner | None:
        try:
            return prepare(name, setup)
        finally:
            on_activity("")

    threads = ThreadPoolExecutor(len(setups), thread_name_prefix="start-up")
    try:
        with count_compilations() as compilations:
            pending = {
                threads.submit(prepare_and_clear, name, setup): name
                for name, setup in setups.items()
            }
            _report_until_ready(pending, phase, interrupted, compilations)
    finally:
        # After an interrupt, tracing threads continue, since tracing cannot be ended.
        threads.shutdown(wait=False, cancel_futures=True)
    if interrupted.is_set():
        return None
    for future, name in pending.items():
        tuner = future.result()
        if tuner is not None:
            store.add_tuning(name, proxies.load(name).params, tuner)
    store.commit()
    return scorer_of(config, runner, setups, store.rates())


def _report_until_ready(
    pending: dict[Future[Tuner | None], str],
    phase: Callable[[str], None],
    interrupted: threading.Event,
    compilations: Compilations,
) -> None:
    """Report progress until all tasks are ready or the search is interrupted.

    Raises:
        EvosearchError: a task cannot be trained.
    """
    waiting = set(pending)
    while waiting and not interrupted.is_set():
        ready = len(pending) - len(waiting)
        phase(
            f"compiling and tuning the baseline: {ready} of {len(pending)} tasks ready; "
            f"{compilations.cached} of {compilations.total} compilations were cached"
        )
        done: set[Future[Tuner | None]] = set()
        while not done and not interrupted.is_set():
            done, waiting = wait(waiting, timeout=0.1, return_when=FIRST_COMPLETED)
        for future in done:
            try:
                future.result()
            except EvosearchError:
                raise
            except Exception as error:
                raise EvosearchError(
                    f"task {pending[future]!r} cannot be trained: {describe_error(error)}"
                ) from error
