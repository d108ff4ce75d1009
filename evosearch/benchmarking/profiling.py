"""Profiles of the operations on a device."""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
from jax.profiler import ProfileData

_MAX_LONGEST = 12
"""Number of operations in a summary, the longest first."""


def profile(run: Callable[[], object], path: Path) -> dict[str, Any]:
    """Run a function under JAX's profiler.

    Args:
        run: function to profile; it must wait for the device.
        path: output file, in the format of TensorBoard's profiler (`.xplane.pb`).

    Returns:
        `file`; `events`, the number of operations on the device; `busy_ms`, milliseconds in which
        the device worked; `span_ms`, from the start of the first operation to the end of the last;
        `longest`, the `name`, `count` and `ms` of the operations that took most time. If the
        profiler saw no device, as on a CPU, the operations are those of the host's threads.
    """
    with tempfile.TemporaryDirectory(prefix="evosearch-profile-") as directory:
        options = jax.profiler.ProfileOptions()
        options.python_tracer_level = 0
        with jax.profiler.trace(directory, profiler_options=options):
            run()
        (profile_file,) = Path(directory).rglob("*.xplane.pb")
        shutil.copyfile(profile_file, path)
    return {"file": str(path), **_summary(ProfileData.from_file(str(path)))}


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
        for name, ns in times.most_common(_MAX_LONGEST)
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
    """Yield the operations on devices, or on the host's threads if there is no device."""
    planes = list(data.planes)
    devices = [plane for plane in planes if plane.name.startswith("/device:")]
    for plane in devices or planes:
        for line in plane.lines:
            if not devices or line.name.startswith("Stream"):
                yield from line.events


def _covered(spans: list[tuple[float, float]]) -> float:
    """Return the length of the union of the spans, in nanoseconds."""
    total, covered_until = 0.0, float("-inf")
    for start, end in sorted(spans):
        total += max(0.0, end - max(start, covered_until))
        covered_until = max(covered_until, end)
    return total
