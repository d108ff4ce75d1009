"""Training with each of the three engines, and the choice of the cheapest.

- `interpreter`: the interpreter, which is compiled once for all programs. Its steps are slower than
  those of a compiled program.
- `compiled`: the training loop compiled for one program. Compiling takes a second or two; the steps
  are the fastest.
- `batched`: the interpreter with many programs side by side.

On a GPU or TPU, and in batches on a CPU, `batched` is chosen wherever it is possible. Otherwise
`interpreter` or `compiled` is chosen from the numbers of weights, steps and trainings. The results
of the engines agree within tolerances, not bit for bit.
"""

from __future__ import annotations

import hashlib
import math
import threading
import time
from concurrent.futures import Future
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
from evosearch.measuring.batching import Batch, Batching, lanes_that_fit
from evosearch.measuring.contenders import Contender, OptaxOptimizer
from evosearch.measuring.executables import EXECUTABLES
from evosearch.measuring.failures import TrainingError, explain_failures
from evosearch.measuring.job import Job, JobResult, TaskSetup
from evosearch.measuring.kernel_fallback import missing_kernel, with_fallback
from evosearch.measuring.measurement import Engine
from evosearch.seeds import Conditions, Seed, Stream
from primitives import ALL_OPS, CapacityError, Program, encode, interpreter, rule
from primitives.machine.batch import runs_kernel
from primitives.machine.encoding import Code
from primitives.machine.instructions import OpNames
from proxies import Task
from proxies.training.lanes import Entry
from proxies.training.loop import Loop, Rule

_EMPTY = np.zeros(0, np.float32)
COMPILE_SECONDS = 2.5
"""Seconds to compile a training loop for one program (2 CPU cores; see `evosearch bench`)."""
DISPATCH_SECONDS = 2e-6
"""Seconds that the interpreter adds to a step per instruction."""
ELEMENT_SECONDS = 1.3e-9
"""Seconds that the interpreter adds to a step per instruction and weight.

Measured with registers larger than the caches. Smaller models take less time, but for smaller
models the choice of the engine does not depend on this constant.
"""


def interpreter_options(platform: str) -> dict[str, Any] | None:
    """Return XLA's options for the interpreter on a platform.

    On CPU, optimization level 1 compiles in an eighth less time and gives equally fast code. On
    GPUs, XLA would time several kernels for each matrix product and take the fastest. Without
    this autotuning, compilation takes a fifth less time, steps take as long (`digits-mlp` with
    1,024 lanes on an H100), and the same search computes the same numbers each time.
    """
    options: dict[str, dict[str, Any]] = {
        "cpu": {"xla_backend_optimization_level": "1"},
        "gpu": {"xla_gpu_autotune_level": 0},
    }
    return options.get(platform)


@lru_cache(maxsize=8192)  # more than the programs that a search trains at the same time
def _encoded(program: Program, ops: OpNames) -> Code | None:
    """Return the encoded program; None if it exceeds the machine's capacity or ops."""
    try:
        return encode(program, ops)
    except CapacityError:
        return None


@lru_cache(maxsize=1024)
def seed_words(run_seed: int, seed: Seed) -> NDArray[np.uint32]:
    """Return the data of a seed's JAX key; it differs for every run seed, stream and number."""
    name = f"{run_seed}/{seed.stream}/{seed.number}".encode()
    return np.frombuffer(hashlib.blake2b(name, digest_size=8).digest(), np.uint32)


@lru_cache(maxsize=1024)
def seed_key(run_seed: int, seed: Seed) -> jax.Array:
    """Return the JAX key of a seed."""
    key_data = jnp.asarray(seed_words(run_seed, seed))
    key: jax.Array = jax.random.wrap_key_data(key_data, impl="threefry2x32")
    return key


def _sharded_if_needed(task: Task, rule: Rule, steps: int) -> Task:
    """Shard the task over all local accelerators if one training exceeds the memory of one."""
    devices = jax.local_devices()
    if len(devices) == 1 or devices[0].platform == "cpu":  # CPU devices share one memory
        return task
    if proxies.fits(task, rule, steps=steps):
        return task
    return proxies.over_devices(task, Mesh(np.array(devices), ("device",)))


