"""Writes in place: into tensors, into views of them, into new memory."""

from __future__ import annotations

from fuzz.drafting import WIDEST, Draft, step
from fuzz.program import Value
from fuzz.steps.layers import ANY
from fuzz.steps.movement import along


@step(*ANY)
def in_place(d: Draft, x: Value) -> Value:
    """The tensor itself is changed, under all its names."""
    y = d.partner(x)
    if y.name == x.name:
        y = d.projected(x, x.channels)
    a, b = x.name, y.name
    texts = (
        *(f"{a}.add_({b})", f"{a}.mul_(0.5)", f"{a}.relu_()", f"{a}.mul_(torch.sigmoid({b}))"),
        *(f"F.relu({a}, inplace=True)", f"{a}.clamp_(-1, 1)", f"{a}.copy_({b})", f"{a}.sub_({b})"),
    )
    return d.value(d.choose(*texts), x)


@step(*ANY)
def augmented(d: Draft, x: Value) -> Value:
    """`y += x` on a copy."""
    y = d.partner(x)
    name = d.name(f"{x.name}.clone()")
    d.line(f"{name} {d.choose('+=', '-=', '*=')} torch.tanh({y.name})")
    return d.value(f"{name}.tanh()", x)


@step(*ANY)
def into_view(d: Draft, x: Value) -> Value | None:
    """A part of the channels is changed through a view."""
    if x.channels < 2:
        return None
    cut = d.number(1, x.channels - 1)
    name = d.name(f"{x.name} * 1") if d.yes() else x.name
    index = d.choose(f":{cut}", f"{cut}:", f"{cut - 1}:{cut}", "::2")
    view = along(Value(name, x.layout, x.channels, x.extent), index)
    how = d.choose("mul_(2)", "add_(0.5)", "relu_()", "tanh_()", "other")
    if how == "other":
        size = len(range(x.channels)[slice(*(int(p) if p else None for p in index.split(":")))])
        how = f"add_({d.projected(x, size).name})"
    d.line(f"{view}.{how}")
    return d.value(f"{name} + 0.5", x)


@step(*ANY)
def into_chunk(d: Draft, x: Value) -> Value | None:
    """A chunk is changed in place, and the whole is used on."""
    if x.channels % 2:
        return None
    name = d.name(f"{x.name}.clone()")
    first, second = d.names(2, f"{name}.chunk(2, {x.dim})")
    d.line(
        d.choose(
            f"{first}.mul_({second}.sigmoid())", f"{second}.copy_({first})", f"{first} += {second}"
        )
    )
    return d.value(f"{name} * 1", x)


@step("image", "sequence", "vector")
def new_memory(d: Draft, x: Value) -> Value | None:
    """Two branches written side by side into a new tensor."""
    y = d.partner(x, channels=False)
    total = x.channels + y.channels
    if total > 2 * WIDEST:
        return None
    first = 2 if x.dim == 1 else 1
    places = [f"{x.name}.shape[{first + i}]" for i in range(len(x.extent))]
    batch, wide = f"{x.name}.shape[0]", str(total)
    sizes = [batch, wide, *places] if x.dim == 1 else [batch, *places, wide]
    name = d.name(f"{x.name}.new_zeros({', '.join(sizes)})")
    whole = Value(name, x.layout, total, x.extent)
    write = d.choose("{}.copy_({})", "{}.add_({})", "{} = {}")
    d.line(write.format(along(whole, f":{x.channels}"), x.name))
    d.line(write.format(along(whole, f"{x.channels}:"), y.name))
    return d.value(f"{name} * 1", x, channels=total)


@step(*ANY)
def strided_write(d: Draft, x: Value) -> Value | None:
    """Every second channel is written, through a view of the tensor itself."""
    if x.channels % 2 or x.channels < 4:
        return None
    half = x.channels // 2
    name = d.name(f"{x.name}.clone()")
    whole = Value(name, x.layout, x.channels, x.extent)
    y = d.projected(x, half)
    d.line(f"{along(whole, '1::2')}.{d.choose('copy_', 'add_', 'mul_')}({y.name})")
    return d.value(f"{name}.abs()", x)


@step("sequence")
def token_write(d: Draft, x: Value) -> Value | None:
    """The first token is changed in place, or tokens are written to a cache."""
    if x.extent[0] < 2:
        return None
    name = d.name(f"{x.name}.clone()")
    table = d.buffer("torch.tensor([1, 0])")
    d.line(
        d.choose(
            f"{name}[:, {table}] = torch.tanh({x.name}[:, :2])",
            f"{name}[:, 0].mul_(2)",
            f"{name}[:, 1:].add_({x.name}[:, :-1])",
            f"{name}[:, -1] += 1",
        )
    )
    return d.value(f"{name} * 1", x)
