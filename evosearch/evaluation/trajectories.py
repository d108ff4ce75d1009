"""The paths of programs on landscapes, each program at its best learning rate.

A landscape is a task without data, whose loss is a formula of a few weights.
"""

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

_MAX_POINTS = 1000
"""Maximum number of points of a trajectory; longer paths are sampled evenly."""


@dataclass(frozen=True)
class Trajectory:
    """The path of one program on a landscape.

    Attributes:
        program: name of the program.
        steps: `[points]`, number of updates before each point.
        weights: `[points, weights]`.
        heights: `[points]`, the task's metric at these weights.
    """

    program: str
    steps: NDArray[np.int64]
    weights: NDArray[np.float32]
    heights: NDArray[np.float32]


@dataclass(frozen=True)
class Landscape:
    """A task without data, with the trajectories of programs on the task."""

    task: proxies.Task
    trajectories: tuple[Trajectory, ...]

    def heights(self, weights: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the task's metric, `[...]`, at `weights`, `[..., weights]`."""
        return _heights(self.task, weights)


def names() -> tuple[str, ...]:
    """Return the names of all landscapes: diagnostic tasks without data."""
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
    """Evaluate programs on landscapes and return their trajectories on the first fresh seed.

    Args:
        programs: contenders by name.
        against: references by name; they have trajectories too.
        tasks: names of landscapes, from `names()`.
        schedule: name of the learning-rate schedule.
        steps: number of training steps; None for each task's default.
        seed: the number that all seeds are derived from.
        workers: number of concurrent trainings, which does not affect results; None for one per
            core.
        timeout: maximum seconds of a training; see `evosearch.measuring.job_runner.open_backend`.
        notify: called with a message for each failed training, which counts as diverged.
        ledger: stores finished trainings, which are not repeated; None to store nothing.
        progress: called with the state of the evaluation.
        settings: other arguments of `evaluate`.

    Raises:
        UsageError: a task is not a landscape, or `evaluate` raises it.
        EvosearchError: `evaluate` raises it.
    """
    for name in tasks:
        if name not in names():
            raise UsageError(f"{name!r} is not a landscape; use one of {', '.join(names())}")
    contenders = {**programs, **against}
    ops = ALL_OPS  # the same for all calls, so that the ledger recognizes equal jobs
    landscapes = []
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
        for index, report in enumerate(evaluation.tasks):
            progress(f"{report.task}: trajectories", index, len(tasks))
            task = proxies.load(report.task)
            setup = TaskSetup.of(task, steps, ops=ops, observe=True, trace=True)
            paths = []
            for result in report.results:
                contender = contenders[result.program]
                engine = runner.backend.engine(setup, contender, trainings=1)
                conditions = Conditions(setup.steps, schedule, result.decay)
                first_seed = Seed(Stream.EVAL, 0)
                job = Job(
                    setup, contender, engine, conditions, seed, first_seed, result.lr, output="path"
                )
                path = runner.submit_once(job).result().path
                assert path is not None
                paths.append(_trajectory(result.program, task, path))
            landscapes.append(Landscape(task, tuple(paths)))
    return evaluation, tuple(landscapes)


def _trajectory(program: str, task: proxies.Task, path: NDArray[np.float32]) -> Trajectory:
    """Return the trajectory of a path, `[steps, weights]`, at up to `_MAX_POINTS` points."""
    steps = np.linspace(0, len(path) - 1, min(len(path), _MAX_POINTS)).round().astype(np.int64)
    weights = path[steps]
    return Trajectory(program, steps, weights, _heights(task, weights))


def _heights(task: proxies.Task, weights: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the task's metric, `[...]`, at `weights`, `[..., weights]`."""
    key = seed_key(0, Seed(Stream.EVAL, 0))
    _, unravel = ravel_pytree(task.init(key))
    partition = task.partition(task.data, key)

    def height(vector: jax.Array) -> jax.Array:
        return task.evaluate(unravel(vector), task.data, partition, key)

    vectors = jnp.asarray(weights).reshape(-1, weights.shape[-1])
    return np.asarray(jax.jit(jax.vmap(height))(vectors)).reshape(weights.shape[:-1])
