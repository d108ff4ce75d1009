"""Tests of the text and the files of derivations, and of the commands that print or store them."""

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

FOLDER = Path(__file__).parent
ROOT = FOLDER.parents[2]
RAW_LION = ROOT / "tests/primitives/data/raw_lion.txt"
COST = Cost(-0.0123, -0.02, -0.0046, {"one": (-0.02, 0.001), "two": (-0.0046, 0.002)}, 32, 0.07)


def printed_text(derivation: Simplification, width: int = 100) -> str:
    """Return what `evosearch simplify` prints about a derivation on a terminal `width` wide."""
    console = Console(file=io.StringIO(), width=width)
    printer = Printer(console)
    for step in derivation.steps:
        printer.step(step)
    printer.result(derivation)
    return console.file.getvalue()


def measured_derivation() -> Simplification:
    """Return a derivation of one measured step, which removes a useless statement."""
    source = parse("def train(w, g, lr):\n  a = arcsin(g)\n  u = a * lr\n  return u")
    program = parse("def train(w, g, lr):\n  u = g * lr\n  return u")
    step = Step("drop", "`a = arcsin(g)` becomes g", source, program, cost=COST)
    ablation = Ablation("u = g * lr", "g", parse("def train(w, g):\n  return g"), COST)
    tasks = {"one": 4.0, "two": 1.0}
    return Simplification(source, program, (step,), tasks, COST, (ablation,), {"limit": 0.01})


