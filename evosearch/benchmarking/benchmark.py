"""Speed of training with a new program by four engines, of mutation, and of a search.

Figures are medians of interleaved repeats, so that other load on the machine affects all engines
equally. The floor is the time of the fused training loop of one program, without the time of
compilation.
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
from proxies.training.lanes import Lanes

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
    """A network on the task digits.

    Attributes:
        hidden: number of units of each hidden layer.
        steps: number of training steps.
    """

    hidden: tuple[int, ...]
    steps: int = 500


SIZES = (Size((40,)), Size((256,)), Size((400, 400)))
"""About 3k, 20k and 200k weights."""

_CHAIN_LENGTH = 40  # about the number of mutations from a search's initial program to its parents
_BATCH = 10  # chains of mutants that are timed together

Progress = Callable[[str], None]
"""Called with the current activity."""


def bench(
    *,
    sizes: Sequence[Size] = SIZES,
    repeats: int = 5,
    mutants: int = 4000,
    seconds: float = 20.0,
    progress: Progress = lambda text: None,
) -> dict[str, Any]:
    """Measure the speed of trainings, mutation and search on this machine, in a few minutes.

    Args:
        sizes: networks on which the engines are compared.
        repeats: number of interleaved repeats.
        mutants: number of mutations to time; 0 for none.
        seconds: duration of a search with the quick preset after its start-up; 0 for no search.
        progress: called with the current activity.

    Returns:
        `device`; `sizes`: for each network and program, milliseconds for all steps and the ratios
        to the floor; `abstract_us`: microseconds for a mutation with abstract execution and
        semantic key; `search`: see `search_speed`. Figures that were not measured are empty or
        None.

    Example:
        >>> import evosearch
        >>> evosearch.bench(sizes=(), mutants=40, seconds=0)["abstract_us"] > 0
        True
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
    """Times four engines on one network, with a new program in each repeat."""

    def __init__(self, size: Size):
        self.task = digits.mlp(hidden=size.hidden, steps=size.steps)
        self._trainer = Trainer(self.task, ops=quick().ops)
        self._stepwise = Stepwise(self.task, size.steps)
        self._key = seed_key(0, Seed(Stream.EVAL_TUNE, 0))

    def measure(
        self, name: str, program: Program, repeats: int, progress: Progress
    ) -> dict[str, Any]:
        """Return a row of the benchmark: the median time of each engine, and ratios."""
        label = f"{self.task.params} weights, {name}"
        progress(f"{label}: compiling")
        engines: dict[str, Callable[[Program], object]] = {
            "fused_ms": lambda _: self._train_compiled(self._trainer, program),
            "interpreter_ms": self._train_interpreted,
            "jit_per_program_ms": lambda variant: self._train_compiled(Trainer(self.task), variant),
            "jit_update_ms": lambda variant: self._stepwise.run(variant, self._key),
        }
        for engine_key in ("fused_ms", "interpreter_ms", "jit_update_ms"):
            engines[engine_key](program)  # compiles engines that are compiled only once
        times: dict[str, list[float]] = {engine_key: [] for engine_key in engines}
        with uncached_compilation():
            for repeat in range(1, repeats + 1):
                progress(f"{label}: repeat {repeat} of {repeats}")
                for engine_key, train in engines.items():
                    variant = with_changed_constant(program, repeat)
                    start = time.perf_counter()
                    train(variant)
                    times[engine_key].append(1000 * (time.perf_counter() - start))
        medians = {engine_key: median(repeated) for engine_key, repeated in times.items()}
        floor, floor_and_compile = medians["fused_ms"], medians["jit_per_program_ms"]
        engine = self._trainer.choose_engine(program, trainings=1)
        engine_ms = medians["interpreter_ms"] if engine is Engine.INTERPRETER else floor_and_compile
        return {
            "program": name,
            "weights": self.task.params,
            "steps": self.task.steps,
            **medians,
            "ratios": {
                engine_key.removesuffix("_ms"): ms / floor for engine_key, ms in medians.items()
            },
            "compile_ms": floor_and_compile - floor,
            "engine": str(engine),
            "engine_ms": engine_ms,
            "engine_to_floor_and_compile": engine_ms / floor_and_compile,
        }

    def _train_compiled(self, trainer: Trainer, program: Program) -> JobResult:
        return trainer.run(program, 1.0, self._key, Engine.COMPILED)

    def _train_interpreted(self, program: Program) -> JobResult:
        return self._trainer.run(program, 1.0, self._key, Engine.INTERPRETER)


