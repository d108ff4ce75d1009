"""Tests that no text of a run and no file name sends control characters to the user's terminal."""

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
"""Sequences that change colours, the title of the window and the direction of text."""
ESCAPED = r"\x1b[31m\x1b]0;title\x07\x9b2J\x7f\u202e[red]"
"""What is printed in place of `CONTROL`."""


def has_no_control_characters(text: str) -> bool:
    """Whether a text has no control characters but line breaks and tabs."""
    return printable(text, keep="\n\t") == text


class HostileStore(Store):
    """A store that adds control characters to the texts that it writes."""

    parent_of: ClassVar[Callable[[Birth], int | None]] = staticmethod(lambda birth: birth.parent)
    """Function from a birth to the id that is stored as the id of the parent."""

    def add_births(self, births: Iterable[Birth]) -> None:
        changed = [
            replace(birth, mutation=f"{birth.mutation}{CONTROL}", parent=self.parent_of(birth))
            for birth in births
        ]
        super().add_births(changed)

    def add_measurements(self, results: Iterable[tuple[Any, Mapping[str, Measurement]]]) -> None:
        super().add_measurements(
            (request, {hostile_name(task): value for task, value in measurements.items()})
            for request, measurements in results
        )

    def add_tuning(self, task: str, *args: Any) -> None:
        super().add_tuning(hostile_name(task), *args)

    def set_progress(self, counts: Any, elapsed: float, reason: Any, *args: Any) -> None:
        super().set_progress(counts, elapsed, f"{reason}{CONTROL}", *args)


def hostile_name(task: str) -> str:
    """Return the task's name, with control characters if the task is `one`."""
    return f"one{CONTROL}" if task == "one" else task


def make_hostile_run(directory: Path) -> Path:
    """Make a run with control characters in its tasks, mutations, stop reason and environment."""

    def make_hostile_directory(path: Path, config: Config, environment: Any) -> None:
        tasks = [hostile_name(task) for task in config.tasks]
        make_run_directory(path, config.model_copy(update={"tasks": tasks}), {"python": CONTROL})

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stored_runs, "Store", HostileStore)
        patch.setattr(stored_runs, "make_run_directory", make_hostile_directory)
        stored_runs.make_stored_run(directory, programs=40)
    return directory


@pytest.fixture(scope="module")
def hostile_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with control characters in all texts, in its name and in its funnel's winner."""
    directory = make_hostile_run(tmp_path_factory.mktemp("runs") / f"run{CONTROL}")
    run = Run(directory)
    best = run.best()
    assert best is not None
    name = f"elsewhere{CONTROL}#{best.id}"
    winner = Entrant(name, best.source, Interval(0.1, 0.0, 0.2), {f"one{CONTROL}": 0.1})
    run.save_funnel(FunnelResult((Stage("100x", 2, (winner,), 1),), winner).document())
    return directory


@pytest.mark.parametrize(
    ("arguments", "texts"),
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
    hostile_run: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    texts: tuple[str, ...],
) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    result = run(*(argument.replace("RUN", str(hostile_run)) for argument in arguments))
    assert result.status == 0, result.err
    assert has_no_control_characters(result.out)
    assert has_no_control_characters(result.err)
    for text in texts:
        assert text in result.out


@pytest.mark.parametrize("command", ["status", "top", "lineage", "compare"])
def test_json_output_escapes_control_characters(run: Any, hostile_run: Path, command: str) -> None:
    result = run(command, hostile_run, "--json")
    assert result.out.isascii()
    assert has_no_control_characters(result.out)
    json.loads(result.out)
    if command == "status":
        assert json.loads(result.out)["stop_reason"] == f"programs{CONTROL}"


