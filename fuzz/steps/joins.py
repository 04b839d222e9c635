"""Branches that meet."""

from __future__ import annotations

from fuzz.drafting import WIDEST, Draft, step
from fuzz.program import Value
from fuzz.steps.layers import ANY


@step(*ANY)
def residual(d: Draft, x: Value) -> Value:
    """A sum, difference, product or choice of two branches."""
    y = d.partner(x)
    a, b = x.name, y.name
    texts = (
        *(
            f"{a} + {b}",
            f"{a} - 0.5 * {b}",
            f"{a} * torch.sigmoid({b})",
            f"torch.maximum({a}, {b})",
        ),
        *(
            f"torch.where({a} > 0, {a}, {b})",
            f"torch.lerp({a}, {b}, 0.3)",
            f"torch.minimum({a}, {b})",
        ),
        *(f"torch.addcmul({a}, torch.tanh({a}), torch.tanh({b}))", f"torch.tanh({a}) * {b}"),
        *(f"{a} / (1 + {b}.abs())", f"torch.add({a}, {b}, alpha=2)"),
    )
    return d.value(d.choose(*texts), x)


@step(*ANY)
def concat(d: Draft, x: Value) -> Value | None:
    """Several tensors on the channel axis, in any order, one maybe twice."""
    parts = [x, d.partner(x, channels=False)]
    if d.yes():
        parts.append(d.pick([v for v in d.values if (v.layout, v.extent) == (x.layout, x.extent)]))
    total = sum(v.channels for v in parts)
    if total > 2 * WIDEST:
        return None
    parts = d.shuffled(parts)
    names = ", ".join(v.name for v in parts)
    return d.value(f"torch.cat([{names}], {x.dim})", x, channels=total)


@step(*ANY)
def mean_of_stack(d: Draft, x: Value) -> Value:
    """Branches stacked on an axis of their own, and put together along it."""
    y = d.partner(x)
    how = d.choose("sum(0)", "mean(0)", "amax(0)", "prod(0)", "logsumexp(0)", "median(0)[0]")
    how = how.replace("median(0)[0]", "sum(0)")
    return d.value(f"torch.stack([{x.name}, {y.name}]).{how}", x)


@step("image", "signal")
def padded_shortcut(d: Draft, x: Value) -> Value | None:
    """A shortcut with channels of zeros, as in option A of ResNet."""
    more = d.number(1, 4)
    y = d.projected(x, x.channels + more)
    before = d.number(0, more)
    pads = "0, 0, " * len(x.extent)
    return d.value(f"F.pad({x.name}, ({pads}{before}, {more - before})) + {y.name}", y)


@step("image", "sequence", "vector")
def outer_product(d: Draft, x: Value) -> Value | None:
    """Products of all pairs of channels (bilinear pooling)."""
    a = d.projected(x, d.choose(2, 3))
    b = d.projected(x, d.choose(4, 3))
    both = a.channels * b.channels
    if x.layout == "image":
        text = f'torch.einsum("nchw,ndhw->ncd", {a.name}, {b.name}).flatten(1)'
        return Value(d.name(text), "vector", both)
    text = f"({a.name}.unsqueeze(-1) * {b.name}.unsqueeze(-2)).flatten(-2)"
    return d.value(text, x, channels=both)


@step("vector", "sequence")
def bilinear(d: Draft, x: Value) -> Value:
    """A bilinear form of two branches."""
    y = d.partner(x, channels=False)
    out = d.width()
    layer = d.module(f"nn.Bilinear({x.channels}, {y.channels}, {out})")
    return d.value(f"{layer}({x.name}, {y.name})", x, channels=out)


@step(*ANY)
def siamese(d: Draft, x: Value) -> Value:
    """One module on two branches."""
    y = d.partner(x)
    out = d.width()
    kind = {"image": "Conv2d({}, {}, 1)", "signal": "Conv1d({}, {}, 1)"}.get(
        x.layout, "Linear({}, {})"
    )
    layer = d.module(f"nn.{kind.format(x.channels, out)}")
    a, b = d.name(f"{layer}({x.name})"), d.name(f"{layer}({y.name})")
    if d.yes():
        return d.value(f"{a} - {b}.abs()", x, channels=out)
    return d.value(f"torch.cat([{a}, {b}], {x.dim})", x, channels=2 * out)


@step("vector")
def similarity(d: Draft, x: Value) -> Value:
    """Another branch weighted by how alike it is."""
    y = d.partner(x)
    alike = d.name(f"F.cosine_similarity({x.name}, {y.name}, {x.dim})")
    return d.value(f"{x.name} * {alike}.unsqueeze({x.dim}) + {y.name}", x)


@step("image", "signal")
def film(d: Draft, x: Value) -> Value:
    """A scale and a shift made of what is pooled from another branch."""
    y = d.pick([v for v in d.values if v.layout == x.layout])
    dims = tuple(range(2, 2 + len(y.extent)))
    layer = d.module(f"nn.Linear({y.channels}, {2 * x.channels})")
    scale, shift = d.names(2, f"{layer}({y.name}.mean({dims})).chunk(2, 1)")
    ones = ", None" * len(x.extent)
    return d.value(f"{x.name} * {scale}[:, :{ones}] + {shift}[:, :{ones}]", x)
