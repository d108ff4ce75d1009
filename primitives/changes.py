"""What changes from one program's text to another's."""

from __future__ import annotations

from difflib import SequenceMatcher

from primitives.program import Program


def changed_lines(before: Program, after: Program) -> list[str]:
    """The lines that go (`- ...`), each run of them followed by those that come instead (`+ ...`).

    Indentation is left out.
    """
    old, new = ([line.strip() for line in str(one).splitlines()] for one in (before, after))
    found = []
    matcher = SequenceMatcher(None, old, new, autojunk=False)
    for tag, first, last, start, end in matcher.get_opcodes():
        if tag != "equal":
            found += [f"- {line}" for line in old[first:last]]
            found += [f"+ {line}" for line in new[start:end]]
    return found
