"""No text in a run and no file name can send control characters to the user's terminal."""

from __future__ import annotations

import ast
import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar
from xml.etree import ElementTree

import pytest
from rich.table import Table
from rich.text import Text

from evosearch.cli.live import LiveView
from evosearch.cli.progress import reporting
from evosearch.cli.terminal import Terminal
from evosearch.config import Config, MeasurementConfig
from evosearch.evaluation.funnel import Entrant, FunnelResult, Stage
from evosearch.evolution.evolution import Birth
from evosearch.measuring.measurement import Measurement
from evosearch.runs.directory import make_run_directory
from evosearch.runs.run import Run
from evosearch.runs.store import Store
from evosearch.statistics import Interval
from primitives import zoo
from primitives.text.printable import printable
from tests.evosearch import stored_runs

CONTROL = "\x1b[31m\x1b]0;title\x07\x9b2J\x7f\u202e[red]"
ESCAPED = r"\x1b[31m\x1b]0;title\x07\x9b2J\x7f\u202e[red]"


def is_safe(text: str) -> bool:
    """Whether a text has no control characters."""
    return printable(text, keep="\n\t") == text


class HostileStore(Store):
    """A store that writes control characters into text, and optionally invalid parents."""

    parent: ClassVar[Callable[[Birth], int | None]] = staticmethod(lambda birth: birth.parent)

    def add_births(self, births: Iterable[Birth]) -> None:
        changed = [
            replace(birth, mutation=f"{birth.mutation}{CONTROL}", parent=self.parent(birth))
            for birth in births
        ]
        super().add_births(changed)

    def add_measurements(self, request: Any, measurements: Mapping[str, Measurement]) -> None:
        by_name = {renamed(task): value for task, value in measurements.items()}
        super().add_measurements(request, by_name)

    def add_tuning(self, task: str, *rest: Any) -> None:
        super().add_tuning(renamed(task), *rest)

    def set_progress(self, counts: Any, elapsed: float, reason: Any, *rest: Any) -> None:
        super().set_progress(counts, elapsed, f"{reason}{CONTROL}", *rest)


def renamed(task: str) -> str:
    return f"one{CONTROL}" if task == "one" else task


def make_hostile_run(directory: Path) -> Path:
    """Create a run with control characters in its tasks, mutations, stop reason, environment."""

    def make_directory(where: Path, config: Config, environment: Any) -> None:
        tasks = [renamed(task) for task in config.tasks]
        make_run_directory(where, config.model_copy(update={"tasks": tasks}), {"python": CONTROL})

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(stored_runs, "Store", HostileStore)
        patched.setattr(stored_runs, "make_run_directory", make_directory)
        stored_runs.make_stored_run(directory, programs=40)
    return directory


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with control characters in all texts, also in its name and its funnel's winner."""
    directory = make_hostile_run(tmp_path_factory.mktemp("runs") / f"run{CONTROL}")
    run = Run(directory)
    best = run.best()
    assert best is not None
    name = f"elsewhere{CONTROL}#{best.id}"
    winner = Entrant(name, best.source, Interval(0.1, 0.0, 0.2), {f"one{CONTROL}": 0.1})
    run.save_funnel(FunnelResult((Stage("100x", 2, (winner,), 1),), winner).document())
    return directory


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (("status", "RUN"), (f"programs{ESCAPED}", f"funnel is elsewhere{ESCAPED}#")),
        (("status", "RUN"), (f"one{ESCAPED} ", f"run{ESCAPED}: 40 programs")),
        (("top", "RUN"), ("id",)),
        (("top", "RUN", "--pareto"), ("id",)),
        (("show", "RUN"), (f"initial{ESCAPED}",)),
        (("show", "RUN#winner"), ("one step",)),
        (("show", "RUN", "--as", "graph"), ("digraph",)),
        (("lineage", "RUN"), (f"initial{ESCAPED}",)),
        (("compare", "RUN"), (f"run{ESCAPED}", f"one{ESCAPED}")),
        (("simplify", "RUN", "--algebra-only"), ("statements",)),
        (("export", "RUN", "--to", "optax", "--name", "mine"), ("def mine",)),
        (("inject", "RUN", "lion"), (f"run{ESCAPED}#i",)),
    ],
)
def test_no_command_prints_control_characters(
    run: Any,
    hostile: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: tuple[str, ...],
    shown: tuple[str, ...],
) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    result = run(*(word.replace("RUN", str(hostile)) for word in words))
    assert result.status == 0, result.err
    assert is_safe(result.out)
    assert is_safe(result.err)
    for text in shown:
        assert text in result.out


