"""What optimizers are tried on: `tasks` lists it, shows one, and measures signal to noise."""

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
    name: Annotated[str | None, typer.Argument(help="One task, in detail.")] = None,
    split: Annotated[
        str | None, typer.Option(help="Only this split: search, validation, held-out, diagnostic.")
    ] = None,
    snr: Annotated[
        bool, typer.Option("--snr", help="Measure signal to noise: do tasks tell optimizers apart?")
    ] = False,
    task: Annotated[
        str | None,
        typer.Option(help="With --snr: these tasks, with commas between; the search's by default."),
    ] = None,
    seeds: Annotated[
        int, typer.Option(min=2, help="With --snr: fresh seeds for each optimizer.")
    ] = 8,
    json: Json = False,
) -> None:
    """The tasks that optimizers are tried on.

    With --snr, known optimizers are tuned alike on each task, and the spread of their mean log
    losses is compared with the spread between seeds.
    """
    import proxies
    from evosearch.cli.evaluate import check_split
    from evosearch.measuring.failures import explain_failures

    if split is not None:
        check_split(split)
    if snr:
        _measure(task or name or split or "search", seeds, json)
        return
    if task is not None:
        raise UsageError("--task goes with --snr; `evosearch tasks NAME` shows one task")
    if name is not None:
        trust.current().trust_tasks([name])
        one = proxies.load(name)
        with explain_failures(one):
            if json:
                print_json({**_row(one), "weights": _weights(one), "items": _items(one)})
            else:
                _print_detail(one)
        return
    loaded = [
        one for one in map(proxies.load, proxies.names()) if split is None or one.split == split
    ]
    if json:
        print_json({"tasks": [_row(one) for one in loaded]})
    else:
        _print_tables(loaded)


def _row(task: Task) -> dict[str, Any]:
    """A task as JSON."""
    fields = ("name", "split", "params", "steps", "metric", "description", "source", "delay")
    return {
        **{field: getattr(task, field) for field in fields},
        "sampled_gradient": task.gradient is not None,
        "provenance": _provenance(task),
    }


def _provenance(task: Task) -> str:
    from proxies import data

    if task.source in data.SOURCES:
        return data.SOURCES[task.source]().provenance
    return "a formula" if task.source == "none" else task.source


def _items(task: Task) -> int | None:
    """How many items its part of the data has; None for a formula, or data without arrays."""
    import jax
    import numpy as np

    sizes = [np.shape(leaf)[0] for leaf in jax.tree.leaves(task.data) if np.ndim(leaf)]
    return None if task.source == "none" or not sizes else sizes[0]


def _weights(task: Task) -> dict[str, list[int]]:
    """The shape of every array of weights."""
    import jax

    weights = jax.eval_shape(task.init, jax.random.key(0))
    return {
        "/".join(str(getattr(part, "key", part)) for part in path): list(leaf.shape)
        for path, leaf in jax.tree_util.tree_leaves_with_path(weights)
    }


def _print_tables(loaded: list[Task]) -> None:
    from evosearch.cli.terminal import unbroken_lines
    from evosearch.report.catalogue import tasks_report
    from evosearch.report.terminal import show
    from proxies import data

    used = {one.source for one in loaded}
    sources = {name: data.SOURCES[name]() for name in data.SOURCES if name in used}
    provenance = {name: source.provenance for name, source in sources.items()}
    show(tasks_report(loaded, provenance), unbroken_lines())


def _print_detail(task: Task) -> None:
    from evosearch.measuring.tuning import GRID
    from evosearch.report.catalogue import USES

    items = _items(task)
    part = "search" if task.split == "diagnostic" else task.split
    shapes = [
        f"{name} {'x'.join(map(str, shape)) or 'scalar'}" for name, shape in _weights(task).items()
    ]
    gradient = "of the loss" if task.gradient is None else "the task's own (players, or sampled)"
    delay = f", of the weights {task.delay} steps ago" if task.delay else ""
    say(f"{task.name}: {task.description}\n")
    for label, text in (
        ("split", f"{task.split}, {USES[task.split]}"),
        ("data", _provenance(task)),
        ("items", "" if items is None else f"{items:,} in the {part} part; a seed cuts them anew"),
        ("weights", f"{task.params:,}: {', '.join(shapes)}"),
        ("steps", f"{task.steps:,}"),
        ("gradient", gradient + delay),
        ("metric", f"{task.metric}; the lower the better"),
        ("rates", f"tried first: {GRID[0]:g} to {GRID[-1]:g} times a program's own"),
    ):
        if text:
            say(textwrap.fill(text, 100, initial_indent=f"{label:10}", subsequent_indent=" " * 10))


def _measure(names: str, seeds: int, json: bool) -> None:
    """Measures and prints signal to noise."""
    from evosearch.cli.evaluate import task_names
    from evosearch.cli.progress import reporting
    from evosearch.cli.terminal import Terminal, unbroken_lines
    from evosearch.evaluation.signal_to_noise import OPTIMIZERS, signal_to_noise
    from evosearch.report.catalogue import signal_to_noise_report
    from evosearch.report.terminal import show

    with reporting(Terminal(stderr=True)) as report:
        found = signal_to_noise(task_names(names), seeds=seeds, notify=warn, progress=report)
    if json:
        print_json({"tasks": [one.document() for one in found]})
        return
    show(signal_to_noise_report(found, OPTIMIZERS), unbroken_lines())
