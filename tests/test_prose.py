"""The check of the English in `.ci/prose` finds what it is for."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LONG = "A sentence " + "of many words " * 15 + "is refused."


def _checked(path: Path) -> tuple[int, str]:
    command = [sys.executable, str(ROOT / ".ci" / "prose"), str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert not done.stderr
    return done.returncode, done.stdout


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("page.md", "The search begins ANEW here.\n", "'ANEW': again"),
        ("page.md", f"First.\n\n{LONG}\n", "page.md:3: 49 words"),
        ("code.py", '"""WHOEVER reads it."""\n', "'WHOEVER': name"),
        ("code.py", "x = 1\n\n# It begins ANEW.\n", "code.py:3"),
        ("code.py", 'raise ValueError("the file IS TOLD")\n', "'IS TOLD': is notified"),
    ],
)
def test_it_names_the_place_and_the_remedy(
    name: str, text: str, expected: str, tmp_path: Path
) -> None:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    status, printed = _checked(path)
    assert status == 1
    assert expected in printed


def test_code_blocks_and_tables_of_a_page_are_not_prose(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"```\n{LONG}\n```\n\n    {LONG}\n\n| {LONG} |\n\nShort. {LONG[:40]}.\n")
    assert _checked(page) == (0, "")
