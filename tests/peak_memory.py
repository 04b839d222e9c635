"""The most memory that work takes, for scripts that measure it in a process of their own."""

from __future__ import annotations

import ctypes
import gc
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

Found = TypeVar("Found")


def _anonymous() -> int:
    """The memory of this process that is no file, in bytes (Linux)."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon"))


def most_memory(work: Callable[[], Found]) -> tuple[Found, int]:
    """What work returns, and the bytes that it took at most beyond what was there before."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # or what was freed before would be used again
    before = _anonymous()
    most, done = [before], threading.Event()

    def watch() -> None:
        while not done.wait(0.0005):
            most[0] = max(most[0], _anonymous())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        found = work()
    finally:
        done.set()
        watcher.join()
    return found, max(most[0], _anonymous()) - before
