"""Files of samples: arrays whose first dim counts them, from anyone; reading one runs no code."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fxprune.errors import InputError, in_one_line
from fxprune.files import regular_file
from fxprune.state_files import read_state

_LARGEST = 1 << 32
"""How many bytes the arrays of a file have at most, once they are unpacked."""


def read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """The arrays of a file by name.

    Args:
        path: a .npz file, or one of safetensors.

    Raises:
        InputError: the file cannot be read.
    """
    if path.suffix == ".safetensors":
        return {name: tensor.numpy() for name, tensor in read_state(path).items()}
    try:
        regular_file(path)
        with zipfile.ZipFile(path) as parts:
            if sum(part.file_size for part in parts.infolist()) > _LARGEST:
                raise OSError(f"it holds more than {_LARGEST:,} bytes")
        with np.load(path, allow_pickle=False) as found:
            return {name: found[name] for name in found.files}
    except Exception as error:
        raise InputError(
            f"the inputs {path} cannot be read: {in_one_line(error)}",
            hint="pass a file that numpy.savez wrote, or a .safetensors file",
        ) from error


def read_batches(path: Path, size: int) -> list[Any]:
    """What a model takes, in batches: a tensor, or tensors by the names of forward's arguments.

    Args:
        path: see `read_arrays`. The name does not matter if there is one array.
        size: how many samples a batch has; the last one may have fewer.

    Raises:
        InputError: the file cannot be read, or has not the same number of samples everywhere.
    """
    arrays = read_arrays(path)
    counts = {array.shape[:1] for array in arrays.values()}
    if len(counts) != 1 or counts & {(), (0,)}:
        shapes = {name: array.shape for name, array in arrays.items()}
        raise InputError(
            f"the inputs in {path} do not fit: {shapes}",
            why="the first dim of all of them counts the samples",
            hint="save an array for each input, of the same number of samples",
        )
    tensors = {name: torch.from_numpy(array).split(size) for name, array in arrays.items()}
    if len(tensors) == 1:
        return list(*tensors.values())
    return [dict(zip(tensors, parts, strict=True)) for parts in zip(*tensors.values(), strict=True)]
