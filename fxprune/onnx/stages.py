"""The stages of a network side by side: dense, pruned, 8 bits."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fxprune.errors import InputError
from fxprune.onnx.agreement import Agreement, compare
from fxprune.onnx.files import file_size
from fxprune.onnx.runtime import Array, Session, latencies
from fxprune.sample_files import read_arrays


@dataclass(frozen=True)
class Stage:
    """One ONNX file of a network.

    Attributes:
        name: what it is: dense, pruned or int8.
        size: its bytes.
        latency: milliseconds of one call, the median.
        against: how far its outputs are from those of the stages before it, by their names.
    """

    name: str
    size: int
    latency: float
    against: Mapping[str, Agreement]


def stages(
    paths: Mapping[str, Path], calls: Sequence[Any], *, rounds: int = 50, threads: int = 1
) -> list[Stage]:
    """Size, latency and agreement of files that are made of one another.

    Args:
        paths: the files by the names of the stages, in their order.
        calls: the inputs they are compared on; latency is that of the first call.
        rounds: how many times each is called, in turns.
        threads: how many threads an operator runs on.

    Raises:
        InputError: a file does not run on the inputs, or there are none.
    """
    if not calls:
        raise InputError("there are no inputs to compare on")
    times = latencies(list(paths.values()), calls[0], rounds=rounds, threads=threads)
    found = []
    for place, ((name, path), time) in enumerate(zip(paths.items(), times, strict=True)):
        earlier = list(paths.items())[:place]
        against = {other: compare(whole, path, calls) for other, whole in earlier}
        found.append(Stage(name, file_size(path), time, against))
    return found


def read_calls(path: Path, file: str | os.PathLike[str]) -> list[dict[str, Array]]:
    """The calls in a file of inputs: arrays by input name, whose first dim counts the samples.

    Each call is one sample, or as many as a file with a fixed batch takes. The names do not matter
    where there is one input and one array.

    Args:
        path: a .npz file, or one of safetensors.
        file: the ONNX file that the inputs are for.

    Raises:
        InputError: the file cannot be read, or does not hold an array for each input, all with the
            same number of samples.
    """
    arrays = read_arrays(path)
    session = Session(file)
    if len(arrays) == len(session.inputs) == 1:
        arrays = {session.inputs[0]: next(iter(arrays.values()))}
    counts = {array.shape[:1] for array in arrays.values()}
    if arrays.keys() != set(session.inputs) or len(counts) != 1 or counts == {()}:
        shapes = {name: array.shape for name, array in arrays.items()}
        raise InputError(
            f"the inputs in {path} do not fit: {shapes}",
            why=f"the network has the inputs {list(session.inputs)}",
            hint="save an array for each input, of the same number of samples",
        )
    size = session.batch or 1
    ((count,),) = counts
    if count < size:
        raise InputError(f"{path} has {count} samples, and one call of the network takes {size}")
    return [
        {name: array[start : start + size] for name, array in arrays.items()}
        for start in range(0, count - size + 1, size)
    ]
