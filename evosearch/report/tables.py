"""A report as data: sections with a table and notes. Renderers show it; it knows none of them.

`report.terminal` prints a report, `report.markdown` writes it, and `Table.records` is what `--json`
prints where a document is nothing but the table's data.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeAlias

Value: TypeAlias = str | int | float | None


class Tone(StrEnum):
    """What a text is to its reader; a renderer decides how it looks."""

    PLAIN = "plain"
    GOOD = "good"
    BAD = "bad"
    QUIET = "quiet"
    STRONG = "strong"
    MARKED = "marked"


@dataclass(frozen=True)
class Cell:
    """A value that is not written as its column says, or not in a plain tone.

    Attributes:
        value: the value; None if there is none.
        text: how it is written; None for as the column says.
        tone: what it is to the reader.
    """

    value: Value
    text: str | None = None
    tone: Tone = Tone.PLAIN


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        header: what stands above it.
        number: format of its numbers, as `+.3f`; "" for numbers as they are. A column of numbers is
            flush right. None for a column of text.
        key: name of its values in JSON; None if JSON leaves them out.
        missing: what stands for a value of None.
        wraps: whether long cells are broken where the table is wider than what shows it.
        narrowest: characters that a column that wraps has at least.
    """

    header: str
    number: str | None = None
    key: str | None = None
    missing: str = "-"
    wraps: bool = False
    narrowest: int = 0

    def text(self, cell: Cell | Value) -> str:
        """A cell of this column as it is written."""
        if isinstance(cell, Cell):
            return self.text(cell.value) if cell.text is None else cell.text
        if cell is None:
            return self.missing
        return cell if isinstance(cell, str) else format(cell, self.number or "")


@dataclass(frozen=True)
class Row:
    """A row of a table: a cell for each column."""

    cells: tuple[Cell | Value, ...]
    tone: Tone = Tone.PLAIN


@dataclass(frozen=True)
class Table:
    """Rows under columns."""

    columns: tuple[Column, ...]
    rows: tuple[Row, ...]

    def records(self) -> list[dict[str, Any]]:
        """The rows as JSON: values by the keys of their columns."""
        return [
            {
                column.key: cell.value if isinstance(cell, Cell) else cell
                for column, cell in zip(self.columns, row.cells, strict=True)
                if column.key is not None
            }
            for row in self.rows
        ]


@dataclass(frozen=True)
class Note:
    """A paragraph.

    Attributes:
        text: what it says.
        tone: what it is to the reader.
        verbatim: whether its lines are a program or a command, which are never broken.
        indent: spaces before each line on a terminal.
    """

    text: str
    tone: Tone = Tone.PLAIN
    verbatim: bool = False
    indent: int = 0


@dataclass(frozen=True)
class Section:
    """A part of a report: a heading, a table and notes, each of which may be missing.

    Attributes:
        title: the heading.
        label: a word that marks the heading, as the domain of a rule.
        table: what it shows.
        notes: what follows the table.
    """

    title: str = ""
    label: str = ""
    table: Table | None = None
    notes: tuple[Note, ...] = ()


@dataclass(frozen=True)
class Report:
    """Sections, in order."""

    sections: tuple[Section, ...]


def paragraphs(*texts: str) -> tuple[Note, ...]:
    """Plain notes."""
    return tuple(map(Note, texts))
