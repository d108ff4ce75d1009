"""The training loop, written once: for one task, one update rule and one seed.

It comes apart so that trainings can go on side by side (`proxies.training.lanes`): what is dealt
before the first step, a step, whether there is another, and what it all came to.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import optax
from numpy.typing import NDArray

from proxies.task import PyTree, Task

Rule: TypeAlias = optax.GradientTransformation | optax.GradientTransformationExtraArgs

SMOOTHING = 0.9
"""Of batch losses that are held against limits."""


class StepSchedule(NamedTuple):
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
    def plain(cls, lrs: jax.Array | NDArray[np.float32], steps: int) -> "StepSchedule":
        """A course without decay and limits."""
        nothing = np.zeros(lrs.shape[0], np.float32)
        return cls(lrs, nothing, nothing + np.float32(np.inf), np.int32(steps))


class TrainingResult(NamedTuple):
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


class Draws(NamedTuple):
    """What a training is dealt before its first step; fixed from then on.

    Attributes:
        course: how it is to go.
        partition: the seed's cut of the data.
        samples: all that is random about each batch, arrays with a first axis `[budget]`.
        loss_keys: `[budget]` keys.
        evaluation_key: for the evaluation at the end.
    """

    course: StepSchedule
    partition: PyTree
    samples: PyTree
    loss_keys: jax.Array
    evaluation_key: jax.Array


class TrainState(NamedTuple):
    """How far a training has come."""

    step: jax.Array
    params: PyTree
    past: PyTree  # the weights of the last `delay` steps; step t is kept at t modulo `delay`
    state: PyTree
    train_loss: jax.Array
    smooth_loss: jax.Array
    update_rms: PyTree  # an array, or None
    path: PyTree
    finite: jax.Array
    within: jax.Array


@dataclass(frozen=True)
class Loop:
    """The training loop of a task and a rule; hashable, so that it can be compiled once.

    Attributes:
        task: what to train.
        rule: an optax pair of `init` and `update`.
        weights: `(final weights, the rule's state) -> weights` to evaluate, for rules that average;
            None for the final weights.
        observe: the curve has the updates' sizes and the final weights too.
        trace: the curve has all weights on the way.
    """

    task: Task
    rule: Rule
    weights: Callable[[PyTree, PyTree], PyTree] | None = None
    observe: bool = False
    trace: bool = False

    def begin(
        self, data: PyTree, key: jax.Array, course: StepSchedule, operands: tuple[PyTree, ...]
    ) -> tuple[Draws, TrainState]:
        """A training before its first step; `operands` are further arguments of `rule.init`."""
        task = self.task
        budget = course.lrs.shape[0]
        keys = _streams(key, 3 + 2 * budget)
        init_key, partition_key, evaluation_key = keys[:3]
        sample_keys, loss_keys = keys[3::2], keys[4::2]
        partition = task.partition(data, partition_key)
        # A counter-based generator inside an XLA CPU loop costs more than a small training step, so
        # all draws are made here; loss keys that a task ignores are removed by the compiler.
        samples = jax.vmap(partial(task.sample, partition))(sample_keys)
        course = jax.tree.map(jnp.asarray, course)
        plan = Draws(course, partition, samples, loss_keys, evaluation_key)
        return plan, self._start(task.init(init_key), budget, operands)

    def _start(self, params: PyTree, budget: int, operands: tuple[PyTree, ...]) -> TrainState:
        delay = self.task.delay
        return TrainState(
            step=jnp.int32(0),
            params=params,
            past=jax.tree.map(lambda leaf: jnp.stack([leaf] * delay), params) if delay else (),
            state=_init(self.rule, params, operands),
            train_loss=jnp.full(budget, jnp.nan, jnp.float32),
            smooth_loss=jnp.float32(0.0),
            update_rms=jnp.zeros(budget, jnp.float32) if self.observe else None,
            path=jax.tree.map(lambda leaf: jnp.zeros((budget, *leaf.shape)), params)
            if self.trace
            else None,
            finite=jnp.bool_(True),
            within=jnp.bool_(True),
        )

    def goes_on(self, plan: Draws, progress: TrainState) -> jax.Array:
        """Whether there is another step: neither diverged, nor stopped, nor done."""
        return progress.finite & progress.within & (progress.step < plan.course.steps)

    def advance(self, data: PyTree, plan: Draws, progress: TrainState) -> TrainState:
        """One step further."""
        task = self.task
        lrs, decays, limits, _ = plan.course
        step, params, past, state, train_loss, smooth_loss, update_rms, path, *_ = progress
        draws = plan.samples, plan.loss_keys
        sample, loss_key = jax.tree.map(lambda draws: draws[step], draws)
        seen = params
        if task.delay:
            slot = step % task.delay
            seen = jax.tree.map(lambda weights: weights[slot], past)
            past = jax.tree.map(lambda all, now: all.at[slot].set(now), past, params)
        gradient = task.gradient or jax.value_and_grad(task.loss)
        loss, gradients = gradient(seen, task.batch(data, sample), loss_key)
        t = (step + 1).astype(jnp.float32)
        if self.trace:
            path = jax.tree.map(lambda all, now: all.at[step].set(now), path, params)
        update = optax.with_extra_args_support(self.rule).update
        updates, state = update(gradients, state, params, lr=lrs[step], t=t)
        updates = jax.tree.map(lambda u, w: u - decays[step] * w, updates, params)
        params = optax.apply_updates(params, updates)
        if self.observe:
            update_rms = update_rms.at[step].set(_rms(updates))
        smooth_loss = SMOOTHING * smooth_loss + (1 - SMOOTHING) * loss
        return TrainState(
            step=step + 1,
            params=params,
            past=past,
            state=state,
            train_loss=train_loss.at[step].set(loss),
            smooth_loss=smooth_loss,
            update_rms=update_rms,
            path=path,
            finite=jnp.isfinite(loss),
            within=smooth_loss <= limits[step] * (1 - SMOOTHING**t),
        )

    def finish(self, data: PyTree, plan: Draws, end: TrainState) -> TrainingResult:
        """What a training came to that goes on no more."""
        evaluated = end.params if self.weights is None else self.weights(end.params, end.state)
        loss = self.task.evaluate(evaluated, data, plan.partition, plan.evaluation_key)
        finite = end.finite & jnp.isfinite(loss) & _all_finite(end.params)
        return TrainingResult(
            train_loss=end.train_loss,
            loss=jnp.where(finite, loss, jnp.inf),
            steps=end.step,
            diverged=~finite,
            stopped=end.finite & ~end.within,
            update_rms=end.update_rms if self.observe else jnp.zeros(0, jnp.float32),
            params=end.params if self.observe else None,
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
