"""One file of safetensors, of which tensors are views: nothing is read before it is used."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fxprune.errors import InputError, in_one_line, shown
from fxprune.files import regular_file
from fxprune.tensor_files import library

if TYPE_CHECKING:
    from torch import Tensor

LENGTH = 8
"""How many bytes tell the length of the header."""
METADATA = "__metadata__"
"""The name in a header that means no tensor."""


@dataclass(frozen=True)
class Entry:
    """What a header tells of a tensor.

    Attributes:
        dtype: its type, in the words of the format ("BF16").
        shape: its sizes.
        begin: where its bytes begin in the file's data.
        end: where they end.
    """

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int

    @property
    def size(self) -> int:
        """How many bytes it has."""
        return self.end - self.begin


@dataclass(frozen=True)
class Shard:
    """A file of safetensors, open for reading.

    Attributes:
        path: of the file.
        entries: its tensors by name, in the order of their bytes.
        metadata: the texts beside them.
        size: of the file, in bytes.
        digest: SHA-256 of the header.
        file: the open file.
    """

    path: Path
    entries: Mapping[str, Entry]
    metadata: Mapping[str, str]
    size: int
    digest: str
    file: Any

    @classmethod
    def open(cls, path: Path) -> Shard:
        """Open a file from anyone, and read its header.

        Raises:
            InputError: it cannot be read, or is no whole file of safetensors.
        """
        open_file = library("safetensors").safe_open
        try:
            size = regular_file(path)
            file = open_file(path, framework="pt")  # checks the header, and all that it tells
            header = _header(path)
            entries = _entries(header)
            if entries.keys() != set(file.keys()):
                raise ValueError("its header can be read in two ways")
        except Exception as error:
            raise InputError(
                f"the file {path} cannot be read: {in_one_line(error)}",
                why="it is no whole file of safetensors",
                hint="if it was copied or downloaded, do that again",
            ) from error
        return cls(
            path, entries, file.metadata() or {}, size, hashlib.sha256(header).hexdigest(), file
        )

    def tensor(self, name: str) -> Tensor:
        """A tensor that is the file's own memory: it must not be written to.

        Raises:
            InputError: it is of a type that this version of torch does not have.
        """
        try:
            tensor: Tensor = self.file.get_tensor(name)
        except Exception as error:
            raise InputError(
                f"{shown(name)} of {self.path} cannot be read: {in_one_line(error)}"
            ) from error
        return tensor


def _header(path: Path) -> bytes:
    """The bytes of a header, whose length was checked."""
    with path.open("rb") as stream:
        length = int.from_bytes(stream.read(LENGTH), "little")
        return stream.read(length)


def _entries(header: bytes) -> dict[str, Entry]:
    document = json.loads(header)
    found = {
        name: Entry(entry["dtype"], tuple(entry["shape"]), *entry["data_offsets"])
        for name, entry in document.items()
        if name != METADATA
    }
    return dict(sorted(found.items(), key=lambda item: (item[1].begin, item[1].end)))
