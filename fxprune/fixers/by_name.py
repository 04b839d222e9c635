"""The general rule for numbers whose names tell what they count.

It serves modules of classes without a fixer: attention of timm and transformers, and users' own.
What it cannot tell it leaves alone. A wrong guess makes a model that fails or is refuted.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from fxprune.errors import RewriteError

if TYPE_CHECKING:
    from torch import nn

    from fxprune.fixers.widths import Widths
    from fxprune.groups import Kind

_SHARED = re.compile(r"key_value_groups$")
_HEADS = re.compile(r"(^|_)n?heads?$|^num_.*heads$|^n_.*heads?$")
_HEAD_DIMS = re.compile(r"head_(dim|size|width|channels)$|(^|_)(dim_head|d_head|d_kv)$|_proj_dim$")
_INNER = re.compile(r"all_head|inner|^attn_dim$|head.*total|^split_size$")
_WIDTHS = re.compile(r"dim|channel|feature|hidden|embed|width|planes|filters|d_model|_size$|shape$")
_OF_INPUT = re.compile(r"normalized_shape|num_features|hidden_size|channels$")
_HEAD_KINDS: tuple[Kind, ...] = ("heads", "head_dims")
_OTHER_SIZES = re.compile(
    r"kernel|window|shift|stride|patch|image|img|grid|pool|vocab|max_|batch|chunk|seq"
)


def by_name(module: nn.Module, widths: Widths) -> dict[str, Any]:
    """Whole numbers of a module (and tuples of them) that follow from the new widths."""
    found: dict[str, Any] = {}
    for name, value in vars(module).items():
        if type(value) is int:
            found[name] = _followed(name, value, widths)
        elif type(value) is tuple and all(type(part) is int for part in value):
            found[name] = tuple(_followed(name, part, widths) for part in value)
    return found


def _followed(name: str, old: int, widths: Widths) -> int:
    if name.startswith("_") or old < 1:
        return old
    try:
        if _SHARED.search(name):
            return widths.shared(old)
        if _HEADS.search(name):
            return widths.count(old, "heads")
        if _HEAD_DIMS.search(name) and not _INNER.search(name):
            new = widths.count(old, "head_dims")
            if new != old or any(group.size == old for group, _ in widths.groups("head_dims")):
                return new
    except RewriteError:
        return old
    return _width(name, old, widths) if _is_width(name) else old


def tells_width(name: str) -> bool:
    """Whether a name can be that of a number of heads, of their dims, or of a width."""
    counts = _HEADS.search(name) or _HEAD_DIMS.search(name) or _INNER.search(name)
    return bool(counts) or _is_width(name)


def _is_width(name: str) -> bool:
    return bool(_WIDTHS.search(name)) and not _OTHER_SIZES.search(name)


def _width(name: str, old: int, widths: Widths) -> int:
    """What became of all axes that were as long, if they agree; those of heads go by themselves.

    Where a module has no such axis, a name that can mean nothing else is told by what it takes.
    """
    heads = {
        (member.parameter, member.dim)
        for kind in _HEAD_KINDS
        for group, _ in widths.groups(kind)
        for member in group.members
    }
    axes = [
        ((parameter, dim) in heads, new)
        for parameter, dim, size, new in widths.parameters()
        if size == old
    ]
    if not axes and _OF_INPUT.search(name):
        axes = [(False, new) for size, new in widths.input_sizes() if size == old]
    of_heads = bool(_INNER.search(name))
    found = {new for is_head, new in axes if is_head == of_heads} or {new for _, new in axes}
    return found.pop() if len(found) == 1 else old
