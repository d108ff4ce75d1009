"""What there is: `ops` and `zoo`."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from evosearch.cli.app import Json, app, print_json, say

_PIPED = 1000
"""The width of tables that no terminal shows: nothing is wrapped."""


@app.command()
def ops(
    json: Json = False,
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Print the table of docs/language.md.")
    ] = False,
) -> None:
    """The ops that programs are made of."""
    from primitives import OPS
    from primitives.explain import language

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
        say(language.markdown(), end="")
        return
    print_table(
        ("op", "operands", "result", "set", "meaning"),
        [
            (language.call(op), op.operands or "-", language.result(op), op.op_set, op.summary)
            for op in OPS.values()
        ],
    )
    say(
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
    print_table(
        ("program", "statements", "memory", ""),
        [(name, str(n), f"{memory:.3g}", programs.summary(name)) for name, n, memory in rows],
    )
    say(
        "\nstatements: live ones. memory: numbers of state per weight, in two 1024 x 1024 layers"
        "\nwith biases. `evosearch show NAME` gives text, equations and paper."
    )


def print_table(headings: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    """Prints a table, numbers flush right; the last column may wrap."""
    from rich.table import Table

    from evosearch.cli.terminal import Terminal

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
    Terminal(width=None if sys.stdout.isatty() else _PIPED).print(table)
