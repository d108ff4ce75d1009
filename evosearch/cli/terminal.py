"""The console of tables, reports and progress: text from files is shown, never obeyed.

On a terminal lines are as long as it is wide; a file or a pipe gets each line whole.
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


class Terminal(Console):
    """A console without markup and emoji codes that shows control characters as escapes."""

    def __init__(self, **options: Any):
        super().__init__(markup=False, emoji=False, **options)
        if not self.is_terminal and "COLUMNS" not in os.environ:
            self.width = _WIDTH_OF_A_PIPE

    def render_str(self, text: str, **options: Any) -> Text:
        """`text` to be rendered, as wide as it is with its escapes."""
        return super().render_str(printable(text, keep="\n\t"), **options)

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterator[Segment]:
        """The segments of anything; only rich's own control codes stay."""
        for segment in super().render(renderable, options):
            text = segment.text if segment.control else printable(segment.text, keep="\n")
            yield segment._replace(text=text)


def whole_lines() -> Terminal:
    """A terminal for lists, whose lines are whole in a file or a pipe, whatever `COLUMNS` says."""
    terminal = Terminal()
    if not terminal.is_terminal:
        terminal.width = _WIDTH_OF_A_PIPE
    return terminal
