"""What there is: `tasks`, `ops`, `zoo`."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from evosearch.cli.app import Json, app, print_json

_PIPED = 1000
"""The width of tables that no terminal shows: nothing is wrapped."""


@app.command()
def tasks(
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
    from evosearch.errors import UsageError
    from proxies import data
    from proxies.task import SPLITS

    if split is not None and split not in SPLITS:
        raise UsageError(f"no split {split!r}; there are {', '.join(SPLITS)}")
    if snr:
        _print_signal_to_noise(task or split or "search", seeds, json)
        return
    if task is not None:
        raise UsageError("--task goes with --snr; use --split to list some tasks")
    loaded = [
        proxies.load(name) for name in proxies.names() if split in (None, proxies.load(name).split)
    ]
    if json:
        fields = ("name", "split", "params", "steps", "metric", "description", "source")
        rows = [{field: getattr(one, field) for field in fields} for one in loaded]
        print_json({"tasks": rows})
        return
    for part in SPLITS:
        rows_of_part: list[tuple[str, ...]] = [
            (one.name, f"{one.params:,}", f"{one.steps:,}", f"{one.description}; {one.metric}")
            for one in loaded
            if one.split == part
        ]
        if rows_of_part:
            print(f"{part}: {_SPLIT_USES[part]}")
            _print_table(("task", "weights", "steps", "what; metric"), rows_of_part)
            print()
    print("weights: how many train. steps: in one training. metric: the lower the better.")
    print("data, after which tasks are named; each source is cut into parts for the splits:")
    for name, source in data.SOURCES.items():
        print(f"  {name}: {source().provenance}")


_SPLIT_USES = {
    "search": "cheap proxies, which a search sees",
    "validation": "the same families with 10 and 100 times the work, to choose among winners",
    "held-out": "for the final comparison; never read by a search",
    "diagnostic": "formulas and one deep network, to look at how a rule behaves",
}


def _print_signal_to_noise(tasks: str, seeds: int, json: bool) -> None:
    from rich.console import Console

    from evosearch.cli.evaluate import reporting, task_names
    from evosearch.signal_to_noise import OPTIMIZERS, signal_to_noise

    with reporting(Console(stderr=True)) as report:
        found = signal_to_noise(task_names(tasks), seeds=seeds, progress=report)
    if json:
        print_json({"tasks": [one.document() for one in found]})
        return
    headings = ("task", "signal", "noise", "ratio", "paired noise", "paired ratio", "left out")
    numbers = ("signal", "noise", "ratio", "paired", "paired_ratio")
    _print_table(
        headings,
        [
            (one.task, *(f"{getattr(one, n):.3f}" for n in numbers), ", ".join(one.left_out))
            for one in found
        ],
    )
    print(
        f"\nsignal: spread of mean log losses of {', '.join(OPTIMIZERS)}, each at its best rate."
        "\nnoise: deviation of log losses between the seeds of one; paired: less what all share."
        "\nleft out: diverged on a fresh seed."
    )


@app.command()
def ops(
    json: Json = False,
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Print the table of docs/language.md.")
    ] = False,
) -> None:
    """The ops that programs are made of."""
    from primitives import OPS, language

    if json:
        rows = [
            {
                "name": op.name,
                "arity": op.arity,
                "set": op.op_set,
                "operands": op.operands,
                "result": language.result(op),
                "meaning": op.summary,
                "latex": language.latex(op),
            }
            for op in OPS.values()
        ]
        print_json({"ops": rows})
        return
    if markdown:
        print(language.markdown(), end="")
        return
    _print_table(
        ("op", "operands", "result", "set", "meaning"),
        [
            (language.call(op), op.operands or "-", language.result(op), op.op_set, op.summary)
            for op in OPS.values()
        ],
    )
    print(
        "\noperands: x takes a value of any kind, s a scalar (one number for the whole model)."
        "\nresult: common is the kind that the operands broadcast to; others are the largest."
        "\nset: a search samples from paper unless told otherwise; programs may use all."
    )


@app.command()
def zoo(json: Json = False) -> None:
    """The known optimizers, as programs to start from and to compare with."""
    from primitives import live, state_memory
    from primitives import zoo as programs

    rows = [
        (name, len(live(programs.load(name)).statements), state_memory(programs.load(name)))
        for name in programs.names()
    ]
    if json:
        fields = ("name", "statements", "state_memory")
        print_json({"zoo": [dict(zip(fields, row, strict=True)) for row in rows]})
        return
    _print_table(
        ("program", "statements", "memory", ""),
        [(name, str(n), f"{memory:.3g}", programs.summary(name)) for name, n, memory in rows],
    )
    print(
        "\nstatements: live ones. memory: numbers of state per weight, in two 1024 x 1024 layers"
        "\nwith biases. `evosearch show NAME` gives text, equations and paper."
    )


def _print_table(headings: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for place, heading in enumerate(headings):
        numbers = all(row[place].replace(",", "").replace(".", "").isdigit() for row in rows)
        table.add_column(
            heading,
            justify="right" if numbers else "left",
            no_wrap=place < len(headings) - 1,
            overflow="fold",
        )
    for row in rows:
        table.add_row(*row)
    Console(width=None if sys.stdout.isatty() else _PIPED, markup=False).print(table)
