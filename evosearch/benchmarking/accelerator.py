"""A benchmark of an accelerator in a few minutes: the most important figures come first."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import jax

import proxies
from evosearch.benchmarking.agreement import agreement
from evosearch.benchmarking.batch_runner import BatchRunner
from evosearch.benchmarking.batches import measure_paper_task, time_search
from evosearch.benchmarking.benchmark import Progress
from evosearch.benchmarking.comparison import MUTANTS, Comparison, Skipped, encode_operands
from evosearch.benchmarking.driver import measure_driver
from evosearch.benchmarking.plan import BenchmarkPlan, mutants
from evosearch.benchmarking.profiling import profile
from evosearch.benchmarking.roofline import gradient_flops, measure_rates
from evosearch.config import Config, make_config
from evosearch.environment import describe
from evosearch.errors import EvosearchError
from evosearch.measuring.scorer import BASELINE
from evosearch.presets import load_preset
from primitives import interpreter, zoo
from primitives.machine.instructions import OpNames
from proxies import Task

_Part: TypeAlias = tuple[str, Callable[[], dict[str, Any]]]
"""The name of a part, and the function that measures it."""


@dataclass(frozen=True)
class AcceleratorPlan:
    """The extent of a benchmark of an accelerator.

    Attributes:
        batches: plan of the batches; the first of its tasks is measured at all sizes of
            `first_task_lanes`.
        first_task_lanes: batch sizes on the first task.
        lanes: batch size on the other tasks and in the search; 0 skips the other tasks, and the
            search then has the first of `first_task_lanes`.
        agreement_programs: number of programs whose updates are compared with the reference
            interpreter.
        search_seconds: duration of a search with the quick preset; 0 for no search.
        driver_seconds: duration of each search on a fake device; 0 for none.
        profiled_steps: number of steps in the profile; 0 for no profile.
        costly: a costly task and the ops of a search on this task; None for no costly task.
        costly_lanes: batch size on the costly task.
        repeats: number of interleaved repeats.
    """

    batches: BenchmarkPlan
    first_task_lanes: tuple[int, ...]
    lanes: int
    agreement_programs: int
    search_seconds: float
    driver_seconds: float
    profiled_steps: int
    costly: tuple[Task, OpNames] | None
    costly_lanes: int
    repeats: int

    @classmethod
    def of_minutes(cls, minutes: float) -> AcceleratorPlan:
        """Return a plan for about `minutes` on a current data-centre GPU; 10 allow all parts."""
        default = BenchmarkPlan.default()
        full = minutes >= 8
        batches_plan = replace(
            default,
            tasks=tuple(sorted(default.tasks, key=lambda task: task.name != "digits-mlp")),
            programs={},
            jit_sample=1,
            max_naive_lanes=0,
            paper=default.paper[1:2] if full else (),
            max_paper_lanes=32,
            mutants=0,
        )
        return cls(
            batches=batches_plan,
            first_task_lanes=(1024, 256, 4096) if full else (1024,),
            lanes=1024 if full else 0,
            agreement_programs=256,
            search_seconds=45.0,
            driver_seconds=10.0,
            profiled_steps=20,
            costly=_costliest_task("standard") if full else None,
            costly_lanes=256,
            repeats=3,
        )


def measure(
    plan: AcceleratorPlan,
    minutes: float,
    profile_path: Path,
    progress: Progress = lambda text: None,
    selected: Sequence[str] = (),
) -> Iterator[dict[str, Any]]:
    """Measure the parts one after the other on JAX's first device, and yield the result of each.

    A part that raises an exception yields an error and does not end the benchmark. Parts that would
    start after `minutes` are skipped.

    Args:
        plan: what to measure.
        minutes: minutes after which no part starts.
        profile_path: output file of the profile.
        progress: called with the current activity.
        selected: beginnings of the names of the parts to measure, in this order; by default all
            parts are measured.

    Yields:
        For each part `part`, the part's name; `seconds`, the duration of the measurement with
        compilation; and the part's figures by name or, if there are none, `error`, the reason.

    Raises:
        EvosearchError: no part has a name that begins with an entry of `selected`.
    """
    benchmark_start = time.perf_counter()
    parts = _select(list(_parts(plan, profile_path, progress)), selected)
    for name, measure_part in parts:
        start = time.perf_counter()
        progress(name)
        if start - benchmark_start > 60 * minutes:
            values: dict[str, Any] = {"error": f"skipped: {minutes:g} minutes are over"}
        else:
            try:
                values = measure_part()
            except Exception as error:
                values = {"error": f"{type(error).__name__}: {error}"}
        yield {"part": name, "seconds": time.perf_counter() - start, **values}


def _select(parts: list[_Part], selected: Sequence[str]) -> list[_Part]:
    """Return the parts whose names begin with the entries of `selected`; all if there are none."""
    if not selected:
        return parts
    chosen = []
    for start in selected:
        matching = [part for part in parts if part[0].startswith(start)]
        if not matching:
            names = "; ".join(name for name, _ in parts)
            raise EvosearchError(
                f"no part of the benchmark begins with {start!r}; use one of: {names}"
            )
        chosen += matching
    return chosen


def _parts(plan: AcceleratorPlan, profile_path: Path, progress: Progress) -> Iterator[_Part]:
    batches_plan, (first, *others) = plan.batches, plan.batches.tasks
    batches = _Batches(plan, progress)
    yield "device", lambda: _measure_device(batches_plan)
    yield (
        "agreement",
        lambda: agreement(mutants(plan.agreement_programs, batches_plan.ops), batches_plan.ops),
    )
    yield (
        f"{first.name}, {plan.first_task_lanes[0]} lanes",
        partial(batches.rows, first, plan.first_task_lanes[0]),
    )
    if plan.search_seconds:
        lanes = plan.lanes or plan.first_task_lanes[0]
        yield "search", partial(time_search, lanes, plan.search_seconds, progress)
    if plan.profiled_steps:
        lanes = plan.first_task_lanes[0]
        yield "profile", partial(_profile_mutants, first, lanes, plan, profile_path)
    for lanes in plan.first_task_lanes[1:]:
        yield f"{first.name}, {lanes} lanes", partial(batches.rows, first, lanes)
    for task in others if plan.lanes else ():
        yield f"{task.name}, {plan.lanes} lanes", partial(batches.rows, task, plan.lanes)
    for task in batches_plan.paper:
        yield f"paper: {task.name}", partial(_measure_paper_task, task, plan, progress)
    if plan.costly is not None:
        task, ops = plan.costly
        costly_batches = _Batches(replace(plan, batches=replace(batches_plan, ops=ops)), progress)
        name = f"costliest: {task.name}, {plan.costly_lanes} lanes, {len(ops)} ops"
        yield name, partial(costly_batches.rows, task, plan.costly_lanes)
    if plan.driver_seconds:
        lanes = plan.lanes or plan.first_task_lanes[0]
        yield "driver", partial(measure_driver, lanes, plan.driver_seconds, progress=progress)


class _Batches:
    """Measures batches of the baseline and of mutants, with the floor."""

    def __init__(self, plan: AcceleratorPlan, progress: Progress):
        self._plan = plan
        self._progress = progress

    def rows(self, task: Task, lanes: int) -> dict[str, Any]:
        skipped: list[Skipped] = []
        batches_plan = replace(self._plan.batches, tasks=(task,), lanes=(lanes,))
        comparison = Comparison(batches_plan, None, self._plan.repeats, skipped, self._progress)
        jit_seconds = comparison.jit_seconds(task) if task is self._plan.batches.tasks[0] else None
        rows = {}
        for row in comparison.rows_for_lanes(task, lanes, jit_seconds):
            kind = "mutants" if row["program"] == MUTANTS else "baseline"
            rows[kind] = {
                **{name: row[name] for name in _ROW_FIELDS},
                "ratio": row["ratios"]["batched"],
            }
        return {**rows, "skipped": [entry._asdict() for entry in skipped]}


_ROW_FIELDS = (
    *("floor_ms", "batched_ms", "compile_s", "jit_s"),
    *("training_s", "programs_per_second", "times_jit"),
)


def _measure_device(batches_plan: BenchmarkPlan) -> dict[str, Any]:
    rates = measure_rates(batches_plan.copy_size, batches_plan.matrix_side)
    return {
        "device": jax.devices()[0].device_kind,
        "bytes_per_second": rates.bytes_per_second,
        "flops_per_second": dict(rates.flops_per_second),
        "environment": describe(),
    }


def _profile_mutants(task: Task, lanes: int, plan: AcceleratorPlan, path: Path) -> dict[str, Any]:
    """Profile some steps of a batch of mutants."""
    operands = encode_operands(mutants(lanes, plan.batches.ops), plan.batches)
    batches = plan.batches
    runner = BatchRunner(
        task, interpreter(batches.ops), operands[0], lanes, task.steps, batches.steps_per_advance
    )
    runner.step_ms(operands, plan.profiled_steps)
    runner.fill(operands)
    return profile(lambda: runner.advance(plan.profiled_steps), path)


def _measure_paper_task(task: Task, plan: AcceleratorPlan, progress: Progress) -> dict[str, Any]:
    skipped: list[Skipped] = []
    figures = measure_paper_task(task, plan.batches, plan.repeats, skipped, progress)
    return {**(figures or {}), "skipped": [entry._asdict() for entry in skipped]}


def _costliest_task(preset: str) -> tuple[Task, OpNames]:
    """Return the preset's task whose training has the most operations, and the preset's ops."""
    config: Config = make_config({**load_preset(preset), "init": str(zoo.load(BASELINE))})
    tasks = map(proxies.load, config.tasks)
    return max(tasks, key=lambda task: task.steps * gradient_flops(task)), config.ops
