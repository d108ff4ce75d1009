"""Continuous batching: trainings are submitted one by one and run side by side in lanes.

A batch advances a few steps at a time, in turn with the batches of other tasks. In between, the
results of finished trainings are read and waiting trainings take over the free lanes. So the lanes
stay full as long as trainings wait, and a training that diverges or is stopped delays no other
training. The result of a training does not depend on the other trainings of the batch.
"""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from evosearch.errors import EvosearchError
from evosearch.measuring.scheduler import Scheduler
from proxies import TrainingResult
from proxies.training.lanes import Entry, Lanes
from proxies.training.loop import Loop

_CHECKS_PER_TRAINING = 16
"""Number of times during a training that the batch looks for finished trainings."""
_MEMORY_FRACTION = 0.8
"""Fraction of a device's free memory for lanes; other trainings and fragmentation need the rest."""
_COPIES_OF_STATE = 3
"""Memory of a lane as a multiple of its state, for gradients, intermediate values and loading."""


def _ignore(message: str) -> None:
    """Ignore a message."""


class Occupancy:
    """Fraction of the lanes that held a training, over all advances of batches.

    Safe to use from several threads.
    """

    def __init__(self) -> None:
        self._used = 0
        self._available = 0
        self._lock = threading.Lock()

    def add(self, used: int, available: int) -> None:
        """Add an advance of `available` lanes, `used` of which held a training."""
        with self._lock:
            self._used += used
            self._available += available

    def fraction(self, since: tuple[int, int] = (0, 0)) -> float:
        """Return the used fraction of the available lanes; NaN before the first advance.

        Args:
            since: an earlier value of `counts`, from which on advances are counted.
        """
        used, available = self.counts()
        return (used - since[0]) / (available - since[1]) if available > since[1] else math.nan

    def counts(self) -> tuple[int, int]:
        """Return the sums of used and of available lanes over all advances."""
        with self._lock:
            return self._used, self._available


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
        scheduler: advances the batches of all tasks.
        make_lanes: makes the lanes of a batch; `evosearch.benchmarking.fake_device` has another.
    """

    lanes: int
    devices: Sequence[jax.Device] = field(default_factory=jax.local_devices)
    memory_fraction: float = 1.0
    notify: Callable[[str], None] = _ignore
    occupancy: Occupancy = field(default_factory=Occupancy)
    scheduler: Scheduler = field(default_factory=Scheduler)
    make_lanes: Callable[..., Lanes] = Lanes


class _Training(NamedTuple):
    """A submitted training, and the functions that receive its result or an error."""

    entry: Entry
    on_result: Callable[[TrainingResult], None]
    on_error: Callable[[Exception], None]


class Batch:
    """Runs trainings of one task side by side. Safe to use from several threads.

    Args:
        loop: the training loop.
        data: the task's data.
        example: the inputs of one training; those of all trainings have the same shapes.
        batching: number of lanes, devices and scheduler.
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
        self._active: dict[int, _Training] = {}
        self._waiting: deque[_Training] = deque()
        lane_count = batching.lanes - batching.lanes % self._min_lanes
        limit = lanes_that_fit(loop, data, example, devices, batching.memory_fraction)
        self.lanes = lane_count if limit is None else max(self._min_lanes, min(lane_count, limit))
        self._lanes: Any = None
        self._make_lanes()
        self._free = list(range(self.lanes))
        self._scheduler = batching.scheduler
        self._scheduler.add(self)

    def submit(
        self,
        entry: Entry,
        on_result: Callable[[TrainingResult], None],
        on_error: Callable[[Exception], None],
    ) -> None:
        """Queue a training; the scheduler's thread passes on the result or the error.

        Args:
            entry: the inputs of the training.
            on_result: called with the result; it must not raise an exception.
            on_error: called with an `EvosearchError` if the device's memory does not hold even the
                smallest batch, with a `CancelledError` if the scheduler was closed, or with another
                error of the device; it must not raise an exception.
        """
        self._waiting.append(_Training(entry, on_result, on_error))
        self._scheduler.wake()

    def train(self, entry: Entry) -> TrainingResult:
        """Run one training in a lane and wait for its result; see `submit` for its errors."""
        future: Future[TrainingResult] = Future()
        self.submit(entry, future.set_result, future.set_exception)
        return future.result()

    @property
    def fill(self) -> float:
        """Fraction of the lanes that have a training, or get one at the next start."""
        return min(1.0, (len(self._active) + len(self._waiting)) / self.lanes)

    def start(self) -> bool:
        """Load waiting trainings and begin to advance; return False if that failed."""
        try:
            if self._lanes is None:
                self._make_lanes()
                self._free = list(range(self.lanes))
            self._load()
            self._lanes.advance()
        except Exception as error:
            self._recover(error)
            return False
        return True

    def collect(self) -> None:
        """Wait until the lanes have advanced, and pass on the results of finished trainings."""
        try:
            self._finish(self._lanes.ended())
        except Exception as error:
            self._recover(error)

    def cancel(self) -> None:
        """Give up all trainings."""
        self._fail(CancelledError())

    def _load(self) -> None:
        """Load waiting trainings into free lanes, in the order of submission."""
        while self._free and self._waiting:
            chosen = self._lanes.next_group(self._free)[: len(self._waiting)]
            for lane in chosen:
                self._active[lane] = self._waiting.popleft()
            taken = set(chosen)
            self._free = [lane for lane in self._free if lane not in taken]
            self._lanes.load(chosen, [self._active[lane].entry for lane in chosen])

    def _finish(self, ended: NDArray[np.bool_]) -> None:
        """Read the results of trainings that have ended, and pass them on."""
        self._occupancy.add(len(self._active), self.lanes)
        finished = [lane for lane in np.flatnonzero(ended).tolist() if lane in self._active]
        while finished:
            chosen = self._lanes.next_group(finished)
            results = self._lanes.finish(chosen)
            taken = set(chosen)
            finished = [lane for lane in finished if lane not in taken]
            self._free += chosen
            for lane, result in zip(chosen, results, strict=True):
                self._active.pop(lane).on_result(result)

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
            self._fail(fatal)

    def _fail(self, error: Exception) -> None:
        """Pass `error` on to all submitted trainings."""
        failed = list(self._active.values())
        self._active.clear()
        while self._waiting:
            failed.append(self._waiting.popleft())
        for training in failed:
            training.on_error(error)

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
