"""Reports of ops, known optimizers, tasks, and the signal-to-noise ratio of tasks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from evosearch.report.tables import Column, Report, Row, Section, Table, plain_notes
from primitives import OPS, live, state_memory, zoo
from primitives.explain import language

if TYPE_CHECKING:
    from evosearch.evaluation.signal_to_noise import SignalToNoise
    from proxies import Task

PURPOSES = {
    "search": "cheap proxies that a search trains on",
    "validation": "the same tasks with 10 and 100 times the work, to choose a winner",
    "held-out": "for the final comparison; never used by a search",
    "diagnostic": "formulas and one deep network, to study how a program behaves",
}
"""Purpose of each split of the tasks."""


def ops_report() -> Report:
    """Return a table of the ops."""
    headers = ("op", "operands", "result", "set")
    columns = (*map(Column, headers), Column("meaning", wraps=True))
    rows = [
        Row((language.call(op), op.operands or "-", language.result(op), op.op_set, op.summary))
        for op in OPS.values()
    ]
    notes = plain_notes(
        "operands: x is a value of any kind, s a scalar (one number per model).",
        "result: common is the kind that the operands broadcast to; another kind is the largest "
        "possible one.",
        'set: mutation inserts ops of the set paper, or of all sets with op_set = "full". A '
        "program may use any op.",
    )
    return Report((Section(table=Table(columns, tuple(rows))), Section(notes=notes)))


def zoo_table() -> Table:
    """Return a table of the known optimizers."""
    columns = (
        Column("program", key="name"),
        Column("statements", "d", key="statements"),
        Column("memory", ".3g", key="state_memory"),
        Column("", wraps=True),
    )
    rows = []
    for name in zoo.names():
        program = zoo.load(name)
        statements = len(live(program).statements)
        rows.append(Row((name, statements, state_memory(program), zoo.summary(name))))
    return Table(columns, tuple(rows))


def zoo_report() -> Report:
    """Return a table of the known optimizers with notes."""
    notes = plain_notes(
        "statements: number of live statements. memory: numbers of state per weight, for two "
        "1024 x 1024 layers with biases. `evosearch show NAME` shows source, equations and paper.",
    )
    return Report((Section(table=zoo_table()), Section(notes=notes)))


def tasks_report(tasks: Sequence[Task], provenance: Mapping[str, str]) -> Report:
    """Return tables of tasks by split, and the origin of their data.

    Args:
        tasks: The tasks.
        provenance: Description of each data source, by its name.
    """
    columns = (
        Column("task"),
        Column("weights", ",d"),
        Column("steps", ",d"),
        Column("description; metric", wraps=True),
    )
    sections = []
    for split, purpose in PURPOSES.items():
        rows = [
            Row((task.name, task.params, task.steps, f"{task.description}; {task.metric}"))
            for task in tasks
            if task.split == split
        ]
        if rows:
            sections.append(Section(f"{split}: {purpose}", table=Table(columns, tuple(rows))))
    notes = ["weights: number of trained weights. steps: per training. metric: lower is better."]
    if provenance:
        notes.append("data sources, each split into search, validation and held-out parts:")
        notes += [f"  {source}: {description}" for source, description in provenance.items()]
    return Report((*sections, Section(notes=plain_notes(*notes))))


def signal_to_noise_report(tasks: Sequence[SignalToNoise], optimizers: Sequence[str]) -> Report:
    """Return the signal-to-noise ratios of tasks, measured with `optimizers`."""
    headers = ("signal", "noise", "ratio", "paired noise", "paired ratio")
    columns = (
        Column("task"),
        *(Column(header, ".3f") for header in headers),
        Column("lowest loss"),
        Column("left out", wraps=True),
    )
    rows = [
        Row(
            (
                task.task,
                *(task.signal, task.noise, task.ratio, task.paired, task.paired_ratio),
                min(task.losses, key=lambda name: task.losses[name]),
                ", ".join(task.left_out),
            )
        )
        for task in tasks
    ]
    notes = plain_notes(
        "signal: standard deviation between optimizers of the mean log loss at the best learning "
        f"rate. Optimizers: {', '.join(optimizers)}.",
        "noise: standard deviation of an optimizer's log losses between seeds; paired: without the "
        "part that all optimizers share.",
        "lowest loss: optimizer with the lowest mean loss, without a significance test.",
        "left out: optimizers that diverged on a fresh seed.",
    )
    return Report((Section(table=Table(columns, tuple(rows))), Section(notes=notes)))
