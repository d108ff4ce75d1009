"""The speed of a search's driver: everything in Python between evolution and the device.

A search with batches runs on a fake device. Its settings are those of the quick preset, but for a
larger population. On an instant device, the driver is the only limit; on a slow device, the figures
show how full the driver keeps the lanes.
"""

from __future__ import annotations

from typing import Any

from evosearch.benchmarking.benchmark import Progress, quick, search_speed
from evosearch.benchmarking.fake_device import FakeDevice
from evosearch.config import make_config


def measure_driver(
    lanes: int = 1024,
    seconds: float = 10.0,
    step_seconds: float = 0.008,
    progress: Progress = lambda text: None,
) -> dict[str, Any]:
    """Measure the driver on an instant and on a slow fake device.

    Args:
        lanes: number of lanes per task.
        seconds: duration of each of the two searches.
        step_seconds: duration of a step of the slow device, in seconds.
        progress: called with the current activity.

    Returns:
        `lanes`; `instant` and `slow`: the document of `benchmark.search_speed` on each device, with
        `driver_us`, the CPU time of the process per generated program, and `main_thread_us`, the
        part of it that belongs to evolution and the record, both in microseconds; `step_ms`,
        milliseconds of a step of the slow device.
    """
    return {
        "lanes": lanes,
        "step_ms": 1000 * step_seconds,
        "instant": _speed(lanes, seconds, FakeDevice(), progress),
        "slow": _speed(lanes, seconds, FakeDevice(step_seconds), progress),
    }


def _speed(lanes: int, seconds: float, device: FakeDevice, progress: Progress) -> dict[str, Any]:
    settings: dict[str, Any] = quick().model_dump() | {"batch": lanes}
    settings["validation_seeds"] = 0  # validation would train on the real device
    # With a smaller population, the number of requests in flight would grow for minutes.
    settings["population"] = make_config(settings).requests
    config = make_config(settings)
    speed = search_speed(config, seconds, progress, make_lanes=device.lanes)
    rate = speed["generated_per_second"]
    if device.is_instant:
        speed["lanes_filled"] = None  # its lanes are empty most of the time
    return {
        **speed,
        "driver_us": 1e6 * speed["cpu_seconds_per_second"] / rate,
        "main_thread_us": 1e6 * speed["main_thread_seconds_per_second"] / rate,
    }
