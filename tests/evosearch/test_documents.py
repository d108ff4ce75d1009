"""Tests that a damaged document or settings file gives an error of one line, not a traceback.

The documents are `funnel.json` and stored derivations. Damage that changes no value gives no error.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tomli_w

from evosearch.cli import app
from evosearch.cli.inspect import top
from evosearch.cli.search import search
from evosearch.cli.show import show
from evosearch.cli.status import status
from evosearch.config import make_config, read_toml
from evosearch.errors import EvosearchError, UsageError
from evosearch.evaluation.funnel import Entrant, FunnelResult, Stage
from evosearch.presets import load_preset
from evosearch.runs.directory import CONFIG
from evosearch.runs.documents import CHECKSUM, checksum, read_document, write_document
from evosearch.runs.funnel_document import FunnelDocument
from evosearch.runs.run import FUNNEL, Run
from evosearch.simplification.derivation_files import (
    derivation_path,
    read_derivation,
    save_derivation,
)
from evosearch.statistics import Interval
from primitives import zoo
from tests.evosearch.damage import damaged_bytes, damaged_documents
from tests.evosearch.simplification.test_printing import measured_derivation
from tests.evosearch.stored_runs import make_stored_run

DAMAGED_COPIES = 100
"""Number of damaged copies of each file that a test reads."""


@pytest.fixture(scope="module")
def run_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with the results of a funnel and the derivation of its champion."""
    directory = tmp_path_factory.mktemp("runs") / "run"
    make_stored_run(directory, programs=12)
    run = Run(directory)
    best = run.best()
    assert best is not None
    per_task = {"one-10x": 0.21, "two-10x": -0.01}
    winner = Entrant(f"{directory}#{best.id}", best.source, Interval(0.1, 0.05, 0.15), per_task)
    other = Entrant("runs/other#7", str(zoo.load("lion")), Interval(-0.1, -0.2, 0.0), per_task)
    stages = (Stage("10x", 4, (winner, other), 1), Stage("100x", 6, (winner,), 1))
    run.save_funnel(FunnelResult(stages, winner).document())
    assert save_derivation(directory, best.id, measured_derivation())
    return directory


def champion_id(directory: Path) -> int:
    best = Run(directory).best()
    assert best is not None
    return best.id


def outcome_of(
    command: Callable[[], Any], capsys: pytest.CaptureFixture[str]
) -> tuple[str | None, str]:
    """Return a command's output (None if it failed) and its error message.

    Exceptions that are not errors for users are raised again.
    """
    try:
        command()
    except Exception as error:
        capsys.readouterr()
        if app.exit_status(error) is None:
            raise
        return None, app._one_line(error)
    return capsys.readouterr().out, ""


def commands_by_document(directory: Path) -> dict[str, list[Callable[[], Any]]]:
    """Return the commands that read each document, by the document's path in the run."""
    return {
        FUNNEL: [
            lambda: status(directory, json=True),
            lambda: show(f"{directory}#winner", json=True),
        ],
        str(derivation_path(Path(), champion_id(directory))): [
            lambda: show(str(directory), json=True),
            lambda: show(f"{directory}:simplified", json=True),
        ],
    }


def test_a_document_reads_back_as_it_was_written(run_directory: Path) -> None:
    document = json.loads((run_directory / FUNNEL).read_text())
    digest = document.pop(CHECKSUM)
    assert digest == checksum(document)
    assert Run(run_directory).funnel() == FunnelDocument.model_validate(document)
    assert Run(run_directory).winner() == Run(run_directory).champion()
    assert read_derivation(run_directory, champion_id(run_directory)) == measured_derivation()


def test_the_checksum_depends_on_values_but_not_on_the_order_of_keys_or_on_spaces(
    run_directory: Path,
) -> None:
    path = run_directory / FUNNEL
    original = path.read_text()
    document = json.loads(original)
    assert checksum({"b": [1, 0.5], "a": "é\ud800"}) == checksum({"a": "é\ud800", "b": [1, 0.5]})
    assert checksum({"a": 1}) != checksum({"a": 1.0})
    try:
        reordered = dict(reversed(document.items()))
        path.write_text(json.dumps(reordered))
        assert Run(run_directory).funnel() is not None
        document["winner"]["fitness"] += 1e-9
        path.write_text(json.dumps(document))
        with pytest.raises(EvosearchError, match="the content does not match its checksum"):
            Run(run_directory).funnel()
        del document[CHECKSUM]  # documents of earlier versions have no checksum
        path.write_text(json.dumps(document))
        assert Run(run_directory).funnel() == FunnelDocument.model_validate(document)
    finally:
        path.write_text(original)


