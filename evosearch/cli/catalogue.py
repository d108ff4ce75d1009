"""The commands `evosearch ops` and `evosearch zoo`, which list ops and known optimizers."""

from __future__ import annotations

from typing import Annotated

import typer

from evosearch.cli.app import Json, app, print_json, say


@app.command()
def ops(
    json: Json = False,
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Print the table of docs/language.md as Markdown.")
    ] = False,
) -> None:
    """List the ops that programs are made of."""
    from evosearch.cli.terminal import unbroken_terminal
    from evosearch.report.catalogue import ops_report
    from evosearch.report.terminal import show
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
    show(ops_report(), unbroken_terminal())


@app.command()
def zoo(json: Json = False) -> None:
    """List the known optimizers.

    Each known optimizer is a program that a search can start from and `eval` can compare with.
    """
    from evosearch.cli.terminal import unbroken_terminal
    from evosearch.report.catalogue import zoo_report, zoo_table
    from evosearch.report.terminal import show

    if json:
        print_json({"zoo": zoo_table().json_rows()})
    else:
        show(zoo_report(), unbroken_terminal())
