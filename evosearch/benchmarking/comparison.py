"""The ways to train a batch of programs, side by side, task by task."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from statistics import median
from time import perf_counter
from typing import Any, NamedTuple, TypeVar

import numpy as np

from evosearch.benchmarking.batch_runner import BatchRunner, Operands, naive_interpreter
from evosearch.benchmarking.benchmark import Progress, fresh
from evosearch.benchmarking.plan import BenchmarkPlan, mutants
from evosearch.benchmarking.roofline import Rates, gradient_flops, register_bytes
from evosearch.benchmarking.stepwise import uncached_compilation
from evosearch.measuring.engines import Trainer, seed_key
from evosearch.measuring.measurement import Engine
from evosearch.measuring.scorer import BASELINE
from evosearch.seeds import Seed, Stream
from primitives import Program, encode, interpreter, rule, zoo
from primitives.machine.instructions import instruction_set
from proxies import Task

MIXED = "mutants"
"""The batch of different programs: the baseline and mutants of it."""

FACTOR = np.float32(1)
"""On every program's learning rate."""

_Made = TypeVar("_Made")
_Name = TypeVar("_Name")


class Skipped(NamedTuple):
    """What was not measured."""

    what: str
    why: str


class Timed(NamedTuple):
    """A way of training certain programs."""

    way: BatchRunner
    operands: Sequence[Operands]


def unless_too_large(what: str, skipped: list[Skipped], make: Callable[[], _Made]) -> _Made | None:
    """What `make` returns; None, and noted, if the device's memory does not hold it."""
    try:
        return make()
    except Exception as error:
        if "RESOURCE_EXHAUSTED" not in str(error):  # as JAX says it on every device
            raise
        skipped.append(Skipped(what, "the device's memory does not hold it"))
        return None


def interleaved(
    timed: Mapping[_Name, Timed], steps: int, repeats: int, where: str, progress: Progress
) -> dict[_Name, float]:
    """Milliseconds of a batch's step by every way, medians of repeats that take turns."""
    times: dict[_Name, list[float]] = {name: [] for name in timed}
    for repeat in range(1, repeats + 1):
        progress(f"{where}: repeat {repeat} of {repeats}")
        for name, (way, operands) in timed.items():
            times[name].append(way.step_ms(operands, steps))
    return {name: median(found) for name, found in times.items()}


def coded(programs: Sequence[Program], plan: BenchmarkPlan) -> list[Operands]:
    """The interpreter's operands for these programs."""
    return [(encode(program, plan.ops), FACTOR) for program in programs]


