"""Tests that each renderer (terminal, Markdown, JSON) shows all of a report."""

import io
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evosearch.cli.terminal import Terminal
from evosearch.report.catalogue import ops_report, zoo_report, zoo_table
from evosearch.report.comparison import comparison_report
from evosearch.report.markdown import markdown
from evosearch.report.program import inspect, program_report
from evosearch.report.run import overview, status_report, top_report
from evosearch.report.simplification import result_report
from evosearch.report.tables import Cell, Column, Note, Report, Row, Section, Table, Tone
from evosearch.report.terminal import plain_text, show
from evosearch.runs.curves import compare_runs
from evosearch.runs.run import Run
from evosearch.simplification import simplify_by_algebra
from primitives import zoo
from primitives.text.printable import as_markdown

EXAMPLE_RUN = Path(__file__).parents[2] / "runs" / "example"

COLUMNS = (
    Column("program", key="name", wraps=True),
    Column("fitness", "+.3f", key="fitness"),
    Column("loss", ""),
    Column("verdict"),
)
REPORT = Report(
    (
        Section(
            "On two tasks",
            label="fresh",
            table=Table(
                COLUMNS,
                (
                    Row(("lion", 0.0512, Cell(0.5, "0.50 ±0.01"), Cell("better", tone=Tone.GOOD))),
                    Row(("sgd", None, None, "tie"), Tone.QUIET),
                ),
            ),
            notes=(Note("0 is tuned AdamW."), Note("Not `sure`.", Tone.QUIET, indent=2)),
        ),
        Section(notes=(Note("def train(w, g):\n    return g\n", verbatim=True),)),
    )
)
TEXTS = st.text(alphabet="ab |`*[]<$\\\n\x1b\u202e", max_size=12)
"""Strategy for texts with characters that have a meaning in Markdown or on a terminal."""


def report_on_example_run(subject: str) -> Report:
    """Return a report about the example run, the zoo or the ops."""
    run = Run(EXAMPLE_RUN)
    match subject:
        case "top":
            return top_report(run.top(3))
        case "status":
            return status_report(overview(run), lambda *arguments: " ".join(arguments))
        case "program":
            best = run.best()
            assert best is not None
            return program_report(inspect(str(EXAMPLE_RUN), run.champion(), (run, best.id)))
        case "simplification":
            return result_report(simplify_by_algebra(run.champion()))
        case "comparison":
            return comparison_report(compare_runs([run]))
        case "zoo":
            return zoo_report()
        case _:
            return ops_report()


@pytest.mark.parametrize(
    "subject", ["top", "status", "program", "simplification", "comparison", "zoo", "ops"]
)
def test_the_text_and_the_markdown_contain_all_texts_of_a_report(subject: str) -> None:
    report = report_on_example_run(subject)
    text_on_one_line, markdown_text = " ".join(plain_text(report).split()), markdown(report)
    for section in report.sections:
        texts = [section.title, *(note.text for note in section.notes)]
        if section.table is not None:
            columns = section.table.columns
            for row in section.table.rows:
                cells = zip(columns, row.cells, strict=True)
                texts += [column.text(cell) for column, cell in cells]
        for text in texts:
            assert " ".join(text.split()) in text_on_one_line
            for line in text.splitlines():
                assert as_markdown(line) in markdown_text or line in markdown_text


def test_the_text_of_a_report_matches_the_expected_text() -> None:
    assert (
        plain_text(REPORT)
        == """\
On two tasks  [fresh]
program  fitness        loss  verdict
lion      +0.051  0.50 ±0.01  better
sgd            -           -  tie
0 is tuned AdamW.
  Not `sure`.

def train(w, g):
    return g
"""
    )


def test_the_markdown_of_a_report_matches_the_expected_markdown() -> None:
    assert (
        markdown(REPORT)
        == """\
### On two tasks \\[fresh\\]

| program | fitness | loss | verdict |
| --- | ---: | ---: | --- |
| lion | +0.051 | 0.50 ±0.01 | better |
| sgd | - | - | tie |

0 is tuned AdamW.

Not \\`sure\\`.

```
def train(w, g):
    return g
```
"""
    )


def test_the_json_rows_of_a_table_have_values_and_not_formatted_text() -> None:
    (section, _) = REPORT.sections
    assert section.table is not None
    assert section.table.json_rows() == [
        {"name": "lion", "fitness": 0.0512},
        {"name": "sgd", "fitness": None},
    ]
    rows = json.loads(json.dumps(zoo_table().json_rows()))
    assert [row["name"] for row in rows] == list(zoo.names())
    assert all(row["name"] in plain_text(zoo_report()) for row in rows)


@given(st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=4))
def test_a_row_is_printed_on_one_line_for_any_text_of_its_cells(
    rows: list[tuple[str, str]],
) -> None:
    columns = (Column("first"), Column("second"))
    report = Report((Section(table=Table(columns, tuple(map(Row, rows)))),))
    markdown_lines = markdown(report).splitlines()
    assert len(markdown_lines) == 2 + len(rows)  # the header, its underline and the rows
    for line in markdown_lines:
        separators = line.replace("\\|", "").count("|")
        assert separators == 3
    console = Terminal(file=io.StringIO())
    show(report, console)
    text = console.file.getvalue()
    assert text.count("\n") == 1 + len(rows)
    assert not {"\x1b", "\u202e"} & set(text)
