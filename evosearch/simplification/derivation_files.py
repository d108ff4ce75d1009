"""Derivations that are kept in a run: a JSON file for each program that was simplified."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from evosearch.errors import EvosearchError
from evosearch.files import explain_file_errors
from evosearch.runs.documents import read_document, write_document
from evosearch.simplification.documents import DerivationDocument
from evosearch.simplification.record import Simplification

DIRECTORY = "derivations"


def derivation_path(run: Path, number: int) -> Path:
    """Where the derivation of a run's program is kept."""
    return run / DIRECTORY / f"{number}.json"


def save_derivation(run: Path, number: int, found: Simplification) -> bool:
    """Writes the derivation of a run's program, in place of an older one; whether it did.

    One that left nothing untried stays, if the new one ended early.

    Raises:
        EvosearchError: the run cannot be written.
    """
    path = derivation_path(run, number)
    with suppress(EvosearchError):  # what is damaged is replaced
        older = read_derivation(run, number)
        if older and found.ended_early and not older.ended_early:
            return False
    if path.parent.is_symlink():
        raise EvosearchError(
            f"{path.parent} is a link, which nothing is written through; remove it"
        )
    with explain_file_errors(path):
        path.parent.mkdir(exist_ok=True)
    write_document(path, found.document())
    return True


def read_derivation(run: Path, number: int) -> Simplification | None:
    """The derivation of a run's program, if there is one.

    Raises:
        EvosearchError: the file is damaged.
    """
    remedy = f"evosearch simplify {run} {number}"
    found = read_document(derivation_path(run, number), DerivationDocument, remedy)
    return Simplification.read(found.model_dump(exclude_unset=True)) if found else None
