"""Reports as data: sections with a table and notes, independent of how they are rendered.

`report.terminal` prints a report and `report.markdown` writes it. `Table.records` gives the rows as
JSON, for documents that consist of a table.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeAlias

Value: TypeAlias = str | int | float | None


class Tone(StrEnum):
    """Role of a text, which a renderer shows by a style."""

    PLAIN = "plain"
    GOOD = "good"
    BAD = "bad"
    QUIET = "quiet"
    STRONG = "strong"
    MARKED = "marked"


@dataclass(frozen=True)
class Cell:
    """A value with a text or a tone of its own.

    Attributes:
        value: The value; None if it is missing.
        text: Text to show; None means the column's format.
        tone: Role of the text.
    """

    value: Value
    text: str | None = None
    tone: Tone = Tone.PLAIN


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        header: Heading.
        number: Format of its numbers, such as `+.3f`; "" means the default format. A column of
            numbers is right-aligned. None means a column of text.
        key: Name of its values in JSON; None leaves them out.
        missing: Text for a value of None.
        wraps: Whether long cells are wrapped if the table is too wide.
        narrowest: Minimum width in characters of a column that wraps.
    """

    header: str
    number: str | None = None
    key: str | None = None
    missing: str = "-"
    wraps: bool = False
    narrowest: int = 0

    def text(self, cell: Cell | Value) -> str:
        """Return the text of a cell of this column."""
        if isinstance(cell, Cell):
            return self.text(cell.value) if cell.text is None else cell.text
        if cell is None:
            return self.missing
        return cell if isinstance(cell, str) else format(cell, self.number or "")


@dataclass(frozen=True)
class Row:
    """A row of a table, with a cell for each column."""

    cells: tuple[Cell | Value, ...]
    tone: Tone = Tone.PLAIN


@dataclass(frozen=True)
class Table:
    """Columns and rows."""

    columns: tuple[Column, ...]
    rows: tuple[Row, ...]

    def records(self) -> list[dict[str, Any]]:
        """Return the rows as JSON: values by the keys of their columns."""
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
        text: The text.
        tone: Role of the text.
        verbatim: Whether it is a program or a command, whose lines are never wrapped.
        indent: Number of spaces before each line on a terminal.
    """

    text: str
    tone: Tone = Tone.PLAIN
    verbatim: bool = False
    indent: int = 0


@dataclass(frozen=True)
class Section:
    """A part of a report: a heading, a table and notes, all optional.

    Attributes:
        title: Heading.
        label: A word shown after the heading, such as the domain of a rule.
        table: Table.
        notes: Paragraphs that follow the table.
    """

    title: str = ""
    label: str = ""
    table: Table | None = None
    notes: tuple[Note, ...] = ()


@dataclass(frozen=True)
class Report:
    """Sections in order."""

    sections: tuple[Section, ...]


def paragraphs(*texts: str) -> tuple[Note, ...]:
    """Return a plain note for each text."""
    return tuple(map(Note, texts))
