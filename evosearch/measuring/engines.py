"""Three ways to train with a program, and which one a measurement takes.

`interpreter`: the compile-once machine; a new program costs nothing before its first step, and each
step costs a little more. `compiled`: the program traced and compiled for itself; a second or two
before its first step, and then the floor. Which is cheaper follows from the number of weights,
steps and runs. `batched`: the compile-once machine, with many programs side by side; what a search
takes where it was asked for batches. All agree within tolerance, not bit for bit.
"""

from __future__ import annotations

import hashlib
import math
import threading
import time
from dataclasses import replace
from functools import cached_property, lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh
from numpy.typing import NDArray

import proxies
from evosearch.errors import EvosearchError
from evosearch.measuring.batching import Batch, Batching
from evosearch.measuring.contenders import Contender, Library
from evosearch.measuring.executables import EXECUTABLES
from evosearch.measuring.failures import TrainingError, explain_failures
from evosearch.measuring.job import Job, JobResult, TaskSetup
from evosearch.measuring.measurement import Engine
from evosearch.seeds import Conditions, Seed, Stream
from primitives import ALL_OPS, CapacityError, Program, encode, interpreter, rule
from primitives.machine.encoding import Code
from primitives.machine.instructions import OpNames
from proxies import Task
from proxies.training.lanes import Entry
from proxies.training.loop import Loop, Rule

_NOTHING = np.zeros(0, np.float32)
COMPILE_SECONDS = 2.5
"""What compiling a training loop for one program costs (2 CPU cores; see `evosearch bench`)."""
DISPATCH_SECONDS = 2e-6
"""What the interpreter adds to a step for each instruction, whatever its size."""
ELEMENT_SECONDS = 1.3e-9
"""What it adds for each instruction and weight where the registers outgrow the caches; less below
that, where it does not decide."""


def interpreter_options(platform: str) -> dict[str, Any] | None:
    """XLA's options for the interpreter on a platform.

    On CPU: as fast as at the highest level of optimization, and an eighth less time to compile.
    """
    return {"xla_backend_optimization_level": "1"} if platform == "cpu" else None


@lru_cache(maxsize=256)
def _code(program: Program, ops: OpNames) -> Code | None:
    """The encoded program, which all tasks and seeds share; None if it does not fit the machine."""
    try:
        return encode(program, ops)
    except CapacityError:
        return None


@lru_cache(maxsize=1024)
def seed_key(run_seed: int, seed: Seed) -> jax.Array:
    """The JAX key of a seed: different for every run seed, stream and index."""
    name = f"{run_seed}/{seed.stream}/{seed.number}".encode()
    digest = hashlib.blake2b(name, digest_size=8).digest()
    words = jnp.asarray(np.frombuffer(digest, np.uint32))
    key: jax.Array = jax.random.wrap_key_data(words, impl="threefry2x32")
    return key


def _over_enough_devices(task: Task, rule: Rule, steps: int) -> Task:
    """The task over all local accelerators where the memory of one does not hold a training."""
    devices = jax.local_devices()
    if len(devices) == 1 or devices[0].platform == "cpu":  # those share one memory
        return task
    if proxies.fits(task, rule, steps=steps):
        return task
    return proxies.over_devices(task, Mesh(np.array(devices), ("device",)))


def _weights(contender: Contender | None) -> Any:
    return contender.evaluated if isinstance(contender, Library) and contender.weights else None


def _words(key: jax.Array) -> NDArray[np.uint32]:
    return np.asarray(jax.random.key_data(key))


