"""One training from beginning to end, and what is made of its losses."""

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
from proxies.training.schedules import Schedule, cosine, shape


def smoothed(losses: NDArray[np.float32]) -> NDArray[np.float64]:
    """Batch losses averaged exponentially over about ten steps, as the loop does for its limits.

    Args:
        losses: `[steps]`.

    Returns:
        `[steps]`, the average up to each step with its start-up bias corrected.
    """
    from scipy.signal import lfilter  # here, since it takes a while to import

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

    `w <- w + rule.update(g, state, w, lr=schedule(step), t=step + 1)` until the budget is spent or
    the loss stops being finite. It may be called under `jax.vmap` and `jax.jit`.

    Args:
        task: what to train.
        rule: an optax pair of `init` and `update`; hashable, compiled once per task. Rules that
            take no `lr` and `t` never see them.
        steps: the number of steps, at least 1; None for the task's own budget.
        schedule: None for `cosine(steps)`.
        key: the seed, which decides initial weights, the cut of the data and the batches.
        operands: further arguments of `rule.init`. Arrays in it are traced, so that a rule that
            keeps them in its state runs any number of programs without another compilation.

    Raises:
        ValueError: `steps` is below 1.
    """
    steps = task.steps if steps is None else steps
    if steps < 1:
        raise ValueError(f"steps is {steps}; train for at least 1")
    lrs = shape(cosine(steps) if schedule is None else schedule, steps)
    course = StepSchedule.plain(lrs, steps)
    curve: TrainingResult = compiled_train(task, rule, task.data, key, course, operands)
    return curve


@partial(jax.jit, static_argnames=("task", "rule", "weights", "observe", "trace"))
def compiled_train(
    task: Task,
    rule: Rule,
    data: PyTree,
    key: jax.Array,
    course: StepSchedule,
    operands: tuple[PyTree, ...],
    weights: Callable[[PyTree, PyTree], PyTree] | None = None,
    observe: bool = False,
    trace: bool = False,
) -> TrainingResult:
    """`train` with every default filled in: compiled once per (task, rule, budget).

    Use it to hand over data that already lies on a device, or to train on various courses, none of
    which is compiled in.
    `weights`, `observe` and `trace` are those of `Loop`.
    """
    loop = Loop(task, rule, weights, observe, trace)
    plan, start = loop.begin(data, key, course, operands)
    end = lax.while_loop(partial(loop.goes_on, plan), partial(loop.advance, data, plan), start)
    return loop.finish(data, plan, end)


def compile_train(
    task: Task,
    rule: Rule,
    data: PyTree,
    key: jax.Array,
    course: StepSchedule,
    operands: tuple[PyTree, ...],
    *,
    weights: Callable[[PyTree, PyTree], PyTree] | None = None,
    observe: bool = False,
    trace: bool = False,
    compiler_options: dict[str, Any] | None = None,
) -> Compiled:
    """`compiled_train` ahead of time, in an executable that goes when nobody holds it any more.

    JAX keeps what it compiled for a function as long as the function lives, and `compiled_train`
    lives for ever. So this compiles a function of its own. Arguments are those of `compiled_train`,
    arrays or their shapes, and XLA's options.
    """
    train: Any = compiled_train
    alone = partial(train.__wrapped__, task, rule, weights=weights, observe=observe, trace=trace)
    lowered = jax.jit(alone).lower(data, key, course, operands)
    return lowered.compile(compiler_options=compiler_options)
