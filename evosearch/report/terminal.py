"""Reports on a terminal, rendered by rich."""

from __future__ import annotations

import io
from textwrap import indent, wrap

from rich import table as rich_table
from rich.console import Console
from rich.text import Text

from evosearch.report.tables import Cell, Note, Report, Section, Table, Tone
from primitives.text.printable import printable

_STYLES = {
    Tone.PLAIN: "",
    Tone.GOOD: "green",
    Tone.BAD: "red",
    Tone.QUIET: "dim",
    Tone.STRONG: "bold",
    Tone.MARKED: "cyan",
}
_MIN_WIDTH = 20
"""Minimum width of a paragraph in characters."""
_UNLIMITED = 10_000
"""Width at which no line is wrapped."""


def show(report: Report, console: Console) -> None:
    """Print a report, with an empty line between sections."""
    for number, section in enumerate(report.sections):
        if number:
            console.print()
        show_section(section, console)


def show_section(section: Section, console: Console) -> None:
    """Print a section."""
    if section.title:
        label = f"  [{section.label}]" if section.label else ""
        console.print(Text.assemble((printable(section.title), "bold"), (printable(label), "cyan")))
    if section.table is not None:
        console.print(_rich_table(section.table))
    for note in section.notes:
        _show_note(note, console)


def plain_text(report: Report) -> str:
    """Return a report as text without colours and without wrapped lines."""
    console = Console(file=io.StringIO(), width=_UNLIMITED, color_system=None)
    with console.capture() as captured:
        show(report, console)
    return "".join(f"{line.rstrip()}\n" for line in captured.get().splitlines())


def _show_note(note: Note, console: Console) -> None:
    """Print a note; prose wraps only between words, so that paths stay whole."""
    lines = printable(note.text.rstrip("\n"), keep="\n").split("\n")
    if not note.verbatim:
        width = max(console.width - note.indent, _MIN_WIDTH)
        lines = [part for line in lines for part in _wrapped(line, width)]
    text = indent("\n".join(lines), " " * note.indent)
    console.print(Text(text, style=_STYLES[note.tone]), soft_wrap=True)


def _wrapped(line: str, width: int) -> list[str]:
    return wrap(
        line, width, break_long_words=False, break_on_hyphens=False, replace_whitespace=False
    ) or [""]


def _rich_table(table: Table) -> rich_table.Table:
    """Return a table without borders."""
    result = rich_table.Table(box=None, pad_edge=False, header_style="bold")
    for column in table.columns:
        result.add_column(
            Text(printable(column.header)),
            justify="left" if column.number_format is None else "right",
            no_wrap=not column.wraps,
            overflow="fold",
            min_width=column.min_width or None,
        )
    for row in table.rows:
        cells = []
        for column, cell in zip(table.columns, row.cells, strict=True):
            tone = cell.tone if isinstance(cell, Cell) else Tone.PLAIN
            cells.append(Text(printable(column.text(cell)), style=_STYLES[tone]))
        result.add_row(*cells, style=_STYLES[row.tone])
    return result
