"""What is to be trained, what came of it, and who trains: plain data, and the protocol of backends.

A job says all that a training depends on, so it can be run by any thread or process, and equal jobs
have equal results.
"""

from __future__ import annotations

import math
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from evosearch.measuring.contenders import Contender
from evosearch.measuring.measurement import Engine, Failure
from evosearch.seeds import Conditions, Seed
from primitives import ALL_OPS
from primitives.machine.instructions import OpNames
from proxies import Task
from proxies.task import Files


@dataclass(frozen=True)
class TaskSetup:
    """A task as it is trained; a backend compiles what it needs once for all jobs with this setup.

    Attributes:
        task: the task's name, as `proxies.load` takes it.
        steps: the training budget.
        files: of a user's task, as they were when it was loaded; see `proxies.Task`.
        longest: the most steps that a job asks for, as a factor on the budget.
        ops: what the interpreter knows; fewer take less time to compile.
        observe: whether results have the sizes of updates.
        trace: whether jobs ask for the path of the weights; takes memory for all of it.
    """

    task: str
    steps: int
    files: Files = ()
    longest: float = 1.0
    ops: OpNames = ALL_OPS
    observe: bool = False
    trace: bool = False

    @classmethod
    def of(
        cls,
        task: Task,
        steps: int | None = None,
        *,
        longest: float = 1.0,
        ops: OpNames = ALL_OPS,
        observe: bool = False,
        trace: bool = False,
    ) -> TaskSetup:
        """The setup of a task that is registered or a user's; `steps` is its own by default."""
        return cls(task.name, steps or task.steps, task.files, longest, ops, observe, trace)


@dataclass(frozen=True)
class Job:
    """One training.

    Attributes:
        setup: the task.
        contender: what to train with.
        engine: how to run it; see `Backend.engine`.
        conditions: steps, schedule, and weight decay outside the contender.
        run_seed: all seeds follow from it.
        seed: the training's.
        factor: on the contender's learning rate.
        limits: what the smoothed batch loss may be at each step, as float32 bytes of
            `[longest budget]`; a training that exceeds it is stopped. None for no limits.
        wanted: what of the training is wanted: its losses, the sharpness of the minimum that it
            ends at, or the path of its weights.
    """

    setup: TaskSetup
    contender: Contender
    engine: Engine
    conditions: Conditions
    run_seed: int
    seed: Seed
    factor: float = 1.0
    limits: bytes | None = None
    output: Literal["losses", "sharpness", "path"] = "losses"


@dataclass(frozen=True)
class JobResult:
    """What came of a job.

    Attributes:
        loss: the task's metric at the end, on data that training never saw; +inf if the training
            diverged or failed.
        steps: steps that were run; fewer than the budget after a divergence.
        engine: how it was run.
        train_loss: [longest budget] batch losses, NaN after a stop.
        stopped: it exceeded its limits; the loss is that of half-trained weights.
        update_rms: [longest budget] sizes of the updates; [0] unless the setup observes.
        sharpness: the largest eigenvalue of the loss's Hessian at the end, if it was wanted; NaN
            after a divergence.
        path: [steps, weights], the weights before each update, if it was wanted.
        failure: None for a training that ended.
        reason: of the failure, in words.
        seconds: that the training took.
    """

    loss: float
    steps: int
    engine: Engine
    train_loss: NDArray[np.float32]
    stopped: bool
    update_rms: NDArray[np.float32]
    sharpness: float | None = None
    path: NDArray[np.float32] | None = None
    failure: Failure | None = None
    reason: str = ""
    seconds: float = 0.0

    @property
    def diverged(self) -> bool:
        """Whether weights or loss became non-finite."""
        return not math.isfinite(self.loss)


def failed(job: Job, failure: Failure, reason: str) -> JobResult:
    """The result of a job whose training did not end: the worst loss."""
    nothing = np.full(job.conditions.steps, np.nan, np.float32)
    return JobResult(
        math.inf,
        0,
        job.engine,
        nothing,
        stopped=False,
        update_rms=nothing if job.setup.observe else nothing[:0],
        sharpness=math.nan if job.output == "sharpness" else None,
        failure=failure,
        reason=reason,
    )


class Backend(Protocol):
    """Runs jobs; safe to use from several threads.

    Attributes:
        capacity: how many jobs it runs at a time.
    """

    capacity: int

    def engine(self, setup: TaskSetup, contender: Contender, runs: int) -> Engine:
        """The cheapest engine for about `runs` trainings with `contender`."""
        ...

    def prepare(self, setup: TaskSetup, contender: Contender, engine: Engine) -> None:
        """Compiles what such jobs will need, where that can be done beforehand."""
        ...

    def submit(self, job: Job) -> Future[JobResult]:
        """Runs `job`, some time; the future raises what `train` does."""
        ...

    def train(self, job: Job) -> JobResult:
        """Runs `job` and waits, on the calling thread where that can be.

        Raises:
            TrainingError: an exception in a user's task.
            CancelledError: the backend was closed before the job had begun.
        """
        ...

    def close(self, *, wait: bool = True) -> None:
        """Gives up what has not begun; waits, if asked, for what has."""
        ...
