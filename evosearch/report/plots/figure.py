"""Shared code of all pictures: sizes, colours, writing files."""

from __future__ import annotations

from typing import Any, BinaryIO

import matplotlib

from primitives.text.printable import printable

matplotlib.use("Agg")  # draws to files, without a display

from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999933")
"""Colours that colour-blind readers can distinguish (Okabe and Ito 2008)."""
_WIDTH, _HEIGHT = 4.0, 3.0
"""Size of a panel in inches."""
_STYLE: dict[str, Any] = {
    "axes.grid": True,
    "axes.prop_cycle": plt.cycler(color=COLOURS),
    "axes.spines.right": False,
    "axes.spines.top": False,
    "font.size": 9,
    "grid.alpha": 0.3,
    "legend.frameon": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "evosearch",
}


def panels(count: int, columns: int = 3) -> tuple[Figure, list[Axes]]:
    """Return a figure with `count` panels, at most `columns` in a row."""
    columns = min(columns, count)
    rows = -(-count // columns)
    with plt.rc_context(_STYLE):
        figure, axes = plt.subplots(
            rows,
            columns,
            figsize=(columns * _WIDTH, rows * _HEIGHT),
            squeeze=False,
            layout="constrained",
        )
    all_axes = list(axes.flat)
    for unused in all_axes[count:]:
        unused.set_visible(False)
    return figure, all_axes[:count]


def label(text: str) -> str:
    """Return `text` for a title, axis or legend, with `$` escaped."""
    return printable(text).replace("$", r"\$")


def save(figure: Figure, file: BinaryIO, file_format: str) -> None:
    """Write `figure` in `file_format` (svg, png or pdf) and close it; the SVG is deterministic."""
    metadata = {"Date": None} if file_format == "svg" else None
    with plt.rc_context(_STYLE):
        figure.savefig(file, format=file_format, dpi=150, metadata=metadata)
    plt.close(figure)
