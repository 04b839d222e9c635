"""Samples of attention in one operator; that of CPUs stands for those of other devices."""

from __future__ import annotations

import torch

from fxprune.testing import Kept, Sample
from tests.rules.samples.operands import x

aten = torch.ops.aten
SCALE = 0.4


def attention(*operands: object, free: int, pinned: str = "", **kwargs: object) -> Sample:
    """Attention with a scale that does not depend on the width."""
    op = aten._scaled_dot_product_flash_attention_for_cpu.default
    return Sample(op, operands, free, {"scale": SCALE, **kwargs}, adapt=unmasked, pinned=pinned)


def unmasked(kept: Kept) -> dict[str, object]:
    """The default scale is that of the original width."""
    return {"scale": SCALE}


QUERY, KEY = x(2, 4, 3, 8), x(2, 4, 5, 8)

ATTENTION = [
    attention(QUERY, KEY, KEY, free=2 + 4 + 3 + 5 + 8),
    attention(QUERY, KEY, KEY, free=2 + 4 + 3 + 5 + 8, attn_mask=x(2, 4, 3, 5)),
    attention(QUERY, KEY, KEY, free=2 + 4 + 3 + 5 + 8, attn_mask=x(1, 1, 3, 5)),
    attention(QUERY, KEY, KEY, free=2 + 4 + 3 + 5 + 8, attn_mask=x(3, 5)),
    attention(
        *(QUERY, QUERY, QUERY, 0.0, True),
        free=2 + 4 + 8,
        pinned="a causal mask goes by position, and queries keep theirs",
    ),
    # Fewer heads of keys: the queries' are two for each.
    attention(QUERY, x(2, 2, 5, 8), x(2, 2, 5, 8), free=2 + (2 + 2) + 3 + 5 + 8),
]
