"""Timings of batches of programs by several engines, task by task."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from statistics import median
from time import perf_counter
from typing import Any, NamedTuple, TypeVar

import numpy as np

from evosearch.benchmarking.batch_runner import BatchRunner, Operands, naive_interpreter
from evosearch.benchmarking.benchmark import Progress, with_changed_constant
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

MUTANTS = "mutants"
"""Name of the batch of different programs: the baseline and its mutants."""

FACTOR = np.float32(1)
"""Multiplier of every program's learning rate."""

_Result = TypeVar("_Result")
_Name = TypeVar("_Name")


class Skipped(NamedTuple):
    """A figure that was not measured, and the reason."""

    what: str
    why: str


class TimedBatch(NamedTuple):
    """A batch runner and the operands of its lanes."""

    runner: BatchRunner
    operands: Sequence[Operands]


def skip_if_too_large(
    what: str, skipped: list[Skipped], make: Callable[[], _Result]
) -> _Result | None:
    """Return the result of `make`, or None if the device runs out of memory.

    If the device runs out of memory, an entry for `what` is added to `skipped`.
    """
    try:
        return make()
    except Exception as error:
        if "RESOURCE_EXHAUSTED" not in str(error):  # the error code of JAX on every device
            raise
        skipped.append(Skipped(what, "out of device memory"))
        return None


def interleaved_medians(
    timed: Mapping[_Name, TimedBatch], steps: int, repeats: int, label: str, progress: Progress
) -> dict[_Name, float]:
    """Return milliseconds per step of each batch, the median of interleaved repeats."""
    times: dict[_Name, list[float]] = {name: [] for name in timed}
    for repeat in range(1, repeats + 1):
        progress(f"{label}: repeat {repeat} of {repeats}")
        for name, (runner, operands) in timed.items():
            times[name].append(runner.step_ms(operands, steps))
    return {name: median(repeated) for name, repeated in times.items()}


def encode_operands(programs: Sequence[Program], plan: BenchmarkPlan) -> list[Operands]:
    """Return the interpreter's operands of each program."""
    return [(encode(program, plan.ops), FACTOR) for program in programs]


