"""A batch of trainings side by side: each lane has its own seed, schedule and rule operands.

The lanes run the training loop of `proxies.training.loop` under `jax.vmap`. Lanes are independent:
when the training in a lane has ended, the lane keeps its state until the result is read and the
lane is loaded again, while the other lanes advance. With several devices, each device holds equally
many lanes, and runs its lanes without waiting for the other devices.
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
from proxies.training.packing import Packing

_GROUPS_PER_DEVICE = 8  # a group is the lanes that are loaded or read at once
AXIS = "lanes"
"""The axis of a mesh of devices over which the lanes are distributed."""
_LANES: Any = Spec(AXIS)  # type: ignore[no-untyped-call]
_REPLICATED: Any = Spec()  # type: ignore[no-untyped-call]
_State: TypeAlias = tuple[Draws, TrainState]


class Entry(NamedTuple):
    """The arguments of one training, to load into a lane.

    Attributes:
        key: uint32, the data of the seed's key; see `jax.random.key_data`.
        schedule: learning rate, weight decay and loss limit of each step.
        operands: additional arguments of the rule's `init`.
    """

    key: NDArray[np.uint32]
    schedule: StepSchedule
    operands: tuple[PyTree, ...]


class Lanes:
    """A batch of trainings of one training loop; all lanes are empty at first.

    Args:
        loop: the training loop of every lane.
        data: the task's data.
        example: an entry whose shapes all other entries share.
        lanes: number of lanes; a multiple of the number of devices.
        devices: devices that share the lanes equally.
        steps_per_advance: number of steps of each `advance`, at least 1.
        compiler_options: options of XLA.

    Attributes:
        group_size: maximum number of lanes of each device that are loaded or read at once.
        steps_per_advance: number of steps of each `advance`.

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
        steps_per_advance: int,
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
        self.group_size = max(1, self._lanes_per_device // _GROUPS_PER_DEVICE)
        self._packing = Packing(example)
        self.steps_per_advance = steps_per_advance
        self._compile(loop, data, example, lanes, devices, compiler_options)

    def _compile(
        self,
        loop: Loop,
        data: PyTree,
        example: Entry,
        lanes: int,
        devices: Sequence[jax.Device],
        compiler_options: dict[str, Any] | None,
    ) -> None:
        """Make the device's side of the batch: data, empty state and three executables."""
        mesh = Mesh(np.array(devices), (AXIS,))
        self._data = jax.device_put(data, NamedSharding(mesh, _REPLICATED))
        empty = partial(empty_state, loop, data, example, lanes)
        self._state: Any = jax.jit(empty, out_shardings=NamedSharding(mesh, _LANES))()
        self._load, self._advance, self._finish = (
            lowered.compile(compiler_options=compiler_options)
            for lowered in self._lower(loop, self._state, self._data, mesh)
        )

    def _lower(self, loop: Loop, state: PyTree, data: PyTree, mesh: Mesh) -> tuple[Any, Any, Any]:
        """Return the functions load, advance and finish, lowered for the devices of `mesh`.

        Args:
            loop: the training loop.
            state: the state of all lanes: arrays, or shapes with shardings.
            data: the task's data: arrays, or shapes with shardings.
            mesh: the devices.
        """

        def lower_per_device(
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
            return jax.jit(per_device, donate_argnums=0 if donate else ()).lower(*arguments)

        load = partial(_load_packed, self._packing)
        no_lanes, rows = self._no_lanes(), self._empty_rows()
        return (
            lower_per_device(load, state, data, no_lanes, rows, replicated=[1], donate=True),
            lower_per_device(
                partial(_advance, self.steps_per_advance), state, data, replicated=[1], donate=True
            ),
            lower_per_device(_finish, state, data, no_lanes, replicated=[1], donate=False),
        )

    def load(self, lane_indices: Sequence[int], entries: Sequence[Entry]) -> None:
        """Begin a training in each of the lanes, at most `group_size` lanes of each device."""
        local_indices, rows = self._no_lanes(), self._empty_rows()
        positions = self._positions(lane_indices)
        for position, lane, entry in zip(positions, lane_indices, entries, strict=True):
            local_indices[position] = lane % self._lanes_per_device
            rows[position] = self._packing.pack(entry)
        self._state = self._load(self._state, self._data, local_indices, rows)

    def advance(self) -> None:
        """Begin to advance lanes by `steps_per_advance` steps, or to the end of their trainings."""
        self._state, self._ended = self._advance(self._state, self._data)

    def ended(self) -> NDArray[np.bool_]:
        """Wait until the lanes have advanced.

        Returns:
            `[lanes]`, whether the lane's training has ended.
        """
        return np.asarray(self._ended)

    def finish(self, lane_indices: Sequence[int]) -> list[TrainingResult]:
        """Evaluate the trainings in the lanes, at most `group_size` lanes of each device.

        Returns:
            The results in the order of `lane_indices`, as host arrays.
        """
        positions = self._positions(lane_indices)
        local_indices = self._no_lanes()
        local_indices[positions] = [lane % self._lanes_per_device for lane in lane_indices]
        results = jax.device_get(self._finish(self._state, self._data, local_indices))
        leaves, structure = jax.tree.flatten(results)
        return [jax.tree.unflatten(structure, [leaf[at] for leaf in leaves]) for at in positions]

    def next_group(self, lane_indices: Sequence[int]) -> list[int]:
        """Return the first lanes of `lane_indices`, as many as can be loaded or read at once."""
        if self._devices == 1:
            return list(lane_indices[: self.group_size])
        used: Counter[int] = Counter()
        group = []
        for lane in lane_indices:
            device = lane // self._lanes_per_device
            if used[device] < self.group_size:
                used[device] += 1
                group.append(lane)
        return group

    def _no_lanes(self) -> NDArray[np.int32]:
        """Return `[devices * group_size]`, for each row an index beyond the device's lanes."""
        return np.full(self._devices * self.group_size, self._lanes_per_device, np.int32)

    def _empty_rows(self) -> NDArray[np.uint32]:
        """Return `[devices * group_size, words]`, a packed entry of zeros for each row."""
        return np.zeros((self._devices * self.group_size, self._packing.words), np.uint32)

    def _positions(self, lane_indices: Sequence[int]) -> list[int]:
        """Return the row of each lane in arrays with a first axis `[devices * group_size]`."""
        used: Counter[int] = Counter()
        positions = []
        for lane in lane_indices:
            device = lane // self._lanes_per_device
            positions.append(device * self.group_size + used[device])
            used[device] += 1
        return positions


def _load_packed(
    packing: Packing,
    loop: Loop,
    state: _State,
    data: PyTree,
    lane_indices: jax.Array,
    rows: jax.Array,
) -> _State:
    """Return `state` with the packed entries `[group_size, words]` in `lane_indices`."""
    return _load(loop, state, data, lane_indices, packing.unpack(rows))


def empty_state(loop: Loop, data: PyTree, example: Entry, lanes: int) -> PyTree:
    """Return the state of empty lanes; the arguments are those of `Lanes`."""
    key, schedule, operands = jax.tree.map(jnp.asarray, example)
    lane = jax.eval_shape(loop.begin, data, jax.random.wrap_key_data(key), schedule, operands)
    return jax.tree.map(lambda leaf: jnp.zeros((lanes, *leaf.shape), leaf.dtype), lane)


def _load(
    loop: Loop, state: _State, data: PyTree, lane_indices: jax.Array, entries: Entry
) -> _State:
    """Return `state` with new trainings in `lane_indices`; indices beyond the lanes are ignored."""

    def begin(entry: Entry) -> _State:
        return loop.begin(
            data, jax.random.wrap_key_data(jnp.asarray(entry.key)), entry.schedule, entry.operands
        )

    new = jax.vmap(begin)(entries)
    loaded: _State = jax.tree.map(
        lambda lanes, rows: lanes.at[lane_indices].set(rows, mode="drop"), state, new
    )
    return loaded


def _advance(steps: int, loop: Loop, state: _State, data: PyTree) -> tuple[_State, jax.Array]:
    """Return `state` after `steps` steps, and whether each lane's training has ended.

    The number of steps is fixed, so that an accelerator runs all of them without asking the host.
    """
    all_draws, start = state

    def step(draws: Draws, before: TrainState) -> TrainState:
        after = loop.advance(data, draws, before)
        running = loop.is_running(draws, before)
        # The rule's state is by far the largest array. After the end of a training the rule's state
        # is not read, so it may change.
        kept: TrainState = jax.tree.map(
            partial(jnp.where, running), after, before._replace(rule_state=after.rule_state)
        )
        return kept

    def advance_all(_: int, states: TrainState) -> TrainState:
        return jax.vmap(step)(all_draws, states)

    end = lax.fori_loop(0, steps, advance_all, start)
    return (all_draws, end), ~jax.vmap(loop.is_running)(all_draws, end)


def _finish(loop: Loop, state: _State, data: PyTree, lane_indices: jax.Array) -> TrainingResult:
    draws, states = jax.tree.map(lambda lanes: lanes.at[lane_indices].get(mode="clip"), state)
    return jax.vmap(partial(loop.finish, data))(draws, states)
