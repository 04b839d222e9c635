"""What is kept when the user stops the work with Ctrl-C."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def noted(told: Callable[[], str]) -> Iterator[None]:
    """Let a KeyboardInterrupt that passes say what is kept, and how to go on.

    It stays what it is; the text is a note of it (`__notes__`), which a traceback shows too.

    Args:
        told: says it, as it is then.
    """
    try:
        yield
    except KeyboardInterrupt as error:
        error.add_note(told())
        raise


def notes(error: BaseException) -> list[str]:
    """The notes of an error."""
    return list(getattr(error, "__notes__", ()))
