"""Operators that few networks have: scatters, diagonals, matrices, numbers made of data."""

from __future__ import annotations

from fuzz.drafting import Draft, step
from fuzz.program import Value


@step("image", "signal")
def crossing_groups(d: Draft, x: Value) -> Value:
    """Two grouped convolutions of different numbers of groups over one axis."""
    rank = len(x.extent)
    width = d.choose(12, 8, 6)
    y = d.projected(x, width)
    groups = d.shuffled([k for k in (2, 3, 4, 6) if width % k == 0])[:2]
    out = [width, d.choose(width, 2 * width) if width < 12 else width]
    for count, channels in zip(groups, out, strict=True):
        kernel = d.choose("1", "3, padding=1")
        text = f"nn.Conv{rank}d({width}, {channels}, {kernel}, groups={count})"
        y = d.value(f"F.relu({d.module(text)}({y.name}))", y, channels=channels)
    return y


@step("sequence")
def functional_write(d: Draft, x: Value) -> Value:
    """Tokens written over others, without a change in place."""
    length = x.extent[0]
    token = f"torch.tanh({x.name}[:, 0])"
    places = d.buffer(f"torch.tensor({[d.number(0, length - 1)]})")
    texts = [
        f"torch.select_scatter({x.name}, {token}, 1, {length - 1})",
        f"torch.slice_scatter({x.name}, {x.name}[:, :1] * 0.5, 1, 0, 1)",
        f"torch.index_copy({x.name}, 1, {places}, {token}.unsqueeze(1))",
        f"torch.index_fill({x.name}, 1, {places}, 0.5)",
        f"torch.index_add({x.name}, 1, {places}, {token}.unsqueeze(1))",
    ]
    return d.value(d.choose(*texts), x)


@step("vector", "sequence")
def diagonals(d: Draft, x: Value) -> Value:
    """Channels on the diagonal of a matrix, or the diagonal of a product."""
    if x.layout == "vector":
        if d.yes():
            square = d.parameter(x.channels, x.channels)
            weight = f"torch.diagonal_scatter({square}, {d.parameter(x.channels)})"
            return d.value(f"{x.name} @ {weight}", x)
        weight = d.parameter(x.channels, 4)
        return d.value(f"(torch.diag_embed({x.name}) @ {weight}).sum(1)", x, channels=4)
    y = d.partner(x)
    scores = d.name(f"torch.tril({x.name} @ {y.name}.transpose(1, 2))")
    return d.value(f"{x.name} + torch.diagonal({scores}, 0, 1, 2).unsqueeze(-1)", x)


@step("sequence")
def matrices(d: Draft, x: Value) -> Value:
    """Functions of whole matrices of tokens by tokens."""
    length = x.extent[0]
    scores = d.name(f"torch.softmax({x.name} @ {x.name}.transpose(1, 2), -1)")
    eye = d.buffer(f"2 * torch.eye({length})")
    text = d.choose(
        f"torch.linalg.inv({scores} + {eye}) @ {x.name}",
        f"torch.linalg.solve_triangular(torch.tril({scores}) + {eye}, {x.name}, upper=False)",
        f"torch.linalg.matrix_exp({scores}) @ {x.name}",
        f"torch.addbmm({eye}, {scores}, {scores}) @ {x.name}",
        f"{x.name} * torch.det({scores} + {eye})[:, None, None]",
    )
    return d.value(text, x)


@step("sequence")
def cross_product(d: Draft, x: Value) -> Value:
    """Vector products of threes of channels."""
    y = d.projected(x, 3)
    z = d.projected(x, 3)
    return d.value(f"torch.linalg.cross({y.name}, {z.name})", x, channels=3)


@step("sequence")
def token_mask(d: Draft, x: Value) -> Value | None:
    """Tokens that are masked, or moved by a table, as their numbers say."""
    given = [v for v in d.inputs if v.layout == "tokens" and v.extent == x.extent]
    if not given:
        return None
    words = given[0].name
    some = d.buffer("torch.tensor([1, 3, 4])")
    table = d.module(f"nn.Embedding(4, {x.channels})")
    text = d.choose(
        f"{x.name} * ({words} != 2).unsqueeze(-1)",
        f"{x.name}.masked_fill(torch.isin({words}, {some}).unsqueeze(-1), 0.1)",
        f"{x.name} + {table}(torch.bucketize({words}, {some}))",
        f"{x.name} + {table}(torch.searchsorted({some}, {words}))",
        f"torch.where(({words} > 3)[..., None], {x.name}, 1 - {x.name})",
    )
    return d.value(text, x)


@step("sequence")
def batched_experts(d: Draft, x: Value) -> Value:
    """Every expert on all tokens by one batched product, then their mean."""
    experts, out = d.choose(2, 3), d.width()
    weight = d.parameter(experts, x.channels, out)
    bias = d.parameter(experts, 1, out)
    rows = d.name(f"{x.name}.reshape(1, -1, {x.channels}).expand({experts}, -1, -1)")
    text = d.choose(
        f"torch.bmm({rows}, {weight}) + {bias}", f"torch.baddbmm({bias}, {rows}, {weight})"
    )
    each = d.name(text)
    shape = f"{x.name}.shape[0], {x.name}.shape[1], {out}"
    return d.value(f"F.gelu({each}).mean(0).view({shape})", x, channels=out)
