"""Tests that every command of the command line has help, JSON output and errors of one line."""

from __future__ import annotations

import json
import re
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import evosearch
import proxies
from evosearch.cli.app import app
from evosearch.pipeline.pipeline import search
from evosearch.runs.directory import make_run_directory, read_config
from primitives import OPS, equations, to_dot, to_graph, to_latex, zoo
from primitives.explain import language
from tests.evosearch import fake_losses
from tests.evosearch.stored_runs import config
from tests.evosearch.test_search import small_config

COMMANDS = (
    "search",
    "resume",
    "status",
    "top",
    "show",
    "simplify",
    "lineage",
    "funnel",
    "export",
    "eval",
    "compare",
    "audit",
    "inject",
    "check",
    "tasks",
    "ops",
    "zoo",
    "bench",
)


@pytest.fixture(scope="module")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small finished run."""
    directory = tmp_path_factory.mktemp("runs") / "finished"
    return search(small_config(programs=60), directory).directory


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_and_json(run: Any, command: str) -> None:
    result = run(command, "--help")
    assert result.status == 0
    assert "--json" in result.out
    assert len(result.out.splitlines()) > 5


def test_this_file_lists_every_command(run: Any) -> None:
    run("--help")
    registered = {info.name or info.callback.__name__ for info in app.registered_commands}
    assert registered == set(COMMANDS)


def test_help_does_not_import_jax() -> None:
    code = (
        "import sys; sys.argv = ['evosearch', '--help']\n"
        "from evosearch.cli import main\n"
        "try: main()\n"
        "except SystemExit: assert 'jax' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)


@pytest.mark.parametrize(
    ("arguments", "keys"),
    [
        (("tasks",), {"tasks"}),
        (("ops",), {"ops"}),
        (("zoo",), {"zoo"}),
        (
            ("show", "lion"),
            {"source", "statements", "live_statements", "semantic_key", "kinds", "state_memory"}
            | {"live_source", "description", "equations", "latex"},
        ),
    ],
)
def test_json_output_is_one_document(run: Any, arguments: tuple[str, ...], keys: set[str]) -> None:
    result = run(*arguments, "--json")
    assert result.status == 0
    assert keys <= set(json.loads(result.out))
    assert result.err == ""


def test_the_commands_ops_zoo_and_tasks_list_every_op_program_and_search_task(run: Any) -> None:
    ops = json.loads(run("ops", "--json").out)["ops"]
    assert {op["name"] for op in ops} == set(OPS)
    programs = json.loads(run("zoo", "--json").out)["zoo"]
    assert {program["name"] for program in programs} == set(zoo.names())
    tasks = json.loads(run("tasks", "--json", "--split", "search").out)["tasks"]
    assert {task["name"] for task in tasks} == set(proxies.names("search"))
    assert {"name", "split", "params", "steps", "metric"} <= set(tasks[0])


def test_a_task_is_shown_with_its_data_weights_and_metric(run: Any) -> None:
    task, source = proxies.load("digits-mlp"), proxies.data.digits()
    text = " ".join(run("tasks", task.name).out.split())
    for part in (task.description, task.metric, source.provenance, "weight_0 64x40"):
        assert part in text
    document = json.loads(run("tasks", task.name, "--json").out)
    assert document["weights"]["weight_0"] == [64, 40]
    assert document["items"] == len(source.part("search")[0])
    assert "8 steps ago" in run("tasks", "deep-delayed").out


def test_tasks_with_snr_prints_the_signal_and_the_noise_of_a_task(run: Any) -> None:
    result = run("tasks", "--snr", "--task", "saddle", "--seeds", "2", "--json")
    (row,) = json.loads(result.out)["tasks"]
    assert row["task"] == "saddle"
    assert row["signal"] > 0
    assert row["noise"] == 0  # the task is deterministic
    assert "saddle" in result.err
    assert "saddle" in run("tasks", "saddle", "--snr", "--seeds", "2").out


PROGRAM_KEYS = {"id", "fitness", "fitness_low", "fitness_high", "per_task", "source"}
"""JSON keys of a program that a search has measured."""


def test_status_prints_counts_rates_and_the_best_program(run: Any, finished_run: Path) -> None:
    status = json.loads(run("status", finished_run, "--json").out)
    counts = {"generated", "invalid", "cache_hits", "evaluated", "measurements"}
    rates = {"cache_hit_rate", "redundant_fraction", "programs_per_second", "elapsed_seconds"}
    assert counts | rates | {"best", "stop_reason"} <= set(status)
    assert set(status["best"]) >= PROGRAM_KEYS


def test_top_sorts_programs_by_the_lower_bound_of_fitness(run: Any, finished_run: Path) -> None:
    programs = json.loads(run("top", finished_run, "-n", "5", "--json").out)["programs"]
    assert len(programs) == 5
    assert PROGRAM_KEYS | {"measurements", "statements", "state_memory"} <= set(programs[0])
    ranks = [(-program["fitness_low"], program["id"]) for program in programs]
    assert ranks == sorted(ranks)
    header, *rows = run("top", finished_run, "-n", "5").out.splitlines()
    assert header.split()[-2:] == ["fitness", "from"]
    for program, row in zip(programs, rows, strict=False):
        assert row.split()[-2:] == ["fresh" if program["confirmed"] else "search", "seeds"]


def test_show_prints_the_champion_or_a_program_by_its_id(run: Any, finished_run: Path) -> None:
    status = json.loads(run("status", finished_run, "--json").out)
    champion = json.loads(run("show", finished_run, "--json").out)
    assert champion["live_source"] == status["best"]["source"]
    program = json.loads(run("top", finished_run, "-n", "2", "--json").out)["programs"][1]
    document = json.loads(run("show", f"{finished_run}#{program['id']}", "--json").out)
    assert document["live_source"] == program["source"]


def test_inject_returns_an_id_that_show_accepts(run: Any, tmp_path: Path) -> None:
    directory = tmp_path / "run"
    make_run_directory(directory, config(), {})
    injection_id = json.loads(run("inject", directory, "lion", "--json").out)["id"]
    document = json.loads(run("show", f"{directory}#{injection_id}", "--json").out)
    assert document["source"] == str(zoo.load("lion"))


def test_programs_come_from_files_and_standard_input(run: Any, tmp_path: Path) -> None:
    path = tmp_path / "program.txt"
    path.write_text(zoo.text("adam"))
    assert json.loads(run("show", path, "--json").out)["source"] == str(zoo.load("adam"))
    code = (
        "import sys; sys.argv = ['evosearch', 'show', '-']; from evosearch.cli import main; main()"
    )
    piped = subprocess.run(
        [sys.executable, "-c", code],
        input=zoo.text("sgd"),
        capture_output=True,
        text=True,
        check=True,
    )
    assert str(zoo.load("sgd")) in piped.stdout


def test_show_prints_header_source_equations_memory_and_kinds(run: Any) -> None:
    text = run("show", "adafactor").out
    entry = zoo.entry("adafactor")
    assert text.startswith(f"{entry.title}: {entry.idea}\n{entry.paper}\n")
    assert "epsilon1 1e-30, clipping threshold 1" in text
    assert entry.notes in " ".join(text.split())
    description = json.loads(run("show", "adafactor", "--json").out)["description"]
    assert description["hyperparameters"] == dict(entry.hyperparameters)
    assert str(zoo.load("adafactor")) in text
    for equation in equations(zoo.load("adafactor")):
        assert f"    {equation}\n" in text
    assert "per weight" in text
    assert "row: r" in text


def test_show_as_latex_prints_only_latex(run: Any) -> None:
    assert run("show", "lion", "--as", "latex").out == to_latex(zoo.load("lion")) + "\n"
    assert json.loads(run("show", "lion", "--json").out)["latex"] == to_latex(zoo.load("lion"))


def test_show_as_graph_prints_dot(run: Any) -> None:
    result = run("show", "lion", "--as", "graph")
    assert result.out.startswith("digraph")
    assert result.out == to_dot(to_graph(zoo.load("lion")))


@pytest.mark.parametrize(
    ("file_name", "form"), [("l.png", "text"), ("l.svg", "latex"), ("l.tex", "graph")]
)
def test_show_refuses_a_file_whose_suffix_contradicts_the_option_as(
    run: Any, tmp_path: Path, file_name: str, form: str
) -> None:
    result = run("show", "lion", "-o", tmp_path / file_name, "--as", form)
    assert result.status == 2
    assert file_name in result.err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("file_name", "start"),
    [
        ("x.svg", "<svg"),
        ("x.dot", "digraph"),
        ("x.tex", "\\begin{align*}"),
        ("x.txt", "Lion"),
    ],
)
def test_show_writes_the_form_that_the_suffix_of_the_file_implies(
    run: Any, tmp_path: Path, file_name: str, start: str
) -> None:
    path = tmp_path / file_name
    result = run("show", "lion", "-o", path)
    assert result.status == 0
    assert result.out == f"wrote {path}\n"
    assert path.read_text().startswith(start)
    with_json = run("show", "lion", "-o", path, "--json")
    assert json.loads(with_json.out)["path"] == str(path)


def test_show_refuses_to_write_a_graph_as_png(run: Any, tmp_path: Path) -> None:
    result = run("show", "lion", "--as", "graph", "-o", tmp_path / "lion.png")
    assert result.status == 2
    assert ".svg or .dot" in result.err
    assert not (tmp_path / "lion.png").exists()


def test_tables_outside_a_terminal_are_not_truncated(
    run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    for command, names in {"ops": OPS, "zoo": zoo.names()}.items():
        lines = run(command).out.splitlines()
        _header, *rows = lines[: lines.index("")]
        assert len(rows) == len(names)
    tables = run("tasks").out.split("\n\n")
    for split, table in zip(proxies.task.SPLITS, tables, strict=False):
        title, _header, *rows = table.splitlines()
        assert title.startswith(split)
        assert [row.split()[0] for row in rows] == list(proxies.names(split))
    text = run("ops").out
    for op in OPS.values():
        assert op.summary in text
    assert "s a scalar" in text
    assert "per weight" in run("zoo").out


def test_ops_with_markdown_prints_the_table_of_the_documentation(run: Any) -> None:
    assert run("ops", "--markdown").out == language.markdown()


INVALID_PROGRAMS = {
    "an import": ("import os\n", "line 1"),
    "an unknown name": ("def train(w, g):\n  u = sgn(g)\n  return u\n", "line 2.*'sign'"),
    "an attribute": ("def train(w, g):\n  u = g.T\n  return u\n", "line 2.*attribute"),
    "a loop": ("def train(w, g):\n  for i in g:\n    u = g\n  return u\n", "line 2.*loop"),
    "a string": ("def train(w, g):\n  u = 'x'\n  return u\n", "line 2.*'x'"),
    "10,000 statements": (
        "def train(w, g):\n" + "  u = sign(g)\n" * 10_000 + "  return u\n",
        "more than 64|characters",
    ),
    "10 MB": ("def train(w, g):\n  u = g\n  return u\n" + "#" * 10_000_000, "characters"),
    "deep nesting": (
        "def train(w, g):\n  u = " + "sign(" * 150 + "g" + ")" * 150 + "\n  return u\n",
        "line 2: more than 64",
    ),
    "a NUL byte": ("def train(w, g):\n  u = g\0\n  return u\n", r"line 2.*\\x00"),
    "a name never assigned": ("def train(w, g):\n  u = h * g\n  return u\n", "line 2.*'h'"),
    "no return": ("def train(w, g):\n  u = g\n", "return"),
    "a state that is no parameter": ("def train(w, g):\n  m = g\n  return g, m\n", "line 3.*'m'"),
    "1e400": ("def train(w, g):\n  u = g * 1e400\n  return u\n", "line 2.*range"),
    "a wrong kind of argument": (
        "def train(w, g, lr):\n  u = clip(g, g)\n  return u\n",
        r"line 2.*clip\(g, g\).*scalar.*tensor",
    ),
}
"""Texts of invalid programs, each with a regular expression that the error message matches."""


@pytest.mark.parametrize("command", ["show", "search", "eval"])
@pytest.mark.parametrize("mistake", INVALID_PROGRAMS)
def test_an_invalid_program_ends_a_command_with_one_line_of_error_and_status_2(
    run: Any, tmp_path: Path, mistake: str, command: str
) -> None:
    text, pattern = INVALID_PROGRAMS[mistake]
    path = tmp_path / "invalid.txt"
    path.write_text(text)
    out = tmp_path / "out"
    arguments = {
        "show": ("show", path),
        "search": ("search", "--init", path, "--out", out),
        "eval": ("eval", path, "--task", "digits-mlp"),
    }[command]
    result = run(*arguments)
    assert result.status == 2
    assert len(result.err.splitlines()) == 1
    assert re.search(pattern, result.err, re.DOTALL), result.err
    assert result.out == ""
    assert not out.exists()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("show", "lino"), "did you mean 'lion'"),
        (("show", "runs/none#3"), "no program"),
        (("search", "--tasks", "digits-mpl"), "did you mean 'digits-mlp'"),
        (("search", "--tasks", "topics-transformer"), "held-out task"),
        (("search", "--preset", "quik"), "did you mean 'quick'"),
        (("search", "--baseline", "tunig"), "did you mean 'tuning'"),
        (("search", "missing.toml"), "cannot read missing.toml"),
        (("eval", "lion", "--task", "digits-mpl"), "did you mean 'digits-mlp'"),
        (("eval", "lion", "--task", "digits-mlp", "--against", "lino"), "did you mean 'lion'"),
        (("status", "nowhere"), "no such directory"),
        (("resume", "nowhere"), "no such directory"),
        (("top", "nowhere"), "holds no run"),
        (("inject", "nowhere", "lion"), "holds no run"),
        (("tasks", "--split", "serach"), "no split 'serach'"),
        (("eval", "lion", "--suite", "serach"), "no split 'serach'"),
        (("tasks", "digits-mpl"), "did you mean 'digits-mlp'"),
        (("tasks", "--task", "digits-mlp"), "--task requires --snr"),
    ],
)
def test_an_error_about_an_unknown_name_names_it_or_a_remedy(
    run: Any, arguments: tuple[str, ...], expected: str
) -> None:
    result = run(*arguments)
    assert result.status == 2
    assert expected in result.err
    assert "Traceback" not in result.err
    assert len(result.err.splitlines()) == 1


def test_a_baseline_overrides_settings_and_a_limit_replaces_the_limits_of_the_preset(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("evosearch.cli.search._run", lambda *args, **kwargs: None)
    Path("mine.toml").write_text('population = 77\n[mutation]\nop_set = "full"\n')
    arguments = ("mine.toml", "--preset", "quick", "--baseline", "tuning", "--trainings", "500")
    assert run("search", *arguments).status == 0
    tuning = read_config(Path("runs/mine-tuning"))
    assert (tuning.population, tuning.tournament) == (77, 3)
    assert tuning.mutation.op_set == "full"
    assert (tuning.mutation.insert, tuning.mutation.tune) == (0, 1)
    assert (tuning.programs, tuning.trainings, tuning.minutes) == (None, 500, None)
    assert run("search", "--baseline", "restarts-from-best", "--minutes", "2").status == 0
    restarts = read_config(Path("runs/quick-restarts-from-best"))
    assert (restarts.restart_every, restarts.restart_from) == (5000, "best")
    assert (restarts.programs, restarts.trainings, restarts.minutes) == (None, None, 2)


def test_an_unknown_setting_is_an_error_before_anything_is_written(
    run: Any, tmp_path: Path
) -> None:
    path = tmp_path / "wrong.toml"
    path.write_text('tasks = ["digits-mlp"]\npopulaton = 3\n')
    result = run("search", path, "--out", tmp_path / "out")
    assert result.status == 2
    assert "did you mean 'population'" in result.err
    assert not (tmp_path / "out").exists()


def test_names_with_brackets_are_printed_literally(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a[red]").mkdir()
    Path("a[red]/x.txt").write_text(zoo.text("sgd"))
    result = run("eval", "a[red]/x.txt", "--task", "quadratic", "--seeds", "2", "--steps", "5")
    assert result.status == 0
    assert "a[red]/x.txt" in result.out.replace("\n", "")
    assert "trainings" in result.err


def test_a_new_search_in_the_directory_of_a_run_is_refused(run: Any, finished_run: Path) -> None:
    result = run("search", "--out", finished_run)
    assert result.status == 2
    assert f"evosearch resume {finished_run}" in result.err


def test_the_error_for_an_unknown_id_gives_the_range_of_ids(run: Any, finished_run: Path) -> None:
    result = run("show", f"{finished_run}#999999")
    assert result.status == 2
    assert "ids go from 0 to 60" in result.err


def test_a_task_on_which_the_baseline_diverges_is_refused_before_the_search(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dataclasses import replace

    import jax.numpy as jnp

    task_with_nan_loss = replace(
        proxies.load("digits-mlp"), steps=3, loss=lambda params, batch, key: jnp.float32(jnp.nan)
    )
    monkeypatch.setattr(proxies, "load", lambda name: task_with_nan_loss)
    result = run("search", "--tasks", "digits-mlp", "--programs", "5", "--out", tmp_path / "out")
    assert result.status == 1
    assert "'digits-mlp' cannot be searched on" in result.err
    assert "no finite loss" in result.err


def test_the_public_python_functions_exist() -> None:
    for name in ("search", "open_run", "evaluate", "resume", "make_config", "load_preset"):
        assert callable(getattr(evosearch, name))
    with pytest.raises(AttributeError):
        evosearch.nothing  # noqa: B018


def test_eval_on_two_tasks_writes_reports_and_standings(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    contenders = ("eval", "sgd", "--against", "adamw", "--task", "quadratic,valley")
    sizes = ("--lrs", "1,4", "--decays", "0.1", "--steps", "5", "--seeds", "2")
    arguments = (*contenders, *sizes, "--tuning-seeds", "1")
    result = run(*arguments, "-o", "report.md", "-o", "report.json", "--json")
    assert result.status == 0, result.err
    document = json.loads(result.out)
    assert json.loads((tmp_path / "report.json").read_text()) == document
    trials = document["tasks"][0]["results"][0]["trials"]
    assert {trial["decay"] for trial in trials} >= {0.0, 0.1}
    assert {standing["program"] for standing in document["standings"]} == {"sgd", "adamw"}
    assert "| sgd |" in (tmp_path / "report.md").read_text()
    result_as_text = run(*arguments)
    assert result_as_text.status == 0
    assert "geometric mean" in result_as_text.out


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("eval", "lion"), "exactly one of --task NAME, --suite SPLIT"),
        (("eval", "lion", "--task", "quadratic", "--suite", "search"), "exactly one of --task"),
        (("eval", "lion", "--task", "quadratic", "-o", "a.txt"), "must be one of .md"),
        (("eval", "optax:moun", "--task", "quadratic"), "did you mean 'optax:muon'"),
        (("eval", "lion", "--task", "quadratic", "--schedule", "cosin"), "did you mean 'cosine'"),
        (("show", "runs/example#winner"), "evosearch funnel runs/example"),
    ],
)
def test_an_error_names_the_invalid_argument(
    run: Any, arguments: tuple[str, ...], expected: str
) -> None:
    result = run(*arguments)
    assert result.status == 2
    assert expected in result.err


def create_lock_only(directory: Path) -> None:
    (directory / "lock").touch()


def create_empty_database(directory: Path) -> None:
    (directory / "lock").touch()
    (directory / "run.db").touch()


def create_tables_without_rows(directory: Path) -> None:
    with sqlite3.connect(directory / "run.db") as db:
        db.execute("create table meta (key text primary key, value text not null)")
        db.execute("create table programs (id integer primary key)")


@pytest.mark.parametrize(
    "create_incomplete_run",
    [create_lock_only, create_empty_database, create_tables_without_rows],
)
def test_a_search_replaces_a_run_whose_creation_was_interrupted(
    run: Any,
    tmp_path: Path,
    create_incomplete_run: Callable[[Path], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fake_losses.use_fake_scorer(monkeypatch)
    config_path, directory = tmp_path / "c.toml", tmp_path / "run"
    config_path.write_text(fake_losses.config(programs=6).to_toml())
    directory.mkdir()
    create_incomplete_run(directory)
    for command in ("status", "resume"):
        result = run(command, directory)
        assert result.status == 2
        assert "interrupted" in result.err or "config.toml is missing" in result.err
    result = run("search", config_path, "--out", directory)
    assert result.status == 0
    assert "creating a run was interrupted here; starting over" in result.err
    result = run("search", config_path, "--out", directory)
    assert result.status == 2
    assert "holds a run already" in result.err


@pytest.mark.parametrize("name", ["config.toml", "environment.json", "log.jsonl", "best.txt"])
def test_a_search_does_not_overwrite_a_file_of_the_user(
    run: Any, tmp_path: Path, name: str
) -> None:
    config_path, directory = tmp_path / "c.toml", tmp_path / "run"
    config_path.write_text(fake_losses.config(programs=6).to_toml())
    directory.mkdir()
    (directory / name).write_text("# file of the user")
    result = run("search", config_path, "--out", directory)
    assert result.status == 2
    assert f"has a file {name}, which a run would overwrite; choose a new directory" in result.err
    assert [path.name for path in directory.iterdir()] == [name]
    assert (directory / name).read_text() == "# file of the user"


def test_an_injected_program_can_be_withdrawn_by_its_id(run: Any, tmp_path: Path) -> None:
    directory = tmp_path / "run"
    make_run_directory(directory, config(), {})
    assert "injected as i1" in run("inject", directory, "lion").out
    assert "will not use i1" in run("inject", directory, "--withdraw", "i1").out
    for arguments, message in (
        (("--withdraw", "i9"), "no injected program i9"),
        (("--withdraw", "x"), "give the id"),
        (("lion", "--withdraw", "i1"), "either"),
        ((), "either"),
    ):
        result = run("inject", directory, *arguments)
        assert result.status == 2
        assert message in result.err


def test_check_reports_damage_and_repairs_it(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_losses.use_fake_scorer(monkeypatch)
    search(fake_losses.config(programs=12), tmp_path / "run")
    result = run("check", tmp_path / "run")
    assert result.status == 0
    assert "WRONG" not in result.out
    (tmp_path / "run" / "best.txt").write_text("")
    result = run("check", tmp_path / "run")
    assert result.status == 1
    assert "WRONG     best.txt" in result.out
    result = run("check", tmp_path / "run", "--repair", "--json")
    assert result.status == 0
    findings = json.loads(result.out)["findings"]
    assert [item["subject"] for item in findings if item["repaired"]] == ["best.txt"]
