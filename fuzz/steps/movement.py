"""Channels that change places: slices, permutations, shuffles, copies."""

from __future__ import annotations

from fuzz.drafting import WIDEST, Draft, step
from fuzz.program import Value
from fuzz.steps.layers import ANY


def along(x: Value, index: str) -> str:
    """`x` indexed along its channels."""
    return f"{x.name}[:, {index}]" if x.dim == 1 else f"{x.name}[..., {index}]"


@step(*ANY)
def channel_slice(d: Draft, x: Value) -> Value | None:
    """Some channels in a row, or every second one."""
    n = x.channels
    if n < 3:
        return None
    cut = d.number(1, n - 1)
    slices = {f":{cut}": cut, f"{cut}:": n - cut, f"-{cut}:": cut, "::2": (n + 1) // 2}
    slices |= {"1::2": n // 2, f":-{cut}": n - cut}
    index = d.choose(*slices)
    return d.value(along(x, index), x, channels=slices[index])


@step(*ANY)
def flip_or_roll(d: Draft, x: Value) -> Value:
    """Channels backwards, or moved round."""
    roll = f"torch.roll({x.name}, {d.number(1, 3)}, {x.dim})"
    return d.value(d.choose(f"{x.name}.flip({x.dim})", roll), x)


@step(*ANY)
def permuted(d: Draft, x: Value) -> Value:
    """Channels in another order, by a list or a buffer."""
    order = d.shuffled(range(x.channels))
    if d.yes():
        table = d.buffer(f"torch.tensor({order})")
        texts = [f"torch.index_select({x.name}, {x.dim}, {table})", along(x, table)]
        return d.value(d.choose(*texts), x)
    return d.value(along(x, str(order)), x)


@step(*ANY)
def looked_up(d: Draft, x: Value) -> Value:
    """Any channels, some of them more than once."""
    picked = [d.number(0, x.channels - 1) for _ in range(d.number(2, 6))]
    table = d.buffer(f"torch.tensor({picked})") if d.yes() else str(picked)
    return d.value(along(x, table), x, channels=len(picked))


@step(*ANY)
def chunked(d: Draft, x: Value) -> Value | None:
    """Chunks put together in another order, some through a layer (CSP)."""
    parts = d.choose(2, 3, 4)
    if x.channels < parts or x.channels % parts:
        return None
    size = x.channels // parts
    names = d.names(parts, f"{x.name}.chunk({parts}, {x.dim})")
    values = [Value(name, x.layout, size, x.extent) for name in names]
    if d.yes():
        values[0] = d.projected(values[0], d.width())
    values = d.shuffled(values)[: d.number(1, parts)]
    return d.value(
        f"torch.cat([{', '.join(v.name for v in values)}], {x.dim})",
        x,
        channels=sum(v.channels for v in values),
    )


@step(*ANY)
def split_unevenly(d: Draft, x: Value) -> Value | None:
    """Two parts of different sizes: one gates, or both go on in another order."""
    if x.channels < 3:
        return None
    cut = d.number(1, x.channels - 1)
    first, second = d.names(2, f"{x.name}.split([{cut}, {x.channels - cut}], {x.dim})")
    if d.yes():
        second = d.name(f"torch.tanh({second})")
    return d.value(f"torch.cat([{second}, {first}], {x.dim})", x)


@step("image", "signal")
def shuffled(d: Draft, x: Value) -> Value:
    """A channel shuffle, by views or by the module."""
    groups = d.divisor(x.channels)
    if len(x.extent) == 2 and d.yes():
        return d.value(f"{d.module(f'nn.ChannelShuffle({groups})')}({x.name})", x)
    places = ", ".join(f"{x.name}.shape[{i + 2}]" for i in range(len(x.extent)))
    view = f"{x.name}.view(-1, {groups}, {x.channels // groups}, {places})"
    text = f"{view}.transpose(1, 2).reshape(-1, {x.channels}, {places})"
    return d.value(text, x)


@step("image", "signal", "vector")
def interleaved(d: Draft, x: Value) -> Value | None:
    """Two tensors with their channels in turns."""
    if x.channels * 2 > WIDEST:
        return None
    other = d.partner(x)
    stacked = f"torch.stack([{x.name}, {other.name}], {d.choose(1, 2)})"
    return d.value(f"{stacked}.flatten(1, 2)", x, channels=2 * x.channels)


@step(*ANY)
def repeated(d: Draft, x: Value) -> Value | None:
    """Every channel twice, in a row or in turns."""
    if x.channels * 2 > WIDEST:
        return None
    tail = ", 1" * len(x.extent)
    tiled = f"{x.name}.repeat(1, 2{tail})" if x.dim == 1 else f"{x.name}.repeat(1, 1, 2)"
    text = d.choose(tiled, f"torch.repeat_interleave({x.name}, 2, {x.dim})")
    return d.value(text, x, channels=2 * x.channels)


@step("image")
def pixel_shuffle(d: Draft, x: Value) -> Value | None:
    """Channels to places, or places to channels."""
    if x.channels % 4 == 0 and max(x.extent) <= 4:
        extent = tuple(2 * size for size in x.extent)
        return d.value(f"F.pixel_shuffle({x.name}, 2)", x, channels=x.channels // 4, extent=extent)
    if x.channels * 4 > 2 * WIDEST or any(size % 2 for size in x.extent):
        return None
    extent = tuple(size // 2 for size in x.extent)
    return d.value(f"F.pixel_unshuffle({x.name}, 2)", x, channels=x.channels * 4, extent=extent)


@step("image")
def space_to_depth(d: Draft, x: Value) -> Value | None:
    """Every second place of both axes, four times (a Focus stem)."""
    if x.channels * 4 > 2 * WIDEST or any(size % 2 for size in x.extent):
        return None
    parts = d.shuffled([f"{x.name}[..., {i}::2, {j}::2]" for i in (0, 1) for j in (0, 1)])
    extent = tuple(size // 2 for size in x.extent)
    return d.value(f"torch.cat([{', '.join(parts)}], 1)", x, channels=x.channels * 4, extent=extent)


@step("image", "signal")
def rotated(d: Draft, x: Value) -> Value | None:
    """Places that change, under channels that stay."""
    if len(x.extent) == 2 and x.extent[0] == x.extent[1]:
        texts = (f"torch.rot90({x.name}, 1, (2, 3))", f"{x.name}.transpose(2, 3)")
        return d.value(d.choose(*texts, f"{x.name}.flip(-1)"), x)
    return d.value(f"torch.roll({x.name}, 1, -1)", x)


@step("sequence")
def shifted_tokens(d: Draft, x: Value) -> Value:
    """A part of the channels taken from the token before (TSM, RWKV)."""
    cut = d.number(1, max(1, x.channels - 1))
    first, rest = d.names(2, f"{x.name}[..., :{cut}], {x.name}[..., {cut}:]")
    moved = d.choose(
        f"torch.roll({first}, 1, 1)",
        f"torch.cat([torch.zeros_like({first}[:, :1]), {first}[:, :-1]], 1)",
        f"F.pad({first}, (0, 0, 1, 0))[:, :-1]",
    )
    return d.value(f"torch.cat([{moved}, {rest}], -1)", x)


@step("image")
def windows(d: Draft, x: Value) -> Value | None:
    """Windows of an image as channels."""
    if x.channels * 4 > 2 * WIDEST or any(size % 2 for size in x.extent):
        return None
    height, width = (size // 2 for size in x.extent)
    rows = d.name(f"F.unfold({x.name}, 2, stride=2)")
    if d.yes():
        size = f"({x.extent[0]}, {x.extent[1]})"
        return d.value(f"F.fold({rows} * 2, {size}, 2, stride=2)", x)
    text = f"{rows}.view(-1, {x.channels * 4}, {height}, {width})"
    return d.value(text, x, channels=x.channels * 4, extent=(height, width))
