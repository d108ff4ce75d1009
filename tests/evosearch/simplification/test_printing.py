"""Printed and stored derivations, and the commands that use them."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from evosearch.cli.interrupts import Interrupted
from evosearch.cli.progress import Printer
from evosearch.errors import EvosearchError
from evosearch.evaluation.funnel import Entrant, FunnelResult, Stage
from evosearch.pipeline.pipeline import search
from evosearch.runs.directory import make_run_directory
from evosearch.runs.run import Run
from evosearch.simplification import Ablation, Cost, Simplification, Step, simplify_by_algebra
from evosearch.simplification.derivation_files import (
    derivation_path,
    read_derivation,
    save_derivation,
)
from evosearch.statistics import Interval
from primitives import parse, zoo
from tests.evosearch.stored_runs import config
from tests.evosearch.test_search import small_config

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
RAW_LION = ROOT / "tests/primitives/data/raw_lion.txt"
COST = Cost(-0.0123, -0.02, -0.0046, {"one": (-0.02, 0.001), "two": (-0.0046, 0.002)}, 32, 0.07)


def printed(derivation: Simplification, width: int = 100) -> str:
    console = Console(file=io.StringIO(), width=width)
    printer = Printer(console)
    for step in derivation.steps:
        printer.step(step)
    printer.result(derivation)
    return console.file.getvalue()


def measured() -> Simplification:
    source = parse("def train(w, g, lr):\n  a = arcsin(g)\n  u = a * lr\n  return u")
    program = parse("def train(w, g, lr):\n  u = g * lr\n  return u")
    step = Step("drop", "`a = arcsin(g)` becomes g", source, program, cost=COST)
    ablation = Ablation("u = g * lr", "g", parse("def train(w, g):\n  return g"), COST)
    tasks = {"one": 4.0, "two": 1.0}
    return Simplification(source, program, (step,), tasks, COST, (ablation,), {"limit": 0.01})


def test_algebra_on_raw_lion_matches_the_golden(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The result has at most 10 statements and one state."""
    golden = (HERE / "goldens/raw_lion_algebra.txt").read_text(encoding="utf-8")
    monkeypatch.setenv("COLUMNS", "80")
    result = run("simplify", RAW_LION, "--algebra-only")
    assert result.status == 0
    assert result.out == golden
    monkeypatch.delenv("COLUMNS")
    piped = run("simplify", RAW_LION, "--algebra-only").out  # paragraphs are not wrapped in a pipe
    assert piped.split() == result.out.split()
    assert max(map(len, piped.splitlines())) > 200
    found = json.loads(run("simplify", RAW_LION, "--algebra-only", "--json").out)
    assert found["statements"] <= 10
    assert found["states"] == 1
    assert "sign(" in found["source"]
    assert {"rule", "reason", "before", "after", "domain", "cost"} == set(found["steps"][0])


def test_measured_steps_are_printed_with_bounds() -> None:
    golden = (HERE / "goldens/measured.txt").read_text(encoding="utf-8")
    assert printed(measured()) == golden


def test_a_narrow_terminal_shortens_statements_but_not_numbers() -> None:
    cost = replace(COST, per_task={"photos-autoencoder-10x": (0.0991, 0.12)})
    long = Ablation(
        "update = ema(squared, second_moment, 0.9)", "second_moment", zoo.load("sgd"), cost
    )
    text = printed(replace(measured(), ablations=(long,)), width=80)
    assert (
        "second_moment  -0.0123 \N{PLUS-MINUS SIGN} 0.0077  +0.099  photos-autoencoder-10x" in text
    )
    assert "\N{HORIZONTAL ELLIPSIS}" not in text


def test_results_that_fresh_seeds_do_not_confirm_are_reported() -> None:
    found = measured()
    assert found.unconfirmed == []
    assert (
        "The program costs less than 0.01 in the mean and less than 0.03 on each task (95%)."
        in printed(found)
    )
    doubtful = replace(found, confirmation=replace(COST, per_task={"one": (0.0, 0.04)}))
    assert doubtful.unconfirmed == ["one"]
    assert "Not shown to cost less than 0.01 in the mean, 0.03 on each task: one." in printed(
        doubtful
    )
    doubtful = replace(found, confirmation=replace(COST, high=0.012))
    assert doubtful.unconfirmed == ["the mean over tasks"]


