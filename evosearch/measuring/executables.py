"""Compiled trainings: each is made once, and of all a process keeps the last that were used."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from typing import Any

_KEPT = 80
"""On CPU an executable takes some 500 of the 65,530 memory maps that Linux gives a process."""


class Executables:
    """What was compiled, by key; the least recently used go. Safe to use from several threads."""

    def __init__(self, kept: int = _KEPT):
        self._kept = kept
        self._made: OrderedDict[Hashable, Future[Any]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable, compiled: Callable[[], Any]) -> Any:
        """The executable of `key`, made by whoever asks first; others compile meanwhile.

        Raises:
            Exception: what `compiled` raises, to all who wait for it; the next to ask tries again.
        """
        with self._lock:
            made = self._made.get(key)
            mine = made is None
            if made is None:
                made = self._made[key] = Future()
            self._made.move_to_end(key)
            while len(self._made) > self._kept:
                self._made.popitem(last=False)
        if mine:
            try:
                made.set_result(compiled())
            except BaseException as error:
                with self._lock:
                    if self._made.get(key) is made:
                        del self._made[key]
                made.set_exception(error)
        return made.result()


EXECUTABLES = Executables()
"""Those of this process."""
