"""Writing a file of safetensors part by part: the library writes what is in memory only.

The format: the length of the header in 8 bytes, little-endian; the header, a JSON object; the
bytes of all tensors, one after another, little-endian and in rows.
"""

from __future__ import annotations

import hashlib
import json
import math
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

import torch

from fxprune.errors import FxPruneError
from fxprune.shards.reading import LENGTH, METADATA

if TYPE_CHECKING:
    from torch import Tensor

_PIECE = 1 << 24
"""How many bytes are written at once."""


@dataclass(frozen=True)
class Planned:
    """A tensor that is going to be written.

    Attributes:
        name: of the tensor.
        dtype: its type, in the words of the format ("BF16").
        shape: its sizes.
        itemsize: the bytes of an element.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    itemsize: int

    @property
    def size(self) -> int:
        """How many bytes it has."""
        return math.prod(self.shape) * self.itemsize


def header_of(tensors: Sequence[Planned], metadata: Mapping[str, str]) -> bytes:
    """All that comes before the data: tensors follow in the order that is given.

    Readers map the data into memory, so those with the widest elements should come first: then
    every element lies at a multiple of its own size.
    """
    document: dict[str, object] = {METADATA: dict(metadata)} if metadata else {}
    end = 0
    for each in tensors:
        begin, end = end, end + each.size
        offsets = [begin, end]
        document[each.name] = {"dtype": each.dtype, "shape": each.shape, "data_offsets": offsets}
    text = json.dumps(document, separators=(",", ":")).encode()
    text += b" " * (-len(text) % LENGTH)
    return len(text).to_bytes(LENGTH, "little") + text


def write_in_parts(
    stream: BinaryIO,
    tensors: Sequence[Planned],
    metadata: Mapping[str, str],
    parts: Callable[[str], Iterable[Tensor]],
    wrote: Callable[[int], object] = lambda count: None,
) -> str:
    """Write a file of safetensors, of which one part of a tensor at a time is in memory.

    Args:
        stream: where to.
        tensors: what to write, in this order.
        metadata: texts beside the tensors.
        parts: makes the tensor of a name, in parts that follow one another in its rows, on the
            CPU and of any type with elements of that size.
        wrote: is told after every piece how many bytes it had.

    Returns:
        SHA-256 of all that was written, in hexadecimal.

    Raises:
        FxPruneError: a tensor has not the planned number of bytes.
    """
    if sys.byteorder != "little":
        raise FxPruneError("files of safetensors are written on little-endian machines only")
    found = hashlib.sha256()
    header = header_of(tensors, metadata)
    found.update(header)
    stream.write(header)
    for each in tensors:
        count = 0
        for piece in (piece for part in parts(each.name) for piece in _pieces(part)):
            count += len(piece)
            found.update(piece)
            stream.write(piece)
            wrote(len(piece))
        if count != each.size:
            raise FxPruneError(f"{each.name} has {count:,} bytes, and {each.size:,} were planned")
    return found.hexdigest()


def as_bytes(tensor: Tensor) -> Tensor:
    """The bytes of a tensor on the CPU; the same memory, if it is contiguous."""
    return tensor.contiguous().reshape(-1).view(torch.uint8)


def _pieces(tensor: Tensor) -> Iterator[memoryview]:
    data: memoryview = as_bytes(tensor).numpy().data
    for start in range(0, len(data), _PIECE):
        yield data[start : start + _PIECE]
