"""Reports as Markdown."""

from __future__ import annotations

from evosearch.report.tables import Note, Report, Section, Table
from primitives.text.printable import as_markdown


def markdown(report: Report) -> str:
    """Return a report as Markdown, with third-level headings for its sections."""
    return "\n\n".join(map(_section_text, report.sections)) + "\n"


def _section_text(section: Section) -> str:
    parts = []
    if section.title:
        label = f" [{section.label}]" if section.label else ""
        parts.append(f"### {as_markdown(section.title + label)}")
    if section.table is not None:
        parts.append(_table_text(section.table))
    parts += map(_note_text, section.notes)
    return "\n\n".join(parts)


def _note_text(note: Note) -> str:
    return f"```\n{note.text.rstrip()}\n```" if note.verbatim else as_markdown(note.text)


def _table_text(table: Table) -> str:
    lines = [
        [as_markdown(column.header) for column in table.columns],
        ["---" if column.number_format is None else "---:" for column in table.columns],
    ]
    for row in table.rows:
        cells = zip(table.columns, row.cells, strict=True)
        lines.append([as_markdown(column.text(cell)) for column, cell in cells])
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