class Trainer:
    """Trains one task with any program; safe to use from several threads.

    Args:
        task: what to train.
        steps: the budget; None for the task's own.
        longest: the most steps that `run` may be asked for, as a factor on the budget.
        ops: what the interpreter knows; fewer take less time to compile. A program with others is
            compiled for itself.
        observe: whether outcomes have the sizes of updates.
        trace: whether the `path` of a training can be asked for; takes memory for all of it.
        batching: how trainings share devices; None for one at a time in each thread.

    Raises:
        TrainingError: from the constructor and from every method, for an exception in a user's
            task; see `explain_failures`.
    """

    def __init__(
        self,
        task: Task,
        steps: int | None = None,
        *,
        longest: float = 1.0,
        ops: OpNames = ALL_OPS,
        observe: bool = False,
        trace: bool = False,
        batching: Batching | None = None,
    ):
        self.task = task
        self.ops = ops
        self.steps = steps or task.steps
        self._observe = observe
        self._trace = trace
        self._batching = batching
        self._batch: Batch | None = None
        self._batch_lock = threading.Lock()
        with explain_failures(task):
            self._params = task.params
        self._longest = max(1, round(self.steps * longest))
        self._own = object()  # what its executables are known by

    @cached_property
    def _data(self) -> Any:
        """On the device, from the first training that is not in a batch on; a batch has its own."""
        return jax.device_put(self.task.data)

    def choose_engine(self, program: Contender, runs: int) -> Engine:
        """The cheaper engine for `runs` trainings with `program`."""
        if isinstance(program, Library):
            return Engine.COMPILED
        code = _code(program, self.ops)
        if code is None:
            return Engine.COMPILED
        if self._batching is not None:
            return Engine.BATCHED
        per_step = int(code.length) * (DISPATCH_SECONDS + ELEMENT_SECONDS * self._params)
        extra = runs * self.steps * per_step
        return Engine.INTERPRETER if extra <= COMPILE_SECONDS else Engine.COMPILED

    def prepare(self, program: Contender, engine: Engine) -> None:
        """Compiles what `run` will need, so that its first call is as fast as the others."""
        with explain_failures(self.task, program):
            if engine is Engine.BATCHED:
                self._shared_batch(self._operands(program, engine, 1.0))
            else:
                self._executable(program, engine)

    def run(self, program: Contender, factor: float, key: jax.Array, engine: Engine) -> JobResult:
        """One training with the whole budget and a cosine.

        Args:
            program: what to train with.
            factor: on its learning rate.
            key: the seed.
            engine: how to run it.
        """
        with explain_failures(self.task, program):
            result = self._train(program, factor, key, engine, self._schedule())
            return _losses(result, engine)

    def train(self, job: Job) -> JobResult:
        """What `job` asks for, on the task of this trainer.

        Sharpness needs a trainer that observes, a path one that traces.

        Raises:
            TrainingError: an exception in a user's task; names task, contender and seed.
        """
        key = seed_key(job.run_seed, job.seed)
        limits = None if job.limits is None else np.frombuffer(job.limits, np.float32)
        start = time.perf_counter()
        try:
            with explain_failures(self.task, job.contender):
                schedule = self._schedule(job.conditions, limits)
                result = self._train(job.contender, job.factor, key, job.engine, schedule)
                if job.output == "losses":
                    losses = _losses(result, job.engine)
                    return replace(losses, seconds=time.perf_counter() - start)
                empty = JobResult(math.nan, 0, job.engine, _NOTHING, False, _NOTHING)
                if job.output == "sharpness":
                    return replace(empty, sharpness=self._sharpness(result, key))
                return replace(empty, path=_path(result))
        except TrainingError as error:
            raise error.on(job.seed) from error.__cause__

    def _sharpness(self, result: proxies.TrainingResult, key: jax.Array) -> float:
        """The largest eigenvalue of the loss's Hessian after a training; NaN if it diverged."""
        if not math.isfinite(float(result.loss)):
            return math.nan
        return float(proxies.sharpness(self.task, result.params, self._data, key))

    def _train(
        self,
        program: Contender,
        factor: float,
        key: jax.Array,
        engine: Engine,
        schedule: proxies.StepSchedule,
    ) -> proxies.TrainingResult:
        operands = self._operands(program, engine, factor)
        if engine is Engine.BATCHED:
            return self._shared_batch(operands).train(Entry(_words(key), schedule, operands))
        execute = self._executable(program, engine)
        result: proxies.TrainingResult = execute(self._data, key, schedule, operands)
        return result

    def _shared_batch(self, operands: tuple[Any, ...]) -> Batch:
        """The batch of all threads, made by the first of them with its own `operands`."""
        assert self._batching is not None
        with self._batch_lock:
            if self._batch is None:
                loop = Loop(self.task, interpreter(self.ops), None, self._observe, self._trace)
                key = _words(seed_key(0, Seed(Stream.TUNE, 0)))
                example = Entry(key, self._schedule(), operands)
                options = interpreter_options(self._batching.devices[0].platform)
                self._batch = Batch(loop, self.task.data, example, self._batching, options)
            return self._batch

    def _executable(self, program: Contender, engine: Engine) -> Any:
        """Compiled once for each program, or once for all."""
        contender = program if engine is Engine.COMPILED else None

        def compiled() -> Any:
            rule = self._rule(contender)
            plain = contender is None
            return proxies.compile_train(
                self.task if plain else _over_enough_devices(self.task, rule, self._longest),
                rule,
                self._data,
                seed_key(0, Seed(Stream.TUNE, 0)),
                self._schedule(),
                self._operands(program, engine, 1.0),
                weights=_weights(contender),
                observe=self._observe,
                trace=self._trace,
                compiler_options=interpreter_options(jax.default_backend()) if plain else None,
            )

        return EXECUTABLES.get((self._own, contender), compiled)

    def _rule(self, contender: Contender | None) -> optax.GradientTransformationExtraArgs:
        if contender is None:
            return interpreter(self.ops)
        return contender.rule() if isinstance(contender, Library) else rule(contender)

    def _schedule(
        self, conditions: Conditions | None = None, limits: NDArray[np.float32] | None = None
    ) -> proxies.StepSchedule:
        """Learning rates, decays and limits by step; by default the whole budget with a cosine.

        Args:
            conditions: steps, schedule and decay.
            limits: [longest budget] what the smoothed batch loss may be; None for anything.
        """
        conditions = conditions or Conditions(min(self.steps, self._longest))
        shape = proxies.named_shape(conditions.schedule, conditions.steps, self._longest)
        schedule = proxies.StepSchedule.plain(shape, conditions.steps)
        if conditions.decay:
            schedule = schedule._replace(decays=conditions.decay * shape / shape.sum())
        return schedule if limits is None else schedule._replace(limits=limits)

    def _operands(self, program: Contender, engine: Engine, factor: float) -> tuple[Any, ...]:
        scale = np.float32(factor)
        if engine is Engine.COMPILED or isinstance(program, Library):
            return (scale,)
        return _code(program, self.ops), scale


