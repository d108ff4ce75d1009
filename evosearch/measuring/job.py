"""Jobs, their results, and the protocol of the backends that run them.

A job contains everything that a training depends on. So any thread or process can run it, and equal
jobs have equal results.
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
    """A task with the settings that a backend compiles once for all jobs with this setup.

    Attributes:
        task: name of the task, as `proxies.load` takes it.
        steps: training budget, in steps.
        files: files of a user task, as they were when the task was loaded; see `proxies.Task`. ()
            for a bundled task.
        longest: maximum number of steps of a job, as a factor on `steps`.
        ops: ops that the interpreter supports; with fewer ops the interpreter compiles faster.
        observe: whether results contain the root mean square of the updates; required for jobs that
            ask for the sharpness.
        trace: whether jobs may ask for the path of the weights, which takes memory for all steps.
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
        """Return the setup of a task; by default, `steps` is the task's number of steps."""
        return cls(task.name, steps or task.steps, task.files, longest, ops, observe, trace)


@dataclass(frozen=True)
class Job:
    """One training.

    Attributes:
        setup: the task and its settings.
        contender: the program or optax optimizer to train with.
        engine: how updates are computed; see `Backend.engine`.
        conditions: number of steps, schedule and decoupled weight decay.
        run_seed: seed of the run, from which all other seeds are derived.
        seed: seed of the training.
        learning_rate_factor: factor by which the contender's own learning rate is multiplied.
        loss_limits: maximum of the smoothed batch loss at each step, as the bytes of a float32
            array `[longest budget]`; a training that exceeds its limit is stopped. None for no
            limits.
        output: what to return: the losses, the sharpness of the loss at the end, or the path of the
            weights.
    """

    setup: TaskSetup
    contender: Contender
    engine: Engine
    conditions: Conditions
    run_seed: int
    seed: Seed
    learning_rate_factor: float = 1.0
    loss_limits: bytes | None = None
    output: Literal["losses", "sharpness", "path"] = "losses"


@dataclass(frozen=True)
class JobResult:
    """The result of a job.

    Attributes:
        loss: the task's metric at the end, on data that is not trained on; +inf if the training
            diverged or failed.
        steps: number of steps that were run; fewer than the budget after a divergence or stop.
        engine: how updates were computed.
        train_loss: [longest budget] batch losses; NaN after the last step that was run.
        stopped: whether the training exceeded its loss limits; `loss` then belongs to partly
            trained weights.
        update_rms: [longest budget] root mean square of the updates; [0] without `setup.observe`.
        sharpness: largest eigenvalue of the loss's Hessian at the end, if the job asked for it; NaN
            after a divergence.
        path: [steps, weights] weights before each update, if the job asked for them.
        failure: why there is no result; None for a training that ended.
        reason: explanation of the failure.
        seconds: duration of the training.
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
    """Return the result of a job whose training crashed or timed out; its loss is +inf."""
    losses = np.full(job.conditions.steps, np.nan, np.float32)
    return JobResult(
        math.inf,
        0,
        job.engine,
        losses,
        stopped=False,
        update_rms=losses if job.setup.observe else losses[:0],
        sharpness=math.nan if job.output == "sharpness" else None,
        failure=failure,
        reason=reason,
    )


class Backend(Protocol):
    """Runs jobs. Safe to use from several threads.

    Attributes:
        capacity: maximum number of jobs that run at a time.
    """

    capacity: int

    def engine(self, setup: TaskSetup, contender: Contender, trainings: int) -> Engine:
        """Return the cheapest engine for about `trainings` trainings with `contender`."""
        ...

    def prepare(self, setup: TaskSetup, contender: Contender, engine: Engine) -> None:
        """Compile for later jobs with these arguments, if the backend can."""
        ...

    def submit(self, job: Job) -> Future[JobResult]:
        """Queue `job` and return its future, which raises the same errors as `train`."""
        ...

    def train(self, job: Job) -> JobResult:
        """Run `job` and wait for its result; uses the calling thread if the backend can.

        Raises:
            TrainingError: code of a user task raised an exception.
            CancelledError: the backend was closed before the job began.
        """
        ...

    def close(self, *, wait: bool = True) -> None:
        """Cancel jobs that have not begun; if `wait`, wait for the others."""
        ...
