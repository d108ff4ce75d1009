"""Picture of an evaluation: loss against steps on each task, and loss ratios over all tasks."""

from __future__ import annotations

from typing import BinaryIO

import numpy as np
from matplotlib.axes import Axes

from evosearch.evaluation.results import Evaluation, TaskReport
from evosearch.report.plots.figure import COLOURS, label, panels, save


def draw(evaluation: Evaluation, file: BinaryIO, file_format: str) -> None:
    """Write the picture to `file` in `file_format` (svg, png or pdf)."""
    names = [result.program for result in evaluation.tasks[0].results]
    colours = {name: COLOURS[index % len(COLOURS)] for index, name in enumerate(names)}
    panel_count = len(evaluation.tasks) + (1 if evaluation.standings else 0)
    figure, axes = panels(panel_count)
    for ax, report in zip(axes, evaluation.tasks, strict=False):
        _draw_curves(ax, report, colours)
    if evaluation.standings:
        _draw_ratios(axes[-1], evaluation, colours)
    axes[0].legend(fontsize="small")
    save(figure, file, file_format)


def _draw_curves(ax: Axes, report: TaskReport, colours: dict[str, str]) -> None:
    """Draw smoothed batch losses, averaged over fresh seeds, and the final metric."""
    for result in report.results:
        steps = np.linspace(1, report.steps, len(result.curve))
        ax.plot(
            steps, result.curve, color=colours[result.program], label=label(result.program), lw=1.2
        )
        if result.loss is not None:
            mean, low, high = result.loss
            error = [[mean - low], [high - mean]]
            colour = colours[result.program]
            ax.errorbar(report.steps * 1.03, mean, error, fmt="o", ms=3, color=colour, lw=1)
    ax.set_yscale("log")
    ax.set_title(label(report.task))
    ax.set_xlabel("step; dots: the metric on unseen data")
    ax.set_ylabel("batch loss")


def _draw_ratios(ax: Axes, evaluation: Evaluation, colours: dict[str, str]) -> None:
    standings = evaluation.standings[::-1]
    for index, standing in enumerate(standings):
        mean, low, high = standing.ratio
        colour = colours[standing.program]
        ax.errorbar(mean, index, xerr=[[mean - low], [high - mean]], fmt="o", color=colour)
    ax.set_yticks(
        range(len(standings)),
        [label(standing.program) for standing in standings],
    )
    ax.axvline(1.0, color="black", lw=0.8)
    ax.set_title("all tasks")
    ax.set_xlabel(label(f"loss / {evaluation.reference}'s loss, geometric mean, 95% over tasks"))
