"""Whether a checkpoint is one of a model: names, shapes and kinds of numbers."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from torch import Tensor, nn

from fxprune.errors import InputError, first_of

if TYPE_CHECKING:
    from fxprune.shards import Checkpoint, Entry


def stored_tensors(model: nn.Module) -> dict[str, Tensor]:
    """The tensors that a checkpoint of a model has, by name; those that are tied are one object."""
    state = model.state_dict(keep_vars=True)
    return {name: tensor for name, tensor in state.items() if isinstance(tensor, Tensor)}


def unknown_names(model: nn.Module, checkpoint: Checkpoint) -> tuple[str, ...]:
    """The names in a checkpoint that its model does not have.

    Args:
        model: the model; of its tensors only names, shapes and types count.
        checkpoint: the checkpoint. Of tensors that are tied it need have but one.

    Raises:
        InputError: a tensor of the model is missing, or has another shape or other numbers.
    """
    own, entries = stored_tensors(model), checkpoint.entries
    held = {id(own[name]) for name in entries if name in own}
    missing = [name for name, tensor in own.items() if id(tensor) not in held]
    unknown = tuple(name for name in entries if name not in own)
    if missing:
        prefix = _prefix(missing, unknown)
        raise InputError(
            f"the checkpoint {checkpoint.folder} is not one of {type(model).__name__}",
            why=prefix or f"it has no {first_of(missing)}",
            hint="build the model of the class that the checkpoint was saved from (`architectures`"
            " in its config.json)",
        )
    both = {name: tensor for name, tensor in own.items() if name in entries}
    wrong = [what for name, tensor in both.items() for what in _unlike(name, tensor, entries)]
    if wrong:
        raise InputError(
            f"the checkpoint {checkpoint.folder} does not fit {type(model).__name__}",
            why=first_of(wrong),
            hint="build the model with the configuration that the checkpoint was saved with",
        )
    return unknown


def _unlike(name: str, tensor: Tensor, entries: Mapping[str, Entry]) -> Iterable[str]:
    """What differs between a tensor of the model and what is stored."""
    entry = entries[name]
    if entry.shape != tuple(tensor.shape):
        yield f"{name} has shape {list(entry.shape)} here, {list(tensor.shape)} in the model"
    elif is_real(entry) != (tensor.is_floating_point() or tensor.is_complex()):
        yield f"{name} is {entry.dtype} here, {tensor.dtype} in the model"


def is_real(entry: Entry) -> bool:
    """Whether an entry holds real or complex numbers, not integers."""
    return entry.dtype.startswith(("F", "BF", "C"))


def itemsize(name: str, entry: Entry) -> int:
    """The bytes of an element of a tensor.

    Raises:
        InputError: its elements have no whole bytes.
    """
    count = math.prod(entry.shape)
    size = entry.size // count if count else 1
    if size * count != entry.size:
        raise InputError(
            f"{name} is {entry.dtype}, of which several elements are in a byte",
            why="such tensors cannot be sliced",
            hint="shrink the checkpoint first, and quantize the result",
        )
    return size


def _prefix(missing: Iterable[str], unknown: Iterable[str]) -> str:
    """What the names of the model have before those of the checkpoint, or the other way round."""
    wanted, there = list(missing), list(unknown)
    for longer, shorter, whose in (
        (wanted, there, "the model's begin with"),
        (there, wanted, "the checkpoint's begin with"),
    ):
        ends = set(shorter)
        found: Counter[str] = Counter()
        for name in longer:
            parts = name.split(".")
            cuts = [".".join(parts[k:]) for k in range(1, len(parts))]
            found.update(name.removesuffix(end) for end in cuts if end in ends)
        if found:
            prefix, count = found.most_common(1)[0]
            if count * 2 >= len(shorter):
                return f"names differ by a prefix: {whose} {prefix!r}, as in {prefix}{shorter[0]}"
    return ""
