"""The plan of a benchmark of batches, and the programs of its batches."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

import jax
import numpy as np

import proxies
from evosearch.benchmarking.benchmark import TWENTY_STATEMENTS, quick
from evosearch.evolution.mutation import mutate, with_states
from evosearch.measuring.scorer import BASELINE
from primitives import CapacityError, Program, encode, parse, semantic_key, zoo
from primitives.machine.instructions import OpNames
from proxies import Task
from proxies.precision import in_bfloat16
from proxies.tasks import paper

_CHAIN_LENGTH = 40  # about the number of mutations from a search's initial program to its parents


@dataclass(frozen=True)
class BenchmarkPlan:
    """The extent of a benchmark of batches.

    Attributes:
        tasks: tasks to train.
        programs: programs for batches of one program, by name, in addition to the baseline.
        lanes: batch sizes.
        ops: ops of the interpreter.
        steps: number of steps of a training, at least 2; None for each task's default.
        timed_steps: number of steps that are timed together.
        steps_per_advance: number of steps of a batch for which the device does not wait for the
            host, as in a search.
        jit_sample: number of programs of a batch that are also compiled and trained one by one.
        max_naive_lanes: maximum batch size for the interpreter without its batching rule; 0 for
            none.
        max_naive_compile_seconds: maximum compilation time of that interpreter; after a longer
            compilation it is skipped.
        paper: the proxies of Chen et al. 2023, on generated data.
        max_paper_lanes: maximum batch size on the tasks of `paper`; it is halved until memory
            suffices.
        timed_paper_steps: number of steps on the tasks of `paper` that are timed together.
        copy_size: number of float32 values in the array whose copy measures the bandwidth.
        matrix_side: rows and columns of the matrices that measure the matmul rate.
        mutants: number of mutations to time; 0 for none.
    """

    tasks: tuple[Task, ...]
    programs: Mapping[str, Program]
    lanes: tuple[int, ...]
    ops: OpNames
    steps: int | None
    timed_steps: int
    steps_per_advance: int
    jit_sample: int
    max_naive_lanes: int
    max_naive_compile_seconds: float
    paper: tuple[Task, ...]
    max_paper_lanes: int
    timed_paper_steps: int
    copy_size: int
    matrix_side: int
    mutants: int

    @classmethod
    def default(cls, lanes: Sequence[int] = ()) -> BenchmarkPlan:
        """Return a plan with the quick preset's tasks and ops, sized for JAX's default device."""
        on_cpu = jax.default_backend() == "cpu"
        paper_tasks = (paper.vit_stand_in(), paper.transformer_stand_in())
        faster = () if on_cpu else tuple(map(in_bfloat16, paper_tasks))
        config = quick()
        return cls(
            tasks=tuple(map(proxies.load, config.tasks)),
            programs={"20 statements": parse(TWENTY_STATEMENTS)},
            lanes=tuple(lanes) or ((16, 64) if on_cpu else (64, 256, 1024)),
            ops=config.ops,
            steps=None,
            timed_steps=20 if on_cpu else 50,
            steps_per_advance=2 if on_cpu else 10,
            jit_sample=3,
            max_naive_lanes=64,
            max_naive_compile_seconds=120.0,
            paper=(*paper_tasks, *faster),
            max_paper_lanes=2 if on_cpu else 64,
            timed_paper_steps=2 if on_cpu else 20,
            copy_size=2**24 if on_cpu else 2**28,
            matrix_side=1024 if on_cpu else 8192,
            mutants=4000,
        )


def mutants(count: int, ops: OpNames) -> list[Program]:
    """Return `count` programs: the baseline and mutants of it, in chains as in a search.

    All programs fit the machine for `ops`, and no two have the same semantic key.
    """
    return list(islice(_distinct_mutants(ops), count))


def _distinct_mutants(ops: OpNames) -> Iterator[Program]:
    config = quick()
    first = with_states(zoo.load(BASELINE), config.states)
    rng = np.random.Generator(np.random.Philox(key=[0, 0]))
    seen = {semantic_key(first)}
    yield first
    while True:
        program = first
        for _ in range(_CHAIN_LENGTH):
            analysis = mutate(program, rng, config.mutation).analysis
            try:
                encode(analysis.program, ops)
            except CapacityError:
                continue
            program = analysis.program
            if analysis.key not in seen:
                seen.add(analysis.key)
                yield program