class Comparison:
    """Compares the ways to train batches, and keeps note of what it has to skip."""

    def __init__(
        self,
        plan: BenchmarkPlan,
        rates: Rates | None,
        repeats: int,
        skipped: list[Skipped],
        progress: Progress,
    ):
        self._plan = plan
        self._rates = rates
        self._repeats = repeats
        self._skipped = skipped
        self._progress = progress
        self._instructions = instruction_set(plan.ops)
        self._programs = {BASELINE: zoo.load(BASELINE), **plan.programs}
        self._mutants = mutants(max(*plan.lanes, 1 + plan.jitted), plan.ops)
        self._naive_took: str | None = None  # where that was too long to do again

    def rows(self, task: Task) -> list[dict[str, Any]]:
        """A row for each size of the batch and each kind of programs in it."""
        self._progress(f"{task.name}: each program compiled for itself")
        jitted = self.jitted(task)
        rows = []
        for lanes in self._plan.lanes:
            rows += self.rows_of_size(task, lanes, jitted)
        return rows

    def jitted(self, task: Task) -> dict[str, float]:
        """For each kind of programs seconds to compile and train one of them for itself."""
        return {name: self._jitted(task, self._some(name)) for name in (*self._programs, MIXED)}

    def rows_of_size(
        self, task: Task, lanes: int, jitted: Mapping[str, float] | None = None
    ) -> list[dict[str, Any]]:
        """A row for each kind of programs; none if the device's memory holds no such batch.

        Args:
            task: what is trained.
            lanes: the size of the batch.
            jitted: for each kind seconds to compile and train a program for itself.
        """
        measured = partial(self._of_size, task, lanes, jitted or {}, gradient_flops(task))
        return unless_too_large(f"{task.name}, {lanes} lanes", self._skipped, measured) or []

    def _some(self, name: str) -> list[Program]:
        if name == MIXED:
            return self._mutants[1 : 1 + self._plan.jitted]
        return [fresh(self._programs[name], 1 + number) for number in range(self._plan.jitted)]

    def _jitted(self, task: Task, programs: Sequence[Program]) -> float:
        """Seconds to compile and run a training with one new program."""
        found = []
        trainer = Trainer(task, self._plan.steps)
        key = seed_key(0, Seed(Stream.EVAL_TUNE, 0))
        with uncached_compilation():
            for program in programs:
                start = perf_counter()
                trainer.run(program, 1.0, key, Engine.COMPILED)
                found.append(perf_counter() - start)
        return median(found)

    def _of_size(
        self, task: Task, lanes: int, jitted: Mapping[str, float], flops: float
    ) -> list[dict[str, Any]]:
        steps = self._plan.steps or task.steps
        where = f"{task.name}, {lanes} lanes"
        batches = {name: [program] * lanes for name, program in self._programs.items()}
        batches[MIXED] = self._mutants[:lanes]
        timed = self._timed(task, where, batches, lanes, steps)
        took = interleaved(
            timed,
            min(self._plan.timed_steps, steps - 1),
            self._repeats,
            where,
            self._progress,
        )
        rows = []
        for name, programs in batches.items():
            alone = BASELINE if name == MIXED else name
            floor, batched = took.get(("floor", alone)), took.get(("batched", name))
            naive = took.get(("naive", name))
            self._progress(f"{where}: a whole training of {name}")
            whole = timed.get(("batched", name))
            training = whole.way.training_seconds(whole.operands) if whole else None
            row = {
                "task": task.name,
                "weights": task.params,
                "steps": steps,
                "lanes": lanes,
                "program": name,
                "floor_ms": floor,
                "batched_ms": batched,
                "naive_vmap_ms": naive,
                "ratios": {
                    "batched": _ratio(batched, floor),
                    "naive_vmap": _ratio(naive, floor),
                },
                "compile_s": whole.way.compile_seconds if whole else None,
                "jit_s": jitted.get(name),
                "training_s": training,
                "programs_per_second": _ratio(lanes, training),
                "times_jit": _times(lanes, _ratio(jitted.get(name), training)),
                "roofline": self._roofline(task, programs, batched, flops),
            }
            rows.append(row)
        return rows

    def _timed(
        self,
        task: Task,
        where: str,
        batches: Mapping[str, Sequence[Program]],
        lanes: int,
        steps: int,
    ) -> dict[tuple[str, str], Timed]:
        """Every way that the memory holds, compiled and tried."""
        timed: dict[tuple[str, str], Timed] = {}

        def tried(kind: str, rule: Any, filled: Mapping[str, Sequence[Operands]]) -> None:
            self._progress(f"{where}: compiling ({kind})")

            def make() -> BatchRunner:
                first = next(iter(filled.values()))
                way = BatchRunner(task, rule, first[0], lanes, steps)
                way.step_ms(first, 1)
                return way

            way = unless_too_large(f"{where}: {kind}", self._skipped, make)
            if way is not None:
                for name, operands in filled.items():
                    timed[kind, name] = Timed(way, operands)

        for name, program in self._programs.items():
            tried("floor", rule(program), {name: [(FACTOR,)] * lanes})
        filled = {name: coded(programs, self._plan) for name, programs in batches.items()}
        tried("batched", interpreter(self._plan.ops), filled)
        if self._naive_allowed(where, lanes):
            start = perf_counter()
            naive = naive_interpreter(self._plan.ops)
            tried("naive", naive, {BASELINE: filled[BASELINE]})
            took = perf_counter() - start
            if took > self._plan.naive_seconds:
                self._naive_took = f"compiling it took {took:.0f} s for {where}"
        return timed

    def _naive_allowed(self, where: str, lanes: int) -> bool:
        why = self._naive_took
        if lanes > self._plan.naive_lanes:
            why = f"it is tried with at most {self._plan.naive_lanes} lanes"
        if why is not None:
            self._skipped.append(Skipped(f"{where}: naive vmap", why))
        return why is None

    def _roofline(
        self, task: Task, programs: Sequence[Program], batched: float | None, flops: float
    ) -> dict[str, Any] | None:
        """A step at the device's measured rates: all flops, and then all bytes."""
        if self._rates is None:
            return None
        codes = [encode(program, self._plan.ops) for program in programs]
        moved = register_bytes(codes, self._instructions, task.params)
        computed = flops * len(programs)
        at_best = moved / self._rates.bytes_per_second
        at_best += computed / self._rates.flops_per_second["float32"]
        return {
            "bytes": moved,
            "flops": computed,
            "ms": 1000 * at_best,
            "share": _ratio(1000 * at_best, batched),
        }


def _times(lanes: int, ratio: float | None) -> float | None:
    return None if ratio is None else lanes * ratio


def _ratio(above: float | None, below: float | None) -> float | None:
    return None if above is None or below is None else above / below