@pytest.mark.parametrize("document_index", [0, 1])
def test_a_document_with_damaged_bytes_is_an_error_or_gives_the_same_output(
    run_directory: Path, capsys: pytest.CaptureFixture[str], document_index: int
) -> None:
    name, commands = list(commands_by_document(run_directory).items())[document_index]
    path = run_directory / name
    original = path.read_bytes()
    original_outputs = [outcome_of(command, capsys)[0] for command in commands]
    assert None not in original_outputs
    errors = 0
    try:
        for content in damaged_bytes(original, DAMAGED_COPIES, seed=document_index):
            path.write_bytes(content)
            for command, original_output in zip(commands, original_outputs, strict=True):
                output, error = outcome_of(command, capsys)
                assert output in (original_output, None)
                if output is None:
                    errors += 1
                    assert error.startswith(f"{path} is damaged (")
                    assert "; remove it and run `evosearch " in error
                    assert "\n" not in error
    finally:
        path.write_bytes(original)
    assert errors > DAMAGED_COPIES


@pytest.mark.parametrize("with_checksum", [True, False])
@pytest.mark.parametrize("document_index", [0, 1])
def test_a_document_with_a_wrong_value_is_an_error_for_users(
    run_directory: Path,
    capsys: pytest.CaptureFixture[str],
    document_index: int,
    with_checksum: bool,
) -> None:
    """The document has either no checksum, as in earlier versions, or a checksum that matches."""
    name, commands_that_print_json = list(commands_by_document(run_directory).items())[
        document_index
    ]
    commands = [
        *commands_that_print_json,
        lambda: status(run_directory),
        lambda: show(str(run_directory)),
    ]
    path = run_directory / name
    original = path.read_bytes()
    document = json.loads(original)
    del document[CHECKSUM]
    refused_documents = 0
    try:
        for damaged in damaged_documents(document, DAMAGED_COPIES // 2, seed=document_index):
            text = json.dumps(damaged)
            is_finite = "NaN" not in text and "Infinity" not in text
            if with_checksum and is_finite:
                damaged = {**damaged, CHECKSUM: checksum(damaged)}
            path.write_text(json.dumps(damaged))
            errors = [outcome_of(command, capsys)[1] for command in commands]
            refused_documents += any(errors)
            for error in filter(None, errors):
                assert error.startswith(f"{path} is damaged (")
    finally:
        path.write_bytes(original)
    assert refused_documents > DAMAGED_COPIES // 4


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        (b"", "Expecting value: line 1 column 1"),
        (b"null", "not a JSON object"),
        (b"[1]", "not a JSON object"),
        (b"\xff\xfe{}", "'utf-8' codec can't decode byte"),
        (b'{"stages": [], "stages": []}', "duplicate key"),
        (b'{"stages": NaN}', "NaN is not a JSON number"),
        (b'{"stages": 1e999, "winner": null}', "stages: Input should be a valid list"),
        (b'{"stages": ' + b"9" * 5000 + b"}", "Exceeds the limit"),
        (b'{"a": ' * 100_000, "nested too deeply"),
        (b"[" * 100_000, "nested too deeply"),
        (b"{}", "stages: Field required"),
        (b'{"stages": [], "winner": null}', "stages: List should have at least 1 item"),
    ],
)
def test_the_error_for_a_damaged_document_names_cause_and_remedy(
    tmp_path: Path, content: bytes, cause: str
) -> None:
    path = tmp_path / FUNNEL
    path.write_bytes(content)
    with pytest.raises(EvosearchError) as caught:
        read_document(path, FunnelDocument, "evosearch funnel runs/x")
    message = str(caught.value)
    assert message.startswith(f"{path} is damaged (")
    assert cause in message
    assert message.endswith("remove it and run `evosearch funnel runs/x`")


def test_a_missing_document_is_none(tmp_path: Path) -> None:
    assert read_document(tmp_path / FUNNEL, FunnelDocument, "x") is None


def test_a_pipe_or_a_directory_in_place_of_a_document_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    for name in ("pipe", "folder"):
        with pytest.raises(EvosearchError, match=f"cannot read .*{name}.*; remove it and run `x`"):
            read_document(tmp_path / name, FunnelDocument, "x")


def test_a_document_with_an_infinite_number_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_document(tmp_path / FUNNEL, {"a": float("inf")})
    assert list(tmp_path.iterdir()) == []


