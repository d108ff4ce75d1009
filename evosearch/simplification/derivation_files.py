"""Reads and writes the derivations of a run, one JSON file for each simplified program."""

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
    """Return the path of the derivation of a run's program."""
    return run / DIRECTORY / f"{number}.json"


def save_derivation(run: Path, number: int, derivation: Simplification) -> bool:
    """Write the derivation of a run's program, and replace an older derivation.

    A derivation that ended early does not replace an older derivation that did not.

    Args:
        run: The run's directory.
        number: The program's id.
        derivation: The derivation.

    Returns:
        Whether the derivation was written.

    Raises:
        EvosearchError: The file cannot be written.
    """
    path = derivation_path(run, number)
    with suppress(EvosearchError):  # a damaged file is replaced
        older = read_derivation(run, number)
        if older and derivation.ended_early and not older.ended_early:
            return False
    if path.parent.is_symlink():
        raise EvosearchError(
            f"{path.parent} is a link, and runs are not written through links; remove it"
        )
    with explain_file_errors(path):
        path.parent.mkdir(exist_ok=True)
    write_document(path, derivation.document())
    return True


def read_derivation(run: Path, number: int) -> Simplification | None:
    """Return the derivation of a run's program; None if the run has no derivation of the program.

    Raises:
        EvosearchError: The file is damaged.
    """
    remedy = f"evosearch simplify {run} {number}"
    document = read_document(derivation_path(run, number), DerivationDocument, remedy)
    return Simplification.read(document.model_dump(exclude_unset=True)) if document else None
