"""What is kept when the user stops the work with Ctrl-C, and the file that it goes on from."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fxprune.errors import InputError, shown


def resumed(resume: Any) -> Path | None:
    """The file that a run goes on from, which need not be there; None for none.

    Raises:
        InputError: it is no path, or its folder is missing.
    """
    if resume is None:
        return None
    if not isinstance(resume, (str, os.PathLike)):
        raise InputError(f"resume is {shown(resume)}", hint="pass the path of a file")
    path = Path(resume).absolute()  # wherever evaluate goes meanwhile
    if not path.exists() and not path.resolve().parent.is_dir():
        raise InputError(f"{path} cannot be written: the folder does not exist")
    return path


def refuse_others(
    path: Path,
    there: Mapping[str, Any],
    here: Mapping[str, Any],
    work: str,
    differences: Sequence[str] = (),
) -> None:
    """Refuse to go on with what was found in another way.

    Args:
        path: the file.
        there: how that was found, by name.
        here: how this run finds it.
        work: a verb for what the run does.
        differences: others that are known, in words.

    Raises:
        InputError: they differ.
    """
    found = [
        *differences,
        *(
            f"{name} is {shown(there.get(name))} there, {shown(value)} here"
            for name, value in here.items()
            if there.get(name) != value
        ),
    ]
    if found:
        raise InputError(
            f"the run of {path} cannot go on",
            why="; ".join(found),
            hint=f"pass another path for resume, or delete the file to {work} anew",
        )


def kept(finished: int, total: int, what: str, path: Path | None) -> str:
    """What of a run is kept if it ends now, and how to go on."""
    if path is None:
        return "nothing is kept, for there is no file to resume from"
    return f"{finished} of {total} {what} are finished in {path}; to go on, do the same again"


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
