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
        return {name: _array(path, name, tensor) for name, tensor in read_state(path).items()}
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


def read_batches(path: Path, size: int, real: torch.dtype | None = None) -> list[Any]:
    """What a model takes, in batches: a tensor, or tensors by the names of forward's arguments.

    Args:
        path: see `read_arrays`. The name does not matter if there is one array.
        size: how many samples a batch has; the last one may have fewer.
        real: the type that real numbers get, whatever theirs is in the file; None to keep that.

    Raises:
        InputError: the file cannot be read, or has not the same number of samples everywhere, or
            something else than numbers.
    """
    found = _tensors(path)
    counts = {tuple(tensor.shape[:1]) for tensor in found.values()}
    if len(counts) != 1 or counts & {(), (0,)}:
        shapes = {name: tuple(tensor.shape) for name, tensor in found.items()}
        raise InputError(
            f"the inputs in {path} do not fit: {shapes}",
            why="the first dim of all of them counts the samples",
            hint="save an array for each input, of the same number of samples",
        )
    if real is not None:
        found = {n: t.to(real) if t.is_floating_point() else t for n, t in found.items()}
    split = [tensor.split(size) for tensor in found.values()]
    if len(split) == 1:
        return list(*split)
    return [dict(zip(found, parts, strict=True)) for parts in zip(*split, strict=True)]


def _tensors(path: Path) -> dict[str, torch.Tensor]:
    if path.suffix == ".safetensors":
        return dict(read_state(path))
    return {name: _tensor(path, name, array) for name, array in read_arrays(path).items()}


def _tensor(path: Path, name: str, array: NDArray[Any]) -> torch.Tensor:
    try:
        return torch.from_numpy(array.astype(array.dtype.newbyteorder("="), copy=False))
    except (TypeError, ValueError) as error:
        raise _no_numbers(path, name, array.dtype) from error


def _array(path: Path, name: str, tensor: torch.Tensor) -> NDArray[Any]:
    try:
        array: NDArray[Any] = tensor.numpy()
        return array
    except TypeError as error:
        raise _no_numbers(path, name, tensor.dtype) from error


def _no_numbers(path: Path, name: str, kind: object) -> InputError:
    return InputError(
        f"the inputs in {path} cannot be taken: {name} is of type {kind}",
        hint="save arrays of real numbers, integers or booleans, such as float32",
    )
