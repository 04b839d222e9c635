"""The inputs that two models are compared on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, TypeAlias

import torch

from fxprune.values import mapped, tensors

Inputs: TypeAlias = tuple[Any, ...]
"""A value for each placeholder."""
_LARGE, _TINY = 100.0, 0.001
_SMALL = 16


def negative(values: Inputs) -> Inputs:
    """The same with all numbers negative; integers stay."""
    return tuple(mapped(_float(lambda t: -t.abs()), values))


def magnitudes(values: Inputs) -> dict[str, Inputs]:
    """The same, larger and smaller; nothing if there are only integers."""
    if not any(tensor.is_floating_point() for tensor in tensors(list(values))):
        return {}
    return {
        "a hundred times as large": mapped(_float(lambda t: t * _LARGE), values),
        "a thousandth": mapped(_float(lambda t: t * _TINY), values),
    }


def sizes(values: Inputs) -> dict[str, Inputs]:
    """Another batch, and half the size."""
    found = {f"half the size of {dims}": halved for dims, halved in halves(values)}
    other = another_batch(values)
    return found if other is None else {"another batch": other, **found}


def another_batch(values: Inputs) -> Inputs | None:
    """Inputs with 2 n + 1 in place of n along dim 0; None if n is not the same in all of them.

    Twice the batch would divide by whatever the batch divides by.
    """
    if len({tensor.shape[:1] for tensor in tensors(list(values))}) != 1:
        return None
    other: Inputs = mapped(lambda t: torch.cat([t, t, t[:1]]) if t.dim() else t, values)
    return other


def other_sizes(values: Inputs) -> Iterator[Inputs]:
    """Inputs of other sizes: one size after another is replaced wherever it occurs, then the batch.

    Up to 16, n becomes 2 n + 1; more is halved. A size of 1 may be that of a sequence, too.
    """
    found = tensors(list(values))
    places = {(dim, n) for tensor in found for dim, n in enumerate(tensor.shape)}
    for size in sorted({n for dim, n in places if n > 1 or (dim and n)}):
        yield mapped(partial(_resized, size=size), values)
    if (other := another_batch(values)) is not None:
        yield other


def _resized(tensor: torch.Tensor, size: int) -> torch.Tensor:
    for dim in range(tensor.dim()):
        if tensor.shape[dim] == size and size > _SMALL:
            tensor = tensor.narrow(dim, 0, (size + 1) // 2)
        elif tensor.shape[dim] == size:
            tensor = torch.cat([tensor, tensor, tensor.narrow(dim, 0, 1)], dim)
    return tensor.contiguous()


def halves(values: Inputs) -> Iterator[tuple[str, Inputs]]:
    """Inputs with their images half as high and wide, or their sequences half as long.

    Images are what has four dims or more. Where there are none, dim 1 is taken for the sequence,
    or else dim 2: whatever is as long as the first input along it is halved along with it.
    """
    found = tensors(list(values))
    images = [tensor for tensor in found if tensor.dim() > 3]
    if images:
        sizes = {size for tensor in images for size in tensor.shape[2:] if size > 1}
        yield "images", mapped(partial(_halved, first=2, sizes=sizes), values)
        return
    for dim in (1, 2):
        long = next((t.shape[dim] for t in found if t.dim() > dim and t.shape[dim] > 1), None)
        if long is not None:
            yield f"dim {dim}", mapped(partial(_halved, first=1, sizes={long}), values)


def _halved(tensor: torch.Tensor, first: int, sizes: set[int]) -> torch.Tensor:
    for dim in range(first, tensor.dim()):
        if tensor.shape[dim] in sizes:
            tensor = tensor.narrow(dim, 0, (tensor.shape[dim] + 1) // 2)
    return tensor.contiguous()


def _float(function: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[Any], Any]:
    return lambda tensor: function(tensor) if tensor.is_floating_point() else tensor
