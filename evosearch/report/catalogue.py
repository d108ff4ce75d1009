"""The reports of what there is: ops, known optimizers, tasks and how well these tell them apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from evosearch.report.tables import Column, Report, Row, Section, Table, paragraphs
from primitives import OPS, live, state_memory, zoo
from primitives.explain import language

if TYPE_CHECKING:
    from evosearch.evaluation.signal_to_noise import SignalToNoise
    from proxies import Task

USES = {
    "search": "cheap proxies, which a search sees",
    "validation": "the same families with 10 and 100 times the work, to choose among winners",
    "held-out": "for the final comparison; never read by a search",
    "diagnostic": "formulas and one deep network, to look at how a rule behaves",
}
"""What each split of the tasks is for."""


def ops_report() -> Report:
    """The ops that programs are made of."""
    headers = ("op", "operands", "result", "set")
    columns = (*map(Column, headers), Column("meaning", wraps=True))
    rows = [
        Row((language.call(op), op.operands or "-", language.result(op), op.op_set, op.summary))
        for op in OPS.values()
    ]
    notes = paragraphs(
        "operands: x takes a value of any kind, s a scalar (one number for the whole model).",
        "result: common is the kind that the operands broadcast to; others are the largest.",
        "set: a search samples from paper unless told otherwise; programs may use all.",
    )
    return Report((Section(table=Table(columns, tuple(rows))), Section(notes=notes)))


def zoo_table() -> Table:
    """The known optimizers, as programs."""
    columns = (
        Column("program", key="name"),
        Column("statements", "d", key="statements"),
        Column("memory", ".3g", key="state_memory"),
        Column("", wraps=True),
    )
    rows = []
    for name in zoo.names():
        program = zoo.load(name)
        count = len(live(program).statements)
        rows.append(Row((name, count, state_memory(program), zoo.summary(name))))
    return Table(columns, tuple(rows))


def zoo_report() -> Report:
    """The known optimizers, to start from and to compare with."""
    notes = paragraphs(
        "statements: live ones. memory: numbers of state per weight, in two 1024 x 1024 layers",
        "with biases. `evosearch show NAME` gives text, equations and paper.",
    )
    return Report((Section(table=zoo_table()), Section(notes=notes)))


def tasks_report(tasks: Sequence[Task], provenance: Mapping[str, str]) -> Report:
    """The tasks by split, and where their data come from.

    Args:
        tasks: to be listed.
        provenance: where each source of their data comes from, in words.
    """
    columns = (
        Column("task"),
        Column("weights", ",d"),
        Column("steps", ",d"),
        Column("what; metric", wraps=True),
    )
    sections = []
    for split, use in USES.items():
        rows = [
            Row((one.name, one.params, one.steps, f"{one.description}; {one.metric}"))
            for one in tasks
            if one.split == split
        ]
        if rows:
            sections.append(Section(f"{split}: {use}", table=Table(columns, tuple(rows))))
    said = ["weights: how many train. steps: in one training. metric: the lower the better."]
    if provenance:
        said.append("data, each source cut into a part for search, validation and held-out:")
        said += [f"  {source}: {words}" for source, words in provenance.items()]
    return Report((*sections, Section(notes=paragraphs(*said))))


def signal_to_noise_report(found: Sequence[SignalToNoise], optimizers: Sequence[str]) -> Report:
    """How well tasks tell `optimizers` apart."""
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
                one.task,
                *(one.signal, one.noise, one.ratio, one.paired, one.paired_ratio),
                min(one.losses, key=lambda name: one.losses[name]),
                ", ".join(one.left_out),
            )
        )
        for one in found
    ]
    notes = paragraphs(
        f"signal: spread of mean log losses of {', '.join(optimizers)}, each at its best rate.",
        "noise: deviation of log losses between the seeds of one; paired: less what all share.",
        "lowest loss: by the mean; that it is really the lowest is not tested.",
        "left out: diverged on a fresh seed.",
    )
    return Report((Section(table=Table(columns, tuple(rows))), Section(notes=notes)))
