"""Names of repaired tensors, which go with a model where its report does not: into files."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from torch import fx

from fxprune.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import nn

_NOTE = "_fxprune_repaired"
_PRESERVED = "_user_preserved_attributes"
"""Where a GraphModule has the attributes that its deep copies get, in `meta`."""


def note_repaired(model: nn.Module, names: Sequence[str]) -> None:
    """Let an attribute tell which tensors were repaired, for `meta` is not pickled with graphs.

    It is made of strings, so that what reads it needs no fxprune.

    Args:
        model: a shrunk model that has its report.
        names: of the tensors; none to tell of no repair.
    """
    vars(model).pop(_NOTE, None)
    if names:
        vars(model)[_NOTE] = tuple(names)
    if isinstance(model, fx.GraphModule):
        preserved = {n: value for n, value in model.meta.get(_PRESERVED, {}).items() if n != _NOTE}
        if names:
            preserved[_NOTE] = tuple(names)
        rest = {name: value for name, value in model.meta.items() if name != _PRESERVED}
        model.meta = {**rest, _PRESERVED: preserved} if preserved else rest


def repaired_of(model: nn.Module) -> tuple[str, ...]:
    """The names of the repaired tensors: by the report, or else by what went into a file.

    Raises:
        InputError: what came out of a file is no list of names.
    """
    report = (vars(model).get("meta") or {}).get("fxprune")
    if report is not None:
        return tuple(getattr(report, "repaired", ()))
    return _checked(vars(model).get(_NOTE, ()))


def note_text(model: nn.Module) -> str:
    """The names as a text, for files that hold no attributes; empty if nothing was repaired."""
    names = repaired_of(model)
    return json.dumps(names) if names else ""


def note_of_text(model: nn.Module, text: str) -> None:
    """Note what `note_text` wrote.

    Raises:
        InputError: the text is another one.
    """
    try:
        names: Any = json.loads(text)
    except (ValueError, RecursionError):
        names = None
    note_repaired(model, _checked(names))


def _checked(names: Any) -> tuple[str, ...]:
    if not isinstance(names, (list, tuple)) or not all(isinstance(name, str) for name in names):
        raise InputError(
            "what a shrunk model says of its repaired tensors is no list of names",
            hint="pass a file that fxprune shrink or torch.save wrote, or what fxprune.shrink"
            " returned",
        )
    return tuple(names)
