"""Attention, written out as products and a softmax."""

from __future__ import annotations

from typing import Any

import torch

from fuzz.masked import Masked, masked, written_out


@written_out("scaled_dot_product_attention")
def attention(
    query: Any,
    key: Any,
    value: Any,
    attn_mask: Any = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Any:
    """The scale is that of the original's width."""
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    if enable_gqa:
        repeats = query.shape[-3] // key.shape[-3]
        key = key.repeat_interleave(repeats, -3)
        value = value.repeat_interleave(repeats, -3)
    scores = (query @ key.transpose(-2, -1)) * scale
    if is_causal:
        attn_mask = torch.ones(query.shape[-2], key.shape[-2], dtype=torch.bool).tril()
    if attn_mask is not None:
        scores = _with_mask(scores, masked(attn_mask))
    return torch.softmax(scores, -1) @ value


def _with_mask(scores: Any, mask: Masked) -> Any:
    if mask.dtype is torch.bool:
        return scores.masked_fill(~mask.data, -torch.inf)
    return scores + mask
