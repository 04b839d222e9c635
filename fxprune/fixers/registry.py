"""The registry of attribute fixers: what follows from new widths, class by class."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

from torch import nn

from fxprune.errors import FxPruneError, shown

if TYPE_CHECKING:
    from fxprune.fixers.widths import Widths

Fix: TypeAlias = Callable[[Any, "Widths"], dict[str, Any]]
_HOW = "pass classes of modules: @fxprune.fixer(MyAttention)"
_FIXERS: dict[type[nn.Module], Fix] = {}
_NAMED: dict[str, Fix] = {}
"""Fixers of classes whose library need not be there: `module.Class` -> fixer."""


def fixer(*classes: type[nn.Module]) -> Callable[[Fix], Fix]:
    """Register how attributes of a module class follow the widths of its tensors.

    Use it as a decorator for a function of the module, whose tensors are sliced already, and its
    `Widths`, which returns the attributes to set:

        @fxprune.fixer(MyAttention)
        def my_attention(module, widths):
            return {"num_heads": widths.count(module.num_heads, "heads")}

    It also serves subclasses that have none of their own. A fixer for a class replaces the general
    rule, by which whole numbers with names such as `num_heads`, `head_dim` or `hidden_size` follow
    the widths that they were equal to.

    Args:
        classes: module classes.

    Raises:
        FxPruneError: a class already has a fixer, or is no class of modules.
    """
    if not classes:
        raise FxPruneError("a fixer is for no class", hint=_HOW)
    for kind in classes:
        if not _is_module_class(kind):
            name = getattr(kind, "__name__", shown(kind))
            raise FxPruneError(f"{name} is no class of torch.nn.Module", hint=_HOW)
        if kind in _FIXERS:
            raise FxPruneError(
                f"{kind.__name__} already has a fixer",
                where=_FIXERS[kind].__qualname__,
                hint="remove the second registration",
            )

    def register(fix: Fix) -> Fix:
        if not callable(fix):
            raise FxPruneError(f"the fixer {shown(fix)} is no function")
        _FIXERS.update(dict.fromkeys(classes, fix))
        return fix

    return register


def _is_module_class(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, nn.Module)


def fixer_by_name(*names: str) -> Callable[[Fix], Fix]:
    """As `fixer`, for built-in fixers of a library that may not be installed.

    Args:
        names: where classes are defined, such as `transformers.pytorch_utils.Conv1D`.
    """

    def register(fix: Fix) -> Fix:
        _NAMED.update(dict.fromkeys(names, fix))
        return fix

    return register


def fixer_of(module: nn.Module) -> Fix | None:
    """The fixer of a module's class, or of the nearest class that it derives from."""
    for kind in type(module).__mro__:
        found = _FIXERS.get(kind) or _NAMED.get(f"{kind.__module__}.{kind.__qualname__}")
        if found is not None:
            return found
    return None
