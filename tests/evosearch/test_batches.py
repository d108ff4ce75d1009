"""The benchmark of batches: the documented fields, from a small run of every part."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rich.console import Console

import proxies
from evosearch.benchmarking import batch_runner, batches, roofline
from evosearch.benchmarking.batches import bench_batches
from evosearch.benchmarking.comparison import Comparison, skip_if_too_large
from evosearch.benchmarking.plan import BenchmarkPlan, mutants
from evosearch.benchmarking.roofline import Rates, gradient_flops, register_bytes
from evosearch.presets import load_preset
from evosearch.report.benchmark import batches_report
from evosearch.report.terminal import show
from primitives import encode, interpreter, parse, semantic_key, zoo
from primitives.machine.instructions import instruction_set
from proxies.tasks import digits, paper
from tests.proxies.compiling import FAST_COMPILATION

OPS = zoo.load("adamw_paper").ops | zoo.load("lion").ops
PROGRAMS = ["adamw_paper", "lion", "mutants"]
TASK = proxies.load("quadratic")


def tiny(**changes: Any) -> BenchmarkPlan:
    plan = BenchmarkPlan(
        tasks=(TASK,),
        programs={"lion": zoo.load("lion")},
        lanes=(2, 4),
        ops=OPS,
        steps=8,
        timed_steps=3,
        steps_per_advance=2,
        jit_sample=1,
        max_naive_lanes=4,
        max_naive_compile_seconds=0.0,
        paper=(TASK,),
        max_paper_lanes=2,
        timed_paper_steps=1,
        copy_size=2**16,
        matrix_side=64,
        mutants=400,
    )
    return replace(plan, **changes)


@pytest.fixture(scope="module")
def document() -> Iterator[dict[str, Any]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batch_runner, "interpreter_options", lambda platform: FAST_COMPILATION)
        yield bench_batches(tiny(), repeats=1, seconds=0)


def test_the_document_has_the_documented_fields(document: dict[str, Any]) -> None:
    assert set(document) == (
        {"device", "jax", "date", "environment", "rates", "batches", "throughput", "paper"}
        | {"abstract_us", "search", "driver", "skipped"}
    )
    assert document["jax"] == jax.__version__
    assert document["rates"]["bytes_per_second"] > 0
    assert set(document["rates"]["flops_per_second"]) == {"float32", "bfloat16"}
    rows = [(row["lanes"], row["program"]) for row in document["batches"]]
    assert rows == [(lanes, program) for lanes in (2, 4) for program in PROGRAMS]
    for row in document["batches"]:
        assert (row["task"], row["steps"], row["weights"]) == (TASK.name, 8, TASK.params)
        assert all(row[figure] > 0 for figure in ("batched_ms", "jit_s", "training_s"))
    assert document["search"] is document["driver"] is None
    (skipped,) = document["skipped"]
    assert skipped["what"] == f"{TASK.name}, 4 lanes: naive vmap"
    assert re.fullmatch(rf"the compilation took \d+ s for {TASK.name}, 2 lanes", skipped["why"])
    json.dumps(document, allow_nan=False)


def test_ratios_are_to_the_floor_of_the_program_or_of_the_baseline(
    document: dict[str, Any],
) -> None:
    baseline, lion, mutant_row = document["batches"][:3]
    for row in document["batches"]:
        assert row["ratios"]["batched"] == pytest.approx(row["batched_ms"] / row["floor_ms"])
    assert mutant_row["floor_ms"] == baseline["floor_ms"] != lion["floor_ms"]
    naive = baseline["naive_vmap_ms"]
    assert baseline["ratios"]["naive_vmap"] == pytest.approx(naive / baseline["floor_ms"])
    assert lion["naive_vmap_ms"] is lion["ratios"]["naive_vmap"] is None


def test_rates_follow_from_the_time_of_a_complete_training(document: dict[str, Any]) -> None:
    for row in document["batches"]:
        assert row["programs_per_second"] == pytest.approx(row["lanes"] / row["training_s"])
        one_by_one = row["lanes"] * row["jit_s"]
        assert row["times_jit"] == pytest.approx(one_by_one / row["training_s"])
    mutant_rows = [row for row in document["batches"] if row["program"] == "mutants"]
    for row, all_tasks in zip(mutant_rows, document["throughput"], strict=True):
        assert row["lanes"] == all_tasks["lanes"]
        assert row["programs_per_second"] == pytest.approx(all_tasks["programs_per_second"])
    (row,) = document["paper"]
    seconds = paper.STEPS / row["steps_per_second"]
    assert row["programs_per_device_hour"] == pytest.approx(2 * 3600 / seconds)


def test_the_roofline_is_bytes_and_flops_at_the_measured_rates(document: dict[str, Any]) -> None:
    rates = document["rates"]
    for row in document["batches"]:
        roof = row["roofline"]
        best = roof["bytes"] / rates["bytes_per_second"]
        best += roof["flops"] / rates["flops_per_second"]["float32"]
        assert roof["ms"] == pytest.approx(1000 * best)
        assert roof["share"] == pytest.approx(roof["ms"] / row["batched_ms"])


@pytest.mark.parametrize("width", [80, 120])
def test_the_table_fits_the_terminal(document: dict[str, Any], width: int) -> None:
    console = Console(width=width)
    with console.capture() as capture:
        show(batches_report(document), console)
    text = capture.get()
    assert max(map(len, text.splitlines())) <= width
    assert all(program in text for program in PROGRAMS)
    assert "device-hour" in text


def test_the_mutants_are_distinct_programs_that_the_machine_can_run() -> None:
    programs = mutants(100, OPS)
    assert programs[0].statements == zoo.load("adamw_paper").statements
    assert len({semantic_key(program) for program in programs}) == 100
    for program in programs:
        encode(program, OPS)


def test_register_bytes_count_tensor_operands_and_results() -> None:
    text = """def train(w, g, m, lr):
    m = interp(g, m, 0.9)
    u = sign(m)
    n = global_norm(g)
    s = lr / n
    u = u * s
    return u, m
