"""Where programs go on landscapes: the way of their weights, each at its best learning rate."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from numpy.typing import NDArray

import proxies
from evosearch.errors import UsageError
from evosearch.evaluation.evaluation import Progress, evaluate
from evosearch.evaluation.results import Evaluation
from evosearch.measuring.contenders import Contender
from evosearch.measuring.engines import seed_key
from evosearch.measuring.job import Job, TaskSetup
from evosearch.measuring.job_runner import open_job_runner
from evosearch.measuring.ledger import Ledger
from evosearch.seeds import Conditions, Seed, Stream
from primitives import ALL_OPS

_POINTS = 1000
"""Of a longer path so many weights are kept, evenly spaced."""


@dataclass(frozen=True)
class Trajectory:
    """One program's way down a landscape.

    Attributes:
        program: its name.
        steps: `[points]`, before which update the weights were these.
        weights: `[points, weights]`.
        heights: `[points]`, the task's metric there.
    """

    program: str
    steps: NDArray[np.int64]
    weights: NDArray[np.float32]
    heights: NDArray[np.float32]


@dataclass(frozen=True)
class Landscape:
    """A task that is a formula, with the programs' ways on it."""

    task: proxies.Task
    trajectories: tuple[Trajectory, ...]

    def heights(self, weights: NDArray[np.float32]) -> NDArray[np.float32]:
        """`[..., weights]` to `[...]`: the task's metric."""
        return _heights(self.task, weights)


def names() -> tuple[str, ...]:
    """The tasks that are landscapes: diagnostic ones that read no data."""
    return tuple(
        name for name in proxies.names("diagnostic") if not jax.tree.leaves(proxies.load(name).data)
    )


def trajectories(
    programs: Mapping[str, Contender],
    against: Mapping[str, Contender],
    tasks: Sequence[str],
    *,
    schedule: str = "cosine",
    steps: int | None = None,
    seed: int = 0,
    workers: int | None = None,
    timeout: float | None = None,
    notify: Callable[[str], None] = lambda text: None,
    ledger: Ledger | None = None,
    progress: Progress = lambda text, done, total: None,
    **settings: Any,
) -> tuple[Evaluation, tuple[Landscape, ...]]:
    """The evaluation of programs on landscapes, and their ways on the first fresh seed.

    Args:
        programs: by name.
        against: the references, by name; they are drawn too.
        tasks: as from `names()`.
        schedule: of the learning rate.
        steps: the training budget; None for each task's own.
        seed: all seeds follow from it.
        workers: trainings at a time; None for one per core.
        timeout: maximum seconds of a training; see `evosearch.measuring.job_runner.open_backend`.
        notify: called with a message for each training that failed; it counts as diverged.
        ledger: where trainings are kept; None for nowhere.
        progress: told how far it is.
        settings: further arguments of `evaluate`.

    Raises:
        UsageError: a task that reads data, or as `evaluate` does.
        EvosearchError: as `evaluate` does.
    """
    for name in tasks:
        if name not in names():
            raise UsageError(f"{name!r} is no landscape; there are {', '.join(names())}")
    contenders = {**programs, **against}
    ops = ALL_OPS  # the same for every set of programs, so that equal jobs are known again
    found = []
    with open_job_runner(workers, ledger or Ledger(), timeout=timeout, notify=notify) as runner:
        evaluation = evaluate(
            programs,
            tasks,
            against=against,
            schedule=schedule,
            steps=steps,
            seed=seed,
            progress=progress,
            runner=runner,
            ops=ops,
            trace=True,
            **settings,
        )
        for place, report in enumerate(evaluation.tasks):
            progress(f"{report.task}: trajectories", place, len(tasks))
            task = proxies.load(report.task)
            setup = TaskSetup.of(task, steps, ops=ops, observe=True, trace=True)
            ways = []
            for result in report.results:
                contender = contenders[result.program]
                engine = runner.backend.engine(setup, contender, runs=1)
                under = Conditions(setup.steps, schedule, result.decay)
                first = Seed(Stream.EVAL, 0)
                job = Job(setup, contender, engine, under, seed, first, result.lr, output="path")
                path = runner.submit_once(job).result().path
                assert path is not None
                ways.append(_trajectory(result.program, task, path))
            found.append(Landscape(task, tuple(ways)))
    return evaluation, tuple(found)


def _trajectory(program: str, task: proxies.Task, path: NDArray[np.float32]) -> Trajectory:
    steps = np.linspace(0, len(path) - 1, min(len(path), _POINTS)).round().astype(np.int64)
    weights = path[steps]
    return Trajectory(program, steps, weights, _heights(task, weights))


def _heights(task: proxies.Task, weights: NDArray[np.float32]) -> NDArray[np.float32]:
    key = seed_key(0, Seed(Stream.EVAL, 0))
    _, as_weights = ravel_pytree(task.init(key))
    partition = task.partition(task.data, key)

    def height(flat: jax.Array) -> jax.Array:
        return task.evaluate(as_weights(flat), task.data, partition, key)

    flat = jnp.asarray(weights).reshape(-1, weights.shape[-1])
    return np.asarray(jax.jit(jax.vmap(height))(flat)).reshape(weights.shape[:-1])