class Comparison:
    """Times engines that train batches, and records which figures are skipped.

    Args:
        plan: what to measure.
        rates: measured rates of the device, for the roofline; None for no roofline.
        repeats: number of interleaved repeats.
        skipped: list to which skipped figures are added.
        progress: called with the current activity.
    """

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
        self._mutants = mutants(max(*plan.lanes, 1 + plan.jit_sample), plan.ops)
        # The reason not to compile the naive interpreter again.
        self._naive_too_slow: str | None = None

    def rows(self, task: Task) -> list[dict[str, Any]]:
        """Return a row for each batch size and each kind of programs."""
        self._progress(f"{task.name}: compiling each program by itself")
        jit_seconds = self.jit_seconds(task)
        rows = []
        for lanes in self._plan.lanes:
            rows += self.rows_for_lanes(task, lanes, jit_seconds)
        return rows

    def jit_seconds(self, task: Task) -> dict[str, float]:
        """Return, for each kind of programs, seconds to compile and train one program by itself."""
        kinds = (*self._programs, MUTANTS)
        return {kind: self._median_jit_seconds(task, self._examples(kind)) for kind in kinds}

    def rows_for_lanes(
        self, task: Task, lanes: int, jit_seconds: Mapping[str, float] | None = None
    ) -> list[dict[str, Any]]:
        """Return a row for each kind of programs; empty if the device runs out of memory.

        Args:
            task: task to train.
            lanes: batch size.
            jit_seconds: for each kind, seconds to compile and train one program by itself.
        """
        measure = partial(
            self._rows_for_lanes, task, lanes, jit_seconds or {}, gradient_flops(task)
        )
        return skip_if_too_large(f"{task.name}, {lanes} lanes", self._skipped, measure) or []

    def _examples(self, name: str) -> list[Program]:
        if name == MUTANTS:
            return self._mutants[1 : 1 + self._plan.jit_sample]
        return [
            with_changed_constant(self._programs[name], 1 + number)
            for number in range(self._plan.jit_sample)
        ]

    def _median_jit_seconds(self, task: Task, programs: Sequence[Program]) -> float:
        """Return the median over programs of the seconds to compile and run one training."""
        seconds = []
        trainer = Trainer(task, self._plan.steps)
        key = seed_key(0, Seed(Stream.EVAL_TUNE, 0))
        with uncached_compilation():
            for program in programs:
                start = perf_counter()
                trainer.run(program, 1.0, key, Engine.COMPILED)
                seconds.append(perf_counter() - start)
        return median(seconds)

    def _rows_for_lanes(
        self, task: Task, lanes: int, jit_seconds: Mapping[str, float], flops: float
    ) -> list[dict[str, Any]]:
        steps = self._plan.steps or task.steps
        label = f"{task.name}, {lanes} lanes"
        batches = {name: [program] * lanes for name, program in self._programs.items()}
        batches[MUTANTS] = self._mutants[:lanes]
        timed = self._compile_batches(task, label, batches, lanes, steps)
        step_ms = interleaved_medians(
            timed,
            self._plan.timed_steps,
            self._repeats,
            label,
            self._progress,
        )
        rows = []
        for name, programs in batches.items():
            floor_program = BASELINE if name == MUTANTS else name
            floor = step_ms.get(("floor", floor_program))
            batched, naive = step_ms.get(("batched", name)), step_ms.get(("naive", name))
            self._progress(f"{label}: a complete training of {name}")
            batch = timed.get(("batched", name))
            training = batch.runner.training_seconds(batch.operands) if batch else None
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
                "compile_s": batch.runner.compile_seconds if batch else None,
                "jit_s": jit_seconds.get(name),
                "training_s": training,
                "programs_per_second": _ratio(lanes, training),
                "times_jit": _product(lanes, _ratio(jit_seconds.get(name), training)),
                "roofline": self._roofline(task, programs, batched, flops),
            }
            rows.append(row)
        return rows

    def _compile_batches(
        self,
        task: Task,
        label: str,
        batches: Mapping[str, Sequence[Program]],
        lanes: int,
        steps: int,
    ) -> dict[tuple[str, str], TimedBatch]:
        """Return the compiled batches by engine and kind of programs, without too large batches."""
        timed: dict[tuple[str, str], TimedBatch] = {}

        def compile_batch(
            engine: str, rule: Any, operands_of: Mapping[str, Sequence[Operands]]
        ) -> None:
            self._progress(f"{label}: compiling ({engine})")

            def make() -> BatchRunner:
                operands = next(iter(operands_of.values()))
                runner = BatchRunner(
                    task, rule, operands[0], lanes, steps, self._plan.steps_per_advance
                )
                runner.step_ms(operands, 1)
                return runner

            runner = skip_if_too_large(f"{label}: {engine}", self._skipped, make)
            if runner is not None:
                for name, operands in operands_of.items():
                    timed[engine, name] = TimedBatch(runner, operands)

        for name, program in self._programs.items():
            compile_batch("floor", rule(program), {name: [(FACTOR,)] * lanes})
        encoded = {
            name: encode_operands(programs, self._plan) for name, programs in batches.items()
        }
        compile_batch("batched", interpreter(self._plan.ops), encoded)
        if self._naive_allowed(label, lanes):
            start = perf_counter()
            naive = naive_interpreter(self._plan.ops)
            compile_batch("naive", naive, {BASELINE: encoded[BASELINE]})
            seconds = perf_counter() - start
            if seconds > self._plan.max_naive_compile_seconds:
                self._naive_too_slow = f"the compilation took {seconds:.0f} s for {label}"
        return timed

    def _naive_allowed(self, label: str, lanes: int) -> bool:
        if not self._plan.max_naive_lanes:
            return False
        reason = self._naive_too_slow
        if lanes > self._plan.max_naive_lanes:
            reason = f"measured only with at most {self._plan.max_naive_lanes} lanes"
        if reason is not None:
            self._skipped.append(Skipped(f"{label}: naive vmap", reason))
        return reason is None

    def _roofline(
        self, task: Task, programs: Sequence[Program], batched: float | None, flops: float
    ) -> dict[str, Any] | None:
        """Return the time of a step at the device's rates: first all flops, then all bytes."""
        if self._rates is None:
            return None
        codes = [encode(program, self._plan.ops) for program in programs]
        moved = register_bytes(codes, self._instructions, task.params)
        computed = flops * len(programs)
        seconds = moved / self._rates.bytes_per_second
        seconds += computed / self._rates.flops_per_second["float32"]
        return {
            "bytes": moved,
            "flops": computed,
            "ms": 1000 * seconds,
            "share": _ratio(1000 * seconds, batched),
        }


def _product(lanes: int, ratio: float | None) -> float | None:
    return None if ratio is None else lanes * ratio


def _ratio(numerator: float | None, denominator: float | None) -> float | None:
    return None if numerator is None or denominator is None else numerator / denominator
