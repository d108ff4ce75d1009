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

ANY = st.text(st.characters(exclude_categories=()), max_size=40)
"""Any text, including lone surrogates and control characters."""
BIDI = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}


def is_unsafe(character: str) -> bool:
    """Return whether Unicode defines a control, surrogate, separator or bidi control."""
    return (
        unicodedata.category(character) in {"Cc", "Cs", "Zl", "Zp"}
        or unicodedata.bidirectional(character) in BIDI
        or character in "\u061c\u200e\u200f\ufffe\uffff"
    )


@given(ANY)
@example("\x1b[31mred\x1b]0;title\x07\x9b2J\x7f\r\n\t\u202egnp.exe\ud800\uffff")
def test_printable_text_has_no_terminal_controls(text: str) -> None:
    escaped = printable(text)
    assert not any(map(is_unsafe, escaped))
    assert printable(escaped) == escaped
    escaped.encode("utf-8")


@given(ANY)
def test_printable_keeps_harmless_characters(text: str) -> None:
    harmless = "".join(character for character in text if not is_unsafe(character))
    assert printable(harmless) == harmless


def test_escapes_match_those_of_python() -> None:
    text = "\x1b\x07\x9b\u202e\ud800\n"
    assert printable(text) == r"\x1b\x07\x9b\u202e\ud800\x0a"
    assert printable("a\n\tb\x1b", keep="\n\t") == "a\n\tb\\x1b"
    assert ascii(text)[1:-1].replace(r"\n", r"\x0a") == printable(text)


@given(ANY)
def test_as_xml_gives_valid_content_of_an_element(text: str) -> None:
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
def test_as_markdown_keeps_text_in_one_cell(text: str, expected: str) -> None:
    assert as_markdown(text) == expected


def test_as_latex_escapes_commands() -> None:
    assert as_latex(r"a_b%\x{1}$^~&#") == (
        r"a\_b\%\textbackslash{}x\{1\}\$\textasciicircum{}\textasciitilde{}\&\#"
    )


def hostile_program() -> Program:
    """Return a program with unparsable names, which only angle brackets allow."""
    weight, gradient, state = "<w\x1b[31m>", "<g</text>>", "<m\u202e&>"
    statement = Statement(state, "interp", (gradient, state, 0.9))
    parameters = (Parameter(weight), Parameter(gradient), Parameter(state))
    return Program(parameters, (statement,), (state, state))


def test_pictures_of_programs_with_hostile_names_are_well_formed() -> None:
    graph = to_graph(hostile_program())
    drawn = to_svg(graph)
    texts = "".join(ElementTree.fromstring(drawn).itertext())
    assert r"w\x1b[31m" in texts
    assert "g</text>" in texts
    for form in (drawn, to_dot(graph), to_latex(hostile_program())):
        assert not any(is_unsafe(character) for character in form if character != "\n")


def test_a_file_named_unknown_is_never_opened(tmp_path: Path) -> None:
    """Python opens it to quote a syntax error; a pipe of that name would block `parse`."""
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
