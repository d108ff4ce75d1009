"""Continuous batching: trainings are submitted one by one and run side by side in lanes.

The batch advances a few steps at a time. In between, the results of finished trainings are read
and waiting trainings take over the free lanes. So the lanes stay full as long as trainings wait,
and a training that diverges or is stopped delays no other training. The result of a training does
not depend on the other trainings of the batch.
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

_CHECKS_PER_TRAINING = 16
"""Number of times during a training that the batch looks for finished trainings."""
_MEMORY_FRACTION = 0.8
"""Fraction of a device's free memory for lanes; other trainings and fragmentation need the rest."""
_COPIES_OF_STATE = 3
"""Memory of a lane as a multiple of its state, for gradients, intermediate values and loading."""

_Waiting: TypeAlias = tuple[Entry, "Future[TrainingResult]"]


def _ignore(message: str) -> None:
    """Ignore a message."""


class Occupancy:
    """Fraction of the lanes' steps that belonged to a training, not to an empty lane.

    Safe to use from several threads.
    """

    def __init__(self) -> None:
        self._used = 0
        self._available = 0
        self._lock = threading.Lock()

    def add(self, used: int, available: int) -> None:
        """Add `used` steps of trainings, and `available` steps that lanes executed."""
        with self._lock:
            self._used += used
            self._available += available

    @property
    def fraction(self) -> float:
        """Number of used steps divided by the available steps; NaN before the first step."""
        with self._lock:
            return self._used / self._available if self._available else math.nan


@dataclass(frozen=True)
class Batching:
    """Settings of batches: how trainings of one task share devices.

    Attributes:
        lanes: maximum number of trainings side by side, equally many on each device. The batch has
            fewer lanes if the memory does not hold as many.
        devices: the devices; if there are fewer lanes than devices, only as many devices as lanes
            are used.
        memory_fraction: fraction of the devices' free memory that lanes may fill.
        notify: called with a message when a batch turns out to be too large.
        occupancy: counts how full the lanes are.
        make_lanes: makes the lanes of a batch; `evosearch.benchmarking.fake_device` has another.
    """

    lanes: int
    devices: Sequence[jax.Device] = field(default_factory=jax.local_devices)
    memory_fraction: float = 1.0
    notify: Callable[[str], None] = _ignore
    occupancy: Occupancy = field(default_factory=Occupancy)
    make_lanes: Callable[..., Lanes] = Lanes


