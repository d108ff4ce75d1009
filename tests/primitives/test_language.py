"""Tests of `docs/language.md`: its table of ops, its example program and its error messages."""

import re
from pathlib import Path

import pytest

from primitives import MAX_STATEMENTS, OPS, Kind, ProgramError, parse, zoo
from primitives.explain import language

TEXT = (Path(__file__).parents[2] / "docs/language.md").read_text(encoding="utf-8")


def test_the_table_of_ops_in_the_docs_is_up_to_date():
    listed = TEXT.split("<!-- ops -->\n\n")[1].split("\n<!-- /ops -->")[0]
    assert listed == language.markdown(), (
        "docs/language.md differs from the op table; "
        "replace its table by the output of `evosearch ops --markdown`"
    )


def test_every_op_has_one_complete_row_in_the_table():
    rows = language.markdown().splitlines()[2:]
    assert len(rows) == len(OPS)
    for row, op in zip(rows, OPS.values(), strict=True):
        assert len(row.split(" | ")) == len(language.HEADINGS)
        assert row.count("|") == len(language.HEADINGS) + 1  # none inside a cell
        assert row.startswith(f"| `{language.call(op)}` |")


def test_the_example_program_in_the_docs_is_lion():
    block = re.search(r"^```\n(def train.*?)^```", TEXT, re.DOTALL | re.MULTILINE)
    assert parse(block[1]) == zoo.load("lion")


@pytest.mark.parametrize("op", OPS.values(), ids=list(OPS))
def test_the_call_of_an_op_in_the_table_parses(op):
    names = op.operand_names
    assert len(names) == op.arity
    lines = "".join(
        f"  {name} = {'global_norm(g)' if want == 's' else 'g'}\n"
        for name, want in zip(names, op.operands, strict=True)
    )
    program = parse(f"def train(w, g):\n{lines}  u = {language.call(op)}\n  return u")
    assert program.statements[-1].op == op.name


def test_the_docs_explain_all_kinds_and_limits():
    for kind in Kind:
        assert f"| `{kind}` |" in TEXT
    assert f"At most {MAX_STATEMENTS} statements" in TEXT


def refused():
    """Return the rows of the table of refused syntax: text and error message."""
    table = TEXT.split("<!-- refused -->\n\n")[1].split("\n\n<!-- /refused -->")[0]
    return [row.strip("| ").split(" | ") for row in table.splitlines()[2:]]


@pytest.mark.parametrize(("code", "message"), refused())
def test_refused_syntax_in_the_docs_has_the_documented_message(code, message):
    code = code.strip("`")
    if code.startswith("def"):
        text, line = f"{code}\n  return g", 1
    else:
        text, line = f"def train(w, g, m):\n  {code}\n  return g, m", 2
    with pytest.raises(ProgramError) as error:
        parse(text)
    assert str(error.value) == f"line {line}: {message}"


def test_a_state_returned_as_a_larger_kind_is_refused_with_the_needed_declaration():
    with pytest.raises(ProgramError, match=r"line 3: .* declare it as `r: tensor`"):
        parse("def train(w, g, r: row):\n  r = r + g\n  return r, r")
