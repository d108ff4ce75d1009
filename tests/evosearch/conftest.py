"""What several test files of the command line need."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from evosearch import trust


@pytest.fixture(autouse=True)
def _ledger_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("evosearch.measuring.ledger.LEDGER", tmp_path / "evaluations.db")


@pytest.fixture(autouse=True)
def _trust_of_its_own() -> Iterator[None]:
    """What a command line trusts is over with the test that ran it."""
    yield
    trust.disable()
