"""How fast batches of programs are: side by side on one device, and a search with them.

The floor of a batch is one program fused by XLA under `jax.vmap` over seeds. Every way's step is a
median of interleaved repeats, so that what else the machine does falls on all alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from itertools import groupby
from typing import Any

import jax

from evosearch.benchmarking.batch_runner import BatchRunner
from evosearch.benchmarking.benchmark import Progress, abstract_microseconds, quick, search_speed
from evosearch.benchmarking.comparison import (
    MIXED,
    Comparison,
    Skipped,
    Timed,
    coded,
    interleaved,
    unless_too_large,
)
from evosearch.benchmarking.plan import BenchmarkPlan, mutants
from evosearch.benchmarking.roofline import measure_rates
from evosearch.config import make_config
from evosearch.environment import describe
from primitives import interpreter
from proxies import Task
from proxies.tasks import paper


def bench_batches(
    plan: BenchmarkPlan,
    *,
    repeats: int = 5,
    seconds: float = 20.0,
    progress: Progress = lambda text: None,
) -> dict[str, Any]:
    """Measures batches of programs on JAX's first device; the search takes all there are.

    Args:
        plan: what to measure.
        repeats: interleaved repeats of each way.
        seconds: how long to search with the quick preset once it has started; 0 for not at all.
        progress: told what is being measured.

    Returns:
        `device`, `jax`, `date`, `environment`, and

        - `rates`: what the device was measured to do, in bytes and operations per second;
        - `batches`: for each task, size and kind of programs milliseconds of a step of the whole
          batch, and their ratios to the floor; for mutants, to the baseline's. Of a whole training,
          all lanes full, `training_s` and `programs_per_second`; `jit_s`, seconds to compile and
          train one program for itself (the median of three), and how many times as long that
          takes for a batch's programs one after another, `times_jit`. `roofline`: what a step would
          take at the measured rates, and the share of it that is reached;
        - `throughput`: for each size, mutants per second, each trained on all tasks;
        - `paper`: batches of mutants on the paper's proxies;
        - `abstract_us`: microseconds of a mutation; `search`: see `benchmark.search_speed`;
        - `skipped`: what was not measured, and why. Such figures are None.
    """
    progress("copies and matrix products")
    rates = measure_rates(plan.copied, plan.side)
    skipped: list[Skipped] = []
    comparison = Comparison(plan, rates, repeats, skipped, progress)
    rows = [row for task in plan.tasks for row in comparison.rows(task)]
    measured = [on_paper(task, plan, repeats, skipped, progress) for task in plan.paper]
    progress("mutations")
    abstract = abstract_microseconds(plan.mutants) if plan.mutants else None
    return {
        "device": jax.devices()[0].device_kind,
        "jax": jax.__version__,
        "date": datetime.now(UTC).date().isoformat(),
        "environment": describe(),
        "rates": {
            "bytes_per_second": rates.bytes_per_second,
            "flops_per_second": dict(rates.flops_per_second),
        },
        "batches": rows,
        "throughput": _throughput(rows, len(plan.tasks)),
        "paper": [found for found in measured if found],
        "abstract_us": abstract,
        "search": timed_search(max(plan.lanes), seconds, progress) if seconds else None,
        "skipped": [one._asdict() for one in skipped],
    }


def _throughput(rows: Sequence[dict[str, Any]], tasks: int) -> list[dict[str, Any]]:
    """Mutants per second on all tasks by the size of the batch, where all were measured."""

    def lanes(row: dict[str, Any]) -> int:
        return int(row["lanes"])

    mixed = sorted((row for row in rows if row["program"] == MIXED), key=lanes)
    found = []
    for size, group in groupby(mixed, lanes):
        seconds = [row["training_s"] for row in group]
        if len(seconds) == tasks and None not in seconds:
            found.append({"lanes": size, "programs_per_second": size / sum(seconds)})
    return found


def on_paper(
    task: Task, plan: BenchmarkPlan, repeats: int, skipped: list[Skipped], progress: Progress
) -> dict[str, Any] | None:
    """A batch of mutants on one of the paper's proxies, the largest that the memory holds."""
    lanes = plan.paper_lanes
    while lanes:
        where = f"{task.name}, {lanes} lanes"
        measured = partial(_step_on_paper, task, lanes, plan, repeats, where, progress)
        ms = unless_too_large(where, skipped, measured)
        if ms is not None:
            return {
                "task": task.name,
                "weights": task.params,
                "lanes": lanes,
                "batched_ms": ms,
                "steps_per_second": 1000 / ms,
                "programs_per_device_hour": 3600 * lanes * (1000 / ms) / paper.STEPS,
            }
        lanes //= 2
    return None


def _step_on_paper(
    task: Task, lanes: int, plan: BenchmarkPlan, repeats: int, where: str, progress: Progress
) -> float:
    """Milliseconds of a step of a batch of mutants."""
    progress(f"{where}: compiling")
    operands = coded(mutants(lanes, plan.ops), plan)
    way = BatchRunner(task, interpreter(plan.ops), operands[0], lanes, 1 + plan.paper_steps)
    way.step_ms(operands, 1)
    timed = {where: Timed(way, operands)}
    return interleaved(timed, plan.paper_steps, repeats, where, progress)[where]


def timed_search(lanes: int, seconds: float, progress: Progress) -> dict[str, Any]:
    """How fast the quick preset's search is in batches of so many lanes; see `search_speed`."""
    config = make_config({**quick().model_dump(), "batch": lanes})
    return {"batch": lanes, **search_speed(config, seconds, progress)}
