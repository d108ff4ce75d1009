"""Trajectories on landscapes: over contours where there are two weights, else height by step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import BinaryIO

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator

from evosearch.evaluation.trajectories import Landscape
from evosearch.report.plots.figure import COLOURS, label, panels, save

_GRID = 120
"""Points along each side of a contour plot."""


def draw(landscapes: Sequence[Landscape], file: BinaryIO, form: str) -> None:
    """Writes the picture to `file` in `form` (svg, png or pdf), a panel a landscape."""
    figure, axes = panels(len(landscapes))
    for ax, landscape in zip(axes, landscapes, strict=True):
        flat = landscape.trajectories[0].weights.shape[1] == 2
        (_contours if flat else _heights)(ax, landscape)
        name, description = label(landscape.task.name), label(landscape.task.description)
        ax.set_title(f"{name}\n{description}", fontsize="small")
    axes[0].legend(fontsize="small")
    save(figure, file, form)


def _contours(ax: Axes, landscape: Landscape) -> None:
    """Paths over contours of height, dark where it is low; a dot where each ends."""
    everywhere = np.concatenate([one.weights for one in landscape.trajectories])
    # A path that oscillates far out would make all others a dot.
    low, high = np.nanpercentile(everywhere, [1, 99], axis=0)
    start = landscape.trajectories[0].weights[0]
    low, high = np.minimum(low, start), np.maximum(high, start)
    margin = 0.15 * (high - low) + 0.1
    sides = [
        np.linspace(a, b, _GRID, dtype=np.float32)
        for a, b in zip(low - margin, high + margin, strict=True)
    ]
    grid = np.stack(np.meshgrid(*sides), axis=-1)
    ax.contourf(
        *sides, landscape.heights(grid), locator=LogLocator(), cmap="Greys_r", alpha=0.5, zorder=0
    )
    for colour, one in zip(_colours(landscape), landscape.trajectories, strict=True):
        ax.plot(*one.weights.T, color=colour, lw=1.2, label=label(one.program))
        ax.plot(*one.weights[-1], "o", color=colour, ms=4)
    ax.plot(*start, "k*", ms=8)
    ax.set_xlim(sides[0][0], sides[0][-1])
    ax.set_ylim(sides[1][0], sides[1][-1])
    ax.set_xlabel("first weight")
    ax.set_ylabel("second weight")
    ax.grid(visible=False)


def _heights(ax: Axes, landscape: Landscape) -> None:
    for colour, one in zip(_colours(landscape), landscape.trajectories, strict=True):
        ax.plot(one.steps + 1, one.heights, color=colour, lw=1.2, label=label(one.program))
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_xlabel("step")
    ax.set_ylabel("height")


def _colours(landscape: Landscape) -> list[str]:
    return [COLOURS[place % len(COLOURS)] for place in range(len(landscape.trajectories))]
