"""A cache of compiled training loops that discards the least recently used loops."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from typing import Any

_CAPACITY = 80
"""Maximum number of executables.

On CPU an executable takes about 500 of the 65,530 memory maps that Linux allows a process.
"""


class Executables:
    """A least-recently-used cache of executables. Safe to use from several threads.

    Args:
        capacity: maximum number of executables.
    """

    def __init__(self, capacity: int = _CAPACITY):
        self._capacity = capacity
        self._futures: OrderedDict[Hashable, Future[Any]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable, build: Callable[[], Any]) -> Any:
        """Return the executable of `key`, which the first caller compiles while other callers wait.

        Executables of different keys are compiled in parallel.

        Raises:
            Exception: an error of `build`, raised to all callers that wait for this key. The next
                call tries again.
        """
        with self._lock:
            future = self._futures.get(key)
            is_missing = future is None
            if future is None:
                future = self._futures[key] = Future()
            self._futures.move_to_end(key)
            while len(self._futures) > self._capacity:
                self._futures.popitem(last=False)
        if is_missing:
            try:
                future.set_result(build())
            except BaseException as error:
                with self._lock:
                    if self._futures.get(key) is future:
                        del self._futures[key]
                future.set_exception(error)
        return future.result()


EXECUTABLES = Executables()
"""The executables of this process."""
