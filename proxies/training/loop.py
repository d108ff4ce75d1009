"""The training loop for one task, one update rule and one seed.

The loop consists of the pure functions `Loop.begin`, `Loop.is_running`, `Loop.advance` and
`Loop.finish`, so that `proxies.training.lanes` can run many trainings side by side.
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
"""Decay rate of the moving average of batch losses that is compared with the loss limits."""


class StepSchedule(NamedTuple):
    """Learning rate, weight decay and loss limit of each step of a training.

    All fields are traced: one compiled training serves all schedules of the same length `budget`.

    >>> import numpy as np
    >>> int(StepSchedule.plain(np.ones(3, np.float32), 3).steps)
    3

    Attributes:
        lrs: `[budget]` float32, learning rates relative to their peak.
        decays: `[budget]` float32, the fraction of the weights that is subtracted in addition to
            the rule's update: decoupled weight decay, independent of the learning rate.
        limits: `[budget]` float32; training stops when the `smoothed` batch loss exceeds its limit.
        steps: int32 scalar, the number of steps to train, at most the budget.
    """

    lrs: jax.Array | NDArray[np.float32]
    decays: jax.Array | NDArray[np.float32]
    limits: jax.Array | NDArray[np.float32]
    steps: jax.Array | np.int32

    @classmethod
    def plain(cls, lrs: jax.Array | NDArray[np.float32], steps: int) -> "StepSchedule":
        """Return a schedule without weight decay and without loss limits."""
        zeros = np.zeros(lrs.shape[0], np.float32)
        return cls(lrs, zeros, zeros + np.float32(np.inf), np.int32(steps))


class TrainingResult(NamedTuple):
    """The losses of one training and, on request, its updates and weights.

    >>> import jax, optax, proxies
    >>> task = proxies.load("quadratic")
    >>> result = proxies.train(task, optax.sgd(0.1), steps=3, key=jax.random.key(0))
    >>> result.train_loss.shape, int(result.steps), bool(result.diverged)
    ((3,), 3, False)

    Attributes:
        train_loss: `[budget]` float32, the batch loss before each update, at the weights where the
            gradient was taken; NaN for steps that were not run.
        loss: float32 scalar, the final evaluation; +inf if the training diverged.
        steps: int32 scalar, the number of steps that were run.
        diverged: bool scalar, whether a batch loss, a final weight or the evaluation is infinite
            or NaN.
        stopped: bool scalar, whether the smoothed loss exceeded a limit; `loss` is then evaluated
            at the weights of that step.
        update_rms: `[budget]` float32, the root mean square of each update over all weights, 0 for
            steps that were not run; `[0]` unless `Loop.observe` is set.
        params: the final weights; None unless `Loop.observe` is set.
        path: the weights before each update, each array with a first axis `[budget]`, 0 for steps
            that were not run; None unless `Loop.trace` is set.
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
    """The random numbers of a training, drawn before the first step, and the training's schedule.

    Attributes:
        schedule: learning rate, weight decay and loss limit of each step.
        partition: the seed's partition of the data into training and evaluation items.
        samples: the random numbers of each batch, arrays with a first axis `[budget]`.
        loss_keys: `[budget]` keys, one for the loss of each step.
        evaluation_key: the key of the final evaluation.
    """

    schedule: StepSchedule
    partition: PyTree
    samples: PyTree
    loss_keys: jax.Array
    evaluation_key: jax.Array


class TrainState(NamedTuple):
    """The state of a training between two steps.

    Attributes:
        step: () int32, the number of completed steps.
        params: the weights.
        past_params: the weights of the last `Task.delay` steps, each array with a first axis
            [delay]; the weights of step t are at index t mod `delay`. () without a delay.
        rule_state: the state of the update rule.
        train_loss: `[budget]` float32; see `TrainingResult`.
        smooth_loss: () float32, the moving average of the batch losses, which starts at 0.
        update_rms: `[budget]` float32; see `TrainingResult`. None unless `Loop.observe` is set.
        path: see `TrainingResult`.
        finite: () bool, whether the last batch loss is finite.
        within_limit: () bool, whether the smoothed loss is within its limit.
    """

    step: jax.Array
    params: PyTree
    past_params: PyTree
    rule_state: PyTree
    train_loss: jax.Array
    smooth_loss: jax.Array
    update_rms: PyTree
    path: PyTree
    finite: jax.Array
    within_limit: jax.Array


