"""Attention in one operator, as devices have it. Elsewhere it arrives as products and a softmax."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import torch

from fxprune.rules.call import Call
from fxprune.rules.kept import Kept, take
from fxprune.rules.registry import rule

if TYPE_CHECKING:
    from fxprune.labels import Axis

aten = torch.ops.aten


def _mask(call: Call) -> str | None:
    """The name of the argument that is added to the scores, if there is one."""
    names = [name for name in ("attn_mask", "attn_bias") if call.has(name)]
    return next((name for name in names if call.arg(name) is not None), None)


def _width(call: Call) -> Iterable[tuple[str, int]]:
    return [("query", 3), ("key", 3)]


def _keys(call: Call) -> Iterable[tuple[str, int]]:
    return [("key", 2)]


def _on_kept_keys(call: Call, kept: Kept) -> object:
    """Attend to the kept keys only: keys, values and mask are sliced, the outputs are whole."""
    index = kept["key"]
    changes = {name: take(call.arg(name), index) for name in ("key", "value")}
    mask = _mask(call)
    if mask is not None and call.arg(mask).shape[-1] != 1:
        changes[mask] = call.arg(mask).index_select(-1, index[2])
    args, kwargs = call.replaced(**changes)
    return call.op(*args, **kwargs)


@rule(
    aten._scaled_dot_product_flash_attention_for_cpu,
    aten._scaled_dot_product_flash_attention.default,
    aten._scaled_dot_product_efficient_attention,
    aten._scaled_dot_product_cudnn_attention,
    aten._scaled_dot_product_fused_attention_overrideable,
    sums=_width,
    normalizes=_keys,
    on_kept=_on_kept_keys,
)
def attention(call: Call) -> None:
    """(N, H, L, E), (N, H, S, E), (N, H, S, V) -> (N, H, L, V).

    1. E is summed over; V passes; keys and values share S, which is looked across (softmax).
    2. Fewer heads of keys than of queries: the queries' are read as (head of keys, repeat).
    3. Flash kernels take one width for E and V.
    4. A causal mask compares positions, so that L and S stay.

    The default scale is that of E before pruning: a graph that names none gets it as a number.
    """
    labels = call.labels
    query, key, value = call.axes("query"), call.axes("key"), call.axes("value")
    labels.unify(query[0], key[0])
    labels.unify(query[3], key[3])
    for axis, other in zip(key[:3], value[:3], strict=True):
        labels.unify(axis, other)
    if "flash" in call.name:
        labels.unify(key[3], value[3])
    heads = query[1]
    if heads.size != key[1].size:
        heads, _ = labels.split(heads, key[1].size, heads.size // key[1].size)
    labels.unify(heads, key[1])
    labels.mark_batch(query[1], [query[3], value[3]])
    mask = _mask(call)
    if mask is not None:
        scores = [query[0], query[1], query[2], key[2]]
        for axis, other in zip(reversed(scores), reversed(call.axes(mask)), strict=False):
            if axis.size == other.size != 1:
                labels.unify(axis, other)
    if call.arg("is_causal"):
        call.pin([query[2], key[2]], "a causal mask compares positions along this axis")
    _label(call, [*query[:3], value[3]])


def _label(call: Call, out: list[Axis]) -> None:
    """The outcome, then the logarithms of the sums (N, H, L), then what no model reads."""
    first, sums, *others = call.outputs()
    call.label(first, out)
    fits = [axis.size for axis in out[:3]] == list(sums.shape[:3])
    known = out[:3] if fits else []
    call.label(sums, [*known, *[call.pinned(size) for size in sums.shape[len(known) :]]])
    for other in others:
        call.label(other, [call.pinned(size) for size in other.shape])
