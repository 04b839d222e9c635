"""Attention: by hand, fused, by modules, of grouped queries, linear."""

from __future__ import annotations

from fuzz.drafting import Draft, step
from fuzz.program import Value


@step("sequence")
def attention(d: Draft, x: Value) -> Value:
    """Attention by hand or by `F.scaled_dot_product_attention`, from a fused or three layers."""
    heads, width = d.choose(2, 3, 1, 4), d.choose(4, 2, 3)
    q, k, v = _projections(d, x, heads, width)
    mask = d.choose("", "causal", "bias")
    out = d.choose(_fused, _by_hand)(d, x, (q, k, v), heads, mask)
    y = Value(d.name(f"{out}.transpose(1, 2).flatten(2)"), "sequence", heads * width, x.extent)
    return d.projected(y, d.width()) if d.yes() else y


def _projections(d: Draft, x: Value, heads: int, width: int) -> list[str]:
    """Queries, keys and values (N, heads, L, width)."""
    inner = heads * width
    if d.yes():
        layers = [d.module(f"nn.Linear({x.channels}, {inner})") for _ in range(3)]
        return [
            d.name(
                f"{layer}({x.name}).view(-1, {x.name}.shape[1], {heads}, {width}).transpose(1, 2)"
            )
            for layer in layers
        ]
    layer = d.module(f"nn.Linear({x.channels}, {3 * inner})")
    sizes = f"{x.name}.shape[0], {x.name}.shape[1]"
    text = d.choose(
        f"{layer}({x.name}).reshape({sizes}, 3, {heads}, {width}).permute(2, 0, 3, 1, 4).unbind(0)",
        f"{layer}({x.name}).view({sizes}, {heads}, {3 * width}).transpose(1, 2).chunk(3, -1)",
        f"({layer}({x.name}).unflatten(-1, (3, {heads}, {width})).permute(2, 0, 3, 1, 4)).unbind()",
    )
    if d.yes():
        parts = d.names(3, f"{layer}({x.name}).split({inner}, -1)")
        return [d.name(f"{part}.unflatten(-1, ({heads}, -1)).transpose(1, 2)") for part in parts]
    return d.names(3, text)


def _fused(d: Draft, x: Value, qkv: tuple[str, ...], heads: int, mask: str) -> str:
    options = {
        "": "",
        "causal": ", is_causal=True",
        "bias": f", attn_mask={d.parameter(heads, x.extent[0], x.extent[0])}"
        if mask == "bias"
        else "",
    }[mask]
    return d.name(f"F.scaled_dot_product_attention({', '.join(qkv)}{options})")


def _by_hand(d: Draft, x: Value, qkv: tuple[str, ...], heads: int, mask: str) -> str:
    q, k, v = qkv
    scale = d.choose(f"{q}.shape[-1] ** -0.5", "0.5")
    scores = d.choose(
        f"({q} @ {k}.transpose(-2, -1)) * {scale}",
        f'torch.einsum("nhqd,nhkd->nhqk", {q} * {scale}, {k})',
    )
    scores = d.name(scores)
    if mask == "bias":
        scores = d.name(f"{scores} + {d.parameter(heads, x.extent[0], x.extent[0])}")
    if mask == "causal":
        seen = d.buffer(f"torch.ones({x.extent[0]}, {x.extent[0]}, dtype=torch.bool).tril()")
        scores = d.name(f"{scores}.masked_fill(~{seen}, -1e4)")
    return d.name(f"torch.matmul({scores}.softmax(-1), {v})")


@step("sequence")
def grouped_queries(d: Draft, x: Value) -> Value:
    """Several heads of queries for each head of keys."""
    keys, repeats, width = d.choose(2, 3), d.choose(2, 3), d.choose(4, 2)
    heads = keys * repeats
    q_layer = d.module(f"nn.Linear({x.channels}, {heads * width})")
    kv_layer = d.module(f"nn.Linear({x.channels}, {2 * keys * width})")
    q = d.name(f"{q_layer}({x.name}).unflatten(-1, ({heads}, {width})).transpose(1, 2)")
    k, v = d.names(2, f"{kv_layer}({x.name}).chunk(2, -1)")
    k, v = (d.name(f"{part}.unflatten(-1, ({keys}, {width})).transpose(1, 2)") for part in (k, v))
    options = ""
    spread = d.choose("interleave", "expand", "enable")
    if spread == "interleave":
        k, v = (d.name(f"{part}.repeat_interleave({repeats}, 1)") for part in (k, v))
    elif spread == "expand":
        wide = f"[:, :, None].expand(-1, -1, {repeats}, -1, -1).flatten(1, 2)"
        k, v = (d.name(f"{part}{wide}") for part in (k, v))
    else:
        options = ", enable_gqa=True"
    out = d.name(f"F.scaled_dot_product_attention({q}, {k}, {v}{options})")
    y = Value(d.name(f"{out}.transpose(1, 2).flatten(2)"), "sequence", heads * width, x.extent)
    return d.projected(y, d.width())


@step("sequence")
def attention_module(d: Draft, x: Value) -> Value:
    """`nn.MultiheadAttention`, of a sequence to itself or to another one."""
    heads, width = d.choose(2, 1, 3), d.choose(2, 3)
    others = [v for v in d.values if v.layout == "sequence"]
    y = d.pick(others)
    a = d.projected(x, heads * width)
    options = "batch_first=True"
    if y.channels != a.channels:
        options += f", kdim={y.channels}, vdim={y.channels}"
    layer = d.module(f"nn.MultiheadAttention({a.channels}, {heads}, {options})")
    weights = d.choose(", need_weights=False", "")
    return d.value(f"{layer}({a.name}, {y.name}, {y.name}{weights})[0]", a)


@step("sequence")
def cross_attention(d: Draft, x: Value) -> Value:
    """One head, from this sequence to another one."""
    y = d.pick([v for v in d.values if v.layout == "sequence"])
    width, out = d.choose(4, 3, 6), d.choose(4, 5)
    q = d.projected(x, width)
    k, v = d.projected(y, width), d.projected(y, out)
    text = d.choose(
        f"F.scaled_dot_product_attention({q.name}, {k.name}, {v.name}, scale=0.3)",
        f"torch.bmm(torch.softmax(torch.bmm({q.name}, {k.name}.mT) / {width} ** 0.5, 2), {v.name})",
        f"torch.baddbmm({q.name}[:, :, :1], {q.name}, {k.name}.mT).softmax(-1) @ {v.name}",
    )
    return d.value(text, x, channels=out)


@step("sequence")
def linear_attention(d: Draft, x: Value) -> Value:
    """Attention without a softmax over scores: keys times values first."""
    heads, width = d.choose(2, 1), d.choose(3, 2, 4)
    inner = heads * width
    names = [d.projected(x, inner).name for _ in range(3)]
    q, k, v = (d.name(f"{name}.unflatten(-1, ({heads}, {width}))") for name in names)
    k = d.choose(f"{k}.softmax(1)", f"(F.elu({k}) + 1)")
    context = d.name(f'torch.einsum("nlhd,nlhe->nhde", {k}, {v})')
    out = d.name(f'torch.einsum("nlhd,nhde->nlhe", {q}, {context})')
    return d.value(f"{out}.flatten(2)", x, channels=inner)
