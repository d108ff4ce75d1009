"""The training loop, written once: for one task, one update rule and one seed."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from numpy.typing import NDArray
from scipy.signal import lfilter

from proxies.schedules import Schedule, cosine, shape
from proxies.task import PyTree, Task

Rule: TypeAlias = optax.GradientTransformation | optax.GradientTransformationExtraArgs

_SMOOTHING = 0.9  # of batch losses that are held against limits


class Course(NamedTuple):
    """How a training is to go, step by step; none of it is compiled in.

    Attributes:
        lrs: `[budget]` float32, the learning rate's shape.
        decays: `[budget]` float32, the share of the weights that is taken off beside the rule's
            update: weight decay that no rate scales.
        limits: `[budget]` float32; the training is stopped once its `smoothed` batch loss is above.
        steps: int32 scalar, at most the budget: how many to train.
    """

    lrs: jax.Array | NDArray[np.float32]
    decays: jax.Array | NDArray[np.float32]
    limits: jax.Array | NDArray[np.float32]
    steps: jax.Array | np.int32

    @classmethod
    def plain(cls, lrs: jax.Array | NDArray[np.float32], steps: int) -> "Course":
        """A course without decay and limits."""
        nothing = np.zeros(lrs.shape[0], np.float32)
        return cls(lrs, nothing, nothing + np.float32(np.inf), np.int32(steps))


class Curve(NamedTuple):
    """What one training showed.

    Attributes:
        train_loss: `[budget]` float32, the batch loss before each update, of the weights that gave
            its gradient; NaN after a stop.
        loss: float32 scalar, the final evaluation; +inf if diverged.
        steps: int32 scalar, the steps that were run.
        diverged: bool scalar; a batch loss, a final weight or the evaluation was not finite.
        stopped: bool scalar; it exceeded its limits, and `loss` is that of half-trained weights.
        update_rms: `[budget]` float32, the root mean square of each update over all weights, 0
            after a stop; `[0]` unless it was asked for.
        params: the final weights, if they were asked for.
        path: the weights before each update, each array with a first axis `[budget]`, 0 after a
            stop; None unless it was asked for.
    """

    train_loss: jax.Array
    loss: jax.Array
    steps: jax.Array
    diverged: jax.Array
    stopped: jax.Array
    update_rms: jax.Array
    params: PyTree
    path: PyTree


class _Carry(NamedTuple):
    step: jax.Array
    params: PyTree
    past: PyTree  # the weights of the last `delay` steps; step t is kept at t modulo `delay`
    state: PyTree
    train_loss: jax.Array
    smooth_loss: jax.Array
    update_rms: jax.Array
    path: PyTree
    finite: jax.Array
    within: jax.Array


def smoothed(losses: NDArray[np.float32]) -> NDArray[np.float64]:
    """Batch losses averaged exponentially over about ten steps, as the loop does for its limits.

    Args:
        losses: `[steps]`.

    Returns:
        `[steps]`, the average up to each step with its start-up bias corrected.
    """
    weights = 1 - _SMOOTHING ** np.arange(1, len(losses) + 1)
    averages = lfilter([1 - _SMOOTHING], [1, -_SMOOTHING], losses.astype(np.float64))
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
) -> Curve:
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
    course = Course.plain(lrs, steps)
    curve: Curve = compiled_train(task, rule, task.data, key, course, operands)
    return curve


@partial(jax.jit, static_argnames=("task", "rule", "weights", "observe", "trace"))
def compiled_train(
    task: Task,
    rule: Rule,
    data: PyTree,
    key: jax.Array,
    course: Course,
    operands: tuple[PyTree, ...],
    weights: Callable[[PyTree, PyTree], PyTree] | None = None,
    observe: bool = False,
    trace: bool = False,
) -> Curve:
    """`train` with every default filled in: compiled once per (task, rule, budget).

    Use it to compile ahead of time (`compiled_train.lower(...).compile()`), to hand over data that
    already lies on a device, or to train on various courses, none of which is compiled in.
    `weights` maps the final weights and the rule's state to the weights that are evaluated, for
    rules that average; None for the final weights. With `observe` the curve has the updates' sizes
    and the final weights too, with `trace` all weights on the way.
    """
    budget = course.lrs.shape[0]
    lrs, decays, limits = map(jnp.asarray, course[:3])
    keys = _streams(key, 3 + 2 * budget)
    init_key, partition_key, evaluation_key = keys[:3]
    sample_keys, loss_keys = keys[3::2], keys[4::2]

    partition = task.partition(data, partition_key)
    # A counter-based generator inside an XLA CPU loop costs more than a small training step, so
    # all draws are made here; loss keys that a task ignores are removed by the compiler.
    samples = jax.vmap(partial(task.sample, partition))(sample_keys)
    gradient = task.gradient or jax.value_and_grad(task.loss)
    update = optax.with_extra_args_support(rule).update

    def proceed(carry: _Carry) -> jax.Array:
        return carry.finite & carry.within & (carry.step < course.steps)

    def advance(carry: _Carry) -> _Carry:
        step, params, past, state, train_loss, smooth_loss, update_rms, path, *_ = carry
        sample, loss_key = jax.tree.map(lambda draws: draws[step], (samples, loss_keys))
        seen = params
        if task.delay:
            slot = step % task.delay
            seen = jax.tree.map(lambda weights: weights[slot], past)
            past = jax.tree.map(lambda all, now: all.at[slot].set(now), past, params)
        loss, gradients = gradient(seen, task.batch(data, sample), loss_key)
        t = (step + 1).astype(jnp.float32)
        if trace:
            path = jax.tree.map(lambda all, now: all.at[step].set(now), path, params)
        updates, state = update(gradients, state, params, lr=lrs[step], t=t)
        updates = jax.tree.map(lambda u, w: u - decays[step] * w, updates, params)
        params = optax.apply_updates(params, updates)
        if observe:
            update_rms = update_rms.at[step].set(_rms(updates))
        smooth_loss = _SMOOTHING * smooth_loss + (1 - _SMOOTHING) * loss
        return _Carry(
            step=step + 1,
            params=params,
            past=past,
            state=state,
            train_loss=train_loss.at[step].set(loss),
            smooth_loss=smooth_loss,
            update_rms=update_rms,
            path=path,
            finite=jnp.isfinite(loss),
            within=smooth_loss <= limits[step] * (1 - _SMOOTHING**t),
        )

    params = task.init(init_key)
    start = _Carry(
        step=jnp.int32(0),
        params=params,
        past=jax.tree.map(lambda leaf: jnp.stack([leaf] * task.delay), params)
        if task.delay
        else (),
        state=_init(rule, params, operands),
        train_loss=jnp.full(budget, jnp.nan, jnp.float32),
        smooth_loss=jnp.float32(0.0),
        update_rms=jnp.zeros(budget if observe else 0, jnp.float32),
        path=jax.tree.map(lambda leaf: jnp.zeros((budget, *leaf.shape)), params) if trace else None,
        finite=jnp.bool_(True),
        within=jnp.bool_(True),
    )
    end = lax.while_loop(proceed, advance, start)
    evaluated = end.params if weights is None else weights(end.params, end.state)
    loss = task.evaluate(evaluated, data, partition, evaluation_key)
    finite = end.finite & jnp.isfinite(loss) & _all_finite(end.params)
    return Curve(
        train_loss=end.train_loss,
        loss=jnp.where(finite, loss, jnp.inf),
        steps=end.step,
        diverged=~finite,
        stopped=end.finite & ~end.within,
        update_rms=end.update_rms,
        params=end.params if observe else None,
        path=end.path,
    )


def _rms(updates: PyTree) -> jax.Array:
    leaves = jax.tree.leaves(updates)
    total = jnp.stack([jnp.sum(jnp.square(leaf)) for leaf in leaves]).sum()
    return jnp.sqrt(total / sum(leaf.size for leaf in leaves))


def _streams(key: jax.Array, count: int) -> jax.Array:
    """`count` keys that differ from one another and from those of other seeds.

    A counter-based generator needs keys that differ, no more, so they are numbered in the first
    word, which is zero in the keys of small seeds; splitting takes 0.2 s to compile.
    """
    words = jax.random.key_data(key)
    numbered = jnp.tile(words, (count, 1)).at[:, 0].add(jnp.arange(count, dtype=words.dtype))
    keys: jax.Array = jax.random.wrap_key_data(numbered, impl=jax.random.key_impl(key))
    return keys


def _init(rule: Rule, params: PyTree, operands: tuple[PyTree, ...]) -> PyTree:
    init: Callable[..., Any] = rule.init  # optax's type knows no further arguments
    return init(params, *operands)


def _all_finite(tree: PyTree) -> jax.Array:
    numbers = jnp.concatenate([jnp.ravel(leaf) for leaf in jax.tree.leaves(tree)])
    return jnp.all(jnp.isfinite(numbers))