@pytest.mark.parametrize(
    "arguments",
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
    run: Any,
    hostile_run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run(*(argument.replace("RUN", str(hostile_run)) for argument in arguments))
    assert result.status == 2
    assert result.out == ""
    assert len(result.err.splitlines()) == 1
    assert has_no_control_characters(result.err)
    assert "\\x1b" in result.err


def text_of_svg(path: Path) -> str:
    return "".join(ElementTree.parse(path).getroot().itertext())


def test_plots_of_a_hostile_run_are_valid_svg(run: Any, hostile_run: Path, tmp_path: Path) -> None:
    for command, text in (("lineage", f"initial{ESCAPED}"), ("compare", f"run{ESCAPED}")):
        path = tmp_path / f"{command}.svg"
        assert run(command, hostile_run, "-o", path).status == 0
        assert text in text_of_svg(path)


FILE_NAME = r"a$x_$ $\frac$ \$1 |`b`[red]<i>:smile:.txt"
"""A name with characters that have a meaning in LaTeX, Markdown, HTML and rich."""


def test_a_file_name_is_shown_literally_in_every_report(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "300")
    name = f"{CONTROL}{FILE_NAME}"
    Path(name).write_text(zoo.text("sgd"))
    contenders = ("eval", "lion", name, "--against", name, "--task", "quadratic,valley")
    sizes = ("--steps", "5", "--seeds", "2", "--tuning-seeds", "1", "--lrs", "1,4")
    reports = ("-o", "r.md", "-o", "r.svg", "-o", "r.png")
    result = run(*contenders, *sizes, *reports)
    assert result.status == 0, result.err
    assert has_no_control_characters(result.out)
    assert result.out.count(f"{ESCAPED}{FILE_NAME}") > 5
    assert f"{ESCAPED}{FILE_NAME}" in text_of_svg(Path("r.svg"))
    markdown = Path("r.md").read_text()
    assert has_no_control_characters(markdown)
    table_lines = [line for line in markdown.splitlines() if line.startswith("| ")]
    for line in table_lines:
        separators = line.replace(r"\|", "").count("|")
        # A table of fitness has 5 columns, a table of a task 7, the table of standings 9.
        assert separators - 1 in (5, 7, 9), line
    name_in_markdown = r"a\$x_\$ \$\\frac\$ \\\$1 \|\`b\`\[red\]\<i\>:smile:.txt"
    assert any(name_in_markdown in line for line in table_lines)
    caption_of_the_last_table = markdown.splitlines()[-3]
    assert name_in_markdown in caption_of_the_last_table
    for path in ("b.png", "b.svg"):
        assert run("show", name, "--as", "behaviour", "-o", path).status == 0
    assert f"{ESCAPED}{FILE_NAME}" in text_of_svg(Path("b.svg"))


def without_rich_codes(text: str) -> str:
    """Return text without the control codes for colours and the cursor that rich prints."""
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]|\r", "", text)


def test_a_terminal_escapes_all_text_that_rich_prints() -> None:
    console = Terminal(file=io.StringIO(), force_terminal=True, color_system="standard", width=200)
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
    assert has_no_control_characters(text)
    for word in ("title", "head", "cell", "line", "progress", "live", "notice", "phase"):
        assert f"{word}{ESCAPED}" in text
    assert ":smile:" in text
    # All rows of the table have the same width, so escaped characters count for the width.
    row_widths = {len(line) for line in text.splitlines() if line.startswith(("│", "┃"))}
    assert len(row_widths) == 1


@pytest.mark.parametrize(
    "parent_of",
    [lambda birth: birth.id, lambda birth: 40 - birth.id, lambda birth: birth.id + 1],
    ids=["itself", "programs n and 40 - n are each other's parents", "the next program"],
)
def test_a_cycle_of_parents_is_an_error_that_names_the_run(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, parent_of: Callable[[Birth], int]
) -> None:
    monkeypatch.setattr(HostileStore, "parent_of", staticmethod(parent_of))
    directory = make_hostile_run(tmp_path / "run")
    for arguments in (("show", f"{directory}#20"), ("lineage", directory)):
        result = run(*arguments)
        assert result.status == 1
        assert f"{directory} is damaged: the parent of program" in result.err
        assert f"run `evosearch check {directory}`" in result.err
        assert len(result.err.splitlines()) == 1


@pytest.mark.parametrize("program_id", ["9" * 19, "9" * 5000, "i" + "9" * 30, "٣", "-1", "1.5"])
def test_impossible_ids_are_refused(run: Any, hostile_run: Path, program_id: str) -> None:
    result = run("show", f"{hostile_run}#{program_id}")
    assert result.status == 2
    assert "not a program's id" in result.err


@pytest.mark.parametrize("kind", ["pipe", "folder", "device"])
def test_a_program_that_is_not_a_regular_file_is_refused_at_once(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """A command that opens a pipe waits until another process writes to the pipe."""
    monkeypatch.chdir(tmp_path)
    # Python would open a file of the name `<unknown>` to quote a syntax error of source without a
    # file.
    name = "/dev/zero" if kind == "device" else "<unknown>"
    if kind == "pipe":
        os.mkfifo(name)
    elif kind == "folder":
        Path(name).mkdir()
    for arguments in (("show", name), ("export", name, "--to", "optax"), ("simplify", name)):
        result = run(*arguments)
        assert result.status == 2
        cause = "holds no run" if kind == "folder" else "not a regular file"
        assert name in result.err
        assert cause in result.err


def test_characters_that_the_encoding_of_the_terminal_lacks_are_escaped() -> None:
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


COMMAND_MODULES = sorted((Path(__file__).parents[2] / "evosearch/cli").glob("*.py"))


@pytest.mark.parametrize("path", COMMAND_MODULES, ids=lambda path: path.name)
def test_commands_print_only_through_functions_that_escape_control_characters(path: Path) -> None:
    """The functions that escape are `say`, and the methods of `Terminal` for output of rich."""
    called_functions = {
        ast.unparse(node.func)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
    }
    forbidden = {"print", "typer.echo", "Console", "rich.print", "sys.stdout.write"}
    exceptions = {"app.py": {"print"}}
    assert not called_functions & (forbidden - exceptions.get(path.name, set()))
