"""Work that the processes of `torch.distributed` share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import torch
import torch.distributed as dist

from fxprune.errors import InputError, first_line

if TYPE_CHECKING:
    from torch import Tensor

    from fxprune.analysis import DependencyGraph

_Mine = TypeVar("_Mine")
_Told = TypeVar("_Told")


def is_first() -> bool:
    """Whether this process is the only one, or that of rank 0."""
    return not _are_several() or dist.get_rank() == 0


def jointly(
    deps: DependencyGraph, work: Callable[[], _Mine], told: Callable[[_Mine], _Told]
) -> tuple[_Mine, list[_Told]]:
    """What some work yields here, and what is told of it in every process, by rank.

    If it fails in one process it fails in all, once each has done its work or failed.

    Raises:
        InputError: it failed in another process, which the message tells; or the processes have
            different models.
    """
    if not _are_several():
        mine = work()
        return mine, [told(mine)]
    try:
        mine = work()
        outcome = (deps.digest, None, told(mine))
    except Exception as error:
        _exchanged(("", f"{type(error).__name__}: {first_line(error)}", None))
        raise
    every = _exchanged(outcome)
    for rank, (digest, failure, _) in enumerate(every):
        if failure is not None:
            raise InputError(
                f"the process of rank {rank} failed: {failure}",
                why="scores are made of the data of all processes",
                hint=f"mend what the error of rank {rank} tells",
            )
        if digest != deps.digest:
            raise InputError(
                f"the process of rank {rank} has another model than that of rank {dist.get_rank()}",
                hint="let all processes analyze the same model",
            )
    return mine, [each for _, _, each in every]


def summed(values: Sequence[Tensor]) -> None:
    """Add up tensors over all processes, in place."""
    if not _are_several():
        return
    is_on_gpu = "nccl" in str(dist.get_backend())
    device = torch.device("cuda", torch.cuda.current_device()) if is_on_gpu else "cpu"
    for tensor in values:
        shared = tensor.to(device).contiguous()
        dist.all_reduce(shared)
        tensor.copy_(shared)


def _are_several() -> bool:
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def _exchanged(mine: Any) -> list[Any]:
    """What each process hands in, by rank."""
    every: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(every, mine)
    return every