def test_algebra_on_raw_lion_matches_the_golden(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The result has at most 10 statements and one state."""
    golden = (FOLDER / "goldens/raw_lion_algebra.txt").read_text(encoding="utf-8")
    monkeypatch.setenv("COLUMNS", "80")
    result = run("simplify", RAW_LION, "--algebra-only")
    assert result.status == 0
    assert result.out == golden
    monkeypatch.delenv("COLUMNS")
    # Without a width, as in a pipe, paragraphs are not wrapped.
    unwrapped = run("simplify", RAW_LION, "--algebra-only").out
    assert unwrapped.split() == result.out.split()
    assert max(map(len, unwrapped.splitlines())) > 200
    document = json.loads(run("simplify", RAW_LION, "--algebra-only", "--json").out)
    assert document["statements"] <= 10
    assert document["states"] == 1
    assert "sign(" in document["source"]
    assert {"rule", "reason", "before", "after", "domain", "cost"} == set(document["steps"][0])


def test_measured_steps_are_printed_with_bounds_of_their_costs() -> None:
    golden = (FOLDER / "goldens/measured.txt").read_text(encoding="utf-8")
    assert printed_text(measured_derivation()) == golden


def test_a_narrow_terminal_shortens_statements_but_not_numbers() -> None:
    cost = replace(COST, per_task={"photos-autoencoder-10x": (0.0991, 0.12)})
    ablation = Ablation(
        "update = ema(squared, second_moment, 0.9)", "second_moment", zoo.load("sgd"), cost
    )
    text = printed_text(replace(measured_derivation(), ablations=(ablation,)), width=80)
    assert (
        "second_moment  -0.0123 \N{PLUS-MINUS SIGN} 0.0077    +0.099  photos-autoencoder-10x"
        in text
    )
    assert "\N{HORIZONTAL ELLIPSIS}" not in text


def test_a_simplification_that_fresh_seeds_do_not_confirm_is_reported() -> None:
    derivation = measured_derivation()
    assert derivation.unconfirmed == []
    assert (
        "The program costs less than 0.01 in the mean and less than 0.03 on each task (95%)."
        in printed_text(derivation)
    )
    cost_on_task = replace(COST, per_task={"one": (0.0, 0.04)})
    unconfirmed_on_task = replace(derivation, confirmation=cost_on_task)
    assert unconfirmed_on_task.unconfirmed == ["one"]
    text = printed_text(unconfirmed_on_task)
    assert (
        "The cost is not shown to be below 0.01 in the mean and below 0.03 on each task. The bound "
        "is too high for: one."
    ) in " ".join(text.split())
    unconfirmed_in_mean = replace(derivation, confirmation=replace(COST, high=0.012))
    assert unconfirmed_in_mean.unconfirmed == ["the mean over tasks"]


def test_statements_whose_ablation_has_no_significant_cost_are_named() -> None:
    derivation = measured_derivation()
    assert derivation.ablations[0].cost.low < 0
    assert "Not shown to be needed on these tasks: u = g * lr." in printed_text(derivation)
    significant_cost = replace(COST, mean=0.02, low=0.001, high=0.04)
    ablation = replace(derivation.ablations[0], cost=significant_cost)
    assert "Not shown to be needed" not in printed_text(replace(derivation, ablations=(ablation,)))


def test_a_derivation_converts_to_json_and_back() -> None:
    raw_lion = parse(RAW_LION.read_text(encoding="utf-8"))
    for derivation in (measured_derivation(), simplify_by_algebra(raw_lion)):
        text = json.dumps(derivation.document())
        assert Simplification.read(json.loads(text)) == derivation


def test_the_result_is_written_as_a_program_or_as_json(run: Any, tmp_path: Path) -> None:
    text_path, json_path = tmp_path / "short.txt", tmp_path / "short.json"
    assert run("simplify", RAW_LION, "--algebra-only", "-o", text_path).status == 0
    assert run("simplify", RAW_LION, "--algebra-only", "-o", json_path).status == 0
    document = json.loads(json_path.read_text(encoding="utf-8"))
    assert text_path.read_text(encoding="utf-8") == document["source"]


def test_algebra_only_refuses_options_of_measurements(run: Any) -> None:
    result = run("simplify", "lion", "--algebra-only", "--tune")
    assert result.status == 2
    assert "--algebra-only" in result.err


def test_simplify_takes_a_run_and_an_id(run: Any, tmp_path: Path) -> None:
    directory = tmp_path / "run"
    make_run_directory(directory, config(), {})
    program_id = json.loads(run("inject", directory, "adamw", "--json").out)["id"]
    two_arguments = run("simplify", directory, program_id, "--algebra-only", "--json")
    one_argument = run("simplify", f"{directory}#{program_id}", "--algebra-only", "--json")
    assert two_arguments.out == one_argument.out
    assert json.loads(two_arguments.out)["original"] == str(zoo.load("adamw"))


def test_algebra_does_not_shorten_lion(run: Any) -> None:
    document = json.loads(run("simplify", "lion", "--algebra-only", "--json").out)
    assert document["statements"] == len(zoo.load("lion").statements)


def test_a_derivation_is_stored_in_its_run(run: Any, tmp_path: Path) -> None:
    directory = tmp_path / "run"
    make_run_directory(directory, config(), {})
    assert read_derivation(directory, 7) is None
    assert save_derivation(directory, 7, measured_derivation())
    assert read_derivation(directory, 7) == measured_derivation()
    derivation_path(directory, 7).write_text("{}", encoding="utf-8")
    with pytest.raises(EvosearchError, match="damaged"):
        read_derivation(directory, 7)
    assert save_derivation(directory, 7, measured_derivation())
    assert read_derivation(directory, 7) == measured_derivation()


def test_an_incomplete_derivation_does_not_replace_a_complete_one(tmp_path: Path) -> None:
    make_run_directory(tmp_path / "run", config(), {})
    complete = measured_derivation()
    incomplete = replace(
        complete, settings={**complete.settings, "ended_early": True, "minutes": 1.0}
    )
    assert save_derivation(tmp_path / "run", 7, incomplete)
    assert save_derivation(tmp_path / "run", 7, complete)
    assert not save_derivation(tmp_path / "run", 7, incomplete)
    assert read_derivation(tmp_path / "run", 7) == complete


def test_show_prefers_the_measured_derivation(run: Any, tmp_path: Path) -> None:
    directory = search(small_config(programs=5), tmp_path / "run").directory
    champion_id = json.loads(run("status", directory, "--json").out)["best"]["id"]
    assert not json.loads(run("show", directory, "--json").out)["measured"]
    save_derivation(directory, champion_id, measured_derivation())
    source = str(Run(directory).program(champion_id))
    winner = Entrant(
        f"runs/elsewhere/run#{champion_id}", source, Interval(0.1, 0.0, 0.2), {"one": 0.1}
    )
    funnel = FunnelResult((Stage("100x", 2, (winner,), 1),), winner)
    Run(directory).save_funnel(funnel.document())
    assert json.loads(run("show", f"{directory}#winner", "--json").out)["measured"]
    document = json.loads(run("show", directory, "--json").out)
    assert document["measured"]
    assert document["simplified"] == str(measured_derivation().program)
    assert document["ablations"][0]["cost"]["seeds"] == 32
    assert "by algebra and measurement" in run("show", directory).out


def test_show_accepts_the_name_of_a_simplified_program(run: Any, tmp_path: Path) -> None:
    directory = search(small_config(programs=5), tmp_path / "run").directory
    champion_id = json.loads(run("status", directory, "--json").out)["best"]["id"]
    result = run("show", f"{directory}:simplified")
    assert result.status == 2
    assert f"run `evosearch simplify {directory}`" in result.err
    save_derivation(directory, champion_id, measured_derivation())
    for name in (f"{directory}:simplified", f"{directory}#{champion_id}:simplified"):
        document = json.loads(run("show", name, "--json").out)
        assert document["source"] == str(measured_derivation().program)
    result = run("show", "lion:simplified")
    assert result.status == 2
    assert "not a program of a run" in result.err


@pytest.mark.parametrize("caller", ["command", "function"])
def test_a_search_can_end_with_the_simplification_of_its_champion(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caller: str
) -> None:
    calls = []

    def fake_simplify(program: Any, tasks: Any, screening: Any, **settings: Any) -> Simplification:
        calls.append((program, tasks, screening))
        settings["on_step"](measured_derivation().steps[0])
        return measured_derivation()

    monkeypatch.setattr("evosearch.pipeline.pipeline.simplify", fake_simplify)
    config, directory = small_config(programs=3, simplify=True), tmp_path / "run"
    if caller == "function":
        search(config, directory)
    else:
        config_path = tmp_path / "settings.toml"
        config_path.write_text(config.to_toml(), encoding="utf-8")
        result = run("search", config_path, "--out", directory)
        assert result.status == 0, result.err
        assert "1. drop" in result.out
    best = Run(directory).best()
    assert best is not None
    assert calls == [(Run(directory).program(best.id), ["digits-mlp-10x"], ["digits-mlp"])]
    assert read_derivation(directory, best.id) == measured_derivation()
    run("resume", directory, "--programs", "4")
    assert len(calls) == 1


def test_ctrl_c_keeps_the_steps_taken_so_far(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first_step = measured_derivation().steps[0]

    def take_a_step_and_interrupt(program: Any, tasks: Any, **settings: Any) -> Simplification:
        settings["on_step"](first_step)
        raise Interrupted

    monkeypatch.setattr("evosearch.simplification.simplify", take_a_step_and_interrupt)
    out = tmp_path / "short.txt"
    result = run("simplify", RAW_LION, "-o", out)
    assert result.status == 130
    assert "Interrupted: not every removal was tried" in result.out
    assert str(first_step.after) in result.out
    assert parse(out.read_text(encoding="utf-8")) == first_step.after


def test_only_a_complete_simplification_reports_nothing_to_simplify() -> None:
    derivation = replace(measured_derivation(), steps=())
    assert "There is nothing to simplify." in printed_text(derivation)
    for setting in ("interrupted", "ended_early"):
        settings = {**derivation.settings, setting: True, "minutes": 1.0}
        incomplete = replace(derivation, settings=settings)
        assert "There is nothing to simplify." not in printed_text(incomplete)


def test_simplify_refuses_an_id_given_twice(run: Any, tmp_path: Path) -> None:
    directory = search(small_config(programs=5), tmp_path / "run").directory
    result = run("simplify", f"{directory}#0", "0", "--algebra-only")
    assert result.status == 2
    assert "leave out '0'" in result.err
    assert run("simplify", directory, "#0", "--algebra-only").status == 0


def test_simplify_refuses_an_unknown_task_before_any_output(run: Any) -> None:
    result = run("simplify", "lion", "--task", "digits-mpl")
    assert result.status == 2
    assert "did you mean 'digits-mlp'" in result.err
    assert result.out == ""
