"""Checks for characters in program text that would be misread.

Python normalizes identifiers (NFKC): it reads the mathematical letters U+1D422 U+1D41F as `if`. A
name that normalization changes would be printed differently from how the user wrote it, and a name
that becomes a keyword could not be parsed again. So both are errors, and so are invisible
characters.
"""

from __future__ import annotations

import keyword
import re
import unicodedata

from primitives.text.wording import truncate

_BIDIRECTIONAL = re.compile("[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
"""Control characters that change the order in which a text is displayed."""
_INVISIBLE = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e"
    "\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufff8\U0001bca0-\U0001bca3"
    "\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)
"""Unicode's Default_Ignorable_Code_Point characters; Python allows some in identifiers."""
_WORD = re.compile("[0-9A-Za-z_\u0080-\U0010ffff]+")
_LINE_ENDS = re.compile("\r\n|\r|\n")


def keyword_problem(word: str) -> str:
    """Return the error message for a keyword of Python that is used as a name."""
    return f"{word!r} is a keyword of Python; choose another name"


def word_problem(word: str) -> str | None:
    """Return an error message if a word would be misread, otherwise None.

    Args:
        word: a name or number from a program's text.
    """
    if word.isascii():
        return None
    if invisible := _INVISIBLE.search(word):
        return f"invisible character {_code_point(invisible[0])}; remove it"
    for character in word:
        if not f"a{character}".isidentifier():
            return (
                f"character {_code_point(character)} is not allowed; use letters, digits and _ "
                "in names"
            )
    normalized = unicodedata.normalize("NFKC", word)
    if normalized == word:
        return None
    before, after = repr(truncate(word)), repr(truncate(normalized))
    if keyword.iskeyword(normalized):
        return f"{before} is read as the keyword {after}; choose another name"
    return f"{before} is read as {after}; write {after}"


def text_problem(text: str) -> tuple[str, int] | None:
    """Return the error message and line of the first character or word that would be misread.

    Comments may contain any characters except bidirectional controls.

    Returns:
        The message and the line, counted from 1; None if nothing would be misread.
    """
    if text.isascii():
        return None
    for number, line in enumerate(_LINE_ENDS.split(text), 1):
        if line.isascii():
            continue
        if control := _BIDIRECTIONAL.search(line):
            return f"bidirectional control {_code_point(control[0])}; remove it", number
        for word in _WORD.findall(line.split("#", 1)[0]):
            if problem := word_problem(word):
                return problem, number
    return None


def _code_point(character: str) -> str:
    """Format a character as its code point and name, as in `U+202E (RIGHT-TO-LEFT OVERRIDE)`."""
    name = unicodedata.name(character, "")
    return f"U+{ord(character):04X}{f' ({name})' if name else ''}"
