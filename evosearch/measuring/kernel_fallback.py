"""Batches on a GPU for which the Pallas kernel cannot be had: they run gangs through XLA."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax

from evosearch.measuring.batching import Batching
from primitives.machine.batch import runs_kernel
from proxies.training.lanes import Lanes
from proxies.training.loop import Loop


def missing_kernel(device: jax.Device) -> str | None:
    """Return a message if batches on a GPU have no kernel; None if they have one or need none."""
    if device.platform != "gpu" or runs_kernel(device):
        return None
    return (
        f"no kernel for batches on {device.device_kind} with JAX {jax.__version__}; batches run "
        "through XLA instead, which is slower (see docs/devices.md)"
    )


def with_fallback(batching: Batching, loop: Loop) -> Batching:
    """Return settings with which a batch runs `loop` if the batch's own loop does not compile.

    Args:
        batching: the settings of the batch.
        loop: a loop with the same entries and results that does not use the kernel.
    """
    make_lanes = _LanesMaker(batching.make_lanes, loop, batching.notify)
    return replace(batching, make_lanes=make_lanes)


class _LanesMaker:
    """Makes the lanes of one batch, after a failed compilation with the fallback's loop."""

    def __init__(
        self, make_lanes: Callable[..., Lanes], fallback: Loop, notify: Callable[[str], None]
    ):
        self._make_lanes = make_lanes
        self._fallback = fallback
        self._notify = notify
        self._kernel_works = True

    def __call__(self, loop: Loop, *arguments: Any, **settings: Any) -> Lanes:
        if self._kernel_works:
            try:
                return self._make_lanes(loop, *arguments, **settings)
            except Exception as error:
                if not _is_of_kernel(error):
                    raise
                self._kernel_works = False
                self._notify(
                    f"{loop.task.name}: the kernel for batches does not compile "
                    f"({_first_line(error)}); the batch runs through XLA instead, which is slower"
                )
        return self._make_lanes(self._fallback, *arguments, **settings)


def _is_of_kernel(error: Exception) -> bool:
    """Return whether an error may be the kernel's: any but one that says that memory ran out."""
    text = str(error)
    return "RESOURCE_EXHAUSTED" not in text or "shared memory" in text.lower()


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
