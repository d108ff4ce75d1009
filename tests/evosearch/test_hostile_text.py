"""A run from a stranger: nothing in it, and no file's name, commands the terminal of who looks."""

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

ESCAPES = "\x1b[31m\x1b]0;title\x07\x9b2J\x7f\u202e[red]"
SHOWN = r"\x1b[31m\x1b]0;title\x07\x9b2J\x7f\u202e[red]"


def is_safe(text: str) -> bool:
    """Whether a terminal shows all of it and obeys none of it."""
    return printable(text, keep="\n\t") == text


class StrangersStore(Store):
    """A store that writes escapes where a stranger might, and parents that cannot be."""

    parent: ClassVar[Callable[[Birth], int | None]] = staticmethod(lambda birth: birth.parent)

    def add_births(self, births: Iterable[Birth]) -> None:
        changed = [
            replace(one, mutation=f"{one.mutation}{ESCAPES}", parent=self.parent(one))
            for one in births
        ]
        super().add_births(changed)

    def add_measurements(self, request: Any, found: Mapping[str, Measurement]) -> None:
        super().add_measurements(request, {renamed(task): one for task, one in found.items()})

    def add_tuning(self, task: str, *rest: Any) -> None:
        super().add_tuning(renamed(task), *rest)

    def set_progress(self, counts: Any, elapsed: float, reason: Any, *rest: Any) -> None:
        super().set_progress(counts, elapsed, f"{reason}{ESCAPES}", *rest)


def renamed(task: str) -> str:
    return f"one{ESCAPES}" if task == "one" else task