def _evaluated_weights(contender: Contender | None) -> Any:
    return (
        contender.evaluated
        if isinstance(contender, OptaxOptimizer) and contender.evaluation_weights
        else None
    )


class Trainer:
    """Trains one task with any contender. Safe to use from several threads.

    Args:
        task: the task.
        steps: training budget, in steps; None for the task's number of steps.
        longest: maximum number of steps of a job, as a factor on `steps`.
        ops: ops that the interpreter supports; with fewer ops the interpreter compiles faster.
            Programs with other ops use the engine `compiled`.
        observe: whether results contain the root mean square of the updates; required for jobs that
            ask for the sharpness.
        trace: whether jobs may ask for the path of the weights, which takes memory for all steps.
        batching: settings of batches; None for one training at a time in each thread.

    Raises:
        TrainingError: code of a user task raised an exception, in the constructor or any
            method; see `explain_failures`.
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
        self._fits: bool | None = None
        self._batch_lock = threading.Lock()
        with explain_failures(task):
            self._params = task.params
        self._max_steps = max(1, round(self.steps * longest))
        self._cached_schedule = lru_cache(maxsize=1024)(self._schedule)
        self._cache_key = object()  # distinguishes its executables from other trainers'

    @cached_property
    def _data(self) -> Any:
        """The task's data on the default device; batches hold their own copies."""
        return jax.device_put(self.task.data)

    def choose_engine(self, program: Contender, trainings: int) -> Engine:
        """Return the cheapest engine for `trainings` trainings with `program`."""
        if isinstance(program, OptaxOptimizer):
            return Engine.COMPILED
        code = _encoded(program, self.ops)
        if code is None:
            return Engine.COMPILED
        if self._batching is not None:
            return Engine.BATCHED if self._fits_in_batch(code) else Engine.COMPILED
        per_step = int(code.length) * (DISPATCH_SECONDS + ELEMENT_SECONDS * self._params)
        overhead = trainings * self.steps * per_step
        return Engine.INTERPRETER if overhead <= COMPILE_SECONDS else Engine.COMPILED

    def _fits_in_batch(self, code: Code) -> bool:
        """Whether at least one training fits in the memory of each device, if that is known.

        Where it does not fit, programs are compiled, and a training is split over all devices.
        """
        if self._fits is None:
            assert self._batching is not None
            devices = self._batching.devices
            example = self._example((code, np.float32(1.0)))
            with explain_failures(self.task):
                limit = lanes_that_fit(self._batched_loop, self.task.data, example, devices)
            self._fits = limit is None or limit >= len(devices)
        return self._fits

    @cached_property
    def _batched_loop(self) -> Loop:
        return self._loop(interpreter(self.ops))

    def _example(self, operands: tuple[Any, ...]) -> Entry:
        """Return a training with the given operands; those of all trainings have equal shapes."""
        return Entry(seed_words(0, Seed(Stream.TUNE, 0)), self._schedule(), operands)

    def prepare(self, program: Contender, engine: Engine) -> None:
        """Compile the training loop before the first training needs it."""
        with explain_failures(self.task, program):
            if engine is Engine.BATCHED:
                self._shared_batch(self._operands(program, engine, 1.0))
            else:
                self._executable(program, engine)

    def run(
        self, program: Contender, lr_factor: float, key: jax.Array, engine: Engine
    ) -> JobResult:
        """Train for the whole budget with a cosine schedule.

        Args:
            program: the contender.
            lr_factor: factor by which the contender's own learning rate is multiplied.
            key: JAX key of the training.
            engine: how to compute updates.
        """
        with explain_failures(self.task, program):
            result = self._train(program, lr_factor, key, engine, self._schedule())
            return _losses(result, engine)

    def train(self, job: Job) -> JobResult:
        """Run `job`, whose task must be this trainer's.

        Sharpness needs a trainer with `observe`, the path of the weights one with `trace`.

        Raises:
            TrainingError: code of a user task raised an exception; the message names task,
                contender and seed.
        """
        key = seed_key(job.run_seed, job.seed)
        start = time.perf_counter()
        try:
            with explain_failures(self.task, job.contender):
                schedule = self._cached_schedule(job.conditions, job.loss_limits)
                trained = self._train(
                    job.contender, job.learning_rate_factor, key, job.engine, schedule
                )
                if job.output == "losses":
                    result = _losses(trained, job.engine)
                    return replace(result, seconds=time.perf_counter() - start)
                result = JobResult(math.nan, 0, job.engine, _EMPTY, False, _EMPTY)
                if job.output == "sharpness":
                    return replace(result, sharpness=self._sharpness(trained, key))
                return replace(result, path=_path(trained))
        except TrainingError as error:
            raise error.on(job.seed) from error.__cause__

    def submit(self, job: Job) -> Future[JobResult]:
        """Queue `job`, whose engine is `batched` and which asks for losses, in this task's batch.

        Returns:
            A future with the same result and errors as `train`. Its callbacks run on the thread
            that advances all batches.
        """
        future: Future[JobResult] = Future()
        start = time.perf_counter()

        def on_result(trained: proxies.TrainingResult) -> None:
            try:
                result = _losses(trained, job.engine)
                future.set_result(replace(result, seconds=time.perf_counter() - start))
            except Exception as error:
                future.set_exception(error)

        def on_error(error: Exception) -> None:
            try:
                with explain_failures(self.task, job.contender):
                    raise error
            except TrainingError as explained:
                future.set_exception(explained.on(job.seed))
            except Exception as unexplained:
                future.set_exception(unexplained)

        try:
            operands = self._operands(job.contender, job.engine, job.learning_rate_factor)
            schedule = self._cached_schedule(job.conditions, job.loss_limits)
            entry = Entry(seed_words(job.run_seed, job.seed), schedule, operands)
            with explain_failures(self.task, job.contender):
                batch = self._shared_batch(operands)
            batch.submit(entry, on_result, on_error)
        except TrainingError as error:
            raise error.on(job.seed) from error.__cause__
        return future

    def _sharpness(self, trained: proxies.TrainingResult, key: jax.Array) -> float:
        """Return the largest eigenvalue of the final loss's Hessian; NaN after a divergence."""
        if not math.isfinite(float(trained.loss)):
            return math.nan
        return float(proxies.sharpness(self.task, trained.params, self._data, key))

    def _train(
        self,
        program: Contender,
        lr_factor: float,
        key: jax.Array,
        engine: Engine,
        schedule: proxies.StepSchedule,
    ) -> proxies.TrainingResult:
        operands = self._operands(program, engine, lr_factor)
        if engine is Engine.BATCHED:
            words = np.asarray(jax.random.key_data(key))
            return self._shared_batch(operands).train(Entry(words, schedule, operands))
        execute = self._executable(program, engine)
        result: proxies.TrainingResult = execute(self._data, key, schedule, operands)
        return result

    def _shared_batch(self, operands: tuple[Any, ...]) -> Batch:
        """Return the batch that all threads share; the first call creates it.

        Args:
            operands: operands with the shapes that all trainings have.
        """
        assert self._batching is not None
        if self._batch is not None:
            return self._batch
        with self._batch_lock:
            if self._batch is None:
                device, batching = self._batching.devices[0], self._batching
                if runs_kernel(device):
                    gangs = self._loop(interpreter(self.ops, use_kernel=False))
                    batching = with_fallback(batching, gangs)
                example = self._example(operands)
                options = interpreter_options(device.platform)
                self._batch = Batch(self._batched_loop, self.task.data, example, batching, options)
            return self._batch

    def _loop(self, rule: Rule) -> Loop:
        """Return the training loop of the lanes of a batch."""
        return Loop(self.task, rule, None, self._observe, self._trace)

    def _executable(self, program: Contender, engine: Engine) -> Any:
        """Return the compiled training loop of one program, or of the interpreter."""
        contender = program if engine is Engine.COMPILED else None

        def build() -> Any:
            rule = self._rule(contender)
            interpreted = contender is None
            return proxies.compile_train(
                self.task if interpreted else _sharded_if_needed(self.task, rule, self._max_steps),
                rule,
                self._data,
                seed_key(0, Seed(Stream.TUNE, 0)),
                self._schedule(),
                self._operands(program, engine, 1.0),
                weights=_evaluated_weights(contender),
                observe=self._observe,
                trace=self._trace,
                compiler_options=interpreter_options(jax.default_backend())
                if interpreted
                else None,
            )

        return EXECUTABLES.get((self._cache_key, contender), build)

    def _rule(self, contender: Contender | None) -> optax.GradientTransformationExtraArgs:
        """Return the update rule of a contender, or the interpreter for None."""
        if contender is None:
            return interpreter(self.ops)
        return contender.rule() if isinstance(contender, OptaxOptimizer) else rule(contender)

    def _schedule(
        self, conditions: Conditions | None = None, loss_limits: bytes | None = None
    ) -> proxies.StepSchedule:
        """Return the step schedule of a training.

        Args:
            conditions: number of steps, schedule and decay; None for the budget with a cosine.
            loss_limits: float32 [longest budget], maximum of the smoothed batch loss; None for no
                limits.
        """
        conditions = conditions or Conditions(min(self.steps, self._max_steps))
        relative_rates = proxies.relative_rates(
            conditions.schedule, conditions.steps, self._max_steps
        )
        plain = proxies.StepSchedule.plain(relative_rates, conditions.steps)
        decays = plain.decays
        if conditions.decay:
            decays = conditions.decay * relative_rates / relative_rates.sum()
        limits = plain.limits
        if loss_limits is not None:
            limits = np.frombuffer(loss_limits, np.float32)
        return plain._replace(decays=decays, limits=limits)

    def _operands(self, program: Contender, engine: Engine, lr_factor: float) -> tuple[Any, ...]:
        scale = np.float32(lr_factor)
        if engine is Engine.COMPILED or isinstance(program, OptaxOptimizer):
            return (scale,)
        return _encoded(program, self.ops), scale