@pytest.mark.parametrize("command", ["status", "top", "lineage", "compare"])
def test_json_output_escapes_control_characters(run: Any, hostile: Path, command: str) -> None:
    result = run(command, hostile, "--json")
    assert result.out.isascii()
    assert is_safe(result.out)
    json.loads(result.out)
    if command == "status":
        assert json.loads(result.out)["stop_reason"] == f"programs{CONTROL}"


@pytest.mark.parametrize(
    "words",
    [
        ("status", f"no{CONTROL}"),
        ("show", f"no{CONTROL}"),
        ("show", "RUN#999"),
        ("funnel", "RUN"),
        ("eval", f"x{CONTROL}.txt", "--task", "quadratic"),
        ("eval", "lion", "--task", f"quadratic{CONTROL}"),
        ("show", "lion", "-o", f"no{CONTROL}/x.txt"),
        ("search", f"{CONTROL}.toml"),
        ("search", "--tasks", f"{CONTROL}.py:x", "--out", "new"),
        ("resume", f"no{CONTROL}\nwhere"),
    ],
)
def test_no_error_prints_control_characters(
    run: Any, hostile: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run(*(word.replace("RUN", str(hostile)) for word in words))
    assert result.status == 2
    assert result.out == ""
    assert len(result.err.splitlines()) == 1
    assert is_safe(result.err)
    assert "\\x1b" in result.err


def test_pictures_of_a_hostile_run_are_valid_svg(run: Any, hostile: Path, tmp_path: Path) -> None:
    for command, text in (("lineage", f"initial{ESCAPED}"), ("compare", f"run{ESCAPED}")):
        path = tmp_path / f"{command}.svg"
        assert run(command, hostile, "-o", path).status == 0
        assert text in "".join(ElementTree.parse(path).getroot().itertext())


FILE_NAME = r"a$x_$ $\frac$ \$1 |`b`[red]<i>:smile:.txt"


def test_file_names_are_shown_literally_in_every_report(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """File names are not read as formulas of a plot, Markdown, or markup of the terminal."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "300")
    name = f"{CONTROL}{FILE_NAME}"
    Path(name).write_text(zoo.text("sgd"))
    small = ("--steps", "5", "--seeds", "2", "--tuning-seeds", "1", "--lrs", "1,4")
    outs = ("-o", "r.md", "-o", "r.svg", "-o", "r.png")
    result = run(
        "eval", "lion", name, "--task", "quadratic,valley", "--against", name, *small, *outs
    )
    assert result.status == 0, result.err
    assert is_safe(result.out)
    assert result.out.count(f"{ESCAPED}{FILE_NAME}") > 5
    drawn = "".join(ElementTree.parse("r.svg").getroot().itertext())
    assert f"{ESCAPED}{FILE_NAME}" in drawn
    report = Path("r.md").read_text()
    assert is_safe(report)
    tables = [line for line in report.splitlines() if line.startswith("| ")]
    for line in tables:
        bars = line.replace(r"\|", "").count("|")
        assert bars in (6, 8, 10), line  # fitness, a task, standings
    escaped = r"a\$x_\$ \$\\frac\$ \\\$1 \|\`b\`\[red\]\<i\>:smile:.txt"
    assert any(escaped in line for line in tables)
    assert escaped in report.splitlines()[-3]
    for out in ("b.png", "b.svg"):
        assert run("show", name, "--as", "behaviour", "-o", out).status == 0
    assert f"{ESCAPED}{FILE_NAME}" in "".join(ElementTree.parse("b.svg").getroot().itertext())


def terminal() -> Terminal:
    return Terminal(file=io.StringIO(), force_terminal=True, color_system="standard", width=200)


def without_rich_codes(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]|\r", "", text)


def test_a_terminal_escapes_text_in_everything_that_rich_draws() -> None:
    console = terminal()
    table = Table(title=f"title{CONTROL}")
    table.add_column(f"head{CONTROL}")
    table.add_row(f"cell{CONTROL}")
    table.add_row(Text(f"text{CONTROL}", style="bold"))
    console.print(table)
    console.print(f"line{CONTROL} :smile:", style="dim")
    with reporting(console) as report:
        report(f"progress{CONTROL}", 1, 2)
    view = LiveView(console, f"live{CONTROL}", MeasurementConfig())
    view.notice(f"notice{CONTROL}")
    with view:
        view.phase(f"phase{CONTROL}")
    text = without_rich_codes(console.file.getvalue())
    assert is_safe(text)
    for word in ("title", "head", "cell", "line", "progress", "live", "notice", "phase"):
        assert f"{word}{ESCAPED}" in text
    assert ":smile:" in text
    plain = [line for line in text.splitlines() if "cell" in line]
    widths = {len(line) for line in text.splitlines() if line.startswith(("│", "┃"))}
    assert plain
    assert len(widths) == 1  # escaped characters count for the width


@pytest.mark.parametrize(
    "parent", [lambda one: one.id, lambda one: 40 - one.id, lambda one: one.id + 1]
)
def test_a_cycle_of_parents_is_an_error_that_names_the_run(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, parent: Callable[[Birth], int]
) -> None:
    monkeypatch.setattr(HostileStore, "parent", staticmethod(parent))
    directory = make_hostile_run(tmp_path / "run")
    for words in (("show", f"{directory}#20"), ("lineage", directory)):
        result = run(*words)
        assert result.status == 1
        assert f"{directory} is damaged: the parent of program" in result.err
        assert f"run `evosearch check {directory}`" in result.err
        assert len(result.err.splitlines()) == 1


@pytest.mark.parametrize("number", ["9" * 19, "9" * 5000, "i" + "9" * 30, "٣", "-1", "1.5"])
def test_impossible_ids_are_refused(run: Any, hostile: Path, number: str) -> None:
    result = run("show", f"{hostile}#{number}")
    assert result.status == 2
    assert "not a program's id" in result.err


@pytest.mark.parametrize("kind", ["pipe", "folder", "device"])
def test_a_program_that_is_not_a_file_is_refused_without_waiting(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.chdir(tmp_path)
    name = "/dev/zero" if kind == "device" else "<unknown>"
    if kind == "pipe":
        os.mkfifo(name)
    elif kind == "folder":
        Path(name).mkdir()
    for words in (("show", name), ("export", name, "--to", "optax"), ("simplify", name)):
        result = run(*words)
        assert result.status == 2
        culprit = "holds no run" if kind == "folder" else "cannot read .*not a regular file"
        assert name in result.err
        assert culprit.split(" .*")[-1] in result.err


def test_a_terminal_with_another_encoding_gets_escapes() -> None:
    code = "import sys; sys.argv[1:] = ['show', '-']; from evosearch.cli import main; main()"
    completed = subprocess.run(
        [sys.executable, "-c", code],
        input="def train(w, g):\n  größe = g * 2.0\n  return größe\n".encode(),
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        check=True,
    )
    assert rb"gr\xf6\xdfe = g * 2.0" in completed.stdout
    assert completed.stderr == b""


CLI = Path(__file__).parents[2] / "evosearch/cli"


@pytest.mark.parametrize("path", sorted(CLI.glob("*.py")), ids=lambda path: path.name)
def test_commands_print_only_through_escaping_functions(path: Path) -> None:
    """Escaping functions are `say`, and `Terminal` for the output of rich."""
    called = {
        ast.unparse(node.func)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
    }
    forbidden = {"print", "typer.echo", "Console", "rich.print", "sys.stdout.write"}
    allowed = {"app.py": {"print"}}
    assert not called & forbidden - allowed.get(path.name, set())
