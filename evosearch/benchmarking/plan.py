"""What a measurement of batches covers, and the programs in it."""

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

_MUTANTS_IN_A_ROW = 40  # about as far from its first program as a search's parents are


@dataclass(frozen=True)
class BenchmarkPlan:
    """How much is measured.

    Attributes:
        tasks: what is trained.
        programs: that batches of one program have, by name, beside the baseline.
        lanes: sizes of batches.
        ops: what the interpreter knows.
        steps: of a training, at least 2; None for each task's own.
        timed_steps: at most so many are timed together.
        jitted: programs that are compiled for themselves, and stand for all of a batch.
        naive_lanes: batches up to this size are tried without the rule for batches too.
        naive_seconds: once compiling that took longer than this it is not done again.
        paper: stand-ins for the paper's proxies.
        paper_lanes: how many of them train side by side, where memory holds so many.
        paper_steps: that are timed together.
        copied: float32 numbers of the array that bandwidth is measured with.
        side: of the matrices that the matmul rate is measured with.
        mutants: mutations to time; 0 for none.
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
        """The quick preset's tasks and ops, and as much work as suits JAX's default device."""
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
    """The baseline and mutants of it, in chains as a search makes them.

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
        for _ in range(_MUTANTS_IN_A_ROW):
            analysis = mutate(program, rng, config.mutation).analysis
            try:
                encode(analysis.program, ops)
            except CapacityError:
                continue
            program = analysis.program
            if analysis.key not in seen:
                seen.add(analysis.key)
                yield program
