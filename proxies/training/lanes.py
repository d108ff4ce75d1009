"""Trainings side by side: a batch of lanes, each with its own seed, schedule and rule operands.

The loop is that for one training, under `jax.vmap`. Lanes are independent: a lane whose training
has ended keeps its state until it is read and loaded again, while the other lanes advance. With
several devices, each device holds an equal share of the lanes and runs them independently.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as Spec
from numpy.typing import NDArray

from proxies.task import PyTree
from proxies.training.loop import Draws, Loop, StepSchedule, TrainingResult, TrainState

_GROUPS = 8  # at most an eighth of a device's lanes is loaded or read at once
_AXIS = "lanes"
_LANES: Any = Spec(_AXIS)  # type: ignore[no-untyped-call]
_REPLICATED: Any = Spec()  # type: ignore[no-untyped-call]
_State: TypeAlias = tuple[Draws, TrainState]


class Entry(NamedTuple):
    """The arguments of one training that a lane is loaded with.

    Attributes:
        key: uint32 words, the data of the seed's key.
        schedule: learning rate, weight decay and loss limit of each step.
        operands: additional arguments of the rule's `init`.
    """

    key: NDArray[np.uint32]
    schedule: StepSchedule
    operands: tuple[PyTree, ...]


class Lanes:
    """A batch of trainings of one loop; all lanes are empty at first.

    Args:
        loop: the training loop of every lane.
        data: the task's data.
        example: an entry whose shapes all other entries share.
        lanes: number of trainings side by side; a multiple of the number of devices.
        devices: devices that share the lanes equally.
        compiler_options: options of XLA.

    Attributes:
        group_size: maximum number of lanes of each device that are loaded or read at once.

    Raises:
        ValueError: `lanes` is not a positive multiple of the number of devices, or the loop
            evaluates other weights than the final ones.
    """

    def __init__(
        self,
        loop: Loop,
        data: PyTree,
        example: Entry,
        lanes: int,
        devices: Sequence[jax.Device],
        compiler_options: dict[str, Any] | None = None,
    ):
        if loop.weights is not None:
            raise ValueError(
                "a rule that averages weights cannot train in a batch; use `compiled_train`"
            )
        if lanes < 1 or lanes % len(devices):
            raise ValueError(
                f"{lanes} lanes cannot be shared equally by {len(devices)} devices; "
                "use a positive multiple of the number of devices"
            )
        self._devices = len(devices)
        self._lanes_per_device = lanes // len(devices)
        self.group_size = max(1, self._lanes_per_device // _GROUPS)
        mesh = Mesh(np.array(devices), (_AXIS,))
        self._data = jax.device_put(data, NamedSharding(mesh, _REPLICATED))
        self._padding = example

        def empty() -> _State:
            key, schedule, operands = jax.tree.map(jnp.asarray, example)
            shapes = jax.eval_shape(
                loop.begin, self._data, jax.random.wrap_key_data(key), schedule, operands
            )
            state: _State = jax.tree.map(
                lambda leaf: jnp.zeros((lanes, *leaf.shape), leaf.dtype), shapes
            )
            return state

        def compiled(
            function: Any, *arguments: Any, replicated: Sequence[int], donate: bool
        ) -> Any:
            specs = [_REPLICATED if i in replicated else _LANES for i in range(len(arguments))]
            per_device = jax.shard_map(
                partial(function, loop),
                mesh=mesh,
                in_specs=tuple(specs),
                out_specs=_LANES,
                check_vma=False,
            )
            jitted = jax.jit(per_device, donate_argnums=0 if donate else ())
            return jitted.lower(*arguments).compile(compiler_options=compiler_options)

        self._state: Any = jax.jit(empty, out_shardings=NamedSharding(mesh, _LANES))()
        _, slots, entries = self._layout([], [])
        self._load = compiled(
            _load, self._state, self._data, slots, entries, replicated=[1], donate=True
        )
        self._advance = compiled(
            _advance, self._state, self._data, np.int32(1), replicated=[1, 2], donate=True
        )
        self._finish = compiled(
            _finish, self._state, self._data, slots, replicated=[1], donate=False
        )

    def load(self, slots: Sequence[int], entries: Sequence[Entry]) -> None:
        """Begin a training in each lane of `slots`, at most `group_size` lanes of a device."""
        _, local, rows = self._layout(slots, entries)
        self._state = self._load(self._state, self._data, local, rows)

    def advance(self, steps: int) -> NDArray[np.bool_]:
        """Advance every lane by `steps` steps, or to the end of its training.

        Returns:
            `[lanes]`, whether the lane's training has ended.
        """
        self._state, ended = self._advance(self._state, self._data, np.int32(steps))
        return np.asarray(ended)

    def finish(self, slots: Sequence[int]) -> list[TrainingResult]:
        """Evaluate the trainings in the lanes `slots`, at most `group_size` lanes of a device.

        Returns:
            The results in the order of `slots`, as host arrays.
        """
        positions, local, _ = self._layout(slots, [])
        results = jax.device_get(self._finish(self._state, self._data, local))
        return [jax.tree.map(lambda leaf, at=at: leaf[at], results) for at in positions]

    def next_group(self, slots: Sequence[int]) -> list[int]:
        """Return the first lanes of `slots`, as many as can be loaded or read at once."""
        used: Counter[int] = Counter()
        group = []
        for slot in slots:
            device = slot // self._lanes_per_device
            if used[device] < self.group_size:
                used[device] += 1
                group.append(slot)
        return group

    def _layout(
        self, slots: Sequence[int], entries: Sequence[Entry]
    ) -> tuple[list[int], NDArray[np.int32], Entry]:
        """Lay out `slots` and `entries` as arrays with a first axis `[devices * group_size]`.

        Returns:
            The row of each slot; for each row the lane's number on its device; the stacked entries.
            Unused rows have a lane number beyond the device's lanes, and the example's entry.
        """
        size = self._devices * self.group_size
        local = np.full(size, self._lanes_per_device, np.int32)
        rows = [self._padding] * size
        used: Counter[int] = Counter()
        positions = []
        for index, slot in enumerate(slots):
            device = slot // self._lanes_per_device
            position = device * self.group_size + used[device]
            used[device] += 1
            positions.append(position)
            local[position] = slot % self._lanes_per_device
            if entries:
                rows[position] = entries[index]
        return positions, local, jax.tree.map(lambda *leaves: np.stack(leaves), *rows)


def _load(loop: Loop, state: _State, data: PyTree, slots: jax.Array, entries: Entry) -> _State:
    """Return `state` with new trainings in `slots`; slots beyond the lanes are dropped."""

    def begin(entry: Entry) -> _State:
        return loop.begin(
            data, jax.random.wrap_key_data(jnp.asarray(entry.key)), entry.schedule, entry.operands
        )

    new = jax.vmap(begin)(entries)
    loaded: _State = jax.tree.map(
        lambda lanes, rows: lanes.at[slots].set(rows, mode="drop"), state, new
    )
    return loaded


def _advance(loop: Loop, state: _State, data: PyTree, steps: jax.Array) -> tuple[_State, jax.Array]:
    """Return `state` after at most `steps` steps, and which lanes have ended."""
    all_draws, start = state
    is_running = jax.vmap(loop.is_running)

    def step(draws: Draws, before: TrainState) -> TrainState:
        after = loop.advance(data, draws, before)
        running = loop.is_running(draws, before)
        # The rule's state is by far the largest part and is not read after the end of a training,
        # so it may change then.
        kept: TrainState = jax.tree.map(
            partial(jnp.where, running), after, before._replace(rule_state=after.rule_state)
        )
        return kept

    def advance_all(carry: tuple[jax.Array, TrainState]) -> tuple[jax.Array, TrainState]:
        done, states = carry
        return done + 1, jax.vmap(step)(all_draws, states)

    def any_running(carry: tuple[jax.Array, TrainState]) -> jax.Array:
        done, states = carry
        return (done < steps) & jnp.any(is_running(all_draws, states))

    _, end = lax.while_loop(any_running, advance_all, (jnp.int32(0), start))
    return (all_draws, end), ~is_running(all_draws, end)


def _finish(loop: Loop, state: _State, data: PyTree, slots: jax.Array) -> TrainingResult:
    draws, states = jax.tree.map(lambda lanes: lanes.at[slots].get(mode="clip"), state)
    return jax.vmap(partial(loop.finish, data))(draws, states)
