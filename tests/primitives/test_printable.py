"""Tests that untrusted text cannot control a terminal or break a document."""

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

ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=40)
"""Any text, including lone surrogates and control characters."""
BIDIRECTIONAL_CONTROLS = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}


def is_unsafe(character: str) -> bool:
    """Return whether a character is a control, a surrogate, a separator or not a character."""
    return (
        unicodedata.category(character) in {"Cc", "Cs", "Zl", "Zp"}
        or unicodedata.bidirectional(character) in BIDIRECTIONAL_CONTROLS
        or character in "\u061c\u200e\u200f\ufffe\uffff"
    )


@given(ANY_TEXT)
@example("\x1b[31mred\x1b]0;title\x07\x9b2J\x7f\r\n\t\u202egnp.exe\ud800\uffff")
def test_printable_escapes_all_controls_of_a_terminal(text: str) -> None:
    escaped = printable(text)
    assert not any(map(is_unsafe, escaped))
    assert printable(escaped) == escaped
    escaped.encode("utf-8")


@given(ANY_TEXT)
def test_printable_keeps_harmless_characters(text: str) -> None:
    harmless = "".join(character for character in text if not is_unsafe(character))
    assert printable(harmless) == harmless


def test_printable_escapes_characters_as_python_does_except_for_newlines() -> None:
    text = "\x1b\x07\x9b\u202e\ud800\n"
    assert printable(text) == r"\x1b\x07\x9b\u202e\ud800\x0a"
    assert printable("a\n\tb\x1b", keep="\n\t") == "a\n\tb\\x1b"
    assert ascii(text)[1:-1].replace(r"\n", r"\x0a") == printable(text)


@given(ANY_TEXT)
def test_as_xml_returns_the_printable_text_as_valid_content_of_an_element(text: str) -> None:
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
def test_as_markdown_escapes_markup_and_newlines(text: str, expected: str) -> None:
    assert as_markdown(text) == expected


def test_as_latex_escapes_commands() -> None:
    assert as_latex(r"a_b%\x{1}$^~&#") == (
        r"a\_b\%\textbackslash{}x\{1\}\$\textasciicircum{}\textasciitilde{}\&\#"
    )


def hostile_program() -> Program:
    """Return a program whose names contain markup and control characters."""
    weight, gradient, state = "<w\x1b[31m>", "<g</text>>", "<m\u202e&>"
    statement = Statement(state, "interp", (gradient, state, 0.9))
    parameters = (Parameter(weight), Parameter(gradient), Parameter(state))
    return Program(parameters, (statement,), (state, state))


def test_pictures_of_programs_with_hostile_names_are_well_formed() -> None:
    graph = to_graph(hostile_program())
    svg = to_svg(graph)
    labels = "".join(ElementTree.fromstring(svg).itertext())
    assert r"w\x1b[31m" in labels
    assert "g</text>" in labels
    for output in (svg, to_dot(graph), to_latex(hostile_program())):
        assert not any(is_unsafe(character) for character in output if character != "\n")


def test_parsing_never_opens_a_file_named_unknown(tmp_path: Path) -> None:
    """Python would open the file to quote a syntax error, and reading a pipe would block."""
    os.mkfifo(tmp_path / "<unknown>")
    code = (
        "from primitives import ProgramError, parse\n"
        "try: parse('def train(w, g')\n"
        "except ProgramError as error: print(error)\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert "'(' was never closed" in result.stdout
