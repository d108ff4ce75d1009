"""Console for tables, reports and progress that shows control characters as escapes.

A terminal wraps lines at its width; a file or a pipe gets each line unbroken.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from primitives.text.printable import printable

_WIDTH_OF_A_PIPE = 10_000
"""Width in characters at which no line is broken."""


class Terminal(Console):
    """Console without markup and emoji codes that shows control characters as escapes."""

    def __init__(self, **options: Any):
        super().__init__(markup=False, emoji=False, **options)
        if not self.is_terminal and "COLUMNS" not in os.environ:
            self.width = _WIDTH_OF_A_PIPE

    def render_str(self, text: str, **options: Any) -> Text:
        """Return `text` with control characters escaped before its width is measured."""
        return super().render_str(printable(text, keep="\n\t"), **options)

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterator[Segment]:
        """Render to segments in which all control characters are escaped except rich's own."""
        for segment in super().render(renderable, options):
            text = segment.text if segment.control else printable(segment.text, keep="\n")
            yield segment._replace(text=text)


def unbroken_terminal() -> Terminal:
    """Return a terminal for lists; in a file or a pipe it ignores `COLUMNS` and breaks no line."""
    terminal = Terminal()
    if not terminal.is_terminal:
        terminal.width = _WIDTH_OF_A_PIPE
    return terminal
