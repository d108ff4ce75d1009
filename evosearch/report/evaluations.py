"""Evaluations as files: Markdown, JSON, and plots."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path

from evosearch.errors import UsageError
from evosearch.evaluation.results import Evaluation, Result, TaskReport
from evosearch.evaluation.trajectories import Landscape
from evosearch.files import check_writable, whole
from evosearch.report.evaluation_tables import how, percent, sentences
from primitives.text.printable import as_markdown

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
    with whole(path) as file:
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
            file.write(markdown(evaluation).encode())


def markdown(evaluation: Evaluation) -> str:
    """The evaluation as Markdown: the standings first, then a table for each task."""
    parts = []
    if evaluation.standings:
        parts.append(_standings(evaluation))
    parts += [_task(report) for report in evaluation.tasks]
    parts.append("\n".join(map(as_markdown, sentences(evaluation))))
    parts.append(how(evaluation))
    return "\n\n".join(parts) + "\n"


def _standings(evaluation: Evaluation) -> str:
    header = (
        f"| contender | loss / {as_markdown(evaluation.reference)}'s | 95% interval "
        "| wins | losses | ties | mean rank | verdict |"
    )
    rows = [
        f"| {as_markdown(one.program)} "
        f"| {one.ratio.mean:.3f} | {one.ratio.low:.3f} to {one.ratio.high:.3f} "
        f"| {one.wins} | {one.losses} | {one.ties} | {one.mean_rank:.1f} | {one.verdict} |"
        for one in evaluation.standings
    ]
    title = f"### {len(evaluation.tasks)} tasks together\n"
    return "\n".join([title, header, "| --- |" + " ---: |" * 6 + " --- |", *rows])


def _task(report: TaskReport) -> str:
    task, metric = as_markdown(report.task), as_markdown(report.metric)
    title = f"### {task} ({report.split})\n\n{metric}, {report.steps} steps\n"
    header = "| contender | lr | decay | loss | diverged | against | difference | verdict |"
    rows = [row for result in report.results for row in _rows(result)]
    return "\n".join([title, header, "| --- |" + " ---: |" * 4 + " --- | ---: | --- |", *rows])


def _rows(result: Result) -> list[str]:
    loss = "-" if result.loss is None else f"{result.loss.mean:.4g}"
    if result.loss is not None and math.isfinite(result.loss.high):
        loss += f" ± {result.loss.high - result.loss.mean:.2g}"
    cells = f"| {as_markdown(result.program)} | {result.lr:.3g} | {result.decay:g} | {loss} | "
    cells += f"{result.diverged}/{len(result.losses)} |"
    if not result.versus:
        return [f"{cells} | | |"]
    return [
        f"{cells if first else '| | | | | |'} {as_markdown(name)} "
        f"| {percent(one)} | {one.verdict} |"
        for first, (name, one) in zip(
            [True] + [False] * len(result.versus), result.versus.items(), strict=False
        )
    ]
