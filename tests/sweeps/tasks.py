"""Tasks for the runner that need no library; another process finds them by their names."""

from __future__ import annotations

import os
import time

from sweeps.rows import Row


def succeed(library: str, key: str) -> Row | None:
    """A row as of a model that was shrunk."""
    return Row(library, "family", key.rpartition("/")[2], "shrunk", cut=0.5)


def skip(library: str, key: str) -> Row | None:
    """No row."""


def hang(library: str, key: str) -> Row | None:
    """Take longer than anyone waits."""
    time.sleep(3600)


def abort(library: str, key: str) -> Row | None:
    """Die as a native library does."""
    os.abort()


def leave(library: str, key: str) -> Row | None:
    """End without a word."""
    os._exit(3)