class Batch:
    """Runs trainings of one task side by side. Safe to use from several threads.

    Args:
        loop: the training loop.
        data: the task's data.
        example: the inputs of one training; those of all trainings have the same shapes.
        batching: number of lanes and devices.
        compiler_options: options of XLA.
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
        self._new_lanes = partial(
            batching.make_lanes,
            loop,
            data,
            example,
            devices=devices,
            steps_per_advance=max(
                1, math.ceil(example.schedule.lrs.shape[0] / _CHECKS_PER_TRAINING)
            ),
            compiler_options=compiler_options,
        )
        self._name = loop.task.name
        self._notify = batching.notify
        self._occupancy = batching.occupancy
        self._min_lanes = len(devices)
        self._active: dict[int, _Waiting] = {}
        self._waiting: deque[_Waiting] = deque()
        self._lock = threading.Lock()
        self._is_running = False
        lane_count = batching.lanes - batching.lanes % self._min_lanes
        limit = lanes_that_fit(loop, data, example, devices, batching.memory_fraction)
        self.lanes = lane_count if limit is None else max(self._min_lanes, min(lane_count, limit))
        self._lanes: Any = None
        self._make_lanes()

    def train(self, entry: Entry) -> TrainingResult:
        """Run one training in a lane and wait for its result.

        Raises:
            EvosearchError: the device's memory does not hold even the smallest batch.
        """
        future: Future[TrainingResult] = Future()
        with self._lock:
            self._waiting.append((entry, future))
            start, self._is_running = not self._is_running, True
        if start:
            threading.Thread(target=self._run, name=f"batch {self._name}", daemon=True).start()
        return future.result()

    def _run(self) -> None:
        """Train until no training is active or waiting; runs on the batch's own thread."""
        while True:
            with self._lock:
                if not self._waiting and not self._active:
                    self._is_running = False
                    return
            try:
                if self._lanes is None:
                    self._make_lanes()
                self._fill()
                self._advance()
            except Exception as error:
                self._recover(error)

    def _fill(self) -> None:
        """Load waiting trainings into free lanes, in the order of submission."""
        while True:
            free = [lane for lane in range(self.lanes) if lane not in self._active]
            chosen = self._lanes.next_group(free)[: len(self._waiting)]
            if not chosen:
                return
            for lane in chosen:
                self._active[lane] = self._waiting.popleft()
            self._lanes.load(chosen, [self._active[lane][0] for lane in chosen])

    def _advance(self) -> None:
        """Train some steps and return the results of finished trainings to their callers."""
        ended = self._lanes.advance()
        self._occupancy.add(0, self.lanes * self._lanes.steps_per_advance)
        finished = [lane for lane in self._active if ended[lane]]
        while finished:
            chosen = self._lanes.next_group(finished)
            for lane, result in zip(chosen, self._lanes.finish(chosen), strict=True):
                self._occupancy.add(int(result.steps), 0)
                self._active.pop(lane)[1].set_result(result)
            finished = [lane for lane in finished if lane not in chosen]

    def _recover(self, error: Exception) -> None:
        """Restart all active trainings in a smaller batch if memory ran out.

        Otherwise raise the error in all callers, waiting callers included.
        """
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
        """Create the lanes, and halve their number after each attempt that runs out of memory."""
        while self._lanes is None:
            try:
                self._lanes = self._new_lanes(lanes=self.lanes)
            except Exception as error:
                self._halve(error)

    def _halve(self, error: Exception) -> None:
        """Halve the number of lanes if `error` means that memory ran out; else raise it."""
        if "RESOURCE_EXHAUSTED" not in str(error):  # JAX's wording on every platform
            raise error
        if self.lanes == self._min_lanes:
            raise EvosearchError(
                f"task {self._name!r}: one training does not fit in the device's memory; "
                "use --device cpu or a smaller task"
            ) from error
        fewer = max(self._min_lanes, self.lanes // 2 // self._min_lanes * self._min_lanes)
        self._notify(
            f"{self._name}: {self.lanes} trainings do not fit in memory side by side; using {fewer}"
        )
        self.lanes = fewer


def lanes_that_fit(
    loop: Loop,
    data: Any,
    example: Entry,
    devices: Sequence[jax.Device],
    memory_fraction: float = 1.0,
) -> int | None:
    """Return how many trainings fit in the devices' memory; None if their size is unknown.

    The bound counts the state of a lane (registers, random numbers and weights) and the lane's
    working copies.

    Args:
        loop: the training loop.
        data: the task's data, held once by each device.
        example: the inputs of one training; those of all trainings have the same shapes.
        devices: the devices.
        memory_fraction: fraction of the devices' free memory that may be used.
    """
    statistics = [device.memory_stats() for device in devices]
    free = [
        stats["bytes_limit"] - stats.get("bytes_in_use", 0)
        for stats in statistics
        if stats and "bytes_limit" in stats
    ]
    if len(free) < len(devices):
        return None
    key = jax.random.wrap_key_data(jnp.asarray(example.key))
    state = jax.eval_shape(loop.begin, data, key, example.schedule, example.operands)
    lane_bytes = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state))
    data_bytes = sum(leaf.nbytes for leaf in jax.tree.leaves(data))
    available = memory_fraction * _MEMORY_FRACTION * min(free) - data_bytes
    return max(0, int(available // (_COPIES_OF_STATE * lane_bytes))) * len(devices)
