"""`docs/language.md` is true: its table is the op table's, its program runs, its claims hold."""

import re
from pathlib import Path

import pytest

from primitives import MAX_STATEMENTS, OPS, Kind, ProgramError, parse, zoo
from primitives.explain import language

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


def refused():
    """What the page says is refused, and how."""
    table = TEXT.split("<!-- refused -->\n\n")[1].split("\n\n<!-- /refused -->")[0]
    return [row.strip("| ").split(" | ") for row in table.splitlines()[2:]]


@pytest.mark.parametrize(("written", "words"), refused())
def test_what_the_page_says_is_refused_is_refused_with_these_words(written, words):
    code = written.strip("`")
    if code.startswith("def"):
        text, line = f"{code}\n  return g", 1
    else:
        text, line = f"def train(w, g, m):\n  {code}\n  return g, m", 2
    with pytest.raises(ProgramError) as refusal:
        parse(text)
    assert str(refusal.value) == f"line {line}: {words}"


def test_a_state_returned_as_a_larger_kind_is_refused_with_its_declaration():
    with pytest.raises(ProgramError, match=r"line 3: .* declare it as `r: tensor`"):
        parse("def train(w, g, r: row):\n  r = r + g\n  return r, r")
