"""Parameters that forward uses itself: raw, reparametrized, of several axes."""

from __future__ import annotations

from fuzz.drafting import Draft, step
from fuzz.program import Value


@step("image")
def functional_conv(d: Draft, x: Value) -> Value:
    """A convolution with a raw parameter, maybe standardized."""
    out = d.width()
    weight = d.parameter(out, x.channels, 3, 3)
    if d.yes():
        centred = d.name(f"{weight} - {weight}.mean((1, 2, 3), keepdim=True)")
        weight = d.name(f"{centred} / ({centred}.std((1, 2, 3), keepdim=True) + 0.01)")
    bias = d.choose("", f", {d.parameter(out)}") if d.yes() else ""
    return d.value(f"F.conv2d({x.name}, {weight}{bias}, padding=1)", x, channels=out)


@step("image", "sequence", "vector")
def raw_product(d: Draft, x: Value) -> Value:
    """A product with a raw parameter."""
    out = d.width()
    if x.layout == "image":
        weight = d.parameter(out, x.channels)
        text = f'torch.einsum("nchw,oc->nohw", {x.name}, {weight})'
        return d.value(text, x, channels=out)
    weight = d.parameter(x.channels, out)
    texts = [f"{x.name} @ {weight}", f"torch.matmul({x.name}, {weight})"]
    texts += [f"torch.tensordot({x.name}, {weight}, 1)"]
    if d.number(0, 3) == 3:
        length = f"({d.parameter(x.channels)} @ {d.parameter(x.channels)})"
        return d.value(f"{x.name} * {length}", x)
    if x.layout == "vector":
        if d.yes():
            return d.value(f"{x.name} + ({x.name} @ {d.parameter(x.channels)})[:, None]", x)
        texts.append(f"torch.addmm({d.parameter(out)}, {x.name}, {weight})")
        texts.append(f"torch.mm({x.name}, {weight})")
    return d.value(d.choose(*texts), x, channels=out)


@step("image", "signal", "vector", "sequence")
def weight_norm(d: Draft, x: Value) -> Value:
    """A layer whose weight is made of lengths and directions."""
    out = d.width()
    layer = {"image": "Conv2d({}, {}, 3, padding=1)", "signal": "Conv1d({}, {}, 1)"}
    text = layer.get(x.layout, "Linear({}, {})").format(x.channels, out)
    name = d.module(f"nn.utils.parametrizations.weight_norm(nn.{text})")
    return d.value(f"{name}({x.name})", x, channels=out)


@step("vector")
def low_rank(d: Draft, x: Value) -> Value:
    """A weight that is the product of two."""
    inner, out = d.choose(2, 3, 4), d.width()
    weight = d.name(f"{d.parameter(out, inner)} @ {d.parameter(inner, x.channels)}")
    return d.value(f"F.linear({x.name}, {weight})", x, channels=out)


@step("image")
def grouped_by_view(d: Draft, x: Value) -> Value:
    """A grouped product by views and a raw parameter with an axis of groups."""
    groups = d.divisor(x.channels)
    width, out = x.channels // groups, d.choose(2, 3, 1)
    weight = d.parameter(groups, out, width)
    view = (
        f"{x.name}.view({x.name}.shape[0], {groups}, {width}, {x.name}.shape[2], {x.name}.shape[3])"
    )
    text = f'torch.einsum("ngchw,goc->ngohw", {view}, {weight}).flatten(1, 2)'
    return d.value(text, x, channels=groups * out)


@step("sequence")
def per_head(d: Draft, x: Value) -> Value:
    """A weight for each head, on an axis of heads."""
    heads, width, out = d.choose(2, 3), d.choose(3, 2), d.choose(2, 4)
    y = d.projected(x, heads * width)
    weight = d.parameter(heads, width, out)
    split = f"{y.name}.unflatten(-1, ({heads}, {width}))"
    text = d.choose(
        f'torch.einsum("nlhd,hde->nlhe", {split}, {weight}).flatten(2)',
        f"({split}.unsqueeze(-2) @ {weight}).squeeze(-2).flatten(2)",
        f"torch.matmul({split}.transpose(1, 2), {weight}).transpose(1, 2).flatten(2)",
    )
    return d.value(text, x, channels=heads * out)


@step("image", "signal")
def shared_depth(d: Draft, x: Value) -> Value:
    """One layer twice in a row, with a residual."""
    rank = len(x.extent)
    layer = d.module(f"nn.Conv{rank}d({x.channels}, {x.channels}, 3, padding=1)")
    y = d.name(f"{x.name} + torch.tanh({layer}({x.name}))")
    return d.value(f"{y} + torch.tanh({layer}({y}))", x)