def test_damage_to_a_runs_configuration_is_an_error_for_users(
    run_directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = run_directory / CONFIG
    original = path.read_bytes()
    commands = [lambda: status(run_directory), lambda: top(run_directory)]
    settings = read_toml(path)
    contents = [
        *damaged_bytes(original, DAMAGED_COPIES),
        *(toml(damaged) for damaged in damaged_documents(settings, DAMAGED_COPIES)),
    ]
    refused_files = 0
    try:
        for content in contents:
            path.write_bytes(content)
            errors = [outcome_of(command, capsys)[1] for command in commands]
            refused_files += any(errors)
            assert not any("\n" in error for error in errors)
    finally:
        path.write_bytes(original)
    assert refused_files > DAMAGED_COPIES


def test_damage_to_a_settings_file_is_an_error_for_users_or_starts_a_search(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Damage that leaves the settings valid starts a search; the search is replaced by a fake."""
    searches = []
    monkeypatch.setattr("evosearch.cli.search._run", lambda *args, **kwargs: searches.append(args))
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "mine.toml"
    settings = {**load_preset("standard"), "init": str(zoo.load("adamw_paper"))}
    original = tomli_w.dumps(settings).encode()
    contents = [
        *damaged_bytes(original, DAMAGED_COPIES // 4),
        *(toml(damaged) for damaged in damaged_documents(settings, DAMAGED_COPIES // 4)),
    ]
    refused_files = 0
    for number, content in enumerate(contents):
        path.write_bytes(content)
        out = tmp_path / f"run-{number}"
        output, _ = outcome_of(lambda out=out: search(config=path, out=out), capsys)
        refused_files += output is None
    assert refused_files + len(searches) == len(contents)
    assert refused_files > DAMAGED_COPIES // 8
    assert searches


def toml(settings: Any) -> bytes:
    """Return settings as TOML, or as invalid text if TOML has no such value, such as null."""
    try:
        return tomli_w.dumps(settings).encode("utf-8", "replace")
    except (TypeError, ValueError):
        return f"population = {settings!r}".encode("utf-8", "replace")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"population": 1e20}, r"'population' = 1e\+20: Input should be a smaller integer"),
        ({"population": 2_000_000}, "'population' = 2000000: .*less than or equal to 1000000"),
        ({"population": 10**5000}, "'population' = a very large int"),
        ({"tournament": 1e20}, r"'tournament' = 1e\+20"),
        ({"programs": 10**13}, "'programs' = 10000000000000"),
        ({"restart_every": 10**30}, "'restart_every' = 1"),
        ({"mutation": {"insert": float("inf")}}, "'mutation.insert' = inf: .*finite"),
        ({"mutation": {"insert": 1e7}}, "'mutation.insert' = 10000000.0"),
        ({"mutation": {"wrap": float("nan")}}, "'mutation.wrap' = nan"),
        ({"measurement": {"noise_floor": float("inf")}}, "'measurement.noise_floor' = inf"),
        ({"measurement": {"noise_floor": 11}}, "'measurement.noise_floor' = 11"),
        ({"measurement": {"hurdle": float("-inf")}}, "'measurement.hurdle' = -inf"),
        ({"measurement": {"max_seeds": 10**6}}, "'measurement.max_seeds' = 1000000"),
        ({"measurement": {"budgets": [1.0] * 101}}, "'measurement.budgets'.* at most 100 items"),
        ({"funnel": {"seeds": [1e30, 2]}}, r"'funnel.seeds.0' = 1e\+30"),
        ({"tasks": ["table\udcff.npz"]}, r"'table\\udcff.npz' is not valid UTF-8"),
        ({"tasks": [1] * 1000}, "and 995 more"),
        ({"x" * 10_000: 1}, r"config key 'x+\.\.\.' does not exist"),
    ],
)
def test_the_error_for_an_invalid_setting_is_short(settings: dict[str, Any], message: str) -> None:
    valid_settings = {"tasks": ["digits-mlp"], "init": str(zoo.load("adamw_paper"))}
    with pytest.raises(UsageError, match=message) as caught:
        make_config({**valid_settings, **settings})
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a = " + "[" * 100_000, "nested too deeply"),
        ("population = " + "9" * 5000, "a number with thousands of digits"),
        ("population = 0x" + "f" * 9000, "'population' = a very large int"),
        (".".join("a" * 90) + " = 1", "config key 'a' does not exist"),
        (".".join("a" * 400_000) + " = 1", "nested too deeply"),
        ("[" + " . ".join(['"a"'] * 100_000) + "]", "nested too deeply"),
        ("minutes = " + "9" * 5000 + ".0", "'minutes' = inf: .*finite"),
        ("x" * 10**6 + " = 1", "more than 1,000,000 bytes"),
    ],
)
def test_hostile_toml_is_a_one_line_error(
    run: Any, tmp_path: Path, text: str, message: str
) -> None:
    path = tmp_path / "hostile.toml"
    path.write_text(text)
    result = run("search", path, "--out", tmp_path / "out")
    assert result.status == 2
    assert len(result.err.splitlines()) == 1
    assert re.search(message, result.err), result.err
    assert not (tmp_path / "out").exists()


def test_a_database_that_is_a_directory_is_a_one_line_error(run: Any, tmp_path: Path) -> None:
    make_stored_run(tmp_path / "run", programs=3)
    (tmp_path / "run" / "run.db").rename(tmp_path / "elsewhere")
    (tmp_path / "run" / "run.db").mkdir()
    for command in ("status", "top", "show", "lineage", "compare"):
        result = run(command, tmp_path / "run")
        assert result.status in (1, 2)
        assert "run.db is " in result.err
        assert len(result.err.splitlines()) == 1


def test_this_file_tests_every_document_of_a_run(run_directory: Path) -> None:
    documents = {str(path.relative_to(run_directory)) for path in run_directory.rglob("*.json")}
    assert set(commands_by_document(run_directory)) == documents - {"environment.json"}
