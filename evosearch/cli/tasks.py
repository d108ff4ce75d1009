"""The command `evosearch tasks`, which lists tasks and measures their signal-to-noise ratio."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Annotated, Any

import typer

from evosearch import trust
from evosearch.cli.app import Json, app, print_json, say, warn
from evosearch.errors import UsageError

if TYPE_CHECKING:
    from proxies import Task


@app.command()
def tasks(
    name: Annotated[str | None, typer.Argument(help="Task to show in detail.")] = None,
    split: Annotated[
        str | None, typer.Option(help="List one split: search, validation, held-out or diagnostic.")
    ] = None,
    snr: Annotated[
        bool, typer.Option("--snr", help="Measure how well tasks distinguish optimizers.")
    ] = False,
    task: Annotated[
        str | None,
        typer.Option(help="Tasks for --snr, comma-separated; by default the search tasks."),
    ] = None,
    seeds: Annotated[
        int, typer.Option(min=2, help="Number of fresh seeds per optimizer for --snr.")
    ] = 8,
    json: Json = False,
) -> None:
    """List all tasks, or show one task.

    --snr measures the signal-to-noise ratio of tasks. Known optimizers are tuned on each task with
    the same number of trials, and the spread of their mean log losses is compared with the spread
    between seeds.
    """
    import proxies
    from evosearch.cli.evaluate import check_split
    from evosearch.measuring.failures import explain_failures

    if split is not None:
        check_split(split)
    if snr:
        _print_signal_to_noise(task or name or split or "search", seeds, json)
        return
    if task is not None:
        raise UsageError("--task requires --snr; use `evosearch tasks NAME` to show one task")
    if name is not None:
        trust.current().trust_tasks([name])
        loaded = proxies.load(name)
        with explain_failures(loaded):
            if json:
                shapes = _weight_shapes(loaded)
                print_json({**_document(loaded), "weights": shapes, "items": _item_count(loaded)})
            else:
                _print_detail(loaded)
        return
    all_tasks = map(proxies.load, proxies.names())
    listed_tasks = [each for each in all_tasks if split is None or each.split == split]
    if json:
        print_json({"tasks": [_document(each) for each in listed_tasks]})
    else:
        _print_tables(listed_tasks)


def _document(task: Task) -> dict[str, Any]:
    """Return a task as a JSON object, without its weights and items."""
    fields = ("name", "split", "params", "steps", "metric", "description", "source", "delay")
    return {
        **{field: getattr(task, field) for field in fields},
        "sampled_gradient": task.gradient is not None,
        "provenance": _provenance(task),
    }


def _provenance(task: Task) -> str:
    """Return where the task's data come from."""
    from proxies import data

    if task.source in data.SOURCES:
        return data.SOURCES[task.source]().provenance
    return "a formula" if task.source == "none" else task.source


def _item_count(task: Task) -> int | None:
    """Return the number of items in a task's data; None for a formula or data without arrays."""
    import jax
    import numpy as np

    sizes = [np.shape(leaf)[0] for leaf in jax.tree.leaves(task.data) if np.ndim(leaf)]
    return None if task.source == "none" or not sizes else sizes[0]


def _weight_shapes(task: Task) -> dict[str, list[int]]:
    """Return the shape of each array of weights, by its path."""
    import jax

    weights = jax.eval_shape(task.init, jax.random.key(0))
    return {
        "/".join(str(getattr(part, "key", part)) for part in path): list(leaf.shape)
        for path, leaf in jax.tree_util.tree_leaves_with_path(weights)
    }


def _print_tables(tasks: list[Task]) -> None:
    from evosearch.cli.terminal import unbroken_terminal
    from evosearch.report.catalogue import tasks_report
    from evosearch.report.terminal import show
    from proxies import data

    source_names = {task.source for task in tasks}
    provenance = {
        name: source().provenance for name, source in data.SOURCES.items() if name in source_names
    }
    show(tasks_report(tasks, provenance), unbroken_terminal())


def _print_detail(task: Task) -> None:
    from evosearch.measuring.tuning import GRID
    from evosearch.report.catalogue import PURPOSES

    items = _item_count(task)
    part = "search" if task.split == "diagnostic" else task.split
    shapes = [
        f"{name} {'x'.join(map(str, shape)) or 'scalar'}"
        for name, shape in _weight_shapes(task).items()
    ]
    gradient = (
        "of the loss"
        if task.gradient is None
        else "defined by the task (of a game's players, or sampled)"
    )
    delay = f", at the weights of {task.delay} steps ago" if task.delay else ""
    say(f"{task.name}: {task.description}\n")
    for label, text in (
        ("split", f"{task.split}, {PURPOSES[task.split]}"),
        ("data", _provenance(task)),
        (
            "items",
            ""
            if items is None
            else f"{items:,} in the {part} part; each seed splits the items differently",
        ),
        ("weights", f"{task.params:,}: {', '.join(shapes)}"),
        ("steps", f"{task.steps:,}"),
        ("gradient", gradient + delay),
        ("metric", f"{task.metric}; lower is better"),
        (
            "rates",
            f"tuning starts with {GRID[0]:g} to {GRID[-1]:g} times a program's own learning rate",
        ),
    ):
        if text:
            say(textwrap.fill(text, 100, initial_indent=f"{label:10}", subsequent_indent=" " * 10))


def _print_signal_to_noise(names: str, seeds: int, json: bool) -> None:
    """Measure and print the signal-to-noise ratio of tasks."""
    from evosearch.cli.evaluate import task_names
    from evosearch.cli.progress import reporting
    from evosearch.cli.terminal import Terminal, unbroken_terminal
    from evosearch.evaluation.signal_to_noise import OPTIMIZERS, signal_to_noise
    from evosearch.report.catalogue import signal_to_noise_report
    from evosearch.report.terminal import show

    with reporting(Terminal(stderr=True)) as report:
        rows = signal_to_noise(task_names(names), seeds=seeds, notify=warn, progress=report)
    if json:
        print_json({"tasks": [row.document() for row in rows]})
        return
    show(signal_to_noise_report(rows, OPTIMIZERS), unbroken_terminal())
