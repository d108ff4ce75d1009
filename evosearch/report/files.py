"""Reports as files: Markdown, JSON or pictures, chosen by the suffix of the file name."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from evosearch.errors import UsageError
from evosearch.evaluation.results import Evaluation
from evosearch.evaluation.trajectories import Landscape
from evosearch.files import atomic_write, check_writable
from evosearch.report.evaluation import evaluation_report
from evosearch.report.markdown import markdown

PLOTS = (".svg", ".png", ".pdf")
_SUFFIXES = (".md", ".json", *PLOTS)


def check(path: Path, suffixes: Sequence[str] = _SUFFIXES) -> None:
    """Check that a report can be written to `path`; call it before anything expensive.

    Raises:
        UsageError: The suffix is unknown, the path is not writable, or matplotlib is missing.
    """
    if path.suffix not in suffixes:
        raise UsageError(
            f"cannot write {path}: the suffix of -o must be one of {', '.join(suffixes)}"
        )
    check_writable(path)
    if path.suffix in PLOTS:
        from evosearch.report.plots import require

        require()


def write(evaluation: Evaluation, path: Path, landscapes: Sequence[Landscape] = ()) -> None:
    """Write an evaluation atomically, in the format that the suffix of `path` names.

    Args:
        evaluation: The evaluation.
        path: File to write.
        landscapes: Trajectories; if there are any, the picture shows them.

    Raises:
        EvosearchError: The file cannot be written.
    """
    with atomic_write(path) as file:
        if path.suffix in PLOTS:
            from evosearch.report.plots import landscapes as trajectories
            from evosearch.report.plots import suite

            file_format = path.suffix.removeprefix(".")
            if landscapes:
                trajectories.draw(landscapes, file, file_format)
            else:
                suite.draw(evaluation, file, file_format)
        elif path.suffix == ".json":
            document = json.dumps(evaluation.document(), indent=2, allow_nan=False)
            file.write(f"{document}\n".encode())
        else:
            file.write(markdown(evaluation_report(evaluation)).encode())
