"""What people read, and the data behind it."""

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
from tests.evosearch.test_search import small

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
RAW_LION = ROOT / "tests/primitives/data/raw_lion.txt"
COST = Cost(-0.0123, -0.02, -0.0046, {"one": (-0.02, 0.001), "two": (-0.0046, 0.002)}, 32, 0.07)


def printed(found: Simplification, width: int = 100) -> str:
    console = Console(file=io.StringIO(), width=width)
    printer = Printer(console)
    for step in found.steps:
        printer.step(step)
    printer.result(found)
    return console.file.getvalue()


def measured() -> Simplification:
    source = parse("def train(w, g, lr):\n  a = arcsin(g)\n  u = a * lr\n  return u")
    program = parse("def train(w, g, lr):\n  u = g * lr\n  return u")
    step = Step("drop", "`a = arcsin(g)` becomes g", source, program, cost=COST)
    ablation = Ablation("u = g * lr", "g", parse("def train(w, g):\n  return g"), COST)
    tasks = {"one": 4.0, "two": 1.0}
    return Simplification(source, program, (step,), tasks, COST, (ablation,), {"limit": 0.01})


def test_raw_lion_by_algebra_reads_as_it_should(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """At most 10 statements and one state; every step with its rule, domain and statements."""
    golden = (HERE / "goldens/raw_lion_algebra.txt").read_text(encoding="utf-8")
    monkeypatch.setenv("COLUMNS", "80")
    said = run("simplify", RAW_LION, "--algebra-only")
    assert said.status == 0
    assert said.out == golden
    monkeypatch.delenv("COLUMNS")
    piped = run("simplify", RAW_LION, "--algebra-only").out  # no paragraph is broken in a pipe
    assert piped.split() == said.out.split()
    assert max(map(len, piped.splitlines())) > 200
    found = json.loads(run("simplify", RAW_LION, "--algebra-only", "--json").out)
    assert found["statements"] <= 10
    assert found["states"] == 1
    assert "sign(" in found["source"]
    assert {"rule", "reason", "before", "after", "domain", "cost"} == set(found["steps"][0])


def test_measured_steps_show_their_bounds() -> None:
    golden = (HERE / "goldens/measured.txt").read_text(encoding="utf-8")
    assert printed(measured()) == golden


def test_in_a_narrow_terminal_statements_give_way_and_no_number_does() -> None:
    cost = replace(COST, per_task={"photos-autoencoder-10x": (0.0991, 0.12)})
    long = Ablation(
        "update = ema(squared, second_moment, 0.9)", "second_moment", zoo.load("sgd"), cost
    )
    said = printed(replace(measured(), ablations=(long,)), width=80)
    assert (
        "second_moment  -0.0123 \N{PLUS-MINUS SIGN} 0.0077  +0.099  photos-autoencoder-10x" in said
    )
    assert "\N{HORIZONTAL ELLIPSIS}" not in said


def test_what_fresh_seeds_do_not_show_is_said() -> None:
    found = measured()
    assert found.unconfirmed == []
    assert "It costs less than 0.01 in the mean and less than 0.03 on each task (95%)." in printed(
        found
    )
    doubtful = replace(found, confirmation=replace(COST, per_task={"one": (0.0, 0.04)}))
    assert doubtful.unconfirmed == ["one"]
    assert "Not shown to cost less than 0.01 in the mean, 0.03 on each task: one." in printed(
        doubtful
    )
    doubtful = replace(found, confirmation=replace(COST, high=0.012))
    assert doubtful.unconfirmed == ["the mean over tasks"]


def test_a_statement_whose_cost_may_be_nothing_is_named() -> None:
    """The golden has one whose bounds are both below zero; this one is surely worth something."""
    found = measured()
    assert "Not shown to be needed on these tasks: u = g * lr." in printed(found)
    cost = replace(COST, mean=0.02, low=0.001, high=0.04)
    needed = replace(found, ablations=(replace(found.ablations[0], cost=cost),))
    assert "Not shown to be needed" not in printed(needed)


def test_a_derivation_is_data() -> None:
    for found in (measured(), simplify_by_algebra(parse(RAW_LION.read_text(encoding="utf-8")))):
        assert Simplification.read(json.loads(json.dumps(found.document()))) == found


def test_the_result_is_written_as_program_or_derivation(run: Any, tmp_path: Path) -> None:
    program, derivation = tmp_path / "short.txt", tmp_path / "short.json"
    assert run("simplify", RAW_LION, "--algebra-only", "-o", program).status == 0
    assert run("simplify", RAW_LION, "--algebra-only", "-o", derivation).status == 0
    document = json.loads(derivation.read_text(encoding="utf-8"))
    assert program.read_text(encoding="utf-8") == document["source"]


def test_algebra_only_measures_on_no_task(run: Any) -> None:
    said = run("simplify", "lion", "--algebra-only", "--tune")
    assert said.status == 2
    assert "--algebra-only" in said.err


def test_a_program_of_a_run_is_named_by_its_id(run: Any, tmp_path: Path) -> None:
    directory = tmp_path / "run"
    make_run_directory(directory, config(), {})
    number = json.loads(run("inject", directory, "adamw", "--json").out)["id"]
    by_id = run("simplify", directory, number, "--algebra-only", "--json")
    assert by_id.out == run("simplify", f"{directory}#{number}", "--algebra-only", "--json").out
    assert json.loads(by_id.out)["original"] == str(zoo.load("adamw"))


def test_known_optimizers_have_nothing_to_simplify(run: Any) -> None:
    said = run("simplify", "lion", "--algebra-only", "--json")
    found = json.loads(said.out)
    assert found["statements"] == len(zoo.load("lion").statements)


def test_a_run_keeps_the_derivation_and_show_shows_it(run: Any, tmp_path: Path) -> None:
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


def test_a_hasty_derivation_does_not_replace_one_that_left_nothing_out(tmp_path: Path) -> None:
    make_run_directory(tmp_path / "run", config(), {})
    whole = measured()
    hasty = replace(whole, settings={**whole.settings, "ended_early": True, "minutes": 1.0})
    assert save_derivation(tmp_path / "run", 7, hasty)
    assert save_derivation(tmp_path / "run", 7, whole)
    assert not save_derivation(tmp_path / "run", 7, hasty)
    assert read_derivation(tmp_path / "run", 7) == whole


def test_show_prefers_the_measured_derivation(run: Any, tmp_path: Path) -> None:
    directory = search(small(programs=5), tmp_path / "run").directory
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


def test_the_simplified_form_of_a_run_s_program_has_a_name(run: Any, tmp_path: Path) -> None:
    directory = search(small(programs=5), tmp_path / "run").directory
    number = json.loads(run("status", directory, "--json").out)["best"]["id"]
    said = run("show", f"{directory}:simplified")
    assert said.status == 2
    assert f"run `evosearch simplify {directory}`" in said.err
    save_derivation(directory, number, measured())
    for name in (f"{directory}:simplified", f"{directory}#{number}:simplified"):
        assert json.loads(run("show", name, "--json").out)["source"] == str(measured().program)
    said = run("show", "lion:simplified")
    assert said.status == 2
    assert "not a program of a run" in said.err


@pytest.mark.parametrize("how", ["command", "function"])
def test_a_search_may_end_with_its_champion_simplified(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    asked = []

    def simplified(program: Any, tasks: Any, screening: Any, **settings: Any) -> Simplification:
        asked.append((program, tasks, screening))
        settings["on_step"](measured().steps[0])
        return measured()

    monkeypatch.setattr("evosearch.pipeline.pipeline.simplify", simplified)
    config, directory = small(programs=3, simplify=True), tmp_path / "run"
    if how == "function":
        search(config, directory)
    else:
        settings = tmp_path / "settings.toml"
        settings.write_text(config.to_toml(), encoding="utf-8")
        said = run("search", settings, "--out", directory)
        assert said.status == 0, said.err
        assert "1. drop" in said.out
    best = Run(directory).best()
    assert best is not None
    number = best.id
    assert asked == [(Run(directory).program(number), ["digits-mlp-10x"], ["digits-mlp"])]
    assert read_derivation(directory, number) == measured()
    run("resume", directory, "--programs", "4")
    assert len(asked) == 1


def test_ctrl_c_keeps_the_steps_taken_so_far(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (first, *_) = measured().steps

    def simplified(program: Any, tasks: Any, **settings: Any) -> Simplification:
        settings["on_step"](first)
        raise Interrupted

    monkeypatch.setattr("evosearch.simplification.simplify", simplified)
    out = tmp_path / "short.txt"
    said = run("simplify", RAW_LION, "-o", out)
    assert said.status == 130
    assert "Interrupted: not every removal was tried" in said.out
    assert str(first.after) in said.out
    assert parse(out.read_text(encoding="utf-8")) == first.after


def test_only_a_simplification_that_tried_everything_finds_nothing_to_do() -> None:
    found = replace(measured(), steps=())
    assert "There is nothing to simplify." in printed(found)
    for why in ("interrupted", "ended_early"):
        cut = replace(found, settings={**found.settings, why: True, "minutes": 1.0})
        assert "There is nothing to simplify." not in printed(cut)


def test_what_is_named_twice_or_not_there_is_refused_before_anything_is_done(
    run: Any, tmp_path: Path
) -> None:
    directory = search(small(programs=5), tmp_path / "run").directory
    said = run("simplify", f"{directory}#0", "0", "--algebra-only")
    assert said.status == 2
    assert "leave out '0'" in said.err
    assert run("simplify", directory, "#0", "--algebra-only").status == 0
    said = run("simplify", "lion", "--task", "digits-mpl")
    assert said.status == 2
    assert "did you mean 'digits-mlp'" in said.err
    assert said.out == ""