"""
    ops = frozenset(["interp", "sign", "global_norm", "divide", "multiply"])
    code = encode(parse(text), ops)
    registers = (
        3 + 2 + 1
    )  # of interp, sign and global_norm; the last multiplication uses no register
    assert register_bytes([code], instruction_set(ops), 10) == 4 * 10 * registers
    assert register_bytes([code] * 3, instruction_set(ops), 10) == 3 * 4 * 10 * registers


def test_the_flops_of_a_network_count_its_matrix_products() -> None:
    task = digits.mlp(hidden=(256,), steps=1)
    products = 2 * 64 * (2 * 64 * 256 + 3 * 256 * 10)  # of a batch of 64, forwards and backwards
    assert gradient_flops(task) == products


@pytest.mark.parametrize("name", [*load_preset("quick")["tasks"], "paper-vit"])
def test_the_flops_are_at_least_70_percent_of_those_that_xla_counts(name: str) -> None:
    task = paper.vit_stand_in() if name == "paper-vit" else proxies.load(name)
    key = jax.random.key(0)
    shapes = jax.eval_shape(lambda data: task.sample(task.partition(data, key), key), task.data)
    batch = jax.eval_shape(task.batch, task.data, shapes)
    gradient = jax.jit(jax.value_and_grad(task.loss))
    counted = gradient.lower(jax.eval_shape(task.init, key), batch, key).cost_analysis()
    assert isinstance(counted, dict)
    assert 0.7 < gradient_flops(task) / counted["flops"] <= 1


def test_the_flops_of_a_scan_count_all_its_steps() -> None:
    def scanned(x: jax.Array) -> jax.Array:
        return jax.lax.scan(lambda x, _: (x @ x, None), x, length=5)[0]

    assert roofline._flops(jax.make_jaxpr(jax.jit(scanned))(jnp.ones((4, 4))).jaxpr) == 5 * 2 * 4**3


def test_the_naive_interpreter_agrees_with_the_interpreter() -> None:
    codes = [encode(zoo.load(name), OPS) for name in ("lion", "adamw_paper")]
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *codes)
    weights, gradient = jnp.arange(4.0), jnp.array([1.0, -2.0, 0.0, 3.0])
    updates = []
    for machine in (interpreter(OPS), batch_runner.naive_interpreter(OPS)):

        def update(code: Any, machine: Any = machine) -> jax.Array:
            state = machine.init(weights, code, 1.0)
            step: jax.Array = machine.update(gradient, state, weights, lr=0.5, t=1.0)[0]
            return step

        updates.append(jax.jit(jax.vmap(update), compiler_options=FAST_COMPILATION)(stacked))
    np.testing.assert_allclose(updates[1], updates[0], rtol=1e-6)
    assert np.abs(updates[0]).max() > 0


def test_large_batches_skip_the_interpreter_without_batching_rule() -> None:
    skipped: list[Any] = []
    comparison = Comparison(tiny(), Rates(1.0, {"float32": 1.0}), 1, skipped, print)
    assert comparison._naive_allowed("here, 4 lanes", 4)
    assert not comparison._naive_allowed("here, 5 lanes", 5)
    assert [tuple(entry) for entry in skipped] == [
        ("here, 5 lanes: naive vmap", "measured only with at most 4 lanes")
    ]


def test_batches_that_exceed_the_memory_are_skipped_with_a_note() -> None:
    def too_large() -> int:
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: out of memory")

    def broken() -> int:
        raise jax.errors.JaxRuntimeError("INTERNAL: broken")

    skipped: list[Any] = []
    assert skip_if_too_large("this", skipped, too_large) is None
    assert skip_if_too_large("that", skipped, lambda: 3) == 3
    assert [entry.what for entry in skipped] == ["this"]
    with pytest.raises(jax.errors.JaxRuntimeError, match="broken"):
        skip_if_too_large("other", skipped, broken)


def test_the_lanes_of_the_papers_proxies_are_halved_until_they_fit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def step(task: Any, lanes: int, *_: Any) -> float:
        if lanes > 2:
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: out of memory")
        return 50.0

    monkeypatch.setattr(batches, "_paper_step_ms", step)
    skipped: list[Any] = []
    row = batches.measure_paper_task(TASK, tiny(max_paper_lanes=8), 1, skipped, print)
    assert row is not None
    assert (row["lanes"], row["steps_per_second"]) == (2, 20)
    assert row["programs_per_device_hour"] == 2 * 3600 * 20 / paper.STEPS
    assert len(skipped) == 2


def test_the_default_plan_has_the_quick_presets_tasks() -> None:
    plan = BenchmarkPlan.default([16])
    assert [task.name for task in plan.tasks] == load_preset("quick")["tasks"]
    assert [task.name for task in plan.paper[:2]] == ["paper-vit", "paper-transformer"]
    assert plan.lanes == (16,)


class BenchmarkSpy:
    """Replaces both benchmarks and records their calls."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, default: str):
        self.calls: list[Any] = []
        self.device: Any = None

        def use_device(kind: str | None, *, batched: bool = False) -> str:
            self.device = kind, batched
            return kind or default

        def single(**_: Any) -> dict[str, Any]:
            self.calls.append("single")
            return {}

        def batched(plan: BenchmarkPlan, **_: Any) -> dict[str, Any]:
            self.calls.append(plan.lanes)
            return {}

        monkeypatch.setattr("evosearch.environment.use_device", use_device)
        monkeypatch.setattr("evosearch.benchmarking.benchmark.bench", single)
        monkeypatch.setattr("evosearch.benchmarking.batches.bench_batches", batched)


