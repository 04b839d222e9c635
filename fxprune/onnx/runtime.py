"""ONNX files in ONNX Runtime, on the CPU."""

from __future__ import annotations

import logging
import os
import statistics
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import onnxruntime as ort
import torch
from numpy.typing import NDArray

from fxprune.errors import InputError, first_line
from fxprune.values import tensors

Array: TypeAlias = NDArray[Any]
_WARM_UP = 5


class Session:
    """An ONNX file that runs in ONNX Runtime, on the CPU.

    Args:
        path: the file.
        threads: how many threads an operator runs on.

    Attributes:
        inputs: the names of its inputs, in their order.
        outputs: the names of its outputs, in their order.
        batch: the size of its first input along dim 0, None if it is open.

    Raises:
        InputError: ONNX Runtime cannot read the file, or has no kernel for an operator in it.
    """

    def __init__(self, path: str | os.PathLike[str], *, threads: int = 1) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 4  # errors are raised, and need not be printed too
        self._path = Path(path)
        try:
            self._run = ort.InferenceSession(
                os.fspath(path), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:
            raise InputError(
                f"ONNX Runtime cannot load {path}",
                why=first_line(error),
                hint="pass a whole ONNX file, with the data files that it names beside it, whose"
                " operators and types ONNX Runtime has for the CPU",
            ) from error
        self.inputs = tuple(str(each.name) for each in self._run.get_inputs())
        shape = [*self._run.get_inputs()[0].shape, None] if self.inputs else [None]
        self.batch = shape[0] if isinstance(shape[0], int) else None
        self.outputs = tuple(str(each.name) for each in self._run.get_outputs())

    def __call__(self, inputs: Any) -> list[Array]:
        """The outputs for some inputs: a tensor or array, a tuple of them, or a dict by name.

        Raises:
            InputError: they do not fit, or the network does not run on them.
        """
        feed = feed_of(inputs, self.inputs)
        try:
            found: list[Array] = self._run.run(None, feed)
        except Exception as error:
            raise InputError(
                f"{self._path} does not run on inputs of shapes"
                f" {[tuple(array.shape) for array in feed.values()]}",
                why=first_line(error),
                hint="pass inputs of the types and sizes that the file declares",
            ) from error
        return found


def feed_of(inputs: Any, names: Sequence[str]) -> dict[str, Array]:
    """Arrays by input name.

    Raises:
        InputError: there are not as many as names, names are not known, or numpy lacks the type.
    """
    if isinstance(inputs, Mapping) and inputs.keys() == set(names):
        return {name: _array(inputs[name]) for name in names}
    given = [inputs] if isinstance(inputs, np.ndarray) else inputs
    if isinstance(given, (list, tuple)) and all(isinstance(each, np.ndarray) for each in given):
        found: list[Any] = list(given)
    else:
        found = tensors(given)
    if len(found) != len(names) or isinstance(inputs, Mapping):
        told = sorted(inputs) if isinstance(inputs, Mapping) else len(found)
        raise InputError(
            f"the inputs {told} do not fit an ONNX file with the inputs {list(names)}",
            hint="pass a tensor, a tuple of tensors in their order, or a dict by name",
        )
    return {name: _array(each) for name, each in zip(names, found, strict=True)}


def _array(value: Any) -> Array:
    if not isinstance(value, torch.Tensor):
        return np.asarray(value)
    try:
        return value.detach().cpu().numpy()
    except TypeError as error:
        raise InputError(
            f"ONNX Runtime takes no inputs of type {value.dtype} here",
            why=first_line(error),
            hint="convert the model to float32 first: model.float()",
        ) from error


def latencies(
    paths: Sequence[str | os.PathLike[str]], inputs: Any, *, rounds: int = 50, threads: int = 1
) -> list[float]:
    """Milliseconds for one call of each file, the median of rounds in which all take turns.

    Turns, because a machine that is now fast, now slow makes all of them fast and slow.

    Raises:
        InputError: see `Session`.
    """
    sessions = [Session(path, threads=threads) for path in paths]
    times: list[list[float]] = [[] for _ in paths]
    for _ in range(rounds + _WARM_UP):
        for session, own in zip(sessions, times, strict=True):
            start = time.perf_counter()
            session(inputs)
            own.append((time.perf_counter() - start) * 1000)
    return [statistics.median(own[_WARM_UP:]) for own in times]


@contextmanager
def quiet() -> Iterator[None]:
    """Without the warnings and notes of the exporter and the quantizer about themselves."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
