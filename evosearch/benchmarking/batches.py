"""The speed of batches of programs on one device, and of a search with batches.

The floor of a batch is one program compiled by XLA under `jax.vmap` over seeds. Times of steps are
medians of interleaved repeats, so that other load on the machine affects all engines equally.
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
    MUTANTS,
    Comparison,
    Skipped,
    TimedBatch,
    encode_operands,
    interleaved_medians,
    skip_if_too_large,
)
from evosearch.benchmarking.driver import measure_driver
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
    """Measure batches of programs on JAX's first device; the search uses all devices.

    Args:
        plan: what to measure.
        repeats: number of interleaved repeats.
        seconds: duration of a search with the quick preset after its start-up; 0 for no search.
        progress: called with the current activity.

    Returns:
        A document with `device`, `jax`, `date`, `environment`, and

        - `rates`: measured bytes and operations per second of the device;
        - `batches`: a row for each task, batch size and kind of programs. A row has milliseconds
          per step of the batch and the ratios to the floor (for mutants, to the baseline's floor);
          `training_s` and `programs_per_second` of a complete training with all lanes full;
          `jit_s`, seconds to compile and train one program by itself (median of three);
          `times_jit`, the time of the batch's programs one after another as a multiple of
          `training_s`; `roofline`, the time of a step at the measured rates, and the fraction of
          this speed that is reached;
        - `throughput`: for each batch size, mutants per second, each trained on all tasks;
        - `paper`: batches of mutants on the proxies of Chen et al. 2023;
        - `abstract_us`: microseconds of a mutation; `search`: see `benchmark.search_speed`;
          `driver`: see `driver.measure_driver`;
        - `skipped`: figures that were not measured, and why. These figures are None.
    """
    progress("copies and matrix products")
    rates = measure_rates(plan.copy_size, plan.matrix_side)
    skipped: list[Skipped] = []
    comparison = Comparison(plan, rates, repeats, skipped, progress)
    rows = [row for task in plan.tasks for row in comparison.rows(task)]
    paper_rows = [measure_paper_task(task, plan, repeats, skipped, progress) for task in plan.paper]
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
        "paper": [row for row in paper_rows if row],
        "abstract_us": abstract,
        "search": time_search(max(plan.lanes), seconds, progress) if seconds else None,
        "driver": measure_driver(progress=progress) if seconds else None,
        "skipped": [entry._asdict() for entry in skipped],
    }


def _throughput(rows: Sequence[dict[str, Any]], tasks: int) -> list[dict[str, Any]]:
    """Return mutants per second, for each batch size that was measured on all tasks."""

    def lanes(row: dict[str, Any]) -> int:
        return int(row["lanes"])

    mutant_rows = sorted((row for row in rows if row["program"] == MUTANTS), key=lanes)
    throughput = []
    for size, group in groupby(mutant_rows, lanes):
        seconds = [row["training_s"] for row in group]
        if len(seconds) == tasks and None not in seconds:
            throughput.append({"lanes": size, "programs_per_second": size / sum(seconds)})
    return throughput


def measure_paper_task(
    task: Task, plan: BenchmarkPlan, repeats: int, skipped: list[Skipped], progress: Progress
) -> dict[str, Any] | None:
    """Measure the largest batch of mutants that fits in memory, on a proxy of Chen et al. 2023."""
    lanes = plan.max_paper_lanes
    while lanes:
        label = f"{task.name}, {lanes} lanes"
        measure = partial(_paper_step_ms, task, lanes, plan, repeats, label, progress)
        ms = skip_if_too_large(label, skipped, measure)
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


def _paper_step_ms(
    task: Task, lanes: int, plan: BenchmarkPlan, repeats: int, label: str, progress: Progress
) -> float:
    """Return milliseconds per step of a batch of mutants."""
    progress(f"{label}: compiling")
    operands = encode_operands(mutants(lanes, plan.ops), plan)
    runner = BatchRunner(
        task,
        interpreter(plan.ops),
        operands[0],
        lanes,
        1 + plan.timed_paper_steps,
        plan.steps_per_advance,
    )
    runner.step_ms(operands, 1)
    timed = {label: TimedBatch(runner, operands)}
    return interleaved_medians(timed, plan.timed_paper_steps, repeats, label, progress)[label]


def time_search(lanes: int, seconds: float, progress: Progress) -> dict[str, Any]:
    """Return the speed of the quick preset's search with `lanes` lanes; see `search_speed`."""
    config = make_config({**quick().model_dump(), "batch": lanes})
    return {"batch": lanes, **search_speed(config, seconds, progress)}