def _losses(trained: proxies.TrainingResult, engine: Engine) -> JobResult:
    """Return the losses of a training and the root mean square of its updates."""
    result: Any = trained._replace(params=None, path=None)
    if engine is not Engine.BATCHED:  # a batch returns host arrays
        result = jax.device_get(result)
    return JobResult(
        float(result.loss),
        int(result.steps),
        engine,
        result.train_loss,
        bool(result.stopped),
        result.update_rms,
    )


def _path(trained: proxies.TrainingResult) -> NDArray[np.float32]:
    """Return the weights before each update of a traced training, `[steps run, weights]`."""
    steps = int(trained.steps)
    leaves = [np.asarray(leaf)[:steps] for leaf in jax.tree.leaves(trained.path)]
    return np.concatenate([leaf.reshape(steps, -1) for leaf in leaves], axis=1)


class Trainers:
    """Trainers by setup, each created once. Safe to use from several threads."""

    def __init__(self, batching: Batching | None = None):
        self._batching = batching
        if batching is not None and (message := missing_kernel(batching.devices[0])) is not None:
            batching.notify(message)
        self._trainers: dict[TaskSetup, Trainer] = {}
        self._lock = threading.Lock()

    def of(self, setup: TaskSetup) -> Trainer:
        """Return the trainer for jobs with this setup.

        Raises:
            EvosearchError: a file of a user task changed after the setup was created.
        """
        with self._lock:
            if setup not in self._trainers:
                task = proxies.load(setup.task)
                if task.files != setup.files:
                    raise EvosearchError(
                        f"task {setup.task!r}: its files changed while the task was in use; "
                        "start again"
                    )
                self._trainers[setup] = Trainer(
                    task,
                    setup.steps,
                    longest=setup.longest,
                    ops=setup.ops,
                    observe=setup.observe,
                    trace=setup.trace,
                    batching=self._batching,
                )
            return self._trainers[setup]
