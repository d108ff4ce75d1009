"""Fixtures that separate tests: each has its own ledger, and none trusts the files of another."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from evosearch import trust


@pytest.fixture(autouse=True)
def _separate_ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Place the ledger of commands without a run in the test's temporary directory."""
    monkeypatch.setattr("evosearch.measuring.ledger.LEDGER", tmp_path / "evaluations.db")


@pytest.fixture(autouse=True)
def _no_trust_after_test() -> Iterator[None]:
    """Discard the trusted files of the command lines that the test ran."""
    yield
    trust.stop_checks()
