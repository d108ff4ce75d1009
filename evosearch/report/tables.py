"""Reports as data: sections with a table and notes, independent of how they are rendered.

`report.terminal` prints a report and `report.markdown` writes it. `Table.json_rows` returns the
rows as JSON, for documents that consist of a table.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeAlias

Value: TypeAlias = str | int | float | None


class Tone(StrEnum):
    """Role of a text, which a renderer shows by a style."""

    PLAIN = "plain"
    """Ordinary text."""
    GOOD = "good"
    """A good result, such as the verdict better, or an added line."""
    BAD = "bad"
    """A bad result, such as the verdict worse, an error, or a removed line."""
    QUIET = "quiet"
    """Text of minor importance, such as how figures were measured."""
    STRONG = "strong"
    """An emphasized row, such as a total."""
    MARKED = "marked"
    """A measured figure of a step of a derivation."""


@dataclass(frozen=True)
class Cell:
    """A value in a table whose text or tone differs from the column's format or the row's tone.

    Attributes:
        value: The value; None if it is missing.
        text: Text to show; None means the value in the column's format.
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
        number_format: Format of the column's numbers, such as `+.3f`; "" means the default format,
            None a column of text. A column of numbers is right-aligned.
        key: Name of the column's values in JSON; None leaves the column out.
        missing: Text for a value of None.
        wraps: Whether long cells are wrapped if the table is too wide.
        min_width: Minimum width in characters of a column that wraps.
    """

    header: str
    number_format: str | None = None
    key: str | None = None
    missing: str = "-"
    wraps: bool = False
    min_width: int = 0

    def text(self, cell: Cell | Value) -> str:
        """Return the text of a cell of this column."""
        if isinstance(cell, Cell):
            return self.text(cell.value) if cell.text is None else cell.text
        if cell is None:
            return self.missing
        return cell if isinstance(cell, str) else format(cell, self.number_format or "")


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

    def json_rows(self) -> list[dict[str, Any]]:
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
        verbatim: Whether the text is a program or a command; its lines are then never wrapped.
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


def plain_notes(*texts: str) -> tuple[Note, ...]:
    """Return a plain note for each text."""
    return tuple(map(Note, texts))
