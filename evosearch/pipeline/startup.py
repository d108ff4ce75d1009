"""From a configuration to a laboratory: tasks loaded, engines compiled, the baseline tuned."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait

from evosearch.config import Config
from evosearch.errors import EvosearchError, told
from evosearch.measuring.engines import Engine, Trainer
from evosearch.measuring.laboratory import (
    BASELINE,
    Laboratory,
    laboratory_of,
    load_trainers,
    tune_baseline,
)
from evosearch.measuring.tuning import Tuner
from evosearch.runs.provenance import check_tasks
from evosearch.runs.store import Store
from evosearch.seeds import Seed, Stream
from primitives import zoo


def make_laboratory(
    config: Config,
    store: Store,
    executor: ThreadPoolExecutor,
    workers: int,
    phase: Callable[[str], None],
    notice: Callable[[str], None],
    interrupted: threading.Event,
    note: Callable[[str], None],
) -> Laboratory | None:
    """A laboratory that is ready to measure; None if interrupted meanwhile.

    The baseline's learning rates come from the store, or are tuned and kept there. Tracing holds
    Python's lock and training does not, so one task is tuned while the next is compiled. `note` is
    told what the calling thread does.

    Raises:
        UsageError: a task is another than the run was made with.
        EvosearchError: a task that does not train, with the baseline at least, or the store fails.
    """
    phase("loading tasks")
    rounds = config.measurement.rounds
    by_task = load_trainers(config, notice)
    check_tasks(store, {name: trainer.task for name, trainer in by_task.items()})
    known = store.rates()
    compiling = threading.Semaphore(workers)

    def ready(name: str, trainer: Trainer) -> Tuner | None:
        program = zoo.load(BASELINE)
        engine = trainer.choose_engine(program, runs=1)
        note(f"compiling {name}")
        if engine is not Engine.COMPILED:
            with compiling:
                if not interrupted.is_set():
                    trainer.prepare(program, engine)
        if name in known or interrupted.is_set():
            return None
        place = config.tasks.index(name)
        seeds = [Seed(Stream.TUNE, n) for n in range(config.measurement.tuning_seeds)]
        under = {seed: rounds.of(seed, place, trainer.steps) for seed in seeds}
        note(f"tuning the baseline on {name}")
        return tune_baseline(name, trainer, config.seed, under, executor)

    def noted(name: str, trainer: Trainer) -> Tuner | None:
        try:
            return ready(name, trainer)
        finally:
            note("")

    chains = ThreadPoolExecutor(len(by_task), thread_name_prefix="start-up")
    try:
        pending = {chains.submit(noted, *item): item[0] for item in by_task.items()}
        _followed(pending, phase, interrupted)
    finally:
        # Tracing cannot be cut short: what is interrupted goes on alone.
        chains.shutdown(wait=False, cancel_futures=True)
    if interrupted.is_set():
        return None
    for future, name in pending.items():
        tuner = future.result()
        if tuner is not None:
            store.add_tuning(name, by_task[name].task.params, tuner)
    store.commit()
    return laboratory_of(config, by_task, store.rates())


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
                    f"task {pending[future]!r} does not train: {told(error)}"
                ) from error
