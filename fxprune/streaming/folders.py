"""The folder that is written, and the files beside the tensors."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from fxprune.errors import FxPruneError, InputError, first_of
from fxprune.files import DRAFT, write_atomically
from fxprune.shards import INDEX
from fxprune.streaming.markers import FINISHED, MARKER
from fxprune.tensor_files import SUFFIX

CONFIG, PLAN = "config.json", "plan.json"
_WEIGHTS = (
    *(SUFFIX, INDEX, ".bin", ".pt", ".pt2", ".pth", ".ckpt", ".h5", ".msgpack", ".gguf", ".ggml"),
    *(".onnx", ".onnx_data", ".npz", ".tflite", ".ot", ".mlmodel"),
)
"""What names of files of weights end in; `tokenizer.model` is none."""
_OURS = (CONFIG, PLAN, MARKER, FINISHED)
_LARGEST = 1 << 28
"""How many bytes a file has at most that is copied."""


def check_target(source: Path, target: Path) -> None:
    """Refuse a target that cannot be one, before any work.

    Args:
        source: the folder of a checkpoint, or the path of a file.
        target: the folder that is to be written.

    Raises:
        InputError: it is in the source, or the source is in it, or it is not empty, or there is no
            folder for it; or the source is incomplete itself.
    """
    real, place = source.resolve(), target.resolve()
    folder = real if real.is_dir() else real.parent
    if place == folder or real in place.parents:
        raise InputError(f"the target {target} is in the source {source}, which stays as it is")
    if (folder / MARKER).exists():
        raise InputError(
            f"the source {source} is incomplete", why=f"{MARKER} in it tells so", hint="finish it"
        )
    if not target.exists():
        if not place.parent.is_dir():
            raise InputError(f"the folder {target.parent}, where the target is to be, is not there")
        return
    if not target.is_dir():
        raise InputError(f"the target {target} is a file", hint="name a folder")
    names = sorted(path.name for path in target.iterdir() if not path.name.startswith(DRAFT))
    if names and MARKER not in names:
        why = f"it has {first_of(names)}, and no {MARKER}, which would tell that it was begun"
        if FINISHED in names:
            why = "it is a checkpoint that is finished"
        raise InputError(
            f"the target {target} is not empty",
            why=why,
            hint="name another folder, or empty this one",
        )


@contextmanager
def owned(target: Path) -> Iterator[None]:
    """Have a folder for this process alone, without what killed processes left unfinished.

    Raises:
        FxPruneError: another process works on it, or it cannot be made.
    """
    try:
        target.mkdir(exist_ok=True)
    except OSError as error:
        raise FxPruneError(f"the folder {target} cannot be made: {error.strerror}") from error
    with _locked(target):
        for path in target.glob(f"{DRAFT}*"):
            path.unlink(missing_ok=True)
        yield


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Lock a folder, where the system can; the lock of a process that is killed is gone."""
    if os.name != "posix":
        yield
        return
    import fcntl  # noqa: PLC0415  # it is not there on other systems

    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise FxPruneError(
                f"another process writes {folder}", hint="wait for it, or name another folder"
            ) from error
        yield
    finally:
        os.close(descriptor)


@dataclass(frozen=True)
class Companions:
    """The other files in the folder of a checkpoint.

    Attributes:
        copied: the names of those to copy.
        left_out: the names of those to leave out.
    """

    copied: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()


def companions(source: Path, *, has_config: bool) -> Companions:
    """The other files in a folder; none of a source that is a file.

    Weights of any format are left out, and folders, hidden files, and what is written anew or is
    true of the original only.
    """
    copied, left_out = [], []
    for path in sorted(source.iterdir()) if source.is_dir() else ():
        name = path.name
        if name.endswith((SUFFIX, INDEX)) or (name == CONFIG and has_config):
            continue
        is_small = path.is_file() and path.stat().st_size <= _LARGEST
        is_text = not name.startswith(".") and not name.lower().endswith(_WEIGHTS)
        if is_small and is_text and name not in _OURS:
            copied.append(name)
        else:
            left_out.append(f"{name}/" if path.is_dir() else name)
    return Companions(tuple(copied), tuple(left_out))


def copy_file(source: Path, target: Path) -> None:
    """Copy a file, whole or not at all.

    Raises:
        FxPruneError: it cannot be read or written.
    """
    try:
        with source.open("rb") as stream:
            write_atomically(target, lambda out: shutil.copyfileobj(stream, out))
    except OSError as error:
        raise FxPruneError(f"{source} cannot be read: {error.strerror}") from error
