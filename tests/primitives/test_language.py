"""`docs/language.md` is true: its table is the op table's, its program runs, its claims hold."""

import re
from pathlib import Path

import pytest

from primitives import MAX_STATEMENTS, OPS, Kind, ProgramError, language, parse, zoo

TEXT = (Path(__file__).parents[2] / "docs/language.md").read_text(encoding="utf-8")


def test_the_table_of_ops_is_what_the_op_table_gives():
    listed = TEXT.split("<!-- ops -->\n\n")[1].split("\n<!-- /ops -->")[0]
    assert listed == language.markdown(), (
        "docs/language.md is behind the op table; "
        "put what `evosearch ops --markdown` prints between its two marks"
    )


def test_every_op_has_one_row_of_as_many_cells_as_there_are_headings():
    rows = language.markdown().splitlines()[2:]
    assert len(rows) == len(OPS)
    for row, op in zip(rows, OPS.values(), strict=True):
        assert len(row.split(" | ")) == len(language.HEADINGS)
        assert row.count("|") == len(language.HEADINGS) + 1  # none inside a cell
        assert row.startswith(f"| `{language.call(op)}` |")


def test_the_first_program_is_lion():
    block = re.search(r"^```\n(def train.*?)^```", TEXT, re.DOTALL | re.MULTILINE)
    assert parse(block[1]) == zoo.load("lion")


@pytest.mark.parametrize("op", OPS.values(), ids=list(OPS))
def test_an_op_is_written_as_the_table_says(op):
    names = op.operand_names
    assert len(names) == op.arity
    lines = "".join(
        f"  {name} = {'global_norm(g)' if want == 's' else 'g'}\n"
        for name, want in zip(names, op.operands, strict=True)
    )
    program = parse(f"def train(w, g):\n{lines}  u = {language.call(op)}\n  return u")
    assert program.statements[-1].op == op.name


def test_all_kinds_and_limits_are_explained():
    for kind in Kind:
        assert f"| `{kind}` |" in TEXT
    assert f"At most {MAX_STATEMENTS} statements" in TEXT


REFUSED = {
    "imports": "import os\n",
    "attributes": "def train(w, g):\n  u = g.T\n  return u",
    "indexing": "def train(w, g):\n  u = g[0]\n  return u",
    "loops": "def train(w, g):\n  for i in g:\n    u = g\n  return u",
    "conditions": "def train(w, g):\n  u = g if g else w\n  return u",
    "strings": "def train(w, g):\n  u = 'g'\n  return u",
    "comparisons": "def train(w, g):\n  u = g > w\n  return u",
    "keyword arguments": "def train(w, g):\n  u = sign(x=g)\n  return u",
    "defaults": "def train(w, g, lr=1):\n  return g",
    "a name without": "def train(w, g):\n  return h",
    "none of the above": "def train(w, g, q):\n  return g",
    "larger kind than declared": "def train(w, g, r: row):\n  r = r + g\n  return r, r",
    "float32 cannot hold": "def train(w, g):\n  u = g * 1e39\n  return u",
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_the_page_says_is_refused_is_refused(what):
    assert what in " ".join(TEXT.split())
    with pytest.raises(ProgramError):
        parse(REFUSED[what])
