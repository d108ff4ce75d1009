"""Reports as files: Markdown, JSON and pictures, by the suffix of the name."""

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
    """Whether a report can be written to `path`, before anything expensive.

    Raises:
        UsageError: the suffix is unknown, the directory is missing, or plots need a library.
    """
    if path.suffix not in suffixes:
        raise UsageError(f"cannot write {path}: use one of {', '.join(suffixes)}")
    check_writable(path)
    if path.suffix in PLOTS:
        from evosearch.report.plots import require

        require()


def write(evaluation: Evaluation, path: Path, landscapes: Sequence[Landscape] = ()) -> None:
    """Writes `evaluation` in the form that the suffix of `path` names; whole or not at all.

    The picture is that of the trajectories on `landscapes` where there are any.

    Raises:
        EvosearchError: the file cannot be written.
    """
    with atomic_write(path) as file:
        if path.suffix in PLOTS:
            from evosearch.report.plots import landscapes as trajectories
            from evosearch.report.plots import suite

            form = path.suffix.removeprefix(".")
            if landscapes:
                trajectories.draw(landscapes, file, form)
            else:
                suite.draw(evaluation, file, form)
        elif path.suffix == ".json":
            document = json.dumps(evaluation.document(), indent=2, allow_nan=False)
            file.write(f"{document}\n".encode())
        else:
            file.write(markdown(evaluation_report(evaluation)).encode())
