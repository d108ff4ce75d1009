"""Trainings side by side: a batch of lanes, each with its own seed, course and rule operands.

The loop is that for one training, under `jax.vmap`. Lanes are apart: one that has ended stands
still until it is read and loaded anew, while the others go on. Over several devices each holds its
share of the lanes and runs them without the others.
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

_GANGS = 8  # at most an eighth of the lanes is loaded or read at once
_AXIS = "lanes"
_LANES: Any = Spec(_AXIS)  # type: ignore[no-untyped-call]
_EVERYWHERE: Any = Spec()  # type: ignore[no-untyped-call]
_State: TypeAlias = tuple[Draws, TrainState]


class Entry(NamedTuple):
    """What a lane is loaded with.

    Attributes:
        key: uint32 words, the data of the seed's key.
        course: how the training is to go.
        operands: further arguments of the rule's `init`.
    """

    key: NDArray[np.uint32]
    course: StepSchedule
    operands: tuple[PyTree, ...]


class Lanes:
    """A batch of trainings of one loop, all lanes empty at first.

    Args:
        loop: what to train, and how.
        data: the task's data.
        example: an entry; all others have its shapes.
        lanes: how many train side by side; a multiple of the number of devices.
        devices: where; every one holds as many lanes.
        compiler_options: of XLA.

    Attributes:
        gang: how many lanes of each device may be loaded or read at once.

    Raises:
        ValueError: the devices cannot hold equally many lanes, or the loop evaluates other weights
            than the last.
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
            raise ValueError("a rule that averages weights keeps them in its state; train it alone")
        if lanes < 1 or lanes % len(devices):
            raise ValueError(f"{lanes} lanes on {len(devices)} devices: use a multiple")
        self._devices = len(devices)
        self._of_each = lanes // len(devices)
        self.gang = max(1, self._of_each // _GANGS)
        mesh = Mesh(np.array(devices), (_AXIS,))
        self._data = jax.device_put(data, NamedSharding(mesh, _EVERYWHERE))
        self._nobody = example

        def empty() -> _State:
            key, course, operands = jax.tree.map(jnp.asarray, example)
            one = jax.eval_shape(
                loop.begin, self._data, jax.random.wrap_key_data(key), course, operands
            )
            state: _State = jax.tree.map(
                lambda leaf: jnp.zeros((lanes, *leaf.shape), leaf.dtype), one
            )
            return state

        def compiled(step: Any, *arguments: Any, replicated: Sequence[int], donate: bool) -> Any:
            where = [_EVERYWHERE if i in replicated else _LANES for i in range(len(arguments))]
            apart = jax.shard_map(
                partial(step, loop),
                mesh=mesh,
                in_specs=tuple(where),
                out_specs=_LANES,
                check_vma=False,
            )
            jitted = jax.jit(apart, donate_argnums=0 if donate else ())
            return jitted.lower(*arguments).compile(compiler_options=compiler_options)

        self._state: Any = jax.jit(empty, out_shardings=NamedSharding(mesh, _LANES))()
        _, slots, entries = self._placed([], [])
        self._load = compiled(
            _loaded, self._state, self._data, slots, entries, replicated=[1], donate=True
        )
        self._advance = compiled(
            _advanced, self._state, self._data, np.int32(1), replicated=[1, 2], donate=True
        )
        self._finish = compiled(
            _finished, self._state, self._data, slots, replicated=[1], donate=False
        )

    def load(self, slots: Sequence[int], entries: Sequence[Entry]) -> None:
        """Begins a training in each of the lanes `slots`, at most `gang` on a device."""
        _, local, placed = self._placed(slots, entries)
        self._state = self._load(self._state, self._data, local, placed)

    def advance(self, steps: int) -> NDArray[np.bool_]:
        """Every lane so many steps further, or to its end; [lanes], which go on no more."""
        self._state, ended = self._advance(self._state, self._data, np.int32(steps))
        return np.asarray(ended)

    def finish(self, slots: Sequence[int]) -> list[TrainingResult]:
        """What the trainings in lanes `slots` came to, at most `gang` on a device; host arrays."""
        positions, local, _ = self._placed(slots, [])
        curves = jax.device_get(self._finish(self._state, self._data, local))
        return [jax.tree.map(lambda leaf, at=at: leaf[at], curves) for at in positions]

    def room(self, slots: Sequence[int]) -> list[int]:
        """The first of `slots`, as many as may be loaded or read at once."""
        taken: Counter[int] = Counter()
        chosen = []
        for slot in slots:
            device = slot // self._of_each
            if taken[device] < self.gang:
                taken[device] += 1
                chosen.append(slot)
        return chosen

    def _placed(
        self, slots: Sequence[int], entries: Sequence[Entry]
    ) -> tuple[list[int], NDArray[np.int32], Entry]:
        """Where each slot stands in arrays [devices * gang], its number on its device, the entries.

        What stands for nobody has a number beyond the device's lanes.
        """
        size = self._devices * self.gang
        local = np.full(size, self._of_each, np.int32)
        rows = [self._nobody] * size
        taken: Counter[int] = Counter()
        positions = []
        for which, slot in enumerate(slots):
            device = slot // self._of_each
            position = device * self.gang + taken[device]
            taken[device] += 1
            positions.append(position)
            local[position] = slot % self._of_each
            if entries:
                rows[position] = entries[which]
        return positions, local, jax.tree.map(lambda *leaves: np.stack(leaves), *rows)


def _loaded(loop: Loop, state: _State, data: PyTree, slots: jax.Array, entries: Entry) -> _State:
    """`state` with new trainings in `slots`; one beyond the lanes is for nobody."""

    def begin(entry: Entry) -> _State:
        return loop.begin(
            data, jax.random.wrap_key_data(jnp.asarray(entry.key)), entry.course, entry.operands
        )

    new = jax.vmap(begin)(entries)
    put = partial(jax.tree.map, lambda all, mine: all.at[slots].set(mine, mode="drop"))
    loaded: _State = put(state, new)
    return loaded


def _advanced(
    loop: Loop, state: _State, data: PyTree, steps: jax.Array
) -> tuple[_State, jax.Array]:
    """`state` up to `steps` further, and which lanes have ended."""
    plans, start = state
    goes_on = jax.vmap(loop.goes_on)

    def step(plan: Draws, before: TrainState) -> TrainState:
        after = loop.advance(data, plan, before)
        go = loop.goes_on(plan, before)
        # The rule's state is not read after the end, and is much the largest part: it may change.
        kept: TrainState = jax.tree.map(
            partial(jnp.where, go), after, before._replace(state=after.state)
        )
        return kept

    def further(carry: tuple[jax.Array, TrainState]) -> tuple[jax.Array, TrainState]:
        done, progress = carry
        return done + 1, jax.vmap(step)(plans, progress)

    def running(carry: tuple[jax.Array, TrainState]) -> jax.Array:
        done, progress = carry
        return (done < steps) & jnp.any(goes_on(plans, progress))

    _, end = lax.while_loop(running, further, (jnp.int32(0), start))
    return (plans, end), ~goes_on(plans, end)


def _finished(loop: Loop, state: _State, data: PyTree, slots: jax.Array) -> TrainingResult:
    plans, progress = jax.tree.map(lambda all: all.at[slots].get(mode="clip"), state)
    return jax.vmap(partial(loop.finish, data))(plans, progress)
