"""One training from its initial weights to its result, and smoothed losses."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import numpy as np
from jax import lax
from jax.stages import Compiled
from numpy.typing import NDArray

from proxies.task import PyTree, Task
from proxies.training.loop import SMOOTHING, Loop, Rule, StepSchedule, TrainingResult
from proxies.training.schedules import Schedule, cosine, rates_of


def smoothed(losses: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the bias-corrected exponential moving average of batch losses.

    The training loop compares the same average, over about ten steps, with its loss limits.

    >>> import numpy as np
    >>> smoothed(np.array([2.0, 2.0, 1.0], np.float32)).round(2)
    array([2.  , 2.  , 1.63])

    Args:
        losses: `[steps]`, the batch loss of each step.

    Returns:
        `[steps]`, the average up to each step.
    """
    from scipy.signal import lfilter  # importing SciPy is slow

    weights = 1 - SMOOTHING ** np.arange(1, len(losses) + 1)
    averages = lfilter([1 - SMOOTHING], [1, -SMOOTHING], losses.astype(np.float64))
    corrected: NDArray[np.float64] = averages / weights
    return corrected


def train(
    task: Task,
    rule: Rule,
    *,
    steps: int | None = None,
    schedule: Schedule | None = None,
    key: jax.Array,
    operands: tuple[PyTree, ...] = (),
) -> TrainingResult:
    """Train `task` with `rule` from the seed `key`.

    Each step computes `w <- w + rule.update(g, state, w, lr=schedule(step), t=step + 1)`. Training
    ends after `steps` steps, or when the loss is not finite. `train` may be called under `jax.vmap`
    and `jax.jit`.

    >>> import jax, optax, proxies
    >>> task = proxies.load("quadratic")
    >>> result = proxies.train(task, optax.sgd(0.1), steps=20, key=jax.random.key(0))
    >>> bool(result.loss < result.train_loss[0])
    True

    Args:
        task: the task to train.
        rule: an optax pair of `init` and `update`; hashable, compiled once per task. `lr` and `t`
            are passed only to rules that take extra arguments.
        steps: number of steps, at least 1; None uses the task's budget.
        schedule: learning rate relative to its peak; None uses `cosine(steps)`.
        key: the seed of initial weights, partition of the data, and batches.
        operands: additional arguments of `rule.init`. Their arrays are traced, so a rule that keeps
            a program in its state runs any program without compiling again.

    Returns:
        The losses of the training.

    Raises:
        ValueError: `steps` is below 1.
    """
    steps = task.steps if steps is None else steps
    if steps < 1:
        raise ValueError(f"steps is {steps}; use at least 1")
    lrs = rates_of(cosine(steps) if schedule is None else schedule, steps)
    step_schedule = StepSchedule.plain(lrs, steps)
    result: TrainingResult = compiled_train(task, rule, task.data, key, step_schedule, operands)
    return result


@partial(jax.jit, static_argnames=("task", "rule", "weights", "observe", "trace"))
def compiled_train(
    task: Task,
    rule: Rule,
    data: PyTree,
    key: jax.Array,
    schedule: StepSchedule,
    operands: tuple[PyTree, ...],
    weights: Callable[[PyTree, PyTree], PyTree] | None = None,
    observe: bool = False,
    trace: bool = False,
) -> TrainingResult:
    """Train like `train`, with all arguments explicit; compiled once per (task, rule, budget).

    Use this function for data that is already on a device, or to train with different step
    schedules without compiling again.

    >>> import jax, numpy as np, optax, proxies
    >>> task = proxies.load("quadratic")
    >>> schedule = proxies.StepSchedule.plain(np.ones(20, np.float32), 5)
    >>> key = jax.random.key(0)
    >>> result = proxies.compiled_train(task, optax.sgd(0.1), task.data, key, schedule, ())
    >>> result.train_loss.shape, int(result.steps)
    ((20,), 5)

    Args:
        task: the task to train.
        rule: an optax pair of `init` and `update`.
        data: the task's data.
        key: the seed.
        schedule: learning rate, weight decay and loss limit of each step.
        operands: additional arguments of `rule.init`.
        weights: see `Loop`.
        observe: see `Loop`.
        trace: see `Loop`.
    """
    loop = Loop(task, rule, weights, observe, trace)
    draws, start = loop.begin(data, key, schedule, operands)
    end = lax.while_loop(partial(loop.is_running, draws), partial(loop.advance, data, draws), start)
    return loop.finish(data, draws, end)


def compile_train(
    task: Task,
    rule: Rule,
    data: PyTree,
    key: jax.Array,
    schedule: StepSchedule,
    operands: tuple[PyTree, ...],
    *,
    weights: Callable[[PyTree, PyTree], PyTree] | None = None,
    observe: bool = False,
    trace: bool = False,
    compiler_options: dict[str, Any] | None = None,
) -> Compiled:
    """Compile `compiled_train` ahead of time into an executable that can be garbage-collected.

    JAX caches executables as long as their function lives, and `compiled_train` lives as long as
    the process. This function compiles a new function in each call.

    >>> import jax, numpy as np, optax, proxies
    >>> task = proxies.load("quadratic")
    >>> key, schedule = jax.random.key(0), proxies.StepSchedule.plain(np.ones(5, np.float32), 5)
    >>> execute = proxies.compile_train(task, optax.sgd(0.1), task.data, key, schedule, ())
    >>> int(execute(task.data, key, schedule, ()).steps)
    5

    Args:
        task: the task to train.
        rule: an optax pair of `init` and `update`.
        data: the task's data, or its shapes.
        key: a seed, or its shape.
        schedule: a step schedule, or its shapes.
        operands: additional arguments of `rule.init`, or their shapes.
        weights: see `Loop`.
        observe: see `Loop`.
        trace: see `Loop`.
        compiler_options: options of XLA.

    Returns:
        An executable whose arguments are `(data, key, schedule, operands)`.
    """
    train: Any = compiled_train
    function = partial(train.__wrapped__, task, rule, weights=weights, observe=observe, trace=trace)
    lowered = jax.jit(function).lower(data, key, schedule, operands)
    return lowered.compile(compiler_options=compiler_options)
