"""The benchmark: the documented fields, from a small run of every part."""

from __future__ import annotations

import json
from typing import Any

import jax
import pytest
from rich.console import Console

from evosearch.benchmarking.benchmark import (
    TWENTY_STATEMENTS,
    Size,
    abstract_microseconds,
    bench,
    quick,
    search_speed,
    with_changed_constant,
)
from evosearch.benchmarking.stepwise import Stepwise, uncached_compilation
from evosearch.config import make_config
from evosearch.report.benchmark import training_report
from evosearch.report.terminal import show
from primitives import live, parse, semantic_key, zoo
from proxies.tasks import digits

ENGINES = ("fused", "interpreter", "jit_per_program", "jit_update")


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return bench(sizes=[Size((4,), steps=3)], repeats=1, mutants=400, seconds=0)


def test_the_document_has_the_documented_fields(document: dict[str, Any]) -> None:
    assert set(document) >= {"device", "sizes", "abstract_us", "search"}
    assert [row["program"] for row in document["sizes"]] == ["adamw_paper", "20 statements"]
    for row in document["sizes"]:
        assert (row["weights"], row["steps"]) == (64 * 4 + 4 + 4 * 10 + 10, 3)
        assert all(row[f"{engine}_ms"] > 0 and row["ratios"][engine] > 0 for engine in ENGINES)
        assert row["ratios"]["fused"] == 1
        assert row["engine"] == "interpreter"
    assert document["abstract_us"] > 0
    json.dumps(document, allow_nan=False)


def test_jit_per_program_includes_compilation(document: dict[str, Any]) -> None:
    for row in document["sizes"]:
        assert row["jit_per_program_ms"] > 10 * row["interpreter_ms"]


@pytest.mark.parametrize("width", [80, 120])
def test_the_table_fits_the_terminal(document: dict[str, Any], width: int) -> None:
    console = Console(width=width)
    with console.capture() as capture:
        show(training_report(document), console)
    text = capture.get()
    assert max(map(len, text.splitlines())) <= width
    assert "20 statements" in text
    assert "microseconds" in text


def test_a_search_is_timed_from_its_first_child() -> None:
    settings = quick().model_dump() | {"tasks": ["quadratic"], "population": 20}
    speed = search_speed(make_config(settings), seconds=0.3)
    assert speed["seconds"] >= 0.3
    assert speed["generated_per_second"] > 0
    assert speed["measured_per_second"] > 0
    assert speed["cpu_seconds_per_second"] > 0
    assert speed["startup_seconds"] > 0


def test_the_fixed_program_has_twenty_live_statements() -> None:
    program = parse(TWENTY_STATEMENTS)
    assert len(live(program).statements) == len(program.statements) == 20


@pytest.mark.parametrize("program", [zoo.load("adamw_paper"), parse(TWENTY_STATEMENTS)])
def test_fresh_programs_are_distinct_and_have_as_many_statements(program: Any) -> None:
    programs = [program, *(with_changed_constant(program, number) for number in range(1, 10))]
    assert len({semantic_key(p) for p in programs}) == 10
    assert {len(p.statements) for p in programs} == {len(program.statements)}


def test_stepwise_training_lowers_the_loss() -> None:
    task = digits.mlp(hidden=(8,), steps=60)
    program = parse("def train(w, g, lr):\n    u = g * lr\n    return u\n")
    constant = parse("def train(w, g, lr):\n    u = g * 0.0\n    return u\n")
    stepwise = Stepwise(task, 60)
    key = jax.random.key(0)
    assert stepwise.run(program, key) < 0.7 * stepwise.run(constant, key)


def test_uncached_compilation_restores_the_setting() -> None:
    config: Any = jax.config
    before = config.jax_enable_compilation_cache
    with uncached_compilation():
        assert not config.jax_enable_compilation_cache
    assert config.jax_enable_compilation_cache == before


def test_the_time_of_a_mutation_is_in_microseconds() -> None:
    assert 5 < abstract_microseconds(400) < 5000
