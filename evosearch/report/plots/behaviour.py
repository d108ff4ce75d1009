"""Picture of a program's behaviour: its updates for sequences of scalar gradients."""

from __future__ import annotations

from typing import BinaryIO

from matplotlib.axes import Axes

from evosearch.report.plots.figure import COLOURS, label, panels, save
from primitives.explain.behaviour import Behaviour, Series

_TITLES = {
    "step": "step of the gradient from 0 to 1",
    "spike": "single gradient of 1 among zeros",
    "noise": "gradient with mean 1 and standard deviation 1",
    "flat": "flat region: gradient 1, 0.001, 1",
}


def draw(behaviour: Behaviour, title: str, file: BinaryIO, file_format: str) -> None:
    """Write the picture to `file` in `file_format` (svg, png or pdf)."""
    figure, axes = panels(2 + len(behaviour.responses))
    figure.suptitle(label(title))
    _draw_update_against_gradient(axes[0], behaviour)
    responses = zip(axes[1:-1], behaviour.responses.items(), strict=True)
    for ax, (name, (gradient, update)) in responses:
        _draw_response(ax, _TITLES[name], gradient, update)
    _draw_step_sizes(axes[-1], behaviour)
    save(figure, file, file_format)


def _draw_update_against_gradient(ax: Axes, behaviour: Behaviour) -> None:
    gradients = behaviour.gradients
    ax.plot(gradients, behaviour.first_updates, color=COLOURS[1], label="on the first step")
    ax.plot(
        gradients, behaviour.updates, color=COLOURS[0], label="after noise of standard deviation 1"
    )
    ax.set_xlabel("gradient")
    ax.set_ylabel("update")
    ax.set_title("update against gradient")
    ax.legend(fontsize="small")


def _draw_response(ax: Axes, title: str, gradient: Series, update: Series) -> None:
    ax.plot(update, color=COLOURS[0], label="update")
    ax.set_xlabel("step")
    ax.set_ylabel("update", color=COLOURS[0])
    ax.set_title(title)
    gradient_ax = ax.twinx()
    gradient_ax.plot(gradient, color=COLOURS[6], lw=0.8, alpha=0.4)
    gradient_ax.set_ylabel("gradient", color="#888888")
    gradient_ax.grid(visible=False)


def _draw_step_sizes(ax: Axes, behaviour: Behaviour) -> None:
    styles = zip(COLOURS, ("-", "--", ":"), behaviour.step_sizes.items(), strict=False)
    for colour, line, (scale, sizes) in styles:
        ax.plot(sizes, line, color=colour, label=f"gradients of standard deviation {scale:g}")
    ax.set_yscale("log")
    ax.set_xlabel("step")
    ax.set_ylabel("root mean square of the update")
    ax.set_title("effective step size")
    ax.legend(fontsize="small")
