"""What an accelerator does in the minutes that one has it: the most important figures first."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import jax

import proxies
from evosearch.benchmarking.agreement import agreement
from evosearch.benchmarking.batch_runner import BatchRunner
from evosearch.benchmarking.batches import on_paper, timed_search
from evosearch.benchmarking.benchmark import Progress
from evosearch.benchmarking.comparison import MIXED, Comparison, Skipped, coded
from evosearch.benchmarking.plan import BenchmarkPlan, mutants
from evosearch.benchmarking.profiling import profile
from evosearch.benchmarking.roofline import gradient_flops, measure_rates
from evosearch.config import Config, make_config
from evosearch.environment import describe
from evosearch.measuring.scorer import BASELINE
from evosearch.presets import load_preset
from primitives import interpreter, zoo
from primitives.machine.instructions import OpNames
from proxies import Task


@dataclass(frozen=True)
class AcceleratorPlan:
    """What is measured, and how much of it.

    Attributes:
        batches: of batches; the first of its `tasks` is measured at every size.
        wide: sizes of batches on the first task.
        lanes: the size of batches on the others, and of those in the search.
        compared: programs whose updates are compared with the reference interpreter's.
        search_seconds: of a search with the quick preset; 0 for none.
        profiled_steps: 0 for no profile.
        costly: a task and the ops of a search on it, measured with `costly_lanes`; None for none.
        costly_lanes: the size of that batch.
        repeats: interleaved repeats of each way.
    """

    batches: BenchmarkPlan
    wide: tuple[int, ...]
    lanes: int
    compared: int
    search_seconds: float
    profiled_steps: int
    costly: tuple[Task, OpNames] | None
    costly_lanes: int
    repeats: int

    @classmethod
    def of_minutes(cls, minutes: float) -> AcceleratorPlan:
        """As much as fits that time on one current data-centre GPU; 10 minutes hold everything."""
        usual = BenchmarkPlan.usual()
        whole = minutes >= 8
        batches_plan = replace(
            usual,
            tasks=tuple(sorted(usual.tasks, key=lambda task: task.name != "digits-mlp")),
            programs={},
            jitted=1,
            naive_lanes=0,
            paper=usual.paper[1:2] if whole else (),
            paper_lanes=32,
            mutants=0,
        )
        return cls(
            batches=batches_plan,
            wide=(1024, 256, 4096) if whole else (1024,),
            lanes=1024 if whole else 0,
            compared=256,
            search_seconds=45.0,
            profiled_steps=20,
            costly=_costliest("standard") if whole else None,
            costly_lanes=256,
            repeats=3,
        )


def measure(
    plan: AcceleratorPlan, minutes: float, profile_to: Path, progress: Progress = lambda text: None
) -> Iterator[dict[str, Any]]:
    """Measures part after part on JAX's first device, and yields each part's figures at once.

    A part that fails yields why, and one whose turn comes when the time is over is skipped, so that
    what was measured is never lost.

    Args:
        plan: what to measure.
        minutes: after so many no further part begins.
        profile_to: the file for the profile.
        progress: told what is being measured.

    Yields:
        `part`, its name; `seconds`, what measuring it took, compilation included; its figures by
        name, or `error`, why there are none.
    """
    began = time.perf_counter()
    for name, part in _parts(plan, profile_to, progress):
        start = time.perf_counter()
        progress(name)
        if start - began > 60 * minutes:
            values: dict[str, Any] = {"error": f"skipped: {minutes:g} minutes are over"}
        else:
            try:
                values = part()
            except Exception as error:
                values = {"error": f"{type(error).__name__}: {error}"}
        yield {"part": name, "seconds": time.perf_counter() - start, **values}


def _parts(
    plan: AcceleratorPlan, profile_to: Path, progress: Progress
) -> Iterator[tuple[str, Callable[[], dict[str, Any]]]]:
    batches_plan, (first, *others) = plan.batches, plan.batches.tasks
    batches = _Batches(plan, progress)
    yield "device", lambda: _device(batches_plan)
    yield "agreement", lambda: agreement(mutants(plan.compared, batches_plan.ops), batches_plan.ops)
    yield f"{first.name}, {plan.wide[0]} lanes", partial(batches.rows, first, plan.wide[0])
    if plan.search_seconds:
        lanes = plan.lanes or plan.wide[0]
        yield "search", partial(timed_search, lanes, plan.search_seconds, progress)
    if plan.profiled_steps:
        lanes = plan.wide[0]
        yield "profile", partial(_profile, first, lanes, plan, profile_to)
    for lanes in plan.wide[1:]:
        yield f"{first.name}, {lanes} lanes", partial(batches.rows, first, lanes)
    for task in others if plan.lanes else ():
        yield f"{task.name}, {plan.lanes} lanes", partial(batches.rows, task, plan.lanes)
    for task in batches_plan.paper:
        yield f"paper: {task.name}", partial(_paper, task, plan, progress)
    if plan.costly is not None:
        task, ops = plan.costly
        larger = _Batches(replace(plan, batches=replace(batches_plan, ops=ops)), progress)
        name = f"costliest: {task.name}, {plan.costly_lanes} lanes, {len(ops)} ops"
        yield name, partial(larger.rows, task, plan.costly_lanes)


class _Batches:
    """Batches of the baseline and of mutants, beside the floor."""

    def __init__(self, plan: AcceleratorPlan, progress: Progress):
        self._plan = plan
        self._progress = progress

    def rows(self, task: Task, lanes: int) -> dict[str, Any]:
        skipped: list[Skipped] = []
        batches_plan = replace(self._plan.batches, tasks=(task,), lanes=(lanes,))
        compared = Comparison(batches_plan, None, self._plan.repeats, skipped, self._progress)
        jitted = compared.jitted(task) if task is self._plan.batches.tasks[0] else None
        found = {}
        for row in compared.rows_of_size(task, lanes, jitted):
            kind = "mutants" if row["program"] == MIXED else "baseline"
            found[kind] = {
                **{name: row[name] for name in _OF_A_ROW},
                "ratio": row["ratios"]["batched"],
            }
        return {**found, "skipped": [one._asdict() for one in skipped]}


_OF_A_ROW = (
    *("floor_ms", "batched_ms", "compile_s", "jit_s"),
    *("training_s", "programs_per_second", "times_jit"),
)


def _device(batches_plan: BenchmarkPlan) -> dict[str, Any]:
    rates = measure_rates(batches_plan.copied, batches_plan.side)
    return {
        "device": jax.devices()[0].device_kind,
        "bytes_per_second": rates.bytes_per_second,
        "flops_per_second": dict(rates.flops_per_second),
        "environment": describe(),
    }


def _profile(task: Task, lanes: int, plan: AcceleratorPlan, to: Path) -> dict[str, Any]:
    """Some steps of a batch of mutants."""
    operands = coded(mutants(lanes, plan.batches.ops), plan.batches)
    way = BatchRunner(task, interpreter(plan.batches.ops), operands[0], lanes, task.steps)
    way.step_ms(operands, plan.profiled_steps)
    way.fill(operands)
    return profile(lambda: way.advance(plan.profiled_steps), to)


def _paper(task: Task, plan: AcceleratorPlan, progress: Progress) -> dict[str, Any]:
    skipped: list[Skipped] = []
    found = on_paper(task, plan.batches, plan.repeats, skipped, progress)
    return {**(found or {}), "skipped": [one._asdict() for one in skipped]}


def _costliest(preset: str) -> tuple[Task, OpNames]:
    """The task of a preset whose training has most operations, and the preset's ops."""
    config: Config = make_config({**load_preset(preset), "init": str(zoo.load(BASELINE))})
    tasks = map(proxies.load, config.tasks)
    return max(tasks, key=lambda task: task.steps * gradient_flops(task)), config.ops
