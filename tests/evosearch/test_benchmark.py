"""The benchmark: the promised document, from a tiny run of every part."""

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
    fresh,
    quick,
    search_speed,
)
from evosearch.benchmarking.stepwise import Stepwise, uncached_compilation
from evosearch.config import make_config
from evosearch.report.benchmark import training_report
from evosearch.report.terminal import show
from primitives import live, parse, semantic_key, zoo
from proxies.tasks import digits

WAYS = ("fused", "interpreter", "jit_per_program", "jit_update")


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return bench(sizes=[Size((4,), steps=3)], repeats=1, mutants=400, seconds=0)


def test_the_document_has_the_promised_fields(document: dict[str, Any]) -> None:
    assert set(document) >= {"device", "sizes", "abstract_us", "search"}
    assert [row["program"] for row in document["sizes"]] == ["adamw_paper", "20 statements"]
    for row in document["sizes"]:
        assert (row["weights"], row["steps"]) == (64 * 4 + 4 + 4 * 10 + 10, 3)
        assert all(row[f"{way}_ms"] > 0 and row["ratios"][way] > 0 for way in WAYS)
        assert row["ratios"]["fused"] == 1
        assert row["engine"] == "interpreter"
    assert document["abstract_us"] > 0
    json.dumps(document, allow_nan=False)


def test_a_jit_per_program_really_compiles(document: dict[str, Any]) -> None:
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


def test_a_search_is_timed_from_its_first_child_on() -> None:
    settings = quick().model_dump() | {"tasks": ["quadratic"], "population": 20}
    found = search_speed(make_config(settings), seconds=0.3)
    assert found["seconds"] >= 0.3
    assert found["generated_per_second"] > 0
    assert found["measured_per_second"] > 0
    assert found["cpu_seconds_per_second"] > 0
    assert found["startup_seconds"] > 0


def test_the_fixed_program_has_twenty_live_statements() -> None:
    program = parse(TWENTY_STATEMENTS)
    assert len(live(program).statements) == len(program.statements) == 20


@pytest.mark.parametrize("program", [zoo.load("adamw_paper"), parse(TWENTY_STATEMENTS)])
def test_every_fresh_program_is_another_with_as_many_statements(program: Any) -> None:
    programs = [program, *(fresh(program, number) for number in range(1, 10))]
    assert len({semantic_key(one) for one in programs}) == 10
    assert {len(one.statements) for one in programs} == {len(program.statements)}


def test_training_step_by_step_trains() -> None:
    task = digits.mlp(hidden=(8,), steps=60)
    program = parse("def train(w, g, lr):\n    u = g * lr\n    return u\n")
    still = parse("def train(w, g, lr):\n    u = g * 0.0\n    return u\n")
    stepwise = Stepwise(task, 60)
    key = jax.random.key(0)
    assert stepwise.run(program, key) < 0.7 * stepwise.run(still, key)


def test_switching_off_the_persistent_cache_ends_with_the_block() -> None:
    config: Any = jax.config
    before = config.jax_enable_compilation_cache
    with uncached_compilation():
        assert not config.jax_enable_compilation_cache
    assert config.jax_enable_compilation_cache == before


def test_the_time_of_a_mutation_is_in_microseconds() -> None:
    assert 5 < abstract_microseconds(400) < 5000