def test_statements_without_significant_cost_are_named() -> None:
    """In the golden both bounds of the cost are below zero; here both are above zero."""
    found = measured()
    assert "Not shown to be needed on these tasks: u = g * lr." in printed(found)
    cost = replace(COST, mean=0.02, low=0.001, high=0.04)
    needed = replace(found, ablations=(replace(found.ablations[0], cost=cost),))
    assert "Not shown to be needed" not in printed(needed)


def test_a_derivation_converts_to_json_and_back() -> None:
    for found in (measured(), simplify_by_algebra(parse(RAW_LION.read_text(encoding="utf-8")))):
        assert Simplification.read(json.loads(json.dumps(found.document()))) == found


def test_the_result_is_written_as_a_program_or_as_json(run: Any, tmp_path: Path) -> None:
    program, derivation = tmp_path / "short.txt", tmp_path / "short.json"
    assert run("simplify", RAW_LION, "--algebra-only", "-o", program).status == 0
    assert run("simplify", RAW_LION, "--algebra-only", "-o", derivation).status == 0
    document = json.loads(derivation.read_text(encoding="utf-8"))
    assert program.read_text(encoding="utf-8") == document["source"]


def test_algebra_only_measures_on_no_task(run: Any) -> None:
    result = run("simplify", "lion", "--algebra-only", "--tune")
    assert result.status == 2
    assert "--algebra-only" in result.err


def test_simplify_takes_a_run_and_an_id(run: Any, tmp_path: Path) -> None:
    directory = tmp_path / "run"
    make_run_directory(directory, config(), {})
    number = json.loads(run("inject", directory, "adamw", "--json").out)["id"]
    by_id = run("simplify", directory, number, "--algebra-only", "--json")
    assert by_id.out == run("simplify", f"{directory}#{number}", "--algebra-only", "--json").out
    assert json.loads(by_id.out)["original"] == str(zoo.load("adamw"))


def test_a_known_optimizer_is_not_simplified_further(run: Any) -> None:
    result = run("simplify", "lion", "--algebra-only", "--json")
    found = json.loads(result.out)
    assert found["statements"] == len(zoo.load("lion").statements)


def test_a_derivation_is_stored_in_its_run(run: Any, tmp_path: Path) -> None:
    directory = tmp_path / "run"
    make_run_directory(directory, config(), {})
    assert read_derivation(directory, 7) is None
    assert save_derivation(directory, 7, measured())
    assert read_derivation(directory, 7) == measured()
    derivation_path(directory, 7).write_text("{}", encoding="utf-8")
    with pytest.raises(EvosearchError, match="damaged"):
        read_derivation(directory, 7)
    assert save_derivation(directory, 7, measured())
    assert read_derivation(directory, 7) == measured()


def test_an_incomplete_derivation_does_not_replace_a_complete_one(tmp_path: Path) -> None:
    make_run_directory(tmp_path / "run", config(), {})
    complete = measured()
    incomplete = replace(
        complete, settings={**complete.settings, "ended_early": True, "minutes": 1.0}
    )
    assert save_derivation(tmp_path / "run", 7, incomplete)
    assert save_derivation(tmp_path / "run", 7, complete)
    assert not save_derivation(tmp_path / "run", 7, incomplete)
    assert read_derivation(tmp_path / "run", 7) == complete


