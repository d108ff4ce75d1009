"""Tests that the commands and the Python code in README.md and docs/guide.md run as written."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from evosearch.cli.app import main

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
GUIDE = (ROOT / "docs" / "guide.md").read_text(encoding="utf-8")
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.DOTALL | re.MULTILINE)
README_BLOCKS = FENCE.findall(README)
BLOCKS = README_BLOCKS + FENCE.findall(GUIDE)
"""The language and the text of each code block."""
SHELL_LINES = [line for language, block in BLOCKS if not language for line in block.splitlines()]
COMMAND_LINES = [line for line in SHELL_LINES if line.startswith("evosearch ")]
COMMANDS = list(dict.fromkeys(tuple(shlex.split(line, True)[1:]) for line in COMMAND_LINES))
"""The arguments of each evosearch command: the command's name, then its options."""
QUICK_COMMANDS = ("status", "top", "show", "tasks", "ops", "zoo")


def run_python(*arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a directory with the example run and the files that the `export` commands write."""
    directory = tmp_path_factory.mktemp("workspace")
    (directory / "runs").symlink_to(ROOT / "runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(directory)
        for arguments in COMMANDS:
            if arguments[0] == "export":
                patch.setattr(sys, "argv", ["evosearch", *arguments])
                with pytest.raises(SystemExit) as system_exit:
                    main()
                assert not system_exit.value.code
    return directory


def test_the_readme_has_two_installation_commands_of_one_line_each() -> None:
    installation_lines = [
        line for _, block in README_BLOCKS for line in block.splitlines() if "pip install" in line
    ]
    assert len(installation_lines) == 2
    for line in installation_lines:
        assert line.startswith("python3.11 -m venv .venv && .venv/bin/pip")


@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
def test_every_command_has_its_documented_options(run: Any, arguments: tuple[str, ...]) -> None:
    help_text = run(arguments[0], "--help").out
    for argument in arguments[1:]:
        if argument.startswith("-"):
            assert argument in help_text


@pytest.mark.parametrize(
    "arguments",
    [arguments for arguments in COMMANDS if arguments[0] in QUICK_COMMANDS],
    ids=" ".join,
)
def test_commands_that_only_print_something_run_as_written(
    run: Any, arguments: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    result = run(*arguments)
    assert result.status == 0, result.err
    assert result.out.strip()


@pytest.mark.parametrize("code", [block for language, block in BLOCKS if language == "python"])
def test_the_documented_python_runs(code: str, workspace: Path) -> None:
    result = run_python("-c", code, cwd=workspace)
    assert result.returncode == 0, result.stderr


def test_the_readme_shows_the_last_screen_of_a_search_exactly(
    run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`status` prints the last screen of a search; at 80 columns no word or path is broken."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("COLUMNS", "80")
    with_80_columns = run("status", "runs/example").out
    assert ("text", with_80_columns) in README_BLOCKS
    assert max(map(len, with_80_columns.splitlines())) <= 80
    monkeypatch.delenv("COLUMNS")
    without_limit = run("status", "runs/example").out
    assert without_limit.split() == with_80_columns.split()
    assert max(map(len, without_limit.splitlines())) > 80


def test_the_tasks_defined_in_docs_your_own_task_can_be_loaded(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    page = (ROOT / "docs" / "your-own-task.md").read_text(encoding="utf-8")
    save_arrays, save_images, task_file = re.findall(
        r"^```python\n(.*?)^```", page, re.DOTALL | re.MULTILINE
    )
    assert run_python("-c", save_arrays, cwd=tmp_path).returncode == 0
    for name in ("cats", "dogs"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(70):
            pixels = np.random.default_rng([number]).integers(0, 256, (80, 90, 3))
            photo = Image.fromarray(pixels.astype(np.uint8))
            photo.save(tmp_path / "photos" / name / f"{number}.jpg")
    assert run_python("-c", save_images, cwd=tmp_path).returncode == 0
    (tmp_path / "my_task.py").write_text(task_file)
    for task_name, expected in (
        ("wine.npz@held-out", "3 classes"),
        ("images.npz:paper-vit", "2 classes"),
        ("my_task.py:task", "exponentials"),
    ):
        result = run("tasks", task_name)
        assert result.status == 0, result.err
        assert expected in result.out


def test_the_documented_program_is_lion() -> None:
    from primitives import parse, zoo

    text = next(block for _, block in BLOCKS if block.startswith("def train"))
    assert parse(text) == zoo.load("lion")
