"""All that a wrong use could change: a model, down to its bits, and what surrounds it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch._subclasses import FakeTensor
from torch.nn.parameter import is_lazy


def of_model(model: object) -> object:
    """A model's modules by identity, their attributes, hooks and flags, and its tensors by bit."""
    if not isinstance(model, nn.Module) or not hasattr(model, "_modules"):
        return id(model)
    modules = model.named_modules(remove_duplicate=False)
    return {name: (id(module), type(module), _attributes(module)) for name, module in modules}


def of_tensor(tensor: torch.Tensor) -> object:
    """A tensor by identity, with its flags, its gradient and its bits, those of NaNs too."""
    if is_lazy(tensor):
        return id(tensor), tensor.requires_grad
    flags = (tensor.requires_grad, tensor.dtype, str(tensor.device), tuple(tensor.shape))
    gradient = of_tensor(tensor.grad) if tensor.is_leaf and tensor.grad is not None else None
    return id(tensor), flags, gradient, _bits(tensor)


def of_surroundings(folder: Path) -> object:
    """The files of a folder with their bytes, and torch's random state, modes and defaults."""
    files = {path.name: _content(path) for path in sorted(folder.rglob("*"))}
    state = torch.random.get_rng_state().numpy().tobytes()
    flags = (
        *(torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.get_default_dtype()),
        *(torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()),
        torch.backends.mha.get_fastpath_enabled(),
    )
    return files, state, flags, os.getcwd()  # noqa: PTH109  # a string that compares


def _content(path: Path) -> object:
    status = path.lstat()
    is_small = path.is_file() and status.st_size < 1 << 20
    identity = (status.st_ino, status.st_mode, status.st_size, status.st_mtime_ns)
    return identity, path.read_bytes() if is_small else None


def _attributes(module: nn.Module) -> dict[str, object]:
    return {name: _value(value) for name, value in vars(module).items()}


def _value(value: Any) -> object:
    if isinstance(value, torch.Tensor):
        return of_tensor(value)
    if isinstance(value, Mapping):
        return id(value), [(key, _value(item)) for key, item in value.items()]
    if isinstance(value, (list, tuple, set)):
        return id(value), [_value(item) for item in value]
    return value if isinstance(value, (bool, int, float, str)) else id(value)


def _bits(tensor: torch.Tensor) -> object:
    if isinstance(tensor, FakeTensor) or tensor.device.type == "meta":
        return None
    tensor = tensor.detach()
    if tensor.layout is not torch.strided:
        return tensor.coalesce().values().numpy().tobytes(), tensor.coalesce().indices().tolist()
    if tensor.is_quantized:
        tensor = tensor.int_repr()
    return tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
