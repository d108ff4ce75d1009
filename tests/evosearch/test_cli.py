"""The command line: help and JSON for every command, errors on one line."""

from __future__ import annotations

import json
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
from evosearch.runs.directory import make_run_directory
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


def test_the_table_lists_every_command(run: Any) -> None:
    run("--help")
    assert {info.name or info.callback.__name__ for info in app.registered_commands} == set(
        COMMANDS
    )


def test_help_does_not_import_jax() -> None:
    code = (
        "import sys; sys.argv = ['evosearch', '--help']\n"
        "from evosearch.cli import main\n"
        "try: main()\n"
        "except SystemExit: assert 'jax' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)


@pytest.mark.parametrize(
    ("words", "keys"),
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
def test_json_is_one_document(run: Any, words: tuple[str, ...], keys: set[str]) -> None:
    result = run(*words, "--json")
    assert result.status == 0
    assert keys <= set(json.loads(result.out))
    assert result.err == ""


def test_the_catalogue_lists_every_op_zoo_program_and_task(run: Any) -> None:
    assert {one["name"] for one in json.loads(run("ops", "--json").out)["ops"]} == set(OPS)
    listed = json.loads(run("zoo", "--json").out)["zoo"]
    assert {one["name"] for one in listed} == set(zoo.names())
    tasks = json.loads(run("tasks", "--json", "--split", "search").out)["tasks"]
    assert len(tasks) >= 4
    assert {"name", "split", "params", "steps", "metric"} <= set(tasks[0])


def test_a_task_is_shown_with_its_data_weights_and_metric(run: Any) -> None:
    task, source = proxies.load("digits-mlp"), proxies.data.digits()
    result = run("tasks", task.name).out
    shown = json.loads(run("tasks", task.name, "--json").out)
    for text in (task.description, task.metric, source.provenance, "weight_0 64x40"):
        assert text in " ".join(result.split())
    assert shown["weights"]["weight_0"] == [64, 40]
    assert shown["items"] == len(source.part("search")[0])
    assert "8 steps ago" in run("tasks", "deep-delayed").out


def test_tasks_snr_measures_signal_to_noise(run: Any) -> None:
    result = run("tasks", "--snr", "--task", "saddle", "--seeds", "2", "--json")
    (one,) = json.loads(result.out)["tasks"]
    assert one["task"] == "saddle"
    assert one["signal"] > 0 == one["noise"]  # the task is deterministic
    assert "saddle" in result.err
    assert "saddle" in run("tasks", "saddle", "--snr", "--seeds", "2").out


def test_status_top_and_show_of_a_run(run: Any, finished_run: Path) -> None:
    status = json.loads(run("status", finished_run, "--json").out)
    counts = {"generated", "invalid", "cache_hits", "evaluated", "measurements"}
    rates = {"cache_hit_rate", "redundant_fraction", "programs_per_second", "elapsed_seconds"}
    assert counts | rates | {"best", "stop_reason"} <= set(status)
    fields = {"id", "fitness", "fitness_low", "fitness_high", "per_task", "source"}
    assert fields <= set(status["best"])
    top = json.loads(run("top", finished_run, "-n", "5", "--json").out)["programs"]
    assert len(top) == 5
    assert fields | {"measurements", "statements", "state_memory"} <= set(top[0])
    lows = [(-one["fitness_low"], one["id"]) for one in top]
    assert lows == sorted(lows)
    rows = run("top", finished_run, "-n", "5").out.splitlines()
    assert rows[0].split()[-2:] == ["fitness", "from"]
    for one, row in zip(top, rows[1:], strict=False):
        assert row.split()[-2:] == ["fresh" if one["confirmed"] else "search", "seeds"]
    champion = json.loads(run("show", finished_run, "--json").out)
    assert champion["live_source"] == status["best"]["source"]
    by_number = json.loads(run("show", f"{finished_run}#{top[1]['id']}", "--json").out)
    assert by_number["live_source"] == top[1]["source"]


def test_inject_returns_an_id_that_show_accepts(run: Any, tmp_path: Path) -> None:
    directory = tmp_path / "run"
    make_run_directory(directory, config(), {})
    number = json.loads(run("inject", directory, "lion", "--json").out)["id"]
    shown = json.loads(run("show", f"{directory}#{number}", "--json").out)
    assert shown["source"] == str(zoo.load("lion"))


def test_programs_come_from_files_and_standard_input(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "mine.txt"
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
    result = run("show", "adafactor")
    entry = zoo.entry("adafactor")
    assert result.out.startswith(f"{entry.title}: {entry.idea}\n{entry.paper}\n")
    assert "epsilon1 1e-30, clipping threshold 1" in result.out
    assert entry.notes in " ".join(result.out.split())
    description = json.loads(run("show", "adafactor", "--json").out)["description"]
    assert description["hyperparameters"] == dict(entry.hyperparameters)
    assert str(zoo.load("adafactor")) in result.out
    for equation in equations(zoo.load("adafactor")):
        assert f"    {equation}\n" in result.out
    assert "per weight" in result.out
    assert "row: r" in result.out


def test_show_as_latex_prints_only_latex(run: Any) -> None:
    assert run("show", "lion", "--as", "latex").out == to_latex(zoo.load("lion")) + "\n"
    assert json.loads(run("show", "lion", "--json").out)["latex"] == to_latex(zoo.load("lion"))


def test_show_as_graph_prints_dot(run: Any) -> None:
    result = run("show", "lion", "--as", "graph")
    assert result.out.startswith("digraph")
    assert result.out == to_dot(to_graph(zoo.load("lion")))


@pytest.mark.parametrize(
    "words", [("l.png", "--as", "text"), ("l.svg", "--as", "latex"), ("l.tex", "--as", "graph")]
)
def test_show_refuses_a_suffix_of_another_form(
    run: Any, tmp_path: Path, words: tuple[str, ...]
) -> None:
    result = run("show", "lion", "-o", tmp_path / words[0], *words[1:])
    assert result.status == 2
    assert words[0] in result.err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "start"),
    [
        ("x.svg", "<svg"),
        ("x.dot", "digraph"),
        ("x.tex", "\\begin{align*}"),
        ("x.txt", "Lion"),
    ],
)
def test_show_chooses_the_form_by_the_suffix(
    run: Any, tmp_path: Path, name: str, start: str
) -> None:
    path = tmp_path / name
    result = run("show", "lion", "-o", path)
    assert result.status == 0
    assert result.out == f"wrote {path}\n"
    assert path.read_text().startswith(start)
    with_json = run("show", "lion", "-o", path, "--json")
    assert json.loads(with_json.out)["path"] == str(path)


def test_show_refuses_a_graph_in_a_file_that_cannot_hold_one(run: Any, tmp_path: Path) -> None:
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
        table = lines[: lines.index("")]
        assert len(table) == len(names) + 1
    tables = run("tasks").out.split("\n\n")
    for split, lines in zip(proxies.task.SPLITS, map(str.splitlines, tables), strict=False):
        assert lines[0].startswith(split)
        assert [line.split()[0] for line in lines[2:]] == list(proxies.names(split))
    ops = run("ops").out
    for op in OPS.values():
        assert op.summary in ops
    assert "s a scalar" in ops
    assert "per weight" in run("zoo").out


def test_ops_prints_the_table_of_the_docs(run: Any) -> None:
    assert run("ops", "--markdown").out == language.markdown()


BAD_PROGRAMS = {
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
    "kinds that do not fit": (
        "def train(w, g, lr):\n  u = clip(g, g)\n  return u\n",
        r"line 2.*clip\(g, g\).*scalar.*tensor",
    ),
}


@pytest.mark.parametrize("command", ["show", "search", "eval"])
@pytest.mark.parametrize("what", BAD_PROGRAMS)
def test_a_bad_program_is_one_line_of_error_and_exit_2(
    run: Any, tmp_path: Path, what: str, command: str
) -> None:
    text, expected = BAD_PROGRAMS[what]
    path = tmp_path / "bad.txt"
    path.write_text(text)
    out = tmp_path / "out"
    words = {
        "show": ("show", path),
        "search": ("search", "--init", path, "--out", out),
        "eval": ("eval", path, "--task", "digits-mlp"),
    }[command]
    result = run(*words)
    assert result.status == 2
    assert len(result.err.splitlines()) == 1
    assert_matches(expected, result.err)
    assert result.out == ""
    assert not out.exists()


def assert_matches(pattern: str, text: str) -> None:
    import re

    assert re.search(pattern, text, re.DOTALL), text


@pytest.mark.parametrize(
    ("words", "expected"),
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
def test_an_error_names_what_does_not_exist_and_a_remedy(
    run: Any, words: tuple[str, ...], expected: str
) -> None:
    result = run(*words)
    assert result.status == 2
    assert expected in result.err
    assert "Traceback" not in result.err
    assert len(result.err.splitlines()) == 1


def test_a_baseline_overrides_settings_and_limits_replace_the_presets(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from evosearch.runs.directory import read_config

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("evosearch.cli.search._run", lambda *args, **kwargs: None)
    Path("mine.toml").write_text('population = 77\n[mutation]\nop_set = "full"\n')
    words = ("mine.toml", "--preset", "quick", "--baseline", "tuning", "--trainings", "500")
    assert run("search", *words).status == 0
    made = read_config(Path("runs/mine-tuning"))
    assert (made.population, made.tournament) == (77, 3)
    assert (made.mutation.op_set, made.mutation.insert, made.mutation.tune) == ("full", 0, 1)
    assert (made.programs, made.trainings, made.minutes) == (None, 500, None)
    assert run("search", "--baseline", "restarts-from-best", "--minutes", "2").status == 0
    restarts = read_config(Path("runs/quick-restarts-from-best"))
    assert (restarts.restart_every, restarts.restart_from) == (5000, "best")
    assert (restarts.programs, restarts.trainings, restarts.minutes) == (None, None, 2)


def test_an_error_names_a_wrong_setting_and_nothing_is_written(run: Any, tmp_path: Path) -> None:
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


def test_a_directory_that_holds_a_run_is_refused(run: Any, finished_run: Path) -> None:
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

    broken = replace(
        proxies.load("digits-mlp"), steps=3, loss=lambda params, batch, key: jnp.float32(jnp.nan)
    )
    monkeypatch.setattr(proxies, "load", lambda name: broken)
    result = run("search", "--tasks", "digits-mlp", "--programs", "5", "--out", tmp_path / "out")
    assert result.status == 1
    assert "'digits-mlp' cannot be searched on" in result.err
    assert "no finite loss" in result.err


def test_the_public_python_functions_exist() -> None:
    for name in ("search", "open_run", "evaluate", "resume", "make_config", "load_preset"):
        assert callable(getattr(evosearch, name))
    with pytest.raises(AttributeError):
        evosearch.nothing  # noqa: B018


def test_eval_over_tasks_writes_reports_and_counts_looks(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ("eval", "sgd", "--task", "quadratic,valley", "--against", "adamw", "--lrs", "1,4")
    small = ("--steps", "5", "--seeds", "2", "--tuning-seeds", "1", "--decays", "0.1")
    result = run(*words, *small, "-o", "report.md", "-o", "report.json", "--json")
    assert result.status == 0, result.err
    document = json.loads(result.out)
    assert json.loads((tmp_path / "report.json").read_text()) == document
    assert {trial["decay"] for trial in document["tasks"][0]["results"][0]["trials"]} >= {0.0, 0.1}
    assert [one["program"] for one in document["standings"]]
    assert "| sgd |" in (tmp_path / "report.md").read_text()
    again = run(*words, *small)
    assert again.status == 0
    assert "geometric mean" in again.out


@pytest.mark.parametrize(
    ("words", "culprit"),
    [
        (("eval", "lion"), "exactly one of --task NAME, --suite SPLIT"),
        (("eval", "lion", "--task", "quadratic", "--suite", "search"), "exactly one of --task"),
        (("eval", "lion", "--task", "quadratic", "-o", "a.txt"), "must be one of .md"),
        (("eval", "optax:moun", "--task", "quadratic"), "did you mean 'optax:muon'"),
        (("eval", "lion", "--task", "quadratic", "--schedule", "cosin"), "did you mean 'cosine'"),
        (("show", "runs/example#winner"), "evosearch funnel runs/example"),
    ],
)
def test_an_error_names_what_cannot_be_evaluated(
    run: Any, words: tuple[str, ...], culprit: str
) -> None:
    result = run(*words)
    assert result.status == 2
    assert culprit in result.err


def _only_the_lock(directory: Path) -> None:
    (directory / "lock").touch()


def _an_empty_database(directory: Path) -> None:
    (directory / "lock").touch()
    (directory / "run.db").touch()


def _tables_without_rows(directory: Path) -> None:
    with sqlite3.connect(directory / "run.db") as db:
        db.execute("create table meta (key text primary key, value text not null)")
        db.execute("create table programs (id integer primary key)")


@pytest.mark.parametrize("left", [_only_the_lock, _an_empty_database, _tables_without_rows])
def test_a_search_replaces_a_run_whose_creation_was_interrupted(
    run: Any, tmp_path: Path, left: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_losses.use_fake_scorer(monkeypatch)
    path, directory = tmp_path / "c.toml", tmp_path / "run"
    path.write_text(fake_losses.config(programs=6).to_toml())
    directory.mkdir()
    left(directory)
    for command in ("status", "resume"):
        result = run(command, directory)
        assert result.status == 2
        assert "interrupted" in result.err or "config.toml is missing" in result.err
    result = run("search", path, "--out", directory)
    assert result.status == 0
    assert "creating a run was interrupted here; starting over" in result.err
    result = run("search", path, "--out", directory)
    assert result.status == 2
    assert "holds a run already" in result.err


@pytest.mark.parametrize("name", ["config.toml", "environment.json", "log.jsonl", "best.txt"])
def test_a_search_overwrites_no_files(run: Any, tmp_path: Path, name: str) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / name).write_text("# mine")
    (tmp_path / "c.toml").write_text(fake_losses.config(programs=6).to_toml())
    result = run("search", tmp_path / "c.toml", "--out", tmp_path / "mine")
    assert result.status == 2
    assert f"has a file {name}, which a run would overwrite; choose a new directory" in result.err
    assert [path.name for path in (tmp_path / "mine").iterdir()] == [name]
    assert (tmp_path / "mine" / name).read_text() == "# mine"


def test_an_injection_can_be_withdrawn(run: Any, tmp_path: Path) -> None:
    make_run_directory(tmp_path / "run", config(), {})
    assert "injected as i1" in run("inject", tmp_path / "run", "lion").out
    assert "will not use i1" in run("inject", tmp_path / "run", "--withdraw", "i1").out
    for words, message in (
        (("--withdraw", "i9"), "no injected program i9"),
        (("--withdraw", "x"), "give the id"),
        (("lion", "--withdraw", "i1"), "either"),
        ((), "either"),
    ):
        refused = run("inject", tmp_path / "run", *words)
        assert refused.status == 2
        assert message in refused.err


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
    repaired = [one["subject"] for one in json.loads(result.out)["findings"] if one["repaired"]]
    assert repaired == ["best.txt"]