def with_changed_constant(program: Program, number: int) -> Program:
    """Return `program` with a slightly changed first constant, so that it is not compiled yet."""
    statements = list(program.statements)
    for index, statement in enumerate(statements):
        for position, arg in enumerate(statement.args):
            if isinstance(arg, float):
                args = (
                    *statement.args[:position],
                    arg * (1 + number / 1024),
                    *statement.args[position + 1 :],
                )
                statements[index] = statement._replace(args=args)
                return replace(program, statements=tuple(statements))
    raise ValueError("the program has no constant to change")


def abstract_microseconds(mutants: int) -> float:
    """Return microseconds for a valid mutant with its kinds, liveness and semantic key.

    The result is the median over batches of chains of mutants. A chain starts from the baseline,
    and each mutant is the parent of the next, so that program lengths and the rate of rejected
    mutations are like those of a search.
    """
    config = quick()
    first = with_states(zoo.load(BASELINE), config.states)
    means = []
    for batch in range(max(1, mutants // (_CHAIN_LENGTH * _BATCH))):
        rng = np.random.Generator(np.random.Philox(key=[0, batch]))
        start = time.perf_counter()
        for _ in range(_BATCH):
            program = first
            for _ in range(_CHAIN_LENGTH):
                analysis = mutate(program, rng, config.mutation).analysis
                program = analysis.program
                _ = analysis.key
        means.append((time.perf_counter() - start) / (_CHAIN_LENGTH * _BATCH))
    return 1e6 * median(means)


def search_speed(
    config: Config,
    seconds: float,
    progress: Progress = lambda text: None,
    make_lanes: Callable[..., Lanes] = Lanes,
) -> dict[str, Any]:
    """Return the speed of a search in a temporary directory after its first measured child."""
    with tempfile.TemporaryDirectory(prefix="evosearch-bench-") as directory:
        path = Path(directory) / "run"
        make_run_directory(path, config, describe())
        stopwatch = _Stopwatch(seconds, len(config.tasks), progress)
        search = Search(path, config, observer=stopwatch, make_lanes=make_lanes)
        stopwatch.stop = search.interrupt
        stopwatch.lane_counts = search.occupancy.counts
        stopwatch.begin()
        search.run()
    filled = search.occupancy.fraction(stopwatch.first_lane_counts)
    return {**stopwatch.document(), "lanes_filled": filled if config.batch > 1 else None}


def quick() -> Config:
    """Return the quick preset without its limits on programs, trainings and minutes."""
    settings = {**load_preset("quick"), "init": str(zoo.load(BASELINE))}
    return make_config({**settings, "programs": None, "trainings": None, "minutes": None})


@dataclass(frozen=True)
class _Counts:
    """Counts of a search at one time, with seconds of wall and CPU time and of the main thread."""

    generated: int
    evaluated: int
    measurements: int
    wall: float
    cpu: float
    main_thread: float

    @classmethod
    def now(cls, snapshot: Snapshot) -> _Counts:
        counts = snapshot.counts
        return cls(
            counts.generated,
            counts.evaluated,
            counts.measurements,
            time.perf_counter(),
            time.process_time(),
            time.thread_time(),
        )


class _Stopwatch(Observer):
    """Observes a search and stops it `seconds` after its first child was measured."""

    def __init__(self, seconds: float, tasks: int, progress: Progress):
        self.stop: Callable[[], None] = lambda: None
        self.lane_counts: Callable[[], tuple[int, int]] = lambda: (0, 0)
        self.first_lane_counts = (0, 0)
        self._seconds = seconds
        self._tasks = tasks
        self._progress = progress
        self._first: _Counts | None = None
        self._last: _Counts | None = None
        self._snapshot: Snapshot | None = None
        self._began = time.perf_counter()

    def begin(self) -> None:
        """Start the clock."""
        self._began = time.perf_counter()

    def phase(self, text: str) -> None:
        """Report the phase of the search as progress."""
        self._progress(f"search: {text}")

    def notice(self, text: str) -> None:
        """Report the notice as progress."""
        self._progress(f"search: {text}")

    def update(self, snapshot: Snapshot) -> None:
        """Record the counts; the first child's result follows the initial program's."""
        now = _Counts.now(snapshot)
        if self._first is None:
            if now.measurements > self._tasks:
                self._first, self.first_lane_counts = now, self.lane_counts()
                self._progress("search: searching")
        elif now.wall - self._first.wall >= self._seconds:
            self.stop()
        self._last, self._snapshot = now, snapshot

    def document(self) -> dict[str, Any]:
        """Return the rates from the first child on."""
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
            "main_thread_seconds_per_second": (last.main_thread - first.main_thread) / wall,
            "startup_seconds": first.wall - self._began,
            "seconds": wall,
            "generated": counts.generated,
            "cache_hit_rate": counts.cache_hits / counts.generated,
            "statements": counts.statements / counts.generated,
            "live_statements": counts.live_statements / counts.generated,
        }
