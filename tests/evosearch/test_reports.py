"""Reports as data: whatever a report says, every renderer says it, and each in its own form."""

import io
import json

from hypothesis import given
from hypothesis import strategies as st

from evosearch.cli.terminal import Terminal
from evosearch.report.catalogue import zoo_report, zoo_table
from evosearch.report.markdown import markdown
from evosearch.report.tables import Cell, Column, Note, Report, Row, Section, Table, Tone
from evosearch.report.terminal import plain_text, show
from primitives import zoo

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


def test_a_report_on_a_terminal() -> None:
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


def test_a_report_as_markdown() -> None:
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


def test_the_json_of_a_table_is_its_values_and_not_their_text() -> None:
    (section, _) = REPORT.sections
    assert section.table is not None
    assert section.table.records() == [
        {"name": "lion", "fitness": 0.0512},
        {"name": "sgd", "fitness": None},
    ]
    listed = json.loads(json.dumps(zoo_table().records()))
    assert [one["name"] for one in listed] == list(zoo.names())
    assert all(one["name"] in plain_text(zoo_report()) for one in listed)


@given(st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=4))
def test_whatever_a_cell_holds_a_row_is_a_row(texts: list[tuple[str, str]]) -> None:
    columns = (Column("one"), Column("other"))
    report = Report((Section(table=Table(columns, tuple(map(Row, texts)))),))
    lines = markdown(report).splitlines()
    assert len(lines) == 2 + len(texts)
    assert all(line.replace("\\|", "").count("|") == 3 for line in lines)
    console = Terminal(file=io.StringIO())
    show(report, console)
    drawn = console.file.getvalue()
    assert drawn.count("\n") == 1 + len(texts)
    assert not {"\x1b", "\u202e"} & set(drawn)
