"""README.md and docs/guide.md are true: their commands exist as written, their Python runs."""

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
LINES = [line for language, block in BLOCKS if not language for line in block.splitlines()]
COMMANDS = [
    list(words)
    for words in dict.fromkeys(
        tuple(shlex.split(line, comments=True)[1:])
        for line in LINES
        if line.startswith("evosearch ")
    )
]
QUICK = ("status", "top", "show", "tasks", "ops", "zoo")


def python(*words: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, *words],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the example run, in which all `export` commands have been executed."""
    directory = tmp_path_factory.mktemp("workspace")
    (directory / "runs").symlink_to(ROOT / "runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(directory)
        for words in COMMANDS:
            if words[0] == "export":
                patch.setattr(sys, "argv", ["evosearch", *words])
                with pytest.raises(SystemExit) as ended:
                    main()
                assert not ended.value.code
    return directory


def test_the_readme_has_two_installation_commands_of_one_line_each() -> None:
    lines = [
        line for _, block in README_BLOCKS for line in block.splitlines() if "pip install" in line
    ]
    assert len(lines) == 2
    assert all(line.startswith("python3.11 -m venv .venv && .venv/bin/pip") for line in lines)


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_every_command_has_its_documented_options(run: Any, words: list[str]) -> None:
    help_text = run(words[0], "--help").out
    for word in words[1:]:
        if word.startswith("-"):
            assert word in help_text


@pytest.mark.parametrize("words", [w for w in COMMANDS if w[0] in QUICK], ids=" ".join)
def test_commands_that_inspect_work_as_written(
    run: Any, words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    done = run(*words)
    assert done.status == 0, done.err
    assert done.out.strip()


@pytest.mark.parametrize("code", [block for language, block in BLOCKS if language == "python"])
def test_the_documented_python_runs(code: str, workspace: Path) -> None:
    done = python("-c", code, cwd=workspace)
    assert done.returncode == 0, done.stderr


def test_the_readme_shows_the_last_screen_of_a_search_exactly(
    run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`status` prints that screen; 80 columns break no word and no path."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("COLUMNS", "80")
    screen = run("status", "runs/example").out
    assert ("text", screen) in README_BLOCKS
    assert max(map(len, screen.splitlines())) <= 80
    monkeypatch.delenv("COLUMNS")
    piped = run("status", "runs/example").out
    assert piped.split() == screen.split()
    assert max(map(len, piped.splitlines())) > 80


def test_the_tasks_of_the_page_on_user_tasks_can_be_loaded(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    guide = (ROOT / "docs" / "your-own-task.md").read_text(encoding="utf-8")
    arrays, images, factory = re.findall(r"^```python\n(.*?)^```", guide, re.DOTALL | re.MULTILINE)
    assert python("-c", arrays, cwd=tmp_path).returncode == 0
    for name in ("cats", "dogs"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(70):
            noise = np.random.default_rng([number]).integers(0, 256, (80, 90, 3))
            Image.fromarray(noise.astype(np.uint8)).save(
                tmp_path / "photos" / name / f"{number}.jpg"
            )
    assert python("-c", images, cwd=tmp_path).returncode == 0
    (tmp_path / "my_task.py").write_text(factory)
    for name, message in (
        ("wine.npz@held-out", "3 classes"),
        ("images.npz:paper-vit", "2 classes"),
        ("my_task.py:task", "exponentials"),
    ):
        done = run("tasks", name)
        assert done.status == 0, done.err
        assert message in done.out


def test_the_documented_program_is_lion() -> None:
    from primitives import parse, zoo

    text = next(block for _, block in BLOCKS if block.startswith("def train"))
    assert parse(text) == zoo.load("lion")
