"""Tests that `docs/language.md` agrees with the code: ops, example program, error messages."""

import re
from pathlib import Path

import pytest

from primitives import MAX_STATEMENTS, OPS, Kind, ProgramError, parse, zoo
from primitives.explain import language

PAGE = (Path(__file__).parents[2] / "docs/language.md").read_text(encoding="utf-8")


def test_the_table_of_ops_in_the_docs_is_up_to_date():
    documented_table = PAGE.split("<!-- ops -->\n\n")[1].split("\n<!-- /ops -->")[0]
    assert documented_table == language.markdown(), (
        "docs/language.md differs from the op table; "
        "replace its table by the output of `evosearch ops --markdown`"
    )


def test_every_op_has_one_complete_row_in_the_table():
    rows = language.markdown().splitlines()[2:]
    assert len(rows) == len(OPS)
    for row, op in zip(rows, OPS.values(), strict=True):
        assert len(row.split(" | ")) == len(language.HEADINGS)
        assert row.count("|") == len(language.HEADINGS) + 1  # no cell contains "|"
        assert row.startswith(f"| `{language.call(op)}` |")


def test_the_example_program_in_the_docs_is_lion():
    block = re.search(r"^```\n(def train.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    assert parse(block[1]) == zoo.load("lion")


@pytest.mark.parametrize("op", OPS.values(), ids=list(OPS))
def test_the_documented_call_of_an_op_can_be_parsed(op):
    names = op.operand_names
    assert len(names) == op.arity
    assignments = "".join(
        f"  {name} = {'global_norm(g)' if operand_type == 's' else 'g'}\n"
        for name, operand_type in zip(names, op.operands, strict=True)
    )
    program = parse(f"def train(w, g):\n{assignments}  u = {language.call(op)}\n  return u")
    assert program.statements[-1].op == op.name


def test_the_docs_list_every_kind_and_the_maximum_number_of_statements():
    for kind in Kind:
        assert f"| `{kind}` |" in PAGE
    assert f"At most {MAX_STATEMENTS} statements" in PAGE


def documented_errors():
    """Return the rows of the table of unsupported syntax: code and error message."""
    table = PAGE.split("<!-- refused -->\n\n")[1].split("\n\n<!-- /refused -->")[0]
    return [row.strip("| ").split(" | ") for row in table.splitlines()[2:]]


@pytest.mark.parametrize(("code", "message"), documented_errors())
def test_unsupported_syntax_raises_the_documented_error(code, message):
    code = code.strip("`")
    if code.startswith("def"):
        text, line = f"{code}\n  return g", 1
    else:
        text, line = f"def train(w, g, m):\n  {code}\n  return g, m", 2
    with pytest.raises(ProgramError) as error:
        parse(text)
    assert str(error.value) == f"line {line}: {message}"


def test_the_error_about_a_state_of_a_larger_kind_gives_the_declaration_to_write():
    with pytest.raises(ProgramError, match=r"line 3: .* declare it as `r: tensor`"):
        parse("def train(w, g, r: row):\n  r = r + g\n  return r, r")
