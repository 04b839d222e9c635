"""Changes of layout: images to sequences, vectors to images, and back."""

from __future__ import annotations

import math

from fuzz.drafting import WIDEST, Draft, step
from fuzz.program import Value


@step("image")
def to_sequence(d: Draft, x: Value) -> Value:
    """Places as tokens."""
    text = d.choose(
        f"{x.name}.flatten(2).transpose(1, 2)",
        f"{x.name}.permute(0, 2, 3, 1).reshape({x.name}.shape[0], -1, {x.channels})",
        f"{x.name}.flatten(2).mT",
    )
    return d.value(text, x, layout="sequence", extent=(math.prod(x.extent),))


@step("image")
def rows_to_signal(d: Draft, x: Value) -> Value | None:
    """Channels and rows in one axis."""
    if x.channels * x.extent[0] > 2 * WIDEST:
        return None
    out = x.channels * x.extent[0]
    return d.value(f"{x.name}.flatten(1, 2)", x, layout="signal", channels=out, extent=x.extent[1:])


@step("signal")
def signal_to_image(d: Draft, x: Value) -> Value | None:
    """Channels divided into channels and rows."""
    if x.channels % 2:
        return None
    text = f"{x.name}.unflatten(1, ({x.channels // 2}, 2))"
    extent = (2, *x.extent)
    return d.value(text, x, layout="image", channels=x.channels // 2, extent=extent)


@step("sequence", "signal")
def transposed(d: Draft, x: Value) -> Value:
    """Channels first or last."""
    layout = "signal" if x.layout == "sequence" else "sequence"
    text = d.choose(f"{x.name}.transpose(1, 2)", f"{x.name}.permute(0, 2, 1).contiguous()")
    return d.value(text, x, layout=layout)  # type: ignore[arg-type]  # one of two literals


@step("sequence")
def to_image(d: Draft, x: Value) -> Value | None:
    """Tokens as places."""
    length = x.extent[0]
    rows = next((n for n in (4, 3, 2) if length % n == 0 and length // n > 1), None)
    if rows is None:
        return None
    extent = (rows, length // rows)
    text = f"{x.name}.transpose(1, 2).reshape(-1, {x.channels}, {rows}, {extent[1]})"
    return d.value(text, x, layout="image", extent=extent)


@step("vector")
def vector_to_image(d: Draft, x: Value) -> Value:
    """A vector as an image of two by two (a generator's first layer)."""
    y = d.projected(x, 4 * d.choose(4, 3))
    out = y.channels // 4
    text = f"{y.name}.view(-1, {out}, 2, 2)"
    return d.value(text, x, layout="image", channels=out, extent=(2, 2))


@step("vector")
def vector_to_sequence(d: Draft, x: Value) -> Value:
    """A vector as several tokens, or vectors stacked to a sequence."""
    if d.yes():
        y = d.partner(x)
        text = f"torch.stack([{x.name}, {y.name}], 1)"
        return d.value(text, x, layout="sequence", extent=(2,))
    y = d.projected(x, 3 * d.choose(4, 2))
    text = f"{y.name}.unflatten(1, (3, {y.channels // 3}))"
    return d.value(text, x, layout="sequence", channels=y.channels // 3, extent=(3,))


@step("vector")
def broadcast(d: Draft, x: Value) -> Value | None:
    """A vector added to all places of an image or all tokens of a sequence."""
    found = [v for v in d.values if v.layout in ("image", "sequence")]
    if not found:
        return None
    y = d.pick(found)
    z = d.projected(x, y.channels) if x.channels != y.channels else x
    wide = f"{z.name}[:, :, None, None]" if y.layout == "image" else f"{z.name}.unsqueeze(1)"
    if d.yes():
        wide = f"{wide}.expand_as({y.name})"
    return d.value(f"{y.name} + {wide}", y)


@step("image")
def coordinates(d: Draft, x: Value) -> Value:
    """Places as further channels (CoordConv)."""
    height, width = x.extent
    rows = d.name(f"torch.linspace(-1, 1, {height}).to({x.name}.dtype)[None, None, :, None]")
    rows = f"{rows}.expand({x.name}.shape[0], 1, {height}, {width})"
    both = Value(d.name(f"torch.cat([{x.name}, {rows}], 1)"), "image", x.channels + 1, x.extent)
    return d.projected(both, d.width())
