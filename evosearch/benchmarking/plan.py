"""What a benchmark of batches measures, and its programs."""

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

_CHAIN_LENGTH = 40  # about the distance of a search's parents from its initial program


@dataclass(frozen=True)
class BenchmarkPlan:
    """The extent of a benchmark of batches.

    Attributes:
        tasks: tasks to train.
        programs: programs for batches of one program, by name, in addition to the baseline.
        lanes: batch sizes.
        ops: ops of the interpreter.
        steps: number of steps of a training, at least 2; None for each task's default.
        timed_steps: maximum number of steps that are timed together.
        jitted: number of programs that are compiled by themselves, as a sample of a batch.
        naive_lanes: maximum batch size for the interpreter without its batching rule.
        naive_seconds: after a compilation longer than this, that interpreter is skipped.
        paper: the paper's proxies, on generated data.
        paper_lanes: maximum number of lanes on these; it is halved until memory suffices.
        paper_steps: number of steps on these that are timed together.
        copied: number of float32 values in the array that measures the bandwidth.
        side: rows and columns of the matrices that measure the matmul rate.
        mutants: number of mutations to time; 0 for none.
    """

    tasks: tuple[Task, ...]
    programs: Mapping[str, Program]
    lanes: tuple[int, ...]
    ops: OpNames
    steps: int | None
    timed_steps: int
    jitted: int
    naive_lanes: int
    naive_seconds: float
    paper: tuple[Task, ...]
    paper_lanes: int
    paper_steps: int
    copied: int
    side: int
    mutants: int

    @classmethod
    def usual(cls, lanes: Sequence[int] = ()) -> BenchmarkPlan:
        """Return a plan with the quick preset's tasks and ops, sized for JAX's default device."""
        on_cpu = jax.default_backend() == "cpu"
        stand_ins = (paper.vit_stand_in(), paper.transformer_stand_in())
        faster = () if on_cpu else tuple(map(in_bfloat16, stand_ins))
        config = quick()
        return cls(
            tasks=tuple(map(proxies.load, config.tasks)),
            programs={"20 statements": parse(TWENTY_STATEMENTS)},
            lanes=tuple(lanes) or ((16, 64) if on_cpu else (64, 256, 1024)),
            ops=config.ops,
            steps=None,
            timed_steps=20 if on_cpu else 50,
            jitted=3,
            naive_lanes=64,
            naive_seconds=120.0,
            paper=(*stand_ins, *faster),
            paper_lanes=2 if on_cpu else 64,
            paper_steps=2 if on_cpu else 20,
            copied=2**24 if on_cpu else 2**28,
            side=1024 if on_cpu else 8192,
            mutants=4000,
        )


def mutants(count: int, ops: OpNames) -> list[Program]:
    """Return `count` programs: the baseline and mutants of it, in chains as in a search.

    All fit the machine for `ops`, and no two have the same semantic key.
    """
    return list(islice(_distinct(ops), count))


def _distinct(ops: OpNames) -> Iterator[Program]:
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
