"""The benchmark of an accelerator: all parts, with small sizes on a CPU, and their failures."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import proxies
from evosearch.benchmarking import accelerator, batch_runner, batches
from evosearch.benchmarking.accelerator import AcceleratorPlan, measure
from evosearch.benchmarking.agreement import agreement
from evosearch.benchmarking.benchmark import quick
from evosearch.benchmarking.plan import mutants
from evosearch.errors import EvosearchError
from evosearch.presets import load_preset
from evosearch.report.benchmark import part_report
from evosearch.report.terminal import plain_text
from primitives import step
from tests.evosearch.test_batches import OPS, TASK, tiny
from tests.proxies.compiling import FAST_COMPILATION


def plan_of(**changes: Any) -> AcceleratorPlan:
    settings = {
        "batches": tiny(
            tasks=(TASK, proxies.load("valley")), programs={}, max_naive_lanes=0, mutants=0
        ),
        "first_task_lanes": (4,),
        "lanes": 2,
        "agreement_programs": 8,
        "search_seconds": 0.1,
        "driver_seconds": 0.1,
        "profiled_steps": 2,
        "costly": (TASK, OPS),
        "costly_lanes": 2,
        "repeats": 1,
    }
    return AcceleratorPlan(**{**settings, **changes})


@pytest.fixture(scope="module")
def figures(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """All parts, with fake searches; `test_benchmark` and `test_driver` test the searches."""

    def search(config: Any, seconds: float, progress: Any) -> dict[str, Any]:
        return {"lanes": config.batch, "seconds": seconds}

    def driver(lanes: int, seconds: float, progress: Any) -> dict[str, Any]:
        return {"lanes": lanes, "seconds": seconds}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batch_runner, "interpreter_options", lambda platform: FAST_COMPILATION)
        patch.setattr(batches, "search_speed", search)
        patch.setattr(accelerator, "measure_driver", driver)
        to = tmp_path_factory.mktemp("profile") / "steps.xplane.pb"
        yield {part["part"]: part for part in measure(plan_of(), 10, to)}


def test_the_parts_come_in_the_order_of_importance(figures: dict[str, Any]) -> None:
    assert list(figures) == [
        "device",
        "agreement",
        "quadratic, 4 lanes",
        "search",
        "profile",
        "valley, 2 lanes",
        "paper: quadratic",
        f"costliest: quadratic, 2 lanes, {len(OPS)} ops",
        "driver",
    ]
    assert not [part for part in figures.values() if "error" in part]
    json.dumps(list(figures.values()), allow_nan=False)


def test_a_batch_is_measured_with_the_baseline_and_with_mutants(figures: dict[str, Any]) -> None:
    for part in ("quadratic, 4 lanes", "valley, 2 lanes"):
        values = figures[part]
        for kind in ("baseline", "mutants"):
            row = values[kind]
            assert row["ratio"] == pytest.approx(row["batched_ms"] / row["floor_ms"])
            assert row["compile_s"] > 0
            assert row["programs_per_second"] > 0
    assert figures["quadratic, 4 lanes"]["mutants"]["times_jit"] > 0
    assert figures["search"]["batch"] == 2


def test_a_profile_is_stored_and_summarized(figures: dict[str, Any]) -> None:
    values = figures["profile"]
    assert Path(values["file"]).stat().st_size > 1000
    assert 0 < values["busy_ms"] <= values["span_ms"]
    assert values["events"] > 0
    assert values["longest"][0]["ms"] >= values["longest"][-1]["ms"]


def test_a_part_that_fails_yields_its_error_and_the_others_are_measured(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def broken(*_: Any) -> dict[str, Any]:
        raise RuntimeError("the device fell off the bus")

    monkeypatch.setattr(accelerator, "agreement", broken)
    parts = measure(plan_of(), 10, tmp_path / "steps")
    assert "error" not in next(parts)
    assert next(parts)["error"] == "RuntimeError: the device fell off the bus"
    parts.close()


def test_no_part_starts_when_the_time_is_over(tmp_path: Path) -> None:
    parts = list(measure(plan_of(), 0.0, tmp_path / "steps"))
    assert {part["error"] for part in parts} == {"skipped: 0 minutes are over"}
    text = plain_text(part_report(parts[1]))
    assert text == "agreement (0 s)\nerror skipped: 0 minutes are over\n"


def test_selected_parts_are_measured_in_the_given_order(tmp_path: Path) -> None:
    selected = ["paper", "device"]
    parts = list(measure(plan_of(), 0.0, tmp_path / "steps", selected=selected))
    assert [part["part"] for part in parts] == ["paper: quadratic", "device"]
    with pytest.raises(EvosearchError, match="begins with 'devise'; use one of: device; agreement"):
        list(measure(plan_of(), 0.0, tmp_path / "steps", selected=["devise"]))


@pytest.mark.parametrize(
    ("minutes", "first_task_lanes", "paper"), [(10, (1024, 256, 4096), 1), (4, (1024,), 0)]
)
def test_ten_minutes_allow_all_parts_and_four_the_first(
    minutes: float, first_task_lanes: tuple[int, ...], paper: int
) -> None:
    plan = AcceleratorPlan.of_minutes(minutes)
    assert plan.batches.tasks[0].name == "digits-mlp"
    assert {task.name for task in plan.batches.tasks} == set(load_preset("quick")["tasks"])
    assert plan.first_task_lanes == first_task_lanes
    assert len(plan.batches.paper) == paper
    assert (plan.costly is None) == (minutes == 4)
    if plan.costly is not None:
        assert plan.costly[0].name in load_preset("standard")["tasks"]


def test_agreement_detects_a_machine_with_wrong_updates(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    programs = mutants(8, OPS)
    assert agreement(programs, OPS) == {"programs": 8, "agreeing": 1.0, "differing": []}

    def wrong_step(*arguments: Any, lr: float, **options: Any) -> Any:
        return step(*arguments, lr=1.01 * lr, **options)

    monkeypatch.setattr("evosearch.benchmarking.agreement.step", wrong_step)
    assert agreement(programs, OPS)["agreeing"] < 0.5


def test_the_command_prints_each_part_and_fails_if_a_part_failed(
    run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def measured(
        plan: Any, minutes: float, to: Path, progress: Any, selected: list[str]
    ) -> Iterator[Any]:
        assert (minutes, to, selected) == (4, Path("evosearch.xplane.pb"), [])
        yield {"part": "device", "seconds": 1.0, "device": "a GPU"}
        yield {"part": "agreement", "seconds": 2.0, "error": "broken"}

    monkeypatch.setattr("evosearch.benchmarking.accelerator.measure", measured)
    result = run("bench", "--minutes", "4", "--json")
    assert result.status == 1
    assert list(map(json.loads, result.out.splitlines())) == [
        {"part": "device", "seconds": 1.0, "device": "a GPU"},
        {"part": "agreement", "seconds": 2.0, "error": "broken"},
    ]
    assert "agreement (2 s)\nerror broken" in run("bench", "--minutes", "4").out


def test_the_mutants_have_the_quick_presets_ops() -> None:
    assert AcceleratorPlan.of_minutes(4).batches.ops == quick().ops
