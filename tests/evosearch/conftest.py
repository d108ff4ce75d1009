"""What several test files of the command line need."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from evosearch.cli.app import main


@pytest.fixture(autouse=True)
def _ledger_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("evosearch.evaluating.ledger.LEDGER", tmp_path / "evaluations.db")


class Said:
    """What a command wrote and its exit status."""

    def __init__(self, status: int, out: str, err: str):
        self.status, self.out, self.err = status, out, err


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    def call(*words: str | Path) -> Said:
        monkeypatch.setattr(sys, "argv", ["evosearch", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            main()
        captured = capsys.readouterr()
        return Said(int(ended.value.code or 0), captured.out, captured.err)

    return call