@pytest.mark.parametrize(
    ("default", "words", "expected"),
    [
        ("cpu", (), "single"),
        ("gpu", ("--device", "cpu"), "single"),
        ("cpu", ("--batch", "16, 64"), (16, 64)),
        ("gpu", (), (16, 64)),  # the default sizes of a CPU, on which the tests run
        ("cpu", ("--device", "gpu", "--batch", "8"), (8,)),
    ],
)
def test_batches_are_measured_on_accelerators_and_on_request(
    run: Any, monkeypatch: pytest.MonkeyPatch, default: str, words: tuple[str, ...], expected: Any
) -> None:
    spy = BenchmarkSpy(monkeypatch, default)
    assert run("bench", "--json", *words).status == 0
    assert spy.calls == [expected]
    assert spy.device[1] == ("--batch" in words)


@pytest.mark.parametrize("sizes", ["", "0", "16,many", "99999"])
def test_invalid_sizes_are_refused_with_an_example(run: Any, sizes: str) -> None:
    result = run("bench", "--batch", sizes)
    assert result.status == 2
    assert "64,256,1024" in result.err


@pytest.mark.gpu
def test_the_smallest_benchmark_runs_on_a_gpu() -> None:
    if jax.default_backend() != "gpu":
        pytest.skip("JAX finds no GPU here")
    default = BenchmarkPlan.default([8])
    small = {
        "tasks": default.tasks[:1],
        "paper": (),
        "steps": 20,
        "max_naive_lanes": 0,
        "jit_sample": 1,
    }
    document = bench_batches(
        replace(default, copy_size=2**24, matrix_side=2048, **small), repeats=1, seconds=3
    )
    assert all(row["ratios"]["batched"] > 0 for row in document["batches"])
    assert all(row["roofline"]["share"] > 0 for row in document["batches"])
    assert document["search"]["measured_per_second"] > 0
