"""A checkpoint: one file of safetensors, or several with an index."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fxprune.documents import DocumentKind
from fxprune.errors import InputError, first_line, first_of, shown
from fxprune.files import read_text
from fxprune.shards.reading import Entry, Shard
from fxprune.tensor_files import SUFFIX

if TYPE_CHECKING:
    import os

    from torch import Tensor

SINGLE = f"model{SUFFIX}"
"""The file of a checkpoint that has one."""
INDEX = ".index.json"
"""What the name of an index ends in."""
_INDEX = f"{SINGLE}{INDEX}"
_KIND = DocumentKind(
    name="index",
    version=0,
    keys=(),
    optional=(),
    error=InputError,
    again="copy or download the checkpoint again",
    largest=64 << 20,
)


@dataclass(frozen=True, eq=False)
class Checkpoint(Mapping[str, "Tensor"]):
    """All tensors of a checkpoint by name, each a view of a file: they must not be written to.

    Attributes:
        folder: where the files are.
        shards: the files by name, in the order of the alphabet.
        index: the name of the index; None for a single file.
        metadata: what the index says beside the names.
    """

    folder: Path
    shards: Mapping[str, Shard]
    index: str | None
    metadata: Mapping[str, Any]

    @classmethod
    def open(cls, given: str | os.PathLike[str]) -> Checkpoint:
        """Open a checkpoint from anyone, and check that it is whole.

        Args:
            given: a folder with `model.safetensors` or `model.safetensors.index.json`; or the path
                of a file of safetensors, or of an index.

        Raises:
            InputError: there is none, or a file is missing, cut off or malformed, or the index and
                the files tell different things.
        """
        path = _file(Path(given))
        if not path.name.endswith(INDEX):
            return cls(path.parent, {path.name: Shard.open(path)}, None, {})
        where, metadata = _index(path)
        files = sorted(set(where.values()))
        missing = [name for name in files if not (path.parent / name).exists()]
        if missing:
            raise InputError(
                f"the checkpoint {path.parent} has no {first_of(missing)}",
                why=f"{path.name} names {'it' if len(missing) == 1 else 'them'}",
                hint=_KIND.again,
            )
        shards = {name: Shard.open(path.parent / name) for name in files}
        _check_index(path, where, shards)
        return cls(path.parent, shards, path.name, metadata)

    @cached_property
    def places(self) -> Mapping[str, Shard]:
        """The file of each tensor."""
        return {name: shard for shard in self.shards.values() for name in shard.entries}

    @cached_property
    def entries(self) -> Mapping[str, Entry]:
        """What the headers tell of all tensors."""
        return {name: shard.entries[name] for name, shard in self.places.items()}

    @property
    def size(self) -> int:
        """The bytes of all files of tensors."""
        return sum(shard.size for shard in self.shards.values())

    @cached_property
    def digest(self) -> str:
        """SHA-256 over the names, sizes and headers of the files; not over all they hold."""
        found = hashlib.sha256()
        for name, shard in self.shards.items():
            found.update(f"{name} {shard.size} {shard.digest}\n".encode())
        return found.hexdigest()

    def __getitem__(self, name: str) -> Tensor:
        return self.places[name].tensor(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self.places)

    def __len__(self) -> int:
        return len(self.places)


def _file(path: Path) -> Path:
    """The single file, or the index, that a path means."""
    if not path.is_dir():
        if not path.exists():
            raise InputError(f"there is no checkpoint {path}")
        if not path.name.endswith((SUFFIX, INDEX)):
            raise InputError(
                f"{path} is no file of safetensors, and no index of such",
                hint=f"pass a folder with {SINGLE} or {_INDEX}",
            )
        return path
    found = [path / name for name in (SINGLE, _INDEX) if (path / name).exists()]
    if len(found) == 1:
        return found[0]
    names = sorted(entry.name for entry in path.iterdir() if entry.name.endswith((SUFFIX, INDEX)))
    raise InputError(
        f"the folder {path} has both {SINGLE} and {_INDEX}"
        if found
        else f"the folder {path} has neither {SINGLE} nor {_INDEX}",
        why=f"it has {first_of(names)}" if names else "it has no files of safetensors",
        hint="pass the path of the file or of the index that is meant",
    )


def _index(path: Path) -> tuple[dict[str, str], Mapping[str, Any]]:
    """The file of each tensor as an index tells it, and what else it says."""
    try:
        text = read_text(path, _KIND.largest)
    except (OSError, ValueError) as error:
        raise InputError(f"the index {path} cannot be read: {first_line(error)}") from error
    try:
        document = _KIND.mapping(_KIND.value(text))
        where = _KIND.mapping(document.get("weight_map"))
        for name, file in where.items():
            if not _is_file_name(_KIND.text_in(file)):
                raise InputError(
                    f"the index says that {shown(name)} is in {shown(file)}",
                    why=f"that is no name of a file *{SUFFIX} beside it",
                )
        metadata = _KIND.mapping(document.get("metadata") or {})
    except InputError as error:
        raise InputError(error.what, where=str(path), why=error.why, hint=error.hint) from error
    if not where:
        raise InputError(f"the index {path} names no tensors", hint=_KIND.again)
    return where, metadata


def _is_file_name(text: str) -> bool:
    """Whether a text is the name of a file of safetensors in the same folder."""
    bad = any(mark in text for mark in ("/", "\\", ":", "\0")) or text.startswith(".")
    return text.endswith(SUFFIX) and not bad and len(text.encode()) < 256


def _check_index(path: Path, where: Mapping[str, str], shards: Mapping[str, Shard]) -> None:
    """Refuse files that hold something else than the index says."""
    wrong: list[str] = []
    held: dict[str, str] = {}
    for file, shard in shards.items():
        for name in shard.entries:
            if name in held:
                wrong.append(f"{name} is in {held[name]} and in {file}")
            elif where.get(name) != file:
                told = f"the index says {where[name]}" if name in where else "the index has it not"
                wrong.append(f"{name} is in {file}, and {told}")
            held[name] = file
    wrong += [f"{name} is not in {file}" for name, file in where.items() if name not in held]
    if wrong:
        raise InputError(
            f"the files of the checkpoint are not what {path.name} says",
            where=str(path.parent),
            why=first_of(wrong),
            hint=_KIND.again,
        )
