"""Profiles: what a device does in a few steps, operation by operation."""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
from jax.profiler import ProfileData

_SHOWN = 12
"""Operations that a summary lists: those that take longest."""


def profile(run: Callable[[], object], to: Path) -> dict[str, Any]:
    """Runs something under JAX's profiler.

    Args:
        run: what to profile; it must wait for the device.
        to: the file for the profile, in the format of TensorBoard's profiler (`.xplane.pb`).

    Returns:
        `file`; `events`, how many operations ran on the device; `busy_ms`, milliseconds in which
        the device worked; `span_ms`, from the first operation's start to the last one's end;
        `longest`, for the operations that took most time their `name`, `count` and `ms`. Where the
        profiler saw no device, as on a CPU, the operations are those of the host's threads.
    """
    with tempfile.TemporaryDirectory(prefix="evosearch-profile-") as directory:
        options = jax.profiler.ProfileOptions()
        options.python_tracer_level = 0
        with jax.profiler.trace(directory, profiler_options=options):
            run()
        (found,) = Path(directory).rglob("*.xplane.pb")
        shutil.copyfile(found, to)
    return {"file": str(to), **_summary(ProfileData.from_file(str(to)))}


def _summary(data: Any) -> dict[str, Any]:
    counts: Counter[str] = Counter()
    times: Counter[str] = Counter()
    spans: list[tuple[float, float]] = []
    for event in _events(data):
        counts[event.name] += 1
        times[event.name] += event.duration_ns
        spans.append((event.start_ns, event.start_ns + event.duration_ns))
    longest = [
        {"name": name, "count": counts[name], "ms": ns / 1e6}
        for name, ns in times.most_common(_SHOWN)
    ]
    first = min((start for start, _ in spans), default=0)
    last = max((end for _, end in spans), default=0)
    return {
        "events": sum(counts.values()),
        "busy_ms": _covered(spans) / 1e6,
        "span_ms": (last - first) / 1e6,
        "longest": longest,
    }


def _events(data: Any) -> Iterator[Any]:
    """The operations on the devices; on the host's threads where there are none."""
    planes = list(data.planes)
    devices = [plane for plane in planes if plane.name.startswith("/device:")]
    for plane in devices or planes:
        for line in plane.lines:
            if not devices or line.name.startswith("Stream"):
                yield from line.events


def _covered(spans: list[tuple[float, float]]) -> float:
    """Nanoseconds in which at least one of the spans lasts."""
    total, reached = 0.0, float("-inf")
    for start, end in sorted(spans):
        total += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return total
