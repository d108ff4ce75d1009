"""The README is true: its commands exist as written, its Python runs."""

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
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```", README, re.DOTALL | re.MULTILINE)
COMMANDS = [
    shlex.split(line, comments=True)[1:]
    for language, block in BLOCKS
    if not language
    for line in block.splitlines()
    if line.startswith("evosearch ")
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
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the example run, in which all of the README's exports have been written."""
    directory = tmp_path_factory.mktemp("desk")
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


def test_there_are_exactly_two_set_up_commands_each_one_line() -> None:
    lines = [line for _, block in BLOCKS for line in block.splitlines() if "pip install" in line]
    assert len(lines) == 2
    assert all(line.startswith("python3.11 -m venv .venv && .venv/bin/pip") for line in lines)


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_every_command_has_the_options_that_the_readme_gives_it(run: Any, words: list[str]) -> None:
    known = run(words[0], "--help").out
    for word in words[1:]:
        if word.startswith("-"):
            assert word in known


@pytest.mark.parametrize("words", [w for w in COMMANDS if w[0] in QUICK], ids=" ".join)
def test_commands_that_look_at_things_work_as_written(
    run: Any, words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    done = run(*words)
    assert done.status == 0, done.err
    assert done.out.strip()


@pytest.mark.parametrize("code", [block for language, block in BLOCKS if language == "python"])
def test_the_python_runs(code: str, desk: Path) -> None:
    done = python("-c", code, cwd=desk)
    assert done.returncode == 0, done.stderr


def test_the_last_screen_of_a_search_is_shown_as_it_is(
    run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`status` prints it again; on a terminal of 80 columns no word or path is broken."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("COLUMNS", "80")
    said = run("status", "runs/example").out
    assert ("text", said) in BLOCKS
    assert max(map(len, said.splitlines())) <= 80
    monkeypatch.delenv("COLUMNS")
    piped = run("status", "runs/example").out
    assert piped.split() == said.split()
    assert max(map(len, piped.splitlines())) > 80


def test_the_tasks_of_the_guide_to_ones_own_are_tasks(
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
    for name, said in (
        ("wine.npz@held-out", "3 classes"),
        ("images.npz:paper-vit", "2 classes"),
        ("my_task.py:task", "exponentials"),
    ):
        done = run("tasks", name)
        assert done.status == 0, done.err
        assert said in done.out


def test_the_program_in_the_readme_is_lion() -> None:
    from primitives import parse, zoo

    text = next(block for _, block in BLOCKS if block.startswith("def train"))
    assert parse(text) == zoo.load("lion")
