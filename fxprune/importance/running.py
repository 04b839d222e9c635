"""Running a model on data: batches with a progress bar, and checks of what comes out."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sized
from contextlib import AbstractContextManager, nullcontext, suppress
from contextvars import ContextVar
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from rich.console import Console
from rich.progress import track

from fxprune.errors import InputError
from fxprune.importance.criterion import refusing
from fxprune.importance.processes import is_first
from fxprune.inputs import bind
from fxprune.values import copied

if TYPE_CHECKING:
    from fxprune.analysis import DependencyGraph

_T = TypeVar("_T")
room_for_bars: ContextVar[Callable[[], AbstractContextManager[object]]] = ContextVar(
    "room_for_bars", default=nullcontext
)
"""What is entered while a bar is shown: two things that move would write over one another."""


def tracked(
    batches: Iterable[_T], what: str, *, shown: bool, total: int | None = None
) -> Generator[_T, None, None]:
    """The batches, with a bar on the standard error stream of the first process.

    Args:
        batches: a data loader, or anything else that takes its time.
        what: is being done.
        shown: whether there is a bar; never in a notebook without ipywidgets.
        total: how many batches there are, if their length does not tell.

    Raises:
        InputError: they cannot be iterated over.
    """
    if not isinstance(batches, Iterable):
        raise InputError(f"the batches are a {type(batches).__name__}", hint="pass a data loader")
    with suppress(TypeError):  # a data loader of an iterable data set
        total = len(batches) if isinstance(batches, Sized) else total
    console = Console(stderr=True)
    if console.is_jupyter and find_spec("ipywidgets") is None:
        shown = False  # rich would warn that it cannot draw a bar
    if not console.is_terminal and not console.is_jupyter:
        shown = False  # of a bar that is erased at its end, an empty line would stay
    if shown and is_first():
        with room_for_bars.get()():
            yield from track(batches, what, total, console=console, transient=True)
    else:
        yield from batches


def _first(batch: Any) -> Any:  # a docstring would be shown for each attribute that has it
    return batch[0] if isinstance(batch, (tuple, list)) else batch


first = _first
"""The first item of a tuple or list, or the batch itself: the inputs without labels."""


def taken(batch: Any, inputs: Callable[[Any], Any]) -> Any:
    """What a model takes of a batch.

    Raises:
        InputError: the function does not tell.
    """
    hint = "pass inputs=, a function from a batch to what the model takes"
    with refusing("the inputs of a batch cannot be told", hint):
        return inputs(batch)


def collected(
    deps: DependencyGraph,
    batches: Iterable[Any],
    inputs: Callable[[Any], Any],
    what: str,
    remedy: str,
) -> list[list[Any]]:
    """What the graph takes, batch by batch: copies, which may be run again.

    Args:
        deps: the analysis of the model.
        batches: a data loader, or anything else of batches.
        inputs: from a batch to what the model takes.
        what: is computed of them.
        remedy: what to do if the model does not take them.

    Raises:
        InputError: there are no batches, or the model does not take them.
    """
    every = tracked(batches, "", shown=False)
    found = [_bound(deps, taken(each, inputs), remedy) for each in every]
    if not found:
        raise nothing(what)
    return found


def _bound(deps: DependencyGraph, values: Any, remedy: str) -> list[Any]:
    try:
        bound: list[Any] = copied(list(bind(deps.graph_module, values)))
        return bound
    except InputError as error:
        hint = f"{error.hint}; or {remedy}" if error.hint else remedy
        raise InputError(error.what, where=error.where, why=error.why, hint=hint) from error


def nothing(what: str) -> InputError:
    """The error for data loaders that are empty, in all processes."""
    return InputError(
        f"there are no batches to compute {what} of",
        hint="pass a data loader or a list; an iterator can be used once only",
    )


def finite(name: str, tensor: torch.Tensor) -> torch.Tensor:
    """The tensor itself.

    Raises:
        InputError: it has NaN or infinite values.
    """
    if not bool(torch.isfinite(tensor).all()):
        raise InputError(
            f"{name} has NaN or infinite values",
            hint="check the data, the weights, and the loss if there is one",
        )
    return tensor
