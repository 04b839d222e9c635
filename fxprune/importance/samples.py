"""Batches taken apart into samples."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch.utils import _pytree as pytree

from fxprune.errors import InputError
from fxprune.values import mapped, parts, plain, tensors

Reading = tuple[int, Callable[[int], Any]]
"""How many samples a batch has, and what the sample of a number is, as a batch of one."""


def samples_of(batch: Any) -> list[Any]:
    """The samples of a batch, each as a batch of one.

    Raises:
        InputError: it cannot be taken apart, or it can in several ways.
    """
    found = _readings(batch)
    if len(found) == 1:
        count, sample = found[0]
        return [sample(number) for number in range(count)]
    lengths = sorted(_lengths(batch))
    if found:
        ways = " or ".join(str(count) for count, _ in found)
        why = f"it could be {ways} samples: lists are as long as tensors are along dim 0"
    else:
        why = (
            f"it has tensors of lengths {lengths} along dim 0; neither are all of one length, nor"
            " do lists have one entry for each sample"
        )
    raise InputError(
        f"a batch of {type(batch).__name__} cannot be taken apart into samples",
        why=why,
        hint="pass samples=, a function from a batch to the list of its samples",
    )


def sample_count(batch: Any) -> int | None:
    """How many samples a batch has; None if it cannot be taken apart."""
    found = _readings(batch)
    return found[0][0] if len(found) == 1 else None


def _readings(batch: Any) -> list[Reading]:
    """The ways in which a batch can be read.

    1. All tensors have the batch along dim 0, those in lists inside the batch too.
    2. Lists (or tuples) inside the batch have one entry for each sample, other tensors as before.
    3. The batch itself is a list (or tuple) of samples, which are alike.

    Whatever has no length (a number, a text, a tensor without dims) belongs to every sample.
    """
    found = [way for way in (_batched(batch), _listed(batch), _rows(batch)) if way is not None]
    return found[:1] if all(count == 1 for count, _ in found) else found


def _batched(batch: Any) -> Reading | None:
    lengths = _lengths(batch)
    if len(lengths) != 1 or not all(map(_holds_batches, _inner_lists(plain(batch)))):
        return None
    return lengths.pop(), lambda number: mapped(partial(_part, number=number), batch)


def _listed(batch: Any) -> Reading | None:
    def is_inner(value: Any) -> bool:
        return value is not batch and _is_list(value)

    leaves = pytree.tree_leaves(batch, is_leaf=is_inner)
    lists = [leaf for leaf in leaves if _is_list(leaf)]
    rest = [leaf for leaf in leaves if not _is_list(leaf)]
    if not lists or not all(len(set(map(_kind, entries))) <= 1 for entries in lists):
        return None
    if any(parts(leaf) is not None for leaf in rest):
        return None
    lengths = {*map(len, lists), *_lengths(rest)}
    if len(lengths) != 1:
        return None
    return lengths.pop(), lambda number: pytree.tree_map(
        partial(_part, number=number), batch, is_leaf=is_inner
    )


def _rows(batch: Any) -> Reading | None:
    if not _is_list(batch) or any(isinstance(row, torch.Tensor) for row in batch):
        return None
    if len({_signature(row) for row in batch}) != 1:
        return None
    return len(batch), lambda number: batch[number : number + 1]


def _part(value: Any, number: int) -> Any:
    """The entry of a sample, in a tensor or list of one."""
    has_length = _is_list(value) or (isinstance(value, torch.Tensor) and value.dim())
    return value[number : number + 1] if has_length else value


def _is_list(value: Any) -> bool:
    return type(value) in (list, tuple)


def _inner_lists(value: Any, *, inside: bool = False) -> Iterator[Sequence[Any]]:
    """The lists inside a plain value, at any depth."""
    if inside and _is_list(value):
        yield value
    items = value.values() if isinstance(value, dict) else value if _is_list(value) else ()
    for item in items:
        yield from _inner_lists(item, inside=True)


def _holds_batches(entries: Sequence[Any]) -> bool:
    """Whether a list holds nothing but tensors with dims, in lists or not."""
    return all(e.dim() if isinstance(e, torch.Tensor) else _is_list(e) for e in entries)


def _kind(value: Any) -> Any:
    return value.dim() if isinstance(value, torch.Tensor) else type(value)


def _signature(row: Any) -> Any:
    if isinstance(row, Mapping):
        return frozenset(row)
    return tuple(map(_kind, row)) if _is_list(row) else type(row)


def _lengths(value: Any) -> set[int]:
    """The lengths of its tensors along dim 0."""
    return {tensor.shape[0] for tensor in tensors(value) if tensor.dim()}
