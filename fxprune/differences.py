"""How far two values are apart."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from fxprune.values import Scratch, plain

_ATOMS = (bool, int, float, str, type(None))


def alike(expected: Any, got: Any) -> bool:
    """Whether two outputs have the same structure and the same values beside their tensors."""
    expected, got = plain(expected), plain(got)
    if isinstance(expected, Mapping):
        return (
            isinstance(got, Mapping)
            and expected.keys() == got.keys()
            and all(alike(expected[key], got[key]) for key in expected)
        )
    if isinstance(expected, (list, tuple)):
        return (
            isinstance(got, (list, tuple))
            and len(expected) == len(got)
            and all(map(alike, expected, got))
        )
    if isinstance(expected, torch.Tensor):
        return isinstance(got, torch.Tensor)
    if expected is got or bool(np.all(expected == got)):  # they may be arrays
        return True
    return _is_same_record(expected, got)


def _is_same_record(expected: Any, got: Any, room: int = 4) -> bool:
    """Whether objects that compare by identity are of one type and have the same attributes."""
    mine, theirs = getattr(expected, "__dict__", None), getattr(got, "__dict__", None)
    by_identity = all("__eq__" not in vars(kind) for kind in type(expected).__mro__[:-1])
    if type(expected) is not type(got) or not by_identity or not (mine and theirs and room):
        return False
    if mine.keys() != theirs.keys():
        return False
    return all(
        item is theirs[name]
        or (type(item) in _ATOMS and item == theirs[name])
        or _is_same_record(item, theirs[name], room - 1)
        for name, item in mine.items()
    )


def difference(
    expected: torch.Tensor, got: torch.Tensor, scratch: Scratch | None = None
) -> tuple[float, float]:
    """The largest absolute difference, and that in units of the largest finite value.

    Infinite and NaN values have to be the same in both, as do integers. Both are of one shape.
    """
    if expected.is_floating_point() and expected.dtype == got.dtype:
        memory = scratch.like(expected, expected.shape, "difference") if scratch else None
        absolute = largest(torch.sub(expected, got, out=memory))
        if math.isfinite(absolute):  # so all values are finite, in both
            scale = largest(expected)
            return absolute, absolute / scale if scale > 0 else absolute
    same = (expected == got) | (expected.isnan() & got.isnan())
    if bool(same.all()):
        return 0.0, 0.0
    finite = torch.isfinite(expected) & torch.isfinite(got)
    if not bool((same | finite).all()) or not (
        expected.is_floating_point() or expected.is_complex()
    ):
        return float("inf"), float("inf")
    absolute = float(torch.where(finite, expected - got, 0).abs().max())
    scale = float(torch.where(finite, expected, 0).abs().max())
    return absolute, absolute / scale if scale > 0 else absolute


def largest(tensor: torch.Tensor) -> float:
    """The largest absolute value of a tensor, in one pass; NaN if it has one, 0 of nothing."""
    if not tensor.numel():
        return 0.0
    if tensor.is_complex():
        return tensor.abs().max().item()
    low, high = tensor.aminmax()
    return max(-low.item(), high.item()) + 0.0  # which is no -0.0


def first_difference(expected: torch.Tensor, got: torch.Tensor) -> str:
    """The place and the values of the largest difference, in words."""
    same = (expected == got) | (expected.isnan() & got.isnan())
    exact = torch.complex128 if expected.is_complex() else torch.float64
    distance = (expected.to(exact) - got.to(exact)).abs().nan_to_num(torch.inf)
    index = int(torch.argmax(torch.where(same, -1, distance)))
    place = tuple(int(i) for i in np.unravel_index(index, expected.shape))
    return (
        f"at kept position {place}: expected {expected.flatten()[index].item():.6g}, "
        f"got {got.flatten()[index].item():.6g}"
    )
