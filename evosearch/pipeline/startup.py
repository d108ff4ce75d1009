"""From a configuration to a scorer: tasks loaded, engines compiled, the baseline tuned."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait

import proxies
from evosearch.config import Config
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
    """Whether a search may touch these tasks.

    What a search has touched cannot show that its finds hold elsewhere.

    Raises:
        UsageError: one is no search task.
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
    note: Callable[[str], None],
) -> Scorer | None:
    """A scorer that is ready to measure; None if interrupted meanwhile.

    The baseline's learning rates come from the store, or are tuned and kept there. Tracing holds
    Python's lock and training does not, so one task is tuned while the next is compiled. `note` is
    told what the calling thread does.

    Raises:
        UsageError: a task is another than the run was made with.
        EvosearchError: a task that does not train, with the baseline at least, or the store fails.
    """
    phase("loading tasks")
    rounds = config.measurement.rounds
    setups = setups_of(config)
    check_tasks(store, {name: proxies.load(name) for name in setups})
    known = store.rates()
    backend = runner.backend
    compiling = threading.Semaphore(backend.capacity)

    def ready(name: str, setup: TaskSetup) -> Tuner | None:
        program = zoo.load(BASELINE)
        engine = backend.engine(setup, program, runs=1)
        note(f"compiling {name}")
        if engine is not Engine.COMPILED:
            with compiling:
                if not interrupted.is_set():
                    backend.prepare(setup, program, engine)
        if name in known or interrupted.is_set():
            return None
        place = config.tasks.index(name)
        seeds = [Seed(Stream.TUNE, n) for n in range(config.measurement.tuning_seeds)]
        under = {seed: rounds.of(seed, place, setup.steps) for seed in seeds}
        note(f"tuning the baseline on {name}")
        return tune_baseline(setup, runner, config.seed, under)

    def noted(name: str, setup: TaskSetup) -> Tuner | None:
        try:
            return ready(name, setup)
        finally:
            note("")

    chains = ThreadPoolExecutor(len(setups), thread_name_prefix="start-up")
    try:
        pending = {chains.submit(noted, *item): item[0] for item in setups.items()}
        _followed(pending, phase, interrupted)
    finally:
        # Tracing cannot be cut short: what is interrupted goes on alone.
        chains.shutdown(wait=False, cancel_futures=True)
    if interrupted.is_set():
        return None
    for future, name in pending.items():
        tuner = future.result()
        if tuner is not None:
            store.add_tuning(name, proxies.load(name).params, tuner)
    store.commit()
    return scorer_of(config, runner, setups, store.rates())


def _followed(
    pending: dict[Future[Tuner | None], str],
    phase: Callable[[str], None],
    interrupted: threading.Event,
) -> None:
    """Says how far the tasks are until all are ready, one has failed, or it is interrupted."""
    waiting = set(pending)
    while waiting and not interrupted.is_set():
        ready = len(pending) - len(waiting)
        phase(f"compiling and tuning the baseline: {ready} of {len(pending)} tasks ready")
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
                    f"task {pending[future]!r} does not train: {describe_error(error)}"
                ) from error