def strangers_run(directory: Path) -> Path:
    """A search with escapes in its tasks, mutations, reason to stop and environment."""

    def made(where: Path, config: Config, environment: Any) -> None:
        tasks = [renamed(task) for task in config.tasks]
        make_run_directory(where, config.model_copy(update={"tasks": tasks}), {"python": ESCAPES})

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(stored_runs, "Store", StrangersStore)
        patched.setattr(stored_runs, "make_run_directory", made)
        stored_runs.stored(directory, programs=40)
    return directory


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A stranger's run whose name has escapes too, with a funnel's winner."""
    directory = strangers_run(tmp_path_factory.mktemp("runs") / f"run{ESCAPES}")
    run = Run(directory)
    best = run.best()
    assert best is not None
    name = f"elsewhere{ESCAPES}#{best.id}"
    winner = Entrant(name, best.source, Interval(0.1, 0.0, 0.2), {f"one{ESCAPES}": 0.1})
    run.save_funnel(FunnelResult((Stage("100x", 2, (winner,), 1),), winner).document())
    return directory


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (("status", "RUN"), (f"programs{SHOWN}", f"funnel is elsewhere{SHOWN}#")),
        (("status", "RUN"), (f"one{SHOWN} ", f"run{SHOWN}: 40 programs")),
        (("top", "RUN"), ("id",)),
        (("top", "RUN", "--pareto"), ("id",)),
        (("show", "RUN"), (f"initial{SHOWN}",)),
        (("show", "RUN#winner"), ("one step",)),
        (("show", "RUN", "--as", "graph"), ("digraph",)),
        (("lineage", "RUN"), (f"initial{SHOWN}",)),
        (("compare", "RUN"), (f"run{SHOWN}", f"one{SHOWN}")),
        (("simplify", "RUN", "--algebra-only"), ("statements",)),
        (("export", "RUN", "--to", "optax", "--name", "mine"), ("def mine",)),
        (("inject", "RUN", "lion"), (f"run{SHOWN}#i",)),
    ],
)
def test_no_command_prints_what_commands_a_terminal(
    run: Any,
    hostile: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: tuple[str, ...],
    shown: tuple[str, ...],
) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    said = run(*(word.replace("RUN", str(hostile)) for word in words))
    assert said.status == 0, said.err
    assert is_safe(said.out)
    assert is_safe(said.err)
    for one in shown:
        assert one in said.out


@pytest.mark.parametrize("command", ["status", "top", "lineage", "compare"])
def test_json_holds_what_is_there_in_ascii(run: Any, hostile: Path, command: str) -> None:
    said = run(command, hostile, "--json")
    assert said.out.isascii()
    assert is_safe(said.out)
    json.loads(said.out)
    if command == "status":
        assert json.loads(said.out)["stop_reason"] == f"programs{ESCAPES}"


@pytest.mark.parametrize(
    "words",
    [
        ("status", f"no{ESCAPES}"),
        ("show", f"no{ESCAPES}"),
        ("show", "RUN#999"),
        ("funnel", "RUN"),
        ("eval", f"x{ESCAPES}.txt", "--task", "quadratic"),
        ("eval", "lion", "--task", f"quadratic{ESCAPES}"),
        ("show", "lion", "-o", f"no{ESCAPES}/x.txt"),
        ("search", f"{ESCAPES}.toml"),
        ("search", "--tasks", f"{ESCAPES}.py:x", "--out", "new"),
        ("resume", f"no{ESCAPES}\nwhere"),
    ],
)
def test_no_error_prints_what_commands_a_terminal(
    run: Any, hostile: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    said = run(*(word.replace("RUN", str(hostile)) for word in words))
    assert said.status == 2
    assert said.out == ""
    assert len(said.err.splitlines()) == 1
    assert is_safe(said.err)
    assert "\\x1b" in said.err


def test_pictures_of_a_hostile_run_are_whole(run: Any, hostile: Path, tmp_path: Path) -> None:
    for command, text in (("lineage", f"initial{SHOWN}"), ("compare", f"run{SHOWN}")):
        path = tmp_path / f"{command}.svg"
        assert run(command, hostile, "-o", path).status == 0
        assert text in "".join(ElementTree.parse(path).getroot().itertext())


NAME = r"a$x_$ $\frac$ \$1 |`b`[red]<i>:smile:.txt"


def test_names_of_files_are_text_in_every_report(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No formula of a plot, cell or code of Markdown, markup or emoji of a terminal."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "300")
    name = f"{ESCAPES}{NAME}"
    Path(name).write_text(zoo.text("sgd"))
    small = ("--steps", "5", "--seeds", "2", "--tuning-seeds", "1", "--lrs", "1,4")
    outs = ("-o", "r.md", "-o", "r.svg", "-o", "r.png")
    said = run("eval", "lion", name, "--task", "quadratic,valley", "--against", name, *small, *outs)
    assert said.status == 0, said.err
    assert is_safe(said.out)
    assert said.out.count(f"{SHOWN}{NAME}") > 5
    drawn = "".join(ElementTree.parse("r.svg").getroot().itertext())
    assert f"{SHOWN}{NAME}" in drawn
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
    assert f"{SHOWN}{NAME}" in "".join(ElementTree.parse("b.svg").getroot().itertext())


def terminal() -> Terminal:
    return Terminal(file=io.StringIO(), force_terminal=True, color_system="standard", width=200)


def without_rich_codes(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]|\r", "", text)


def test_a_terminal_shows_text_in_whatever_rich_draws() -> None:
    console = terminal()
    table = Table(title=f"title{ESCAPES}")
    table.add_column(f"head{ESCAPES}")
    table.add_row(f"cell{ESCAPES}")
    table.add_row(Text(f"text{ESCAPES}", style="bold"))
    console.print(table)
    console.print(f"line{ESCAPES} :smile:", style="dim")
    with reporting(console) as report:
        report(f"progress{ESCAPES}", 1, 2)
    view = LiveView(console, f"live{ESCAPES}", MeasurementConfig())
    view.notice(f"notice{ESCAPES}")
    with view:
        view.phase(f"phase{ESCAPES}")
    said = without_rich_codes(console.file.getvalue())
    assert is_safe(said)
    for one in ("title", "head", "cell", "line", "progress", "live", "notice", "phase"):
        assert f"{one}{SHOWN}" in said
    assert ":smile:" in said
    plain = [line for line in said.splitlines() if "cell" in line]
    widths = {len(line) for line in said.splitlines() if line.startswith(("│", "┃"))}
    assert plain
    assert len(widths) == 1  # the escapes are counted


@pytest.mark.parametrize(
    "parent", [lambda one: one.id, lambda one: 40 - one.id, lambda one: one.id + 1]
)
def test_a_cycle_of_parents_is_damage_and_names_the_run(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, parent: Callable[[Birth], int]
) -> None:
    monkeypatch.setattr(StrangersStore, "parent", staticmethod(parent))
    directory = strangers_run(tmp_path / "run")
    for words in (("show", f"{directory}#20"), ("lineage", directory)):
        said = run(*words)
        assert said.status == 1
        assert f"{directory} is damaged: the parent of program" in said.err
        assert f"run `evosearch check {directory}`" in said.err
        assert len(said.err.splitlines()) == 1


@pytest.mark.parametrize("number", ["9" * 19, "9" * 5000, "i" + "9" * 30, "٣", "-1", "1.5"])
def test_ids_that_no_database_holds_are_refused(run: Any, hostile: Path, number: str) -> None:
    said = run("show", f"{hostile}#{number}")
    assert said.status == 2
    assert "not a program's id" in said.err


@pytest.mark.parametrize("kind", ["pipe", "folder", "device"])
def test_a_program_that_is_no_file_is_refused_and_nothing_waits(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.chdir(tmp_path)
    name = "/dev/zero" if kind == "device" else "<unknown>"
    if kind == "pipe":
        os.mkfifo(name)
    elif kind == "folder":
        Path(name).mkdir()
    for words in (("show", name), ("export", name, "--to", "optax"), ("simplify", name)):
        said = run(*words)
        assert said.status == 2
        culprit = "holds no run" if kind == "folder" else "cannot read .*not a regular file"
        assert name in said.err
        assert culprit.split(" .*")[-1] in said.err


def test_a_terminal_of_another_encoding_gets_escapes() -> None:
    code = "import sys; sys.argv[1:] = ['show', '-']; from evosearch.cli import main; main()"
    ended = subprocess.run(
        [sys.executable, "-c", code],
        input="def train(w, g):\n  größe = g * 2.0\n  return größe\n".encode(),
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        check=True,
    )
    assert rb"gr\xf6\xdfe = g * 2.0" in ended.stdout
    assert ended.stderr == b""


CLI = Path(__file__).parents[2] / "evosearch/cli"


@pytest.mark.parametrize("path", sorted(CLI.glob("*.py")), ids=lambda path: path.name)
def test_every_line_of_a_command_goes_through_what_cleans_it(path: Path) -> None:
    """Through `say`, or a `Terminal` where rich draws."""
    called = {
        ast.unparse(node.func)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
    }
    forbidden = {"print", "typer.echo", "Console", "rich.print", "sys.stdout.write"}
    allowed = {"app.py": {"print"}}
    assert not called & forbidden - allowed.get(path.name, set())
