"""Shortcuts for meta kernels: the shape of what frequent operators return, without the detour.

On meta tensors torch runs batch norm, cat and element-wise operators through Python reference
implementations, which take most of the time of an interpretation without data.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from fxprune.meta_cache import run_once

if TYPE_CHECKING:
    from torch._ops import OpOverload

aten = torch.ops.aten


class DispatchMode(TorchDispatchMode):
    """The base of our modes: torch's, with types."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch gives no types here


def run_on_meta(op: OpOverload, args: Any, kwargs: Any) -> Any:
    """Run an operator on meta tensors, by a shortcut where there is one that applies.

    What an operator makes out of nothing, or moves to a device, is on the meta device.
    """
    if _takes_device(op) and (
        kwargs.get("device") is not None or not any(isinstance(a, torch.Tensor) for a in args)
    ):
        kwargs = {**kwargs, "device": torch.device("meta")}
    shortcut = _SHORTCUTS.get(op)
    out = shortcut(*args, **kwargs) if shortcut is not None else NotImplemented
    return run_once(op, args, kwargs) if out is NotImplemented else out


@cache
def _takes_device(op: OpOverload) -> bool:
    return any(argument.name == "device" for argument in op._schema.arguments)


class MetaMode(DispatchMode):
    """Runs operators by shortcuts."""

    def __torch_dispatch__(
        self, func: OpOverload, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Run one operator."""
        return run_on_meta(func, args, kwargs or {})


def _is_plain(tensor: Any) -> bool:
    return (
        isinstance(tensor, torch.Tensor)
        and tensor.device.type == "meta"
        and tensor.is_floating_point()
    )


def _empty(like: torch.Tensor, shape: Sequence[int]) -> torch.Tensor:
    return torch.empty(shape, dtype=like.dtype, device="meta")


def _empty_like(x: torch.Tensor) -> torch.Tensor:
    """As `torch.empty_like`, which takes ten times as long for a meta tensor."""
    return _empty(x, x.shape) if x.is_contiguous() else torch.empty_like(x)


def _unary(x: Any, *args: Any, **kwargs: Any) -> Any:
    return _empty_like(x) if _is_plain(x) and not kwargs else NotImplemented


def _unary_(x: Any, *args: Any, **kwargs: Any) -> Any:
    return x if _is_plain(x) and not kwargs else NotImplemented


def _binary(x: Any, y: Any, **kwargs: Any) -> Any:
    alike = _is_plain(x) and _is_plain(y) and x.shape == y.shape and x.dtype == y.dtype
    return _empty_like(x) if alike else NotImplemented


def _binary_(x: Any, y: Any, **kwargs: Any) -> Any:
    return x if _binary(x, y) is not NotImplemented else NotImplemented


def _batch_norm(x: Any, *rest: Any, statistics: bool | None = None) -> Any:
    vectors, training = rest[:4], rest[4]
    fits = all(t is None or tuple(t.shape) == (x.shape[1],) for t in vectors)
    if not _is_plain(x) or not fits or any(t is not None and t.dtype != x.dtype for t in vectors):
        return NotImplemented
    size = x.shape[1] if (training if statistics is None else statistics) else 0
    return _empty_like(x), _empty(x, [size]), _empty(x, [size])


def _batch_norm_eval(x: Any, *rest: Any) -> Any:
    return _batch_norm(x, *rest, statistics=False)


def _cat(tensors: Any, dim: int = 0) -> Any:
    first = tensors[0]
    rank = first.dim()
    if not all(_is_plain(t) and t.dim() == rank and t.dtype == first.dtype for t in tensors):
        return NotImplemented
    dim %= rank
    shapes = {(*t.shape[:dim], *t.shape[dim + 1 :]) for t in tensors}
    if len(shapes) != 1 or not all(t.is_contiguous() for t in tensors):
        return NotImplemented
    shape = list(first.shape)
    shape[dim] = sum(t.shape[dim] for t in tensors)
    return _empty(first, shape)


_SHORTCUTS: dict[OpOverload, Callable[..., Any]] = {
    aten.relu.default: _unary,
    aten.relu_.default: _unary_,
    aten.silu.default: _unary,
    aten.silu_.default: _unary_,
    aten.gelu.default: _unary,
    aten.sigmoid.default: _unary,
    aten.hardtanh.default: _unary,
    aten.hardtanh_.default: _unary_,
    aten.hardswish.default: _unary,
    aten.hardswish_.default: _unary_,
    aten.clone.default: _unary,
    aten.add.Tensor: _binary,
    aten.add_.Tensor: _binary_,
    aten.mul.Tensor: _binary,
    aten.mul_.Tensor: _binary_,
    aten.cat.default: _cat,
    aten.native_batch_norm.default: _batch_norm,
    aten._native_batch_norm_legit.default: _batch_norm,
    aten._native_batch_norm_legit_no_training.default: _batch_norm_eval,
}
