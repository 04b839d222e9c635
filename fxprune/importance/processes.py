"""Work that the processes of `torch.distributed` share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import torch
import torch.distributed as dist

from fxprune.errors import FxPruneError, InputError, first_line, in_one_line, shown
from fxprune.module_trees import fingerprint
from fxprune.readings.runs import other_ways

if TYPE_CHECKING:
    from torch import Tensor

    from fxprune.analysis import DependencyGraph
    from fxprune.importance.criterion import Criterion

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


def agreed(deps: DependencyGraph, criterion: Criterion, check: Callable[[], None]) -> None:
    """See that all processes make scores by the same criterion, of the same weights.

    It comes before any data is read, so that nobody waits for one that does something else.

    Args:
        deps: the analysis of this process.
        criterion: what scores are made by.
        check: refuses wrong weights.

    Raises:
        InputError: it does not pass here or in another process, or processes differ.
    """
    if not (criterion.joint and _are_several()):
        check()
        return

    def mine() -> tuple[str, str]:
        check()
        own = dict(deps.graph_module.named_parameters(remove_duplicate=False))
        return str(criterion), fingerprint(own)

    (name, weights), every = jointly(deps, mine, lambda found: found)
    for rank, (other, others) in enumerate(every):
        if other != name:
            raise InputError(
                f"the process of rank {rank} scores by {shown(other)}, that of rank"
                f" {dist.get_rank()} by {shown(name)}",
                hint="let all processes make the same plan",
            )
        if others != weights:
            raise InputError(
                f"the process of rank {rank} has other weights than that of rank {dist.get_rank()}",
                why="channels would be ranked differently, and the processes go on with different"
                " models",
                hint="load the same weights in all, or dist.broadcast those of the first",
            )


def refuse_others(what: str, why: str, hint: str) -> None:
    """Refuse in all processes but the first what one alone has to do.

    Raises:
        InputError: this one is not the first.
    """
    if not is_first():
        raise InputError(
            f"{what} in the process of rank {dist.get_rank()}, and is for one process alone",
            why=why,
            hint=hint,
        )


def jointly_summed(
    deps: DependencyGraph, work: Callable[[], _Mine], sums: Callable[[_Mine], Sequence[Tensor]]
) -> _Mine:
    """What some work yields here, with some of its tensors added up over all processes, in place.

    Raises:
        InputError: see `jointly`; or the tensors of the processes are of different sizes.
    """
    mine, shapes = jointly(deps, work, lambda found: [tuple(t.shape) for t in sums(found)])
    if any(each != shapes[0] for each in shapes):
        raise other_ways()
    summed(sums(mine))
    return mine


def summed(values: Sequence[Tensor]) -> None:
    """Add up tensors over all processes, in place."""
    if not _are_several():
        return
    is_on_gpu = "nccl" in str(dist.get_backend())
    device = torch.device("cuda", torch.cuda.current_device()) if is_on_gpu else "cpu"
    for tensor in values:
        shared = tensor.to(device).contiguous()
        with _connected():
            dist.all_reduce(shared)
        tensor.copy_(shared)


def _are_several() -> bool:
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def _exchanged(mine: Any) -> list[Any]:
    """What each process hands in, by rank."""
    every: list[Any] = [None] * dist.get_world_size()
    with _connected():
        dist.all_gather_object(every, mine)
    return every


@contextmanager
def _connected() -> Iterator[None]:
    """Tell what a failure of the connection most often means.

    Raises:
        FxPruneError: the processes cannot exchange anything.
    """
    try:
        yield
    except RuntimeError as error:
        raise FxPruneError(
            f"the process of rank {dist.get_rank()} cannot reach the others: {in_one_line(error)}",
            why="one of them has ended, or does not make the same scores at this place",
            hint="look at the first error of the other ranks; let all of them call the same"
            " functions with the same criteria in the same order",
        ) from error
