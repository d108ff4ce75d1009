"""Text from anywhere is safe to show: nothing in it commands a terminal or breaks a document."""

from __future__ import annotations

import os
import subprocess
import sys
import unicodedata
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from primitives import Parameter, Program, Statement, to_dot, to_graph, to_latex, to_svg
from primitives.text.printable import as_latex, as_markdown, as_xml, printable

ANY = st.text(st.characters(exclude_categories=()), max_size=40)
"""Lone surrogates and control characters among them."""
BIDI = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}


def commands_something(character: str) -> bool:
    """By Unicode's own tables: control characters, surrogates, separators, bidi controls."""
    return (
        unicodedata.category(character) in {"Cc", "Cs", "Zl", "Zp"}
        or unicodedata.bidirectional(character) in BIDI
        or character in "\u061c\u200e\u200f\ufffe\uffff"
    )


@given(ANY)
@example("\x1b[31mred\x1b]0;title\x07\x9b2J\x7f\r\n\t\u202egnp.exe\ud800\uffff")
def test_nothing_printable_commands_a_terminal(text: str) -> None:
    said = printable(text)
    assert not any(map(commands_something, said))
    assert printable(said) == said
    said.encode("utf-8")


@given(ANY)
def test_what_is_harmless_stays_as_it_is(text: str) -> None:
    harmless = "".join(one for one in text if not commands_something(one))
    assert printable(harmless) == harmless


def test_escapes_are_those_of_python() -> None:
    text = "\x1b\x07\x9b\u202e\ud800\n"
    assert printable(text) == r"\x1b\x07\x9b\u202e\ud800\x0a"
    assert printable("a\n\tb\x1b", keep="\n\t") == "a\n\tb\\x1b"
    assert ascii(text)[1:-1].replace(r"\n", r"\x0a") == printable(text)


@given(ANY)
def test_any_text_is_content_of_an_xml_element(text: str) -> None:
    element = ElementTree.fromstring(f"<a>{as_xml(text)}</a>")
    assert (element.text or "") == printable(text)
    assert not list(element)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a|b", r"a\|b"),
        ("`code`", r"\`code\`"),
        (r"a\|b", r"a\\\|b"),
        ("<script>", r"\<script\>"),
        ("[x](y)", r"\[x\](y)"),
        ("*x*", r"\*x\*"),
        ("a\nb", r"a\\x0ab"),
        ("runs/quick#42", "runs/quick#42"),
    ],
)
def test_a_cell_of_a_markdown_table_is_one_cell(text: str, expected: str) -> None:
    assert as_markdown(text) == expected


def test_latex_outside_of_formulas_has_no_commands() -> None:
    assert as_latex(r"a_b%\x{1}$^~&#") == (
        r"a\_b\%\textbackslash{}x\{1\}\$\textasciicircum{}\textasciitilde{}\&\#"
    )


def hostile_program() -> Program:
    """A program whose names no text can hold, as only those in angle brackets may be."""
    weight, gradient, state = "<w\x1b[31m>", "<g</text>>", "<m\u202e&>"
    statement = Statement(state, "interp", (gradient, state, 0.9))
    parameters = (Parameter(weight), Parameter(gradient), Parameter(state))
    return Program(parameters, (statement,), (state, state))


def test_pictures_of_programs_with_hostile_names_are_whole() -> None:
    graph = to_graph(hostile_program())
    drawn = to_svg(graph)
    texts = "".join(ElementTree.fromstring(drawn).itertext())
    assert r"w\x1b[31m" in texts
    assert "g</text>" in texts
    for form in (drawn, to_dot(graph), to_latex(hostile_program())):
        assert not any(commands_something(one) for one in form if one != "\n")


def test_a_file_named_unknown_is_never_opened(tmp_path: Path) -> None:
    """Python opens it for the text of a syntax error; a pipe of that name would hang `parse`."""
    os.mkfifo(tmp_path / "<unknown>")
    code = (
        "from primitives import ProgramError, parse\n"
        "try: parse('def train(w, g')\n"
        "except ProgramError as error: print(error)\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert "'(' was never closed" in ended.stdout
