"""How far the outputs of two ONNX files, or of a file and a model, are apart."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from fxprune.comparison import TOLERANCE
from fxprune.differences import difference
from fxprune.errors import InputError
from fxprune.onnx.runtime import Array, Session

APPROXIMATE = 4 * torch.finfo(torch.float32).eps
"""How far a small output may be off, in units of one.

ONNX Runtime approximates sigmoid, tanh and erf by polynomials, which are exact to 1e-7 of one and
not of their value. CenterFace's heatmap is small: 1e-7 are 1.7e-4 of its largest value of 6e-4.
"""
CAP = 1e-2
"""The largest relative difference that can be such an approximation."""


@dataclass(frozen=True)
class Agreement:
    """How far outputs are from those that are expected.

    Attributes:
        largest: the largest absolute difference.
        relative: the norm of the differences of an output, over all calls, in units of the norm of
            what is expected; of the output where that is largest.
        same_argmax: the share of rows whose largest number is in the same place, of all outputs
            with two dims; None if there are none.
        samples: how many calls were compared.
    """

    largest: float
    relative: float
    same_argmax: float | None
    samples: int


def compare(
    expected: str | os.PathLike[str], got: str | os.PathLike[str], inputs: Iterable[Any]
) -> Agreement:
    """How far the outputs of one ONNX file are from those of another.

    Args:
        expected: the file that is the measure.
        got: the other one, with as many inputs and outputs.
        inputs: those of each call: a tensor or array, or a tuple of them.

    Raises:
        InputError: a file does not run on them, there are none, or the outputs have other shapes.
    """
    whole, other = Session(expected), Session(got)
    return agreement([(whole(each), other(each)) for each in inputs])


def agreement(pairs: Sequence[tuple[Sequence[Array], Sequence[Array]]]) -> Agreement:
    """How far outputs are from those that are expected, call by call.

    Raises:
        InputError: there are none, or they have other shapes.
    """
    if not pairs:
        raise InputError("there are no inputs to compare on")
    largest = 0.0
    squares, scales = (np.zeros(len(pairs[0][0])) for _ in range(2))
    same: list[Array] = []
    for expected, got in pairs:
        shapes = [[array.shape for array in arrays] for arrays in (expected, got)]
        if shapes[0] != shapes[1]:
            raise InputError(f"outputs of shapes {shapes[1]} do not compare with {shapes[0]}")
        for k, (mine, theirs) in enumerate(zip(expected, got, strict=True)):
            error = _error(mine, theirs)
            largest = max(largest, float(np.abs(error).max(initial=0)))
            squares[k] += np.square(error).sum()
            scales[k] += np.square(np.where(np.isfinite(mine), mine, 0), dtype=np.float64).sum()
            if mine.ndim == 2 and mine.size:
                same.append(mine.argmax(1) == theirs.argmax(1))
    relative = np.sqrt(squares / np.where(scales > 0, scales, 1))
    share = float(np.concatenate(same).mean()) if same else None
    return Agreement(largest, float(relative.max(initial=0)), share, len(pairs))


def _error(expected: Array, got: Array) -> Array:
    """What is too much in an output; nothing where both are infinite or both are NaN.

    Raises:
        InputError: one of them is infinite or NaN, and the other is not.
    """
    same = (expected == got) | (np.isnan(expected) & np.isnan(got))
    with np.errstate(invalid="ignore"):
        error = np.where(same, 0.0, np.subtract(got, expected, dtype=np.float64))
    if not np.isfinite(error).all():
        raise InputError("outputs are infinite or NaN in one file and not in the other")
    return error


def worst(
    names: Sequence[str], expected: Sequence[torch.Tensor], got: Sequence[torch.Tensor]
) -> tuple[float, str]:
    """The largest relative difference of outputs, and what is wrong with the first that is wrong.

    The text is empty if all outputs are equal to rounding.
    """
    if len(expected) != len(got):
        return float("inf"), f"there are {len(got)} outputs instead of {len(expected)}"
    found = 0.0
    for name, mine, theirs in zip(names, expected, got, strict=True):
        if mine.shape != theirs.shape or mine.dtype != theirs.dtype:
            told = [f"{each.dtype} {tuple(each.shape)}" for each in (theirs, mine)]
            return float("inf"), f"output {name!r} is {told[0]} instead of {told[1]}"
        absolute, relative = difference(mine, theirs)
        tolerance = TOLERANCE.get(mine.dtype, 0.0)
        approximate = absolute <= APPROXIMATE and relative <= CAP and mine.dtype == torch.float32
        if not (relative <= tolerance or approximate):
            return relative, (
                f"output {name!r} differs by {absolute:.3g}, {relative:.1e} of its largest value"
                f" (tolerance {tolerance:.0e})"
            )
        found = max(found, relative)
    return found, ""


def as_tensors(arrays: Sequence[Array]) -> list[torch.Tensor]:
    """Arrays as tensors."""
    return [torch.from_numpy(a) if a.shape else torch.tensor(a) for a in arrays]