def test_show_prefers_the_measured_derivation(run: Any, tmp_path: Path) -> None:
    directory = search(small_config(programs=5), tmp_path / "run").directory
    number = json.loads(run("status", directory, "--json").out)["best"]["id"]
    assert not json.loads(run("show", directory, "--json").out)["measured"]
    save_derivation(directory, number, measured())
    source = str(Run(directory).program(number))
    winner = Entrant(f"runs/elsewhere/run#{number}", source, Interval(0.1, 0.0, 0.2), {"one": 0.1})
    found = FunnelResult((Stage("100x", 2, (winner,), 1),), winner)
    Run(directory).save_funnel(found.document())
    assert json.loads(run("show", f"{directory}#winner", "--json").out)["measured"]
    shown = json.loads(run("show", directory, "--json").out)
    assert shown["measured"]
    assert shown["simplified"] == str(measured().program)
    assert shown["ablations"][0]["cost"]["seeds"] == 32
    assert "by algebra and measurement" in run("show", directory).out


def test_the_simplified_form_of_a_runs_program_can_be_named(run: Any, tmp_path: Path) -> None:
    directory = search(small_config(programs=5), tmp_path / "run").directory
    number = json.loads(run("status", directory, "--json").out)["best"]["id"]
    result = run("show", f"{directory}:simplified")
    assert result.status == 2
    assert f"run `evosearch simplify {directory}`" in result.err
    save_derivation(directory, number, measured())
    for name in (f"{directory}:simplified", f"{directory}#{number}:simplified"):
        assert json.loads(run("show", name, "--json").out)["source"] == str(measured().program)
    result = run("show", "lion:simplified")
    assert result.status == 2
    assert "not a program of a run" in result.err


@pytest.mark.parametrize("caller", ["command", "function"])
def test_a_search_can_end_with_the_simplification_of_its_champion(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caller: str
) -> None:
    calls = []

    def simplified(program: Any, tasks: Any, screening: Any, **settings: Any) -> Simplification:
        calls.append((program, tasks, screening))
        settings["on_step"](measured().steps[0])
        return measured()

    monkeypatch.setattr("evosearch.pipeline.pipeline.simplify", simplified)
    config, directory = small_config(programs=3, simplify=True), tmp_path / "run"
    if caller == "function":
        search(config, directory)
    else:
        settings = tmp_path / "settings.toml"
        settings.write_text(config.to_toml(), encoding="utf-8")
        result = run("search", settings, "--out", directory)
        assert result.status == 0, result.err
        assert "1. drop" in result.out
    best = Run(directory).best()
    assert best is not None
    number = best.id
    assert calls == [(Run(directory).program(number), ["digits-mlp-10x"], ["digits-mlp"])]
    assert read_derivation(directory, number) == measured()
    run("resume", directory, "--programs", "4")
    assert len(calls) == 1


def test_ctrl_c_keeps_the_steps_taken_so_far(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (first, *_) = measured().steps

    def simplified(program: Any, tasks: Any, **settings: Any) -> Simplification:
        settings["on_step"](first)
        raise Interrupted

    monkeypatch.setattr("evosearch.simplification.simplify", simplified)
    out = tmp_path / "short.txt"
    result = run("simplify", RAW_LION, "-o", out)
    assert result.status == 130
    assert "Interrupted: not every removal was tried" in result.out
    assert str(first.after) in result.out
    assert parse(out.read_text(encoding="utf-8")) == first.after


def test_only_a_complete_simplification_reports_nothing_to_simplify() -> None:
    found = replace(measured(), steps=())
    assert "There is nothing to simplify." in printed(found)
    for setting in ("interrupted", "ended_early"):
        incomplete = replace(found, settings={**found.settings, setting: True, "minutes": 1.0})
        assert "There is nothing to simplify." not in printed(incomplete)


def test_duplicate_and_unknown_names_are_refused_before_any_work(run: Any, tmp_path: Path) -> None:
    directory = search(small_config(programs=5), tmp_path / "run").directory
    result = run("simplify", f"{directory}#0", "0", "--algebra-only")
    assert result.status == 2
    assert "leave out '0'" in result.err
    assert run("simplify", directory, "#0", "--algebra-only").status == 0
    result = run("simplify", "lion", "--task", "digits-mpl")
    assert result.status == 2
    assert "did you mean 'digits-mlp'" in result.err
    assert result.out == ""