@dataclass(frozen=True)
class Loop:
    """The training loop of a task and a rule; hashable, so that it is compiled once.

    Attributes:
        task: the task to train.
        rule: an optax pair of `init` and `update`.
        weights: function of the final weights and the rule's state that returns the weights to
            evaluate, for rules that average weights; None evaluates the final weights.
        observe: whether results contain `update_rms` and `params`.
        trace: whether results contain `path`.
    """

    task: Task
    rule: Rule
    weights: Callable[[PyTree, PyTree], PyTree] | None = None
    observe: bool = False
    trace: bool = False

    def begin(
        self, data: PyTree, key: jax.Array, schedule: StepSchedule, operands: tuple[PyTree, ...]
    ) -> tuple[Draws, TrainState]:
        """Return the draws of a training, and the training's state before the first step.

        Args:
            data: the task's data.
            key: the seed.
            schedule: learning rate, weight decay and loss limit of each step.
            operands: additional arguments of `rule.init`.

        Raises:
            ValueError: the task's weights are not floating-point arrays.
        """
        task = self.task
        budget = schedule.lrs.shape[0]
        keys = _distinct_keys(key, 3 + 2 * budget)
        init_key, partition_key, evaluation_key = keys[:3]
        sample_keys, loss_keys = keys[3::2], keys[4::2]
        partition = task.partition(data, partition_key)
        # A counter-based generator inside an XLA CPU loop costs more than a small training step, so
        # all random numbers are drawn here. XLA removes the loss keys if the task ignores them.
        samples = jax.vmap(partial(task.sample, partition))(sample_keys)
        schedule = jax.tree.map(jnp.asarray, schedule)
        draws = Draws(schedule, partition, samples, loss_keys, evaluation_key)
        params = task.init(init_key)
        for leaf in jax.tree.leaves(params):
            if task.gradient is None and not jnp.issubdtype(leaf.dtype, jnp.floating):
                raise ValueError(
                    f"`init` returns weights of the dtype {leaf.dtype}; return float32 arrays"
                )
        return draws, self._start(params, budget, operands)

    def _start(self, params: PyTree, budget: int, operands: tuple[PyTree, ...]) -> TrainState:
        past_params: PyTree = ()
        if delay := self.task.delay:
            past_params = jax.tree.map(lambda leaf: jnp.stack([leaf] * delay), params)
        return TrainState(
            step=jnp.int32(0),
            params=params,
            past_params=past_params,
            rule_state=_init(self.rule, params, operands),
            train_loss=jnp.full(budget, jnp.nan, jnp.float32),
            smooth_loss=jnp.float32(0.0),
            update_rms=jnp.zeros(budget, jnp.float32) if self.observe else None,
            path=jax.tree.map(lambda leaf: jnp.zeros((budget, *leaf.shape)), params)
            if self.trace
            else None,
            finite=jnp.bool_(True),
            within_limit=jnp.bool_(True),
        )

    def is_running(self, draws: Draws, state: TrainState) -> jax.Array:
        """Return whether the training continues: not diverged, not stopped, and steps are left."""
        return state.finite & state.within_limit & (state.step < draws.schedule.steps)

    def advance(self, data: PyTree, draws: Draws, state: TrainState) -> TrainState:
        """Return the state after one more step.

        Raises:
            ValueError: the task's loss is not a scalar.
        """
        task = self.task

        def scalar_loss(params: PyTree, batch: PyTree, key: jax.Array) -> jax.Array:
            return _scalar("loss", task.loss(params, batch, key))

        lrs, decays, limits, _ = draws.schedule
        step, params, past_params, rule_state, train_loss, smooth_loss, update_rms, path, *_ = state
        sample, loss_key = jax.tree.map(lambda array: array[step], (draws.samples, draws.loss_keys))
        gradient_params = params
        if task.delay:
            index = step % task.delay
            gradient_params = jax.tree.map(lambda past: past[index], past_params)
            past_params = jax.tree.map(
                lambda past, leaf: past.at[index].set(leaf), past_params, params
            )
        gradient = task.gradient or jax.value_and_grad(scalar_loss)
        loss, gradients = gradient(gradient_params, task.batch(data, sample), loss_key)
        t = (step + 1).astype(jnp.float32)
        if self.trace:
            path = jax.tree.map(lambda array, leaf: array.at[step].set(leaf), path, params)
        update = optax.with_extra_args_support(self.rule).update
        updates, rule_state = update(gradients, rule_state, params, lr=lrs[step], t=t)
        updates = jax.tree.map(lambda update, leaf: update - decays[step] * leaf, updates, params)
        params = optax.apply_updates(params, updates)
        if self.observe:
            update_rms = update_rms.at[step].set(_rms(updates))
        smooth_loss = SMOOTHING * smooth_loss + (1 - SMOOTHING) * loss
        return TrainState(
            step=step + 1,
            params=params,
            past_params=past_params,
            rule_state=rule_state,
            train_loss=train_loss.at[step].set(loss),
            smooth_loss=smooth_loss,
            update_rms=update_rms,
            path=path,
            finite=jnp.isfinite(loss),
            within_limit=smooth_loss <= limits[step] * (1 - SMOOTHING**t),
        )

    def finish(self, data: PyTree, draws: Draws, end: TrainState) -> TrainingResult:
        """Evaluate a training that has ended, and return its result.

        Raises:
            ValueError: the task's evaluation is not a scalar.
        """
        params = end.params if self.weights is None else self.weights(end.params, end.rule_state)
        loss = self.task.evaluate(params, data, draws.partition, draws.evaluation_key)
        loss = _scalar("evaluate", loss)
        finite = end.finite & jnp.isfinite(loss) & _all_finite(end.params)
        return TrainingResult(
            train_loss=end.train_loss,
            loss=jnp.where(finite, loss, jnp.inf),
            steps=end.step,
            diverged=~finite,
            stopped=end.finite & ~end.within_limit,
            update_rms=end.update_rms if self.observe else jnp.zeros(0, jnp.float32),
            params=end.params if self.observe else None,
            path=end.path,
        )


