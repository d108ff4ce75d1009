"""Words that read as they are written.

Python normalises identifiers (NFKC): it reads the mathematical letters U+1D422 U+1D41F as `if`.
Such a name would print as something else than was written, and a keyword could not be read back, so
both are refused.
"""

from __future__ import annotations

import keyword
import re
import unicodedata

from primitives.text.wording import truncate

_BIDIRECTIONAL = re.compile("[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
"""Controls that show a text in another order than it is read in."""
_INVISIBLE = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e"
    "\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufff8\U0001bca0-\U0001bca3"
    "\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)
"""Unicode's Default_Ignorable_Code_Point; some of these may stand in a Python identifier."""
_WORD = re.compile("[0-9A-Za-z_\u0080-\U0010ffff]+")
_LINE_ENDS = re.compile("\r\n|\r|\n")


def keyword_problem(word: str) -> str:
    """The refusal of a keyword, with the remedy."""
    return f"{word!r} is a keyword of Python; choose another name"


def word_problem(word: str) -> str | None:
    """Why a word of a text does not read as it is written, with the remedy; None if it does."""
    if word.isascii():
        return None
    if found := _INVISIBLE.search(word):
        return f"invisible character {_code_point(found[0])}; remove it"
    for character in word:
        if not f"a{character}".isidentifier():
            return f"character {_code_point(character)}; use letters, digits and _ in names"
    read = unicodedata.normalize("NFKC", word)
    if read == word:
        return None
    shown, meant = repr(truncate(word)), repr(truncate(read))
    if keyword.iskeyword(read):
        return f"{shown} is read as the keyword {meant}; choose another name"
    return f"{shown} is read as {meant}; write {meant}"


def text_problem(text: str) -> tuple[str, int] | None:
    """The first character or word of a text that does not read as it is written, and its line.

    Comments may hold any character but those that change the order in which the text is shown.
    """
    if text.isascii():
        return None
    for number, line in enumerate(_LINE_ENDS.split(text), 1):
        if line.isascii():
            continue
        if found := _BIDIRECTIONAL.search(line):
            return f"bidirectional control {_code_point(found[0])}; remove it", number
        for word in _WORD.findall(line.split("#", 1)[0]):
            if problem := word_problem(word):
                return problem, number
    return None


def _code_point(character: str) -> str:
    """`U+202E (RIGHT-TO-LEFT OVERRIDE)`."""
    name = unicodedata.name(character, "")
    return f"U+{ord(character):04X}{f' ({name})' if name else ''}"
