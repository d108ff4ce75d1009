"""Text from files made safe to show: on a terminal, in SVG, Markdown and LaTeX.

File names, programs, databases and JSON documents can hold any character. A terminal obeys control
characters, bidirectional controls reorder what a reader sees, and XML 1.0 forbids some characters
altogether. `printable` writes all of these as visible escapes; the other functions also escape what
has a meaning in the format that they are for.
"""

from __future__ import annotations

import re
from html import escape

_UNSAFE = re.compile(
    "["
    "\x00-\x1f\x7f-\x9f"  # control characters of ASCII and Latin-1, ESC and DEL among them
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # bidirectional controls
    "\u2028\u2029"  # separators of lines and paragraphs
    "\ud800-\udfff\ufffe\uffff"  # lone surrogates and what else XML 1.0 forbids
    "]"
)
_MARKDOWN = re.compile(r"[\\`*\[\]<>|$]")
_LATEX = {
    "\\": r"\textbackslash{}",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    **{character: rf"\{character}" for character in "#$%&_{}"},
}


def printable(text: str, keep: str = "") -> str:
    r"""`text` with unsafe characters as escapes such as \x1b and \u202e.

    Args:
        text: any text.
        keep: characters to leave as they are: "\n\t" for text of several lines.
    """
    return _UNSAFE.sub(lambda one: one[0] if one[0] in keep else _escaped(one[0]), text)


def as_xml(text: str) -> str:
    """`text` as the content of an XML element."""
    return escape(printable(text))


def as_markdown(text: str) -> str:
    """`text` as a cell of a Markdown table, or as part of a line."""
    return _MARKDOWN.sub(r"\\\g<0>", printable(text))


def as_latex(text: str) -> str:
    """`text` as LaTeX outside of formulas."""
    return "".join(_LATEX.get(character, character) for character in printable(text))


def _escaped(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
