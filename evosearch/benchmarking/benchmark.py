"""How fast it is: four ways to train with a new program, mutation, and a search end to end.

Every figure is a median of interleaved repeats, so that what else the machine does falls on all
alike. The floor is the fused training loop: a program traced and compiled for itself, without the
time that compiling takes.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import jax
import numpy as np

from evosearch.benchmarking.stepwise import Stepwise, uncached_compilation
from evosearch.config import Config, make_config
from evosearch.environment import describe
from evosearch.evolution.mutation import mutate, with_states
from evosearch.measuring.engines import Trainer, seed_key
from evosearch.measuring.job import JobResult
from evosearch.measuring.measurement import Engine
from evosearch.measuring.scorer import BASELINE
from evosearch.pipeline.observers import Observer, Snapshot
from evosearch.pipeline.search import Search
from evosearch.presets import load_preset
from evosearch.runs.directory import make_run_directory
from evosearch.seeds import Seed, Stream
from primitives import Program, parse, zoo
from proxies.tasks import digits

TWENTY_STATEMENTS = """
# Twenty live statements: momentum, a second moment, clipping, a scalar state, a gate by agreement.
def train(w, g, m, v, s: scalar, lr):
    g = clip(g, 1.0)
    m = interp(g, m, 0.9)
    g2 = square(g)
    v = interp(g2, v, 0.99)
    size = global_norm(g)
    s = interp(size, s, 0.95)
    ratio = size / s
    damping = minimum(ratio, 2.0)
    root = sqrt(v)
    adaptive = m / root
    ahead = interp(g, m, 0.7)
    direction = sign(ahead)
    mixed = adaptive + direction
    bounded = tanh(mixed)
    decay = w * 0.01
    update = bounded + decay
    rate = lr * 0.002
    rate = rate / damping
    update = update * rate
    update = arctan(update)
    return update, m, v, s
