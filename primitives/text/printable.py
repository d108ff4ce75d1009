"""Escaping of untrusted text for terminals, SVG, Markdown and LaTeX.

File names, programs, databases and JSON documents can contain any character. A terminal executes
control characters, bidirectional controls reorder the displayed text, and XML 1.0 forbids some
characters. `printable` replaces all of these by visible escapes. The other functions also escape
the special characters of their format.
"""

from __future__ import annotations

import re
from html import escape

_UNSAFE = re.compile(
    "["
    "\x00-\x1f\x7f-\x9f"  # control characters of ASCII and Latin-1, ESC and DEL among them
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # bidirectional controls
    "\u2028\u2029"  # separators of lines and paragraphs
    "\ud800-\udfff\ufffe\uffff"  # lone surrogates and other characters that XML 1.0 forbids
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
    r"""Replace unsafe characters by escapes such as \x1b and \u202e.

    Args:
        text: any text.
        keep: characters not to escape, such as "\n\t" in text of several lines.
    """
    return _UNSAFE.sub(lambda match: match[0] if match[0] in keep else _escape(match[0]), text)


def as_xml(text: str) -> str:
    """Escape `text` for the content of an XML element."""
    return escape(printable(text))


def as_markdown(text: str) -> str:
    """Escape `text` for a line of Markdown or a cell of a Markdown table."""
    return _MARKDOWN.sub(r"\\\g<0>", printable(text))


def as_latex(text: str) -> str:
    """Escape `text` for LaTeX outside of formulas."""
    return "".join(_LATEX.get(character, character) for character in printable(text))


def _escape(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
