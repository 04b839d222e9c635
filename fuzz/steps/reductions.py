"""From images and sequences to vectors."""

from __future__ import annotations

import math

from fuzz.drafting import Draft, step
from fuzz.program import Value


@step("image", "signal")
def pooled(d: Draft, x: Value) -> Value:
    """A vector pooled from all places."""
    dims = tuple(range(2, 2 + len(x.extent)))
    spread = (f"{x.name}.std({dims})", f"torch.var_mean({x.name}, {dims})[1]")
    texts = (
        f"{x.name}.mean({dims})",
        f"{x.name}.flatten(2).sum(-1)",
        f"{x.name}.amax({dims})",
        f"F.adaptive_avg_pool{len(x.extent)}d({x.name}, 1).flatten(1)",
        f"{x.name}.flatten(2).max(-1)[0]",
        *(spread if math.prod(x.extent) > 1 else ()),
    )
    return d.value(d.choose(*texts), x, layout="vector", extent=())


@step("sequence")
def pooled_tokens(d: Draft, x: Value) -> Value:
    """A vector pooled from all tokens, or one of them."""
    texts = (
        *(f"{x.name}.mean(1)", f"{x.name}[:, 0]", f"{x.name}.amax(1)", f"{x.name}.sum(1)"),
        *(f"{x.name}.select(1, -1)", f"{x.name}.logsumexp(1)", f"{x.name}.max(1)[0]"),
    )
    return d.value(d.choose(*texts), x, layout="vector", extent=())


@step("sequence")
def attention_pool(d: Draft, x: Value) -> Value:
    """Tokens weighted by a softmax over them."""
    layer = d.module(f"nn.Linear({x.channels}, 1)")
    weights = d.name(f"torch.softmax({layer}({x.name}), 1)")
    text = d.choose(
        f"({x.name} * {weights}).sum(1)",
        f'torch.einsum("nlc,nlk->nc", {x.name}, {weights})',
        f"torch.bmm({weights}.transpose(1, 2), {x.name}).squeeze(1)",
    )
    return d.value(text, x, layout="vector", extent=())


@step("image", "signal", "sequence")
def flattened(d: Draft, x: Value) -> Value | None:
    """All places and channels in one axis, through a linear layer."""
    total = x.channels
    for size in x.extent:
        total *= size
    if total > 160:
        return None
    text = d.choose(f"{x.name}.flatten(1)", f"{x.name}.reshape({x.name}.shape[0], -1)")
    if x.layout == "image" and d.yes():
        text = f"{x.name}.permute(0, 2, 3, 1).reshape({x.name}.shape[0], -1)"
    flat = Value(d.name(text), "vector", total)
    return d.projected(flat, d.width())
