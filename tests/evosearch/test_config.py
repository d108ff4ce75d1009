"""Tests of configurations: presets, baselines, TOML files, and errors that name the setting."""

from __future__ import annotations

from pathlib import Path

import pytest

from evosearch.config import Config, make_config, read_toml
from evosearch.errors import UsageError
from evosearch.presets import baselines, load_baseline, load_preset, over, presets
from primitives import zoo

VALID_SETTINGS = {"tasks": ["digits-mlp"], "init": str(zoo.load("adamw_paper"))}


@pytest.mark.parametrize("name", presets())
def test_the_configuration_of_every_preset_reads_back_from_toml(name: str, tmp_path: Path) -> None:
    config = make_config({**load_preset(name), "init": VALID_SETTINGS["init"]})
    path = tmp_path / "config.toml"
    path.write_text(config.to_toml())
    assert make_config(read_toml(path)) == config


def changed_settings(first: dict[str, object], second: dict[str, object]) -> set[str]:
    """Return the names of the settings that differ, such as `mutation.insert`."""
    names: set[str] = set()
    for name in first:
        first_value, second_value = first[name], second[name]
        if isinstance(first_value, dict) and isinstance(second_value, dict):
            names |= {f"{name}.{inner}" for inner in changed_settings(first_value, second_value)}
        elif first_value != second_value:
            names.add(name)
    return names


SETTINGS_OF_BASELINES = {
    "random": {"tournament", "restart_every", "tune_first", "tune_last"},
    "restarts": {"restart_every"},
    "restarts-from-best": {"restart_every", "restart_from"},
    "tuning": {
        "restart_every",
        "tune_first",
        "tune_last",
        "mutation.insert",
        "mutation.delete",
        "mutation.modify",
        "mutation.tune",
        "mutation.wrap",
    },
}


@pytest.mark.parametrize("name", presets())
def test_a_baseline_overrides_only_the_settings_that_define_it(name: str) -> None:
    """The overridden configuration has other settings in the same sections."""
    assert set(SETTINGS_OF_BASELINES) == set(baselines())
    settings = over(
        {
            **load_preset(name),
            "init": VALID_SETTINGS["init"],
            "restart_every": 700,
            "tune_last": 50,
            "tune_first": 60,
        },
        {"mutation": {"op_set": "full", "wrap": 0.5, "tune": 0.5}},
    )
    original = make_config(settings).model_dump()
    for baseline, expected in SETTINGS_OF_BASELINES.items():
        overridden = make_config(over(settings, load_baseline(baseline))).model_dump()
        assert changed_settings(original, overridden) == expected


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"populaton": 5}, "'populaton' does not exist; did you mean 'population'"),
        ({"mutation": {"insrt": 1}}, "'mutation.insrt' does not exist; did you mean 'insert'"),
        ({"population": 1}, "'population' = 1: .*greater than or equal to 2"),
        ({"population": "many"}, "'population' = 'many': .*integer"),
        ({"programs": 0}, "'programs' = 0"),
        ({"minutes": -1}, "'minutes' = -1"),
        ({"tasks": []}, "'tasks'"),
        ({"tasks": ["digits-mlp", "digits-mlp"]}, "'digits-mlp' is listed twice"),
        ({"minutes": float("inf")}, "'minutes' = inf"),
        ({"seed": -3}, "'seed' = -3"),
        ({"measurement": {"error_rate": 1.5}}, "'measurement.error_rate' = 1.5"),
        ({"mutation": {"insert": 0, "delete": 0, "modify": 0}}, "all 0"),
        ({"mutation": {"tune": -1}}, "'mutation.tune' = -1"),
        ({"mutation": {"insert": -1, "delete": 0, "modify": 0}}, "'mutation.insert' = -1"),
        ({"restart_every": 0}, "'restart_every' = 0"),
        ({"tune_last": 10}, "'tune_last' = 10: tune_last requires restart_every"),
        ({"tune_last": 9, "tune_first": 1, "restart_every": 10}, "tune_last = 10 must be less"),
        ({"tune_first": 10, "restart_every": 10}, "tune_last = 10 must be less"),
        ({"restart_from": "worst"}, "'restart_from' = 'worst': .*'initial' or 'best'"),
        ({"mutation": {"max_statements": 65}}, "'mutation.max_statements' = 65"),
        ({"mutation": {"op_set": "papr"}}, "'mutation.op_set' = 'papr'"),
        ({"init": "def train(w, g):\n  return u\n"}, "'init': line 2: 'u' is not defined here"),
    ],
)
def test_an_error_names_the_wrong_setting(settings: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        make_config({**VALID_SETTINGS, **settings})
    assert "\n" not in str(caught.value)


def test_an_error_names_a_missing_setting() -> None:
    with pytest.raises(UsageError, match="'tasks' is missing"):
        make_config({"init": VALID_SETTINGS["init"]})


def test_the_error_for_an_unknown_preset_or_baseline_suggests_a_name() -> None:
    with pytest.raises(UsageError, match="did you mean 'quick'"):
        load_preset("quik")
    with pytest.raises(UsageError, match="no baseline 'annealing'; there are random, restarts"):
        load_baseline("annealing")


@pytest.mark.parametrize("content", [b"a = [", b"\xff\xfe", b"a == 1"])
def test_an_error_names_a_file_that_is_not_toml(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "bad.toml"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=r"bad\.toml is not TOML"):
        read_toml(path)


def test_settings_are_frozen() -> None:
    config = make_config(VALID_SETTINGS)
    assert isinstance(config, Config)
    with pytest.raises(ValueError, match="frozen"):
        config.seed = 3  # type: ignore[misc]
