"""What is measured, and models that are run by torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

import torch
from torch import nn

from fxprune.loading import ModelSource
from fxprune.model_files import load_model

Runtime: TypeAlias = Literal["eager", "compile", "onnxruntime"]
RUNTIMES: tuple[Runtime, ...] = get_args(Runtime)


@dataclass(frozen=True)
class Candidate:
    """What is measured: a model in a runtime.

    Attributes:
        name: of the model, as in the table.
        runtime: "eager", "compile" (`torch.compile`) or "onnxruntime".
        model: where it comes from, or its file: `.onnx` for ONNX Runtime, or what `fxprune shrink`
            or `torch.save` wrote.
        inputs: what it is called on: a tensor, a tuple, or a dict of keyword arguments.
    """

    name: str
    runtime: Runtime
    model: ModelSource | Path
    inputs: Any


@dataclass(frozen=True)
class Settings:
    """How it is measured.

    Attributes:
        threads: that a call may use.
        rounds: in each of which every candidate is timed once, in turns.
        warm_up: seconds of calls before that.
        shortest: seconds; calls that take less are timed several at a time.
        memory_limit: bytes that a process may hold, or None.
    """

    threads: int = 1
    rounds: int = 30
    warm_up: float = 1.0
    shortest: float = 0.01
    memory_limit: int | None = None


def open_runner(candidate: Candidate, threads: int) -> tuple[Callable[[], object], int]:
    """One forward, as a function, and the bytes of the model's file, or else of its tensors.

    Raises:
        InputError: the model cannot be built or read.
    """
    torch.set_num_threads(threads)
    source = candidate.model
    model = source.module() if isinstance(source, ModelSource) else load_model(source).eval()
    called: Any = torch.compile(model) if candidate.runtime == "compile" else model
    args, kwargs = _arguments(candidate.inputs)

    def call() -> object:
        with torch.inference_mode():
            return called(*args, **kwargs)

    return call, _size(source, model)


def _arguments(inputs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Positional and keyword arguments of example inputs."""
    if isinstance(inputs, Mapping):
        return (), dict(inputs)
    return (tuple(inputs) if isinstance(inputs, (tuple, list)) else (inputs,)), {}


def _size(source: ModelSource | Path, model: nn.Module) -> int:
    if isinstance(source, Path):
        return source.stat().st_size
    tensors = {id(t): t for t in (*model.parameters(), *model.buffers())}
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
