"""Sequences: positions, class tokens, lookups, and weights of routed tokens."""

from __future__ import annotations

from fuzz.drafting import WIDEST, Draft, step
from fuzz.program import Value


@step("sequence")
def positions(d: Draft, x: Value) -> Value:
    """A learned vector for each position."""
    length = x.extent[0]
    if d.yes():
        table = d.module(f"nn.Embedding({length + 4}, {x.channels})")
        return d.value(f"{x.name} + {table}(torch.arange({x.name}.shape[1]))", x)
    return d.value(f"{x.name} + {d.parameter(1, length, x.channels)}", x)


@step("sequence")
def class_token(d: Draft, x: Value) -> Value | None:
    """A learned token in front."""
    if x.extent[0] > 12:
        return None
    token = f"{d.parameter(1, 1, x.channels)}.expand({x.name}.shape[0], -1, -1)"
    return d.value(f"torch.cat([{token}, {x.name}], 1)", x, extent=(x.extent[0] + 1,))


@step("sequence")
def token_order(d: Draft, x: Value) -> Value:
    """Tokens in another order, or all but the last."""
    texts = (
        f"F.pad({x.name}, (0, 0, 1, 0)).unfold(1, 2, 1).mean(-1)",
        *(f"{x.name}.flip(1)", f"torch.roll({x.name}, 2, 1)", f"{x.name}.cumsum(1)"),
        f"{x.name}.gather(1, {x.name}.argsort(1))",
    )
    return d.value(d.choose(*texts), x)


@step("sequence")
def token_conv(d: Draft, x: Value) -> Value:
    """A convolution along the tokens, maybe causal."""
    out = d.width()
    layer = d.module(f"nn.Conv1d({x.channels}, {out}, 3)")
    padded = f"F.pad({x.name}.transpose(1, 2), {d.choose('(1, 1)', '(2, 0)')})"
    return d.value(f"{layer}({padded}).transpose(1, 2)", x, channels=out)


@step("sequence")
def feed_forward(d: Draft, x: Value) -> Value:
    """A block that widens and narrows, with a residual."""
    hidden = d.choose(8, 6, 12)
    up, down = (
        d.module(f"nn.Linear({x.channels}, {hidden})"),
        d.module(f"nn.Linear({hidden}, {x.channels})"),
    )
    if d.yes():
        gate = d.module(f"nn.Linear({x.channels}, {hidden})")
        return d.value(f"{x.name} + {down}(F.silu({gate}({x.name})) * {up}({x.name}))", x)
    norm = d.module(f"nn.LayerNorm({x.channels})")
    return d.value(f"{x.name} + {down}(F.gelu({up}({norm}({x.name}))))", x)


@step("sequence")
def encoder_layer(d: Draft, x: Value) -> Value | None:
    """A layer of `nn.TransformerEncoder`."""
    if x.channels % 2:
        return None
    options = f"norm_first={d.yes()}, activation={d.choose('F.relu', 'F.gelu')}"
    text = f"nn.TransformerEncoderLayer({x.channels}, 2, 8, batch_first=True, {options})"
    return d.value(f"{d.module(text)}({x.name})", x)


@step("sequence")
def routed(d: Draft, x: Value) -> Value:
    """Tokens added to the slots that they are routed to, and read back."""
    length, slots = x.extent[0], d.choose(2, 3)
    table = d.buffer(f"torch.tensor({[d.number(0, slots - 1) for _ in range(length)]})")
    empty = d.name(f"{x.name}[:, :1].expand(-1, {slots}, -1) * 0")
    index = f"{table}[None, :, None].expand({x.name}.shape[0], -1, {x.channels})"
    text = d.choose(
        f"{empty}.index_add(1, {table}, {x.name})[:, {table}]",
        f"{empty}.scatter_add(1, {index}, {x.name})[:, {table}]",
        f"torch.gather({empty}.index_add(1, {table}, {x.name}), 1, {index})",
    )
    return d.value(text, x)


@step("sequence")
def rotary(d: Draft, x: Value) -> Value | None:
    """Rotary positions: pairs of channels turned by angles from a table."""
    if x.channels % 2:
        return None
    length, half = x.extent[0], x.channels // 2
    angles = d.buffer(f"torch.outer(torch.arange({length}.0), torch.linspace(0.1, 1, {half}))")
    if d.yes():
        pairs = d.name(f"torch.view_as_complex({x.name}.unflatten(-1, ({half}, 2)).contiguous())")
        turns = d.name(f"torch.polar(torch.ones_like({angles}), {angles})")
        return d.value(f"torch.view_as_real({pairs} * {turns}).flatten(-2)", x)
    in_halves = d.yes()
    text = f"{x.name}.chunk(2, -1)" if in_halves else f"{x.name}[..., ::2], {x.name}[..., 1::2]"
    a, b = d.names(2, text)
    cos, sin = d.names(2, f"{angles}.cos(), {angles}.sin()")
    both = f"[{a} * {cos} - {b} * {sin}, {a} * {sin} + {b} * {cos}]"
    return d.value(
        f"torch.cat({both}, -1)" if in_halves else f"torch.stack({both}, -1).flatten(-2)", x
    )


@step("tokens")
def embedded(d: Draft, x: Value) -> Value:
    """Numbers looked up in a table, or bags of them."""
    out = d.width()
    if d.yes():
        mode = d.choose("sum", "mean", "max")
        table = d.module(f'nn.EmbeddingBag(7, {out}, mode="{mode}")')
        return Value(d.name(f"{table}({x.name})"), "vector", out)
    table = d.module(f"nn.Embedding(7, {out})")
    return Value(d.name(f"{table}({x.name})"), "sequence", out, x.extent)


@step("sequence")
def tied_head(d: Draft, x: Value) -> Value | None:
    """A layer, its weight transposed on the way back, or a second module with the same weight."""
    hidden = d.choose(6, 4, 3)
    layer = d.module(f"nn.Linear({x.channels}, {hidden})")
    up = d.name(f"torch.tanh({layer}({x.name}))")
    if d.yes() and hidden != x.channels:
        return d.value(f"F.linear({up}, {layer}.weight.t())", x)
    twin = d.module(f"nn.Linear({x.channels}, {hidden})")
    d.members.append(f"{twin}.weight = {layer}.weight")
    both = Value(
        d.name(f"torch.cat([{up}, {twin}({x.name})], -1)"), "sequence", 2 * hidden, x.extent
    )
    return both if both.channels <= WIDEST else None