"""


@dataclass(frozen=True)
class Size:
    """A digits network to train: its hidden units and its training steps."""

    hidden: tuple[int, ...]
    steps: int = 500


SIZES = (Size((40,)), Size((256,)), Size((400, 400)))
"""About 3k, 20k and 200k weights."""

_MUTANTS_IN_A_ROW = 40  # about as far from its first program as a search's parents are
_BATCH = 10  # rows of mutants that are timed together

Progress = Callable[[str], None]


def bench(
    *,
    sizes: Sequence[Size] = SIZES,
    repeats: int = 5,
    mutants: int = 4000,
    seconds: float = 20.0,
    progress: Progress = lambda text: None,
) -> dict[str, Any]:
    """Measures the speed of everything on this machine; a few minutes.

    Args:
        sizes: the networks on which the ways to train are compared.
        repeats: interleaved repeats of each way.
        mutants: mutations to time; 0 for none.
        seconds: how long to search with the quick preset once it has started; 0 for not at all.
        progress: told what is being measured.

    Returns:
        `device`; `sizes`: for each network and program milliseconds for all steps, and their ratios
        to the floor; `abstract_us`: microseconds for a mutation with abstract execution and the
        semantic key; `search`: programs per second, and what they took. What was not measured is
        empty or None.
    """
    programs = {BASELINE: zoo.load(BASELINE), "20 statements": parse(TWENTY_STATEMENTS)}
    rows = []
    for size in sizes:
        comparison = _Comparison(size)
        for name, program in programs.items():
            rows.append(comparison.measure(name, program, repeats, progress))
    progress("mutations")
    return {
        "device": f"{jax.devices()[0].device_kind} ({os.cpu_count()} cores)",
        "environment": describe(),
        "sizes": rows,
        "abstract_us": abstract_microseconds(mutants) if mutants else None,
        "search": search_speed(quick(), seconds, progress) if seconds else None,
    }


class _Comparison:
    """The ways to train one network with a program, a fresh one each time."""

    def __init__(self, size: Size):
        self.task = digits.mlp(hidden=size.hidden, steps=size.steps)
        self._trainer = Trainer(self.task, ops=quick().ops)
        self._stepwise = Stepwise(self.task, size.steps)
        self._key = seed_key(0, Seed(Stream.EVAL_TUNE, 0))

    def measure(
        self, name: str, program: Program, repeats: int, progress: Progress
    ) -> dict[str, Any]:
        """A row of the benchmark: the median of every way, and what follows from them."""
        where = f"{self.task.params} weights, {name}"
        progress(f"{where}: compiling")
        ways: dict[str, Callable[[Program], object]] = {
            "fused_ms": lambda _: self._fused(self._trainer, program),
            "interpreter_ms": self._interpreted,
            "jit_per_program_ms": lambda new: self._fused(Trainer(self.task), new),
            "jit_update_ms": lambda new: self._stepwise.run(new, self._key),
        }
        for way in ("fused_ms", "interpreter_ms", "jit_update_ms"):
            ways[way](program)  # compiles what is compiled once
        times: dict[str, list[float]] = {way: [] for way in ways}
        with uncached_compilation():
            for repeat in range(1, repeats + 1):
                progress(f"{where}: repeat {repeat} of {repeats}")
                for way, train in ways.items():
                    new = fresh(program, repeat)
                    start = time.perf_counter()
                    train(new)
                    times[way].append(1000 * (time.perf_counter() - start))
        medians = {way: median(found) for way, found in times.items()}
        floor, whole = medians["fused_ms"], medians["jit_per_program_ms"]
        engine = self._trainer.choose_engine(program, runs=1)
        taken = medians["interpreter_ms"] if engine is Engine.INTERPRETER else whole
        return {
            "program": name,
            "weights": self.task.params,
            "steps": self.task.steps,
            **medians,
            "ratios": {way.removesuffix("_ms"): found / floor for way, found in medians.items()},
            "compile_ms": whole - floor,
            "engine": str(engine),
            "engine_ms": taken,
            "engine_to_floor_and_compile": taken / whole,
        }

    def _fused(self, trainer: Trainer, program: Program) -> JobResult:
        return trainer.run(program, 1.0, self._key, Engine.COMPILED)

    def _interpreted(self, program: Program) -> JobResult:
        return self._trainer.run(program, 1.0, self._key, Engine.INTERPRETER)


def fresh(program: Program, number: int) -> Program:
    """`program` with its first constant changed a little: one that has never been compiled."""
    statements = list(program.statements)
    for place, statement in enumerate(statements):
        for which, arg in enumerate(statement.args):
            if isinstance(arg, float):
                args = (
                    *statement.args[:which],
                    arg * (1 + number / 1024),
                    *statement.args[which + 1 :],
                )
                statements[place] = statement._replace(args=args)
                return replace(program, statements=tuple(statements))
    raise ValueError("the program has no constant to change")


def abstract_microseconds(mutants: int) -> float:
    """Microseconds for a valid mutant with its kinds, liveness and semantic key.

    Chains of mutants, each the parent of the next, that start anew from the baseline: the lengths
    and the rejects of a search. The median over batches of chains.
    """
    config = quick()
    first = with_states(zoo.load(BASELINE), config.states)
    means = []
    for batch in range(max(1, mutants // (_MUTANTS_IN_A_ROW * _BATCH))):
        rng = np.random.Generator(np.random.Philox(key=[0, batch]))
        start = time.perf_counter()
        for _ in range(_BATCH):
            program = first
            for _ in range(_MUTANTS_IN_A_ROW):
                analysis = mutate(program, rng, config.mutation).analysis
                program = analysis.program
                _ = analysis.key
        means.append((time.perf_counter() - start) / (_MUTANTS_IN_A_ROW * _BATCH))
    return 1e6 * median(means)


def search_speed(
    config: Config, seconds: float, progress: Progress = lambda text: None
) -> dict[str, Any]:
    """A search in a temporary directory, timed from its first measured child on."""
    with tempfile.TemporaryDirectory(prefix="evosearch-bench-") as directory:
        path = Path(directory) / "run"
        make_run_directory(path, config, describe())
        watch = _Stopwatch(seconds, len(config.tasks), progress)
        search = Search(path, config, observer=watch)
        watch.stop = search.interrupt
        watch.begin()
        search.run()
    lanes_filled = search.occupancy.share if config.batch > 1 else None
    return {**watch.document(), "lanes_filled": lanes_filled}


def quick() -> Config:
    """The quick preset without its limits."""
    settings = {**load_preset("quick"), "init": str(zoo.load(BASELINE))}
    return make_config({**settings, "programs": None, "trainings": None, "minutes": None})


@dataclass(frozen=True)
class _Moment:
    """What had happened at one time: counts, and seconds of wall and of CPU time."""

    generated: int
    evaluated: int
    measurements: int
    wall: float
    cpu: float

    @classmethod
    def now(cls, snapshot: Snapshot) -> _Moment:
        counts = snapshot.counts
        return cls(
            counts.generated,
            counts.evaluated,
            counts.measurements,
            time.perf_counter(),
            time.process_time(),
        )


class _Stopwatch(Observer):
    """Observes a search, and stops it so many seconds after its first child was measured."""

    def __init__(self, seconds: float, tasks: int, progress: Progress):
        self.stop: Callable[[], None] = lambda: None
        self._seconds = seconds
        self._tasks = tasks
        self._progress = progress
        self._first: _Moment | None = None
        self._last: _Moment | None = None
        self._snapshot: Snapshot | None = None
        self._began = time.perf_counter()

    def begin(self) -> None:
        """The search starts now."""
        self._began = time.perf_counter()

    def phase(self, text: str) -> None:
        """Passes on what the search is doing."""
        self._progress(f"search: {text}")

    def notice(self, text: str) -> None:
        """Passes it on too."""
        self._progress(f"search: {text}")

    def update(self, snapshot: Snapshot) -> None:
        """The first result is the initial program's, the second the first child's."""
        now = _Moment.now(snapshot)
        if self._first is None:
            if now.measurements > self._tasks:
                self._first = now
                self._progress("search: searching")
        elif now.wall - self._first.wall >= self._seconds:
            self.stop()
        self._last, self._snapshot = now, snapshot

    def document(self) -> dict[str, Any]:
        """Rates from the first child on."""
        first, last = self._first, self._last
        assert first is not None
        assert last is not None
        assert self._snapshot is not None
        counts = self._snapshot.counts
        wall = last.wall - first.wall
        return {
            "generated_per_second": (last.generated - first.generated) / wall,
            "measured_per_second": (last.evaluated - first.evaluated) / wall,
            "measurements_per_second": (last.measurements - first.measurements) / wall,
            "cpu_seconds_per_second": (last.cpu - first.cpu) / wall,
            "startup_seconds": first.wall - self._began,
            "seconds": wall,
            "generated": counts.generated,
            "cache_hit_rate": counts.cache_hits / counts.generated,
            "statements": counts.statements / counts.generated,
            "live_statements": counts.live_statements / counts.generated,
        }
