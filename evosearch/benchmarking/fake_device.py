"""A fake device, with which a benchmark measures everything in a search except the device.

The three executables of `proxies.training.lanes.Lanes` are replaced by NumPy functions that compute
no training. The losses of a training are drawn from hashes of its inputs, so that about as many
programs stop early as in a search with the quick preset.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from numpy.typing import NDArray

from proxies.task import PyTree
from proxies.training.lanes import Entry, Lanes
from proxies.training.loop import Loop, TrainingResult

_BAD_PROGRAMS = 0.6
"""Fraction of programs whose trainings exceed their loss limits, or end with a high loss."""
_BAD_TRAININGS = 0.1
"""Fraction of the other programs that are as bad on one task."""
_EARLY_END = 0.3
"""Fraction of the steps after which a bad training stops."""
_BAD_LOG_LOSS, _LOG_LOSS_STD, _NOISE = 2.0, 0.1, 0.02
_LENGTH_GAIN, _USEFUL_LENGTH = 0.03, 14
"""Decrease of the log loss with each instruction, up to a number of instructions."""
_WORD_FACTOR = np.uint64(0x9E3779B97F4A7C15)


class FakeDevice:
    """A device that executes nothing; all batches share it, one after the other.

    Args:
        step_seconds: duration of one step of all lanes of a batch, in seconds. On an instant device
            (0 seconds) each training ends at the first advance of its lane.

    Attributes:
        is_instant: whether a step takes no time.
    """

    def __init__(self, step_seconds: float = 0.0):
        self._step_seconds = step_seconds
        self._free_at = time.perf_counter()
        self.is_instant = not step_seconds

    def queue(self, steps: int) -> float:
        """Queue the steps of a batch; return the value of `time.perf_counter` at their end."""
        self._free_at = max(self._free_at, time.perf_counter()) + steps * self._step_seconds
        return self._free_at

    def lanes(self, *args: Any, **kwargs: Any) -> Lanes:
        """Return lanes on this device; the arguments are those of `Lanes`."""
        return _FakeLanes(self, *args, **kwargs)


class _FakeLanes(Lanes):
    """Lanes whose executables are NumPy functions; the other methods are those of `Lanes`."""

    def __init__(self, device: FakeDevice, *args: Any, **kwargs: Any):
        self._device = device
        super().__init__(*args, **kwargs)

    def _compile(
        self,
        loop: Loop,
        data: PyTree,
        example: Entry,
        lanes: int,
        devices: Sequence[jax.Device],
        compiler_options: dict[str, Any] | None,
    ) -> None:
        self._task_hash = _hash(np.frombuffer(loop.task.name.encode(), np.uint8)[None])
        self._budget = int(example.schedule.lrs.shape[0])
        self._data = None
        self._remaining = np.zeros(lanes, np.int64)
        self._results: dict[str, NDArray[Any]] = {
            "loss": np.zeros(lanes, np.float32),
            "steps": np.zeros(lanes, np.int32),
            "stopped": np.zeros(lanes, np.bool_),
        }
        self._state = None
        self._load, self._advance, self._finish = self._load_rows, self._advance_all, self._read

    def _load_rows(
        self,
        state: None,
        data: None,
        local_indices: NDArray[np.int32],
        rows: NDArray[np.uint32],
    ) -> None:
        lanes, is_used = self._global_indices(local_indices)
        lanes, entries = lanes[is_used], self._packing.unpack(rows[is_used])
        program = _hash(*jax.tree.leaves(entries.operands))
        training = _hash(program, self._task_hash.repeat(len(program)), entries.key)
        on_task = _hash(program, self._task_hash.repeat(len(program)))
        bad = (_uniform(program) < _BAD_PROGRAMS) | (_uniform(on_task) < _BAD_TRAININGS)
        length = np.minimum(entries.operands[0].length, _USEFUL_LENGTH)
        loss = -_LOG_LOSS_STD * np.log(_uniform(_hash(program, program))) - _LENGTH_GAIN * length
        log_loss = np.where(bad, _BAD_LOG_LOSS, loss) + _NOISE * (_uniform(training) - 0.5)
        steps, limited = entries.schedule.steps, np.isfinite(entries.schedule.limits).any(axis=1)
        stopped = bad & limited
        self._results["loss"][lanes] = np.exp(log_loss)
        self._results["stopped"][lanes] = stopped
        self._results["steps"][lanes] = np.where(stopped, _EARLY_END * steps, steps)
        self._remaining[lanes] = self._results["steps"][lanes]

    def _advance_all(self, state: None, data: None) -> tuple[None, Any]:
        self._end = self._device.queue(self.steps_per_advance)
        self._remaining -= self._budget if self._device.is_instant else self.steps_per_advance
        return None, self._remaining <= 0

    def ended(self) -> NDArray[np.bool_]:
        if not self._device.is_instant:
            time.sleep(max(0.0, self._end - time.perf_counter()))
        return super().ended()

    def _global_indices(self, local: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Return the lane of each row given the index on its device, and whether it exists."""
        devices = np.arange(len(local)) // self.group_size
        return devices * self._lanes_per_device + local, local < self._lanes_per_device

    def _read(self, state: None, data: None, lane_indices: NDArray[np.int32]) -> TrainingResult:
        lanes, is_used = self._global_indices(lane_indices)
        lanes = np.where(is_used, lanes, 0)
        rows = {name: values[lanes] for name, values in self._results.items()}
        loss: Any = rows["loss"]
        return TrainingResult(
            train_loss=np.repeat(loss[:, None], self._budget, axis=1),  # type: ignore[arg-type]
            loss=loss,
            steps=rows["steps"],  # type: ignore[arg-type]
            diverged=np.zeros(len(lanes), np.bool_),  # type: ignore[arg-type]
            stopped=rows["stopped"],  # type: ignore[arg-type]
            update_rms=np.zeros((len(lanes), 0), np.float32),  # type: ignore[arg-type]
            params=None,
            path=None,
        )


def _hash(*arrays: NDArray[Any]) -> NDArray[np.uint64]:
    """Return a 64-bit hash of each row of arrays with equal first axes."""
    rows = [np.ascontiguousarray(array).reshape(len(array), -1) for array in arrays]
    words = np.concatenate([row.view(np.uint8) for row in rows], axis=1).astype(np.uint64)
    with np.errstate(over="ignore"):
        powers = np.cumprod(np.full(words.shape[1], _WORD_FACTOR))
        total: NDArray[np.uint64] = np.matmul(words + np.uint64(1), powers).astype(np.uint64)
        for shift in (29, 32, 31):
            total = np.multiply(total ^ (total >> np.uint64(shift)), _WORD_FACTOR)
    return total


def _uniform(hashes: NDArray[np.uint64]) -> NDArray[np.float64]:
    """Return a number in (0, 1) for each hash."""
    return (hashes >> np.uint64(12)).astype(np.float64) / 2**52 + 2.0**-54