def _losses(result: proxies.TrainingResult, engine: Engine) -> JobResult:
    """The losses of a training and the sizes of its updates."""
    result = jax.device_get(result._replace(params=None, path=None))
    return JobResult(
        float(result.loss),
        int(result.steps),
        engine,
        result.train_loss,
        bool(result.stopped),
        result.update_rms,
    )


def _path(result: proxies.TrainingResult) -> NDArray[np.float32]:
    """`[steps, weights]`, the weights before each update of a training that was traced.

    As many steps as were run.
    """
    steps = int(result.steps)
    leaves = [np.asarray(leaf)[:steps] for leaf in jax.tree.leaves(result.path)]
    return np.concatenate([leaf.reshape(steps, -1) for leaf in leaves], axis=1)


class Trainers:
    """Trainers by setup, each made once; safe to use from several threads."""

    def __init__(self, batching: Batching | None = None):
        self._batching = batching
        self._made: dict[TaskSetup, Trainer] = {}
        self._lock = threading.Lock()

    def of(self, setup: TaskSetup) -> Trainer:
        """What trains the jobs with this setup.

        Raises:
            EvosearchError: a file of a user's task is another than when the setup was made.
        """
        with self._lock:
            if setup not in self._made:
                task = proxies.load(setup.task)
                if task.files != setup.files:
                    raise EvosearchError(
                        f"task {setup.task!r}: its files changed while it was in use; start again"
                    )
                self._made[setup] = Trainer(
                    task,
                    setup.steps,
                    longest=setup.longest,
                    ops=setup.ops,
                    observe=setup.observe,
                    trace=setup.trace,
                    batching=self._batching,
                )
            return self._made[setup]
