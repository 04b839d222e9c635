"""Files that are written whole or not at all, and read only if they are what they should be."""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from fxprune.errors import FxPruneError, in_one_line

DRAFT = ".fxprune-"
"""What the name of a file begins with that is not written to its end."""


def write_atomically(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Let `write` fill a file which then takes the place of `path`, whole or not at all.

    The draft is a new file beside the target, so nothing that lies there is written through, and
    it is on the disk before it takes the target's place. A symbolic link stays and what it points
    to is replaced; an existing file's permissions are kept.

    Raises:
        FxPruneError: it cannot be written; an existing file is left as it was.
    """
    try:
        target = path.resolve()
        if not target.parent.is_dir():
            raise FxPruneError(f"{path} cannot be written: the folder does not exist")
        if target.exists() and not target.is_file():
            raise FxPruneError(f"{path} cannot be written: it exists and is not a file")
        mode = stat.S_IMODE(target.stat().st_mode) if target.exists() else None
        draft = target.with_name(f"{DRAFT}{secrets.token_hex(8)}")

        def private(name: str, flags: int) -> int:
            return os.open(name, flags, 0o666 if mode is None else 0o600)

        try:
            with open(draft, "xb", opener=private) as stream:  # Path.open takes no opener
                write(stream)
                stream.flush()
                os.fsync(stream.fileno())
            if mode is not None:
                draft.chmod(mode)
            draft.replace(target)
        finally:
            draft.unlink(missing_ok=True)
        _sync_folder(target.parent)
    except FxPruneError:
        raise
    except Exception as error:
        known = error.strerror if isinstance(error, OSError) else None  # without the draft's name
        raise FxPruneError(f"{path} cannot be written: {known or in_one_line(error)}") from error


def put_in_place(draft: Path, target: Path) -> None:
    """Let the content of a finished file take the place of another, whole or not at all.

    Raises:
        FxPruneError: see `write_atomically`.
    """
    write_atomically(target, lambda stream: stream.write(draft.read_bytes()))


def _sync_folder(folder: Path) -> None:
    """Make a replaced name last through a power cut, where the system can."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    with suppress(OSError):  # some file systems refuse
        os.fsync(descriptor)
    os.close(descriptor)


def regular_file(path: Path, largest: int | None = None) -> int:
    """The size of a regular file, in bytes.

    A device or a named pipe can be endless, or wait for ever; so can a folder not be read.

    Raises:
        OSError: there is none, it is not a regular file, or larger than allowed.
    """
    status = path.stat()
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError("it is a folder")
    if not stat.S_ISREG(status.st_mode):
        raise OSError("it is not a regular file")
    if largest is not None and status.st_size > largest:
        raise OSError(f"it has {status.st_size:,} bytes, more than {largest:,}")
    return status.st_size


def read_text(path: Path, largest: int) -> str:
    """The text of a regular file of at most so many bytes, in UTF-8.

    Raises:
        OSError: see `regular_file`.
        UnicodeDecodeError: it is no text.
    """
    regular_file(path, largest)
    with path.open("rb") as stream:
        data = stream.read(largest + 1)  # it may grow meanwhile
    if len(data) > largest:
        raise OSError(f"it has more than {largest:,} bytes")
    return data.decode("utf-8")
