"""Running a model on data: progress, and sums over all processes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence, Sized
from typing import TYPE_CHECKING, Any, TypeVar

import torch
import torch.distributed as dist
from rich.console import Console
from rich.progress import track

from fxprune.errors import InputError
from fxprune.values import tensors

if TYPE_CHECKING:
    from torch import Tensor

_T = TypeVar("_T")


def tracked(batches: Iterable[_T], what: str, *, shown: bool) -> Iterator[_T]:
    """The batches, with a bar on the standard error stream.

    Raises:
        InputError: there are none.
    """
    if not isinstance(batches, Iterable):
        raise InputError(f"the batches are a {type(batches).__name__}", hint="pass a data loader")
    try:
        total = len(batches) if isinstance(batches, Sized) else None
    except TypeError:  # a data loader of an iterable data set
        total = None
    console = Console(stderr=True)
    count = 0
    for batch in track(batches, what, total, console=console, transient=True, disable=not shown):
        count += 1
        yield batch
    if not count:
        raise InputError(
            f"there are no batches to compute {what} of",
            hint="pass a data loader or a list; an iterator can be used once only",
        )


def summed(values: Sequence[Tensor]) -> None:
    """Add up tensors over all processes, in place, if `torch.distributed` is initialized."""
    if dist.is_available() and dist.is_initialized():
        is_on_gpu = "nccl" in str(dist.get_backend())
        device = torch.device("cuda", torch.cuda.current_device()) if is_on_gpu else "cpu"
        for tensor in values:
            shared = tensor.to(device)
            dist.all_reduce(shared)
            tensor.copy_(shared)


def lengths_of(batch: Any) -> set[int]:
    """The lengths of its tensors along dim 0."""
    return {tensor.shape[0] for tensor in tensors(batch) if tensor.dim()}


def samples(batch: Any) -> int:
    """How many samples a batch has: the length of dim 0, which all its tensors share.

    Raises:
        InputError: it is not the same for all of them.
    """
    sizes = lengths_of(batch)
    if len(sizes) != 1:
        raise InputError(
            f"a batch of {type(batch).__name__} has tensors of lengths {sorted(sizes)} along dim 0",
            why="it is taken apart into samples along dim 0",
            hint="let all tensors of a batch have as many samples",
        )
    return sizes.pop()


def finite(name: str, tensor: torch.Tensor) -> torch.Tensor:
    """The tensor itself.

    Raises:
        InputError: it has NaN or infinite values.
    """
    if not bool(torch.isfinite(tensor).all()):
        raise InputError(
            f"{name} has NaN or infinite values", hint="check the loss, the data and the weights"
        )
    return tensor
