"""Tests of `.ci/prose`, which refuses some phrases and long sentences."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LONG_SENTENCE = "A sentence " + "of many words " * 15 + "is refused."


def _check(path: Path) -> tuple[int, str]:
    """Run `.ci/prose` on a file and return its exit status and output."""
    command = [sys.executable, str(ROOT / ".ci" / "prose"), str(path)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert not result.stderr
    return result.returncode, result.stdout


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("page.md", "The search begins ANEW here.\n", "'ANEW': again"),
        ("page.md", f"First.\n\n{LONG_SENTENCE}\n", "page.md:3: 49 words"),
        ("code.py", '"""WHOEVER reads it."""\n', "'WHOEVER': name"),
        ("code.py", "x = 1\n\n# It begins ANEW.\n", "code.py:3"),
        ("code.py", 'raise ValueError("the file IS TOLD")\n', "'IS TOLD': is notified"),
    ],
)
def test_a_refused_phrase_is_reported_with_its_line_or_what_to_write_instead(
    name: str, text: str, expected: str, tmp_path: Path
) -> None:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    status, output = _check(path)
    assert status == 1
    assert expected in output


def test_sentences_in_code_blocks_and_tables_may_be_long(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    block, indented_block, row = (
        f"```\n{LONG_SENTENCE}\n```",
        f"    {LONG_SENTENCE}",
        f"| {LONG_SENTENCE} |",
    )
    page.write_text(f"{block}\n\n{indented_block}\n\n{row}\n\nA short sentence.\n")
    assert _check(page) == (0, "")
