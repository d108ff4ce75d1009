"""Threads that train: a pool that an error does not wait for."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager


@contextmanager
def worker_pool(threads: int | None = None, name: str = "worker") -> Iterator[ThreadPoolExecutor]:
    """A pool of so many threads; None for one per core.

    It ends when its work is done. After an error or Ctrl-C it ends at once: what has not begun is
    dropped, and what has begun is not waited for, since a training cannot be cut short.
    """
    executor = ThreadPoolExecutor(threads or os.cpu_count() or 1, thread_name_prefix=name)
    try:
        yield executor
    except BaseException:
        executor.shutdown(wait=False, cancel_futures=True)
        raise
    executor.shutdown()