def _scalar(function: str, value: jax.Array) -> jax.Array:
    """Return `value` if it is a scalar; otherwise raise an error that names the task's function."""
    if jnp.shape(value):
        raise ValueError(
            f"`{function}` returns an array of the shape {jnp.shape(value)}; "
            "return a scalar, such as a mean"
        )
    return value


def _rms(updates: PyTree) -> jax.Array:
    leaves = jax.tree.leaves(updates)
    total = jnp.stack([jnp.sum(jnp.square(leaf)) for leaf in leaves]).sum()
    return jnp.sqrt(total / sum(leaf.size for leaf in leaves))


def _distinct_keys(key: jax.Array, count: int) -> jax.Array:
    """Return `count` distinct keys that also differ from the keys of other seeds.

    A counter-based generator only needs distinct keys. So the first word of the key, which is zero
    in the keys of small seeds, is increased by 0, 1, 2, ... `jax.random.split` would take 0.2 s to
    compile.
    """
    key_data = jax.random.key_data(key)
    numbers = jnp.arange(count, dtype=key_data.dtype)
    all_key_data = jnp.tile(key_data, (count, 1)).at[:, 0].add(numbers)
    keys: jax.Array = jax.random.wrap_key_data(all_key_data, impl=jax.random.key_impl(key))
    return keys


def _init(rule: Rule, params: PyTree, operands: tuple[PyTree, ...]) -> PyTree:
    """Return the initial state of a rule."""
    init: Callable[..., Any] = rule.init  # optax's type declares one argument
    return init(params, *operands)


def _all_finite(tree: PyTree) -> jax.Array:
    numbers = jnp.concatenate([jnp.ravel(leaf) for leaf in jax.tree.leaves(tree)])
    return jnp.all(jnp.isfinite(numbers))
