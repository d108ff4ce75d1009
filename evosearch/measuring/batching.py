"""Continuous batching: trainings are handed in one by one and run side by side.

The batch advances a few steps at a time; in between, what has ended is read and handed back, and
what waits takes its place. So the lanes stay full as long as there is work, and a training that
diverges or is stopped holds nobody up. What a training comes to does not depend on its company.
"""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp

from evosearch.errors import EvosearchError
from proxies import TrainingResult
from proxies.training.lanes import Entry, Lanes
from proxies.training.loop import Loop

_VISITS = 16  # between a training's beginning and its end, to see who has ended
_MEMORY_SHARE = 0.8  # of a device's free memory; the rest is for other trainings and fragments
_WORKING_COPIES = 3  # of a lane's state: gradients, values on the way, what is loaded meanwhile

_Waiting: TypeAlias = tuple[Entry, "Future[TrainingResult]"]


def _silent(text: str) -> None:
    """Nobody is told."""


class Occupancy:
    """How full lanes were: the steps of trainings over the steps that lanes could have made.

    Safe to use from several threads.
    """

    def __init__(self) -> None:
        self._trained = 0
        self._possible = 0
        self._lock = threading.Lock()

    def add(self, trained: int, possible: int) -> None:
        """Counts steps that lanes trained, of those that they could have made."""
        with self._lock:
            self._trained += trained
            self._possible += possible

    @property
    def share(self) -> float:
        """From 0 to 1; NaN before the first step."""
        with self._lock:
            return self._trained / self._possible if self._possible else math.nan


@dataclass(frozen=True)
class Batching:
    """How trainings of a task share devices.

    Attributes:
        lanes: at most so many side by side, equally many on each device; fewer where the devices'
            memory holds fewer.
        devices: where; only as many of them as there are lanes.
        memory: the share of the devices' free memory that lanes may fill.
        notify: called when a batch turns out to be too large.
        occupancy: counts how full the lanes are.
    """

    lanes: int
    devices: Sequence[jax.Device] = field(default_factory=jax.local_devices)
    memory: float = 1.0
    notify: Callable[[str], None] = _silent
    occupancy: Occupancy = field(default_factory=Occupancy)


class Batch:
    """Trainings of one loop, side by side; safe to use from several threads.

    Args:
        loop: what trains.
        data: the task's.
        example: an entry; all others have its shapes.
        batching: how many, and where.
        compiler_options: of XLA.
    """

    def __init__(
        self,
        loop: Loop,
        data: Any,
        example: Entry,
        batching: Batching,
        compiler_options: dict[str, Any] | None = None,
    ):
        devices = batching.devices[: batching.lanes]
        self._make = partial(
            Lanes, loop, data, example, devices=devices, compiler_options=compiler_options
        )
        self._name = loop.task.name
        self._notify = batching.notify
        self._occupancy = batching.occupancy
        self._least = len(devices)
        self._steps = max(1, math.ceil(example.schedule.lrs.shape[0] / _VISITS))
        self._active: dict[int, _Waiting] = {}
        self._waiting: deque[_Waiting] = deque()
        self._lock = threading.Lock()
        self._serving = False
        wanted = batching.lanes - batching.lanes % self._least
        fitting = lanes_that_fit(loop, data, example, devices, batching.memory)
        self.lanes = wanted if fitting is None else max(self._least, min(wanted, fitting))
        self._lanes: Any = None
        self._make_lanes()

    def train(self, entry: Entry) -> TrainingResult:
        """One training, among whatever others there are.

        Raises:
            EvosearchError: the device cannot hold even the smallest batch.
        """
        future: Future[TrainingResult] = Future()
        with self._lock:
            self._waiting.append((entry, future))
            start, self._serving = not self._serving, True
        if start:
            threading.Thread(target=self._serve, name=f"batch {self._name}", daemon=True).start()
        return future.result()

    def _serve(self) -> None:
        """Until there is nothing to train."""
        while True:
            with self._lock:
                if not self._waiting and not self._active:
                    self._serving = False
                    return
            try:
                if self._lanes is None:
                    self._make_lanes()
                self._fill()
                self._advance()
            except Exception as error:
                self._failed(error)

    def _fill(self) -> None:
        """Gives free lanes to what waits, first come first served."""
        while True:
            free = [slot for slot in range(self.lanes) if slot not in self._active]
            slots = self._lanes.next_group(free)[: len(self._waiting)]
            if not slots:
                return
            for slot in slots:
                self._active[slot] = self._waiting.popleft()
            self._lanes.load(slots, [self._active[slot][0] for slot in slots])

    def _advance(self) -> None:
        """Some steps, and the results of what has ended."""
        ended = self._lanes.advance(self._steps)
        self._occupancy.add(0, self.lanes * self._steps)
        done = [slot for slot in self._active if ended[slot]]
        while done:
            slots = self._lanes.next_group(done)
            for slot, result in zip(slots, self._lanes.finish(slots), strict=True):
                self._occupancy.add(int(result.steps), 0)
                self._active.pop(slot)[1].set_result(result)
            done = [slot for slot in done if slot not in slots]

    def _failed(self, error: Exception) -> None:
        """Everybody anew in a smaller batch where memory ran out; otherwise everybody fails."""
        self._lanes = None
        try:
            self._halve(error)
            self._waiting.extendleft(reversed(self._active.values()))
            self._active.clear()
        except Exception as fatal:
            with self._lock:
                failed = [*self._active.values(), *self._waiting]
                self._active.clear()
                self._waiting.clear()
            for _, future in failed:
                future.set_exception(fatal)

    def _make_lanes(self) -> None:
        """As many as memory holds, up to `lanes`."""
        while self._lanes is None:
            try:
                self._lanes = self._make(lanes=self.lanes)
            except Exception as error:
                self._halve(error)

    def _halve(self, error: Exception) -> None:
        """Half as many lanes if `error` says that memory ran out; raises it otherwise."""
        if "RESOURCE_EXHAUSTED" not in str(error):  # as JAX says it on every device
            raise error
        if self.lanes == self._least:
            raise EvosearchError(
                f"task {self._name!r}: the device's memory does not hold one training; "
                "use --device cpu, or a smaller task"
            ) from error
        fewer = max(self._least, self.lanes // 2 // self._least * self._least)
        self._notify(f"{self._name}: {self.lanes} trainings do not fit side by side; {fewer} now")
        self.lanes = fewer


def lanes_that_fit(
    loop: Loop, data: Any, example: Entry, devices: Sequence[jax.Device], share: float = 1.0
) -> int | None:
    """How many trainings a share of the devices' memory holds; None where nobody says.

    A bound from what a lane keeps: its registers, draws and weights, and copies while it works.
    """
    memory = [device.memory_stats() for device in devices]
    limits = [
        stats["bytes_limit"] - stats.get("bytes_in_use", 0)
        for stats in memory
        if stats and "bytes_limit" in stats
    ]
    if len(limits) < len(devices):
        return None
    key = jax.random.wrap_key_data(jnp.asarray(example.key))
    one = jax.eval_shape(loop.begin, data, key, example.schedule, example.operands)
    of_each = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(one))
    shared = sum(leaf.nbytes for leaf in jax.tree.leaves(data))
    room = share * _MEMORY_SHARE * min(limits) - shared
    return max(0, int(room // (_WORKING_COPIES * of_each))) * len(devices)
