"""Picture of searches: fitness and validation of the champion so far, plotted against cost."""

from __future__ import annotations

from collections.abc import Callable
from typing import BinaryIO

from matplotlib.axes import Axes
from matplotlib.ticker import EngFormatter

from evosearch.report.plots.figure import COLOURS, label, panels, save
from evosearch.runs.curves import FitnessCurve, Group, RunComparison, RunCurves, Spread


def draw(comparison: RunComparison, file: BinaryIO, file_format: str) -> None:
    """Write the picture to `file` in `file_format` (svg, png or pdf)."""
    figure, axes = panels(2 if comparison.validated else 1)
    _draw_panel(axes[0], comparison, lambda run: run.fitness, Group.fitness)
    axes[0].set_title("search tasks")
    axes[0].legend(fontsize="small")
    if comparison.validated:
        _draw_panel(axes[1], comparison, lambda run: run.validation, Group.validation)
        axes[1].set_title("validation tasks")
    save(figure, file, file_format)


def _draw_panel(
    ax: Axes,
    comparison: RunComparison,
    curve: Callable[[RunCurves], FitnessCurve],
    spread: Callable[[Group, float], Spread | None],
) -> None:
    """Draw a thin line for each run, and a thick line for each group's mean at equal cost."""
    last_cost = comparison.costs[-1]
    for number, group in enumerate(comparison.groups):
        colour = COLOURS[number % len(COLOURS)]
        starts = {0, last_cost}
        for run in group.runs:
            costs, estimates = curve(run)
            starts.update(cost for cost in costs if cost <= last_cost)
            if costs:
                run_end = max(costs[-1], comparison.unit.of(run.cost))
                fitness = [estimate.fitness.mean for estimate in estimates]
                ax.step(
                    [*costs, run_end],
                    [*fitness, fitness[-1]],
                    where="post",
                    color=colour,
                    lw=0.7,
                    alpha=0.5,
                )
        spreads = [(cost, spread(group, cost)) for cost in sorted(starts)]
        means = [(cost, value.mean) for cost, value in spreads if value]
        if means:
            ax.step(
                *zip(*means, strict=True), where="post", color=colour, lw=2, label=label(group.name)
            )
    ax.axhline(0.0, color="black", lw=0.8)
    ax.axvline(last_cost, color="black", lw=0.8, ls=":")
    ax.xaxis.set_major_formatter(EngFormatter(sep=""))
    ax.set_xlabel(f"{comparison.unit.words} (dotted: total of the cheapest run)", fontsize="small")
    ax.set_ylabel("fitness of the champion so far")
