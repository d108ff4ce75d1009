"""Picture of trajectories on landscapes.

A landscape of two weights is drawn as contours with the paths of the weights; other landscapes are
drawn as the metric against the step.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import BinaryIO

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator

from evosearch.evaluation.trajectories import Landscape
from evosearch.report.plots.figure import COLOURS, label, panels, save

_GRID = 120
"""Number of grid points along each side of a contour plot."""


def draw(landscapes: Sequence[Landscape], file: BinaryIO, file_format: str) -> None:
    """Write a picture with a panel for each landscape, in `file_format` (svg, png or pdf)."""
    figure, axes = panels(len(landscapes))
    for ax, landscape in zip(axes, landscapes, strict=True):
        has_two_weights = landscape.trajectories[0].weights.shape[1] == 2
        if has_two_weights:
            _draw_contours(ax, landscape)
        else:
            _draw_heights(ax, landscape)
        name, description = label(landscape.task.name), label(landscape.task.description)
        ax.set_title(f"{name}\n{description}", fontsize="small")
    axes[0].legend(fontsize="small")
    save(figure, file, file_format)


def _draw_contours(ax: Axes, landscape: Landscape) -> None:
    """Draw each path, with a dot at its end, over contours of the metric; low values are dark."""
    points = np.concatenate([trajectory.weights for trajectory in landscape.trajectories])
    # Percentiles are used, so that a path that oscillates widely does not set the scale.
    low, high = np.nanpercentile(points, [1, 99], axis=0)
    start = landscape.trajectories[0].weights[0]
    low, high = np.minimum(low, start), np.maximum(high, start)
    margin = 0.15 * (high - low) + 0.1
    sides = [
        np.linspace(minimum, maximum, _GRID, dtype=np.float32)
        for minimum, maximum in zip(low - margin, high + margin, strict=True)
    ]
    grid = np.stack(np.meshgrid(*sides), axis=-1)
    ax.contourf(
        *sides, landscape.heights(grid), locator=LogLocator(), cmap="Greys_r", alpha=0.5, zorder=0
    )
    for colour, trajectory in zip(_colours(landscape), landscape.trajectories, strict=True):
        ax.plot(*trajectory.weights.T, color=colour, lw=1.2, label=label(trajectory.program))
        ax.plot(*trajectory.weights[-1], "o", color=colour, ms=4)
    ax.plot(*start, "k*", ms=8)
    ax.set_xlim(sides[0][0], sides[0][-1])
    ax.set_ylim(sides[1][0], sides[1][-1])
    ax.set_xlabel("first weight")
    ax.set_ylabel("second weight")
    ax.grid(visible=False)


def _draw_heights(ax: Axes, landscape: Landscape) -> None:
    for colour, trajectory in zip(_colours(landscape), landscape.trajectories, strict=True):
        name = label(trajectory.program)
        ax.plot(trajectory.steps + 1, trajectory.heights, color=colour, lw=1.2, label=name)
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_xlabel("step")
    ax.set_ylabel("height")


def _colours(landscape: Landscape) -> list[str]:
    return [COLOURS[index % len(COLOURS)] for index in range(len(landscape.trajectories))]
