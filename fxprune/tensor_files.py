"""Files of tensors in the format of safetensors: reading one runs no code, and needs no pickle."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fxprune.errors import InputError, in_one_line
from fxprune.files import regular_file, write_atomically

if TYPE_CHECKING:
    from torch import Tensor

SUFFIX = ".safetensors"


def library(name: str = "safetensors.torch") -> Any:
    """The module of safetensors, which is an extra.

    Raises:
        InputError: it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise InputError(
            "files of this kind need safetensors, which is not installed",
            hint='pip install "fxprune[safetensors]"',
        ) from error


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write tensors, and texts beside them; the file appears whole or not at all.

    Args:
        path: of the file.
        tensors: on any device, in any memory format; no two of them share memory.
        metadata: the texts, by name.

    Raises:
        FxPruneError: it cannot be written; an existing file is left as it was.
    """
    save = library().save
    values = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    write_atomically(path, lambda stream: stream.write(save(values, dict(metadata))))


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors of a file, and the texts beside them.

    Raises:
        InputError: it cannot be read, or is no whole file of safetensors.
    """
    open_file = library("safetensors").safe_open
    try:
        regular_file(path)
        with open_file(path, framework="pt") as file:
            names = file.keys()
            return {name: file.get_tensor(name) for name in names}, file.metadata() or {}
    except Exception as error:
        raise InputError(
            f"the file {path} cannot be read: {in_one_line(error)}",
            hint="pass a file that fxprune.save wrote",
        ) from error
