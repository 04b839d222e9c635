"""Gates: squeeze-excite, GLU, attention maps over places and channels."""

from __future__ import annotations

from fuzz.drafting import WIDEST, Draft, step
from fuzz.program import Value
from fuzz.steps.layers import ANY


@step("image", "signal")
def squeeze_excite(d: Draft, x: Value) -> Value:
    """A gate for each channel."""
    hidden = d.choose(4, 2, 3)
    dims = tuple(range(2, 2 + len(x.extent)))
    conv = f"nn.Conv{len(x.extent)}d"
    if d.yes():
        one = d.module(f"{conv}({x.channels}, {hidden}, 1)")
        two = d.module(f"{conv}({hidden}, {x.channels}, 1)")
        gate = d.name(f"{two}(F.relu({one}({x.name}.mean({dims}, keepdim=True))))")
    else:
        one = d.module(f"nn.Linear({x.channels}, {hidden})")
        two = d.module(f"nn.Linear({hidden}, {x.channels})")
        ones = ", 1" * len(x.extent)
        gate = d.name(f"{two}(F.silu({one}({x.name}.mean({dims})))).view(-1, {x.channels}{ones})")
    gate = d.choose(
        f"torch.sigmoid({gate})", f"F.hardsigmoid({gate})", f"{gate}.expand_as({x.name})"
    )
    return d.value(f"{x.name} * {gate}", x)


@step("image", "signal")
def spatial_gate(d: Draft, x: Value) -> Value:
    """A gate for each place, made of the mean and the maximum over channels (CBAM)."""
    rank = len(x.extent)
    parts = f"{x.name}.mean(1, keepdim=True), {x.name}.amax(1, keepdim=True)"
    layer = d.module(f"nn.Conv{rank}d(2, 1, 3, padding=1)")
    return d.value(f"{x.name} * torch.sigmoid({layer}(torch.cat([{parts}], 1)))", x)


@step("image")
def global_context(d: Draft, x: Value) -> Value:
    """What a softmax over places pools is added to all places."""
    layer = d.module(f"nn.Conv2d({x.channels}, 1, 1)")
    weights = d.name(f"torch.softmax({layer}({x.name}).flatten(2), -1)")
    context = d.name(f"torch.matmul({x.name}.flatten(2), {weights}.transpose(1, 2)).unsqueeze(-1)")
    return d.value(
        f"{x.name} + {d.projected(Value(context, 'image', x.channels), x.channels).name}", x
    )


@step("image")
def non_local(d: Draft, x: Value) -> Value:
    """Attention of all places to all places."""
    inner = d.choose(4, 3, 2)
    layers = [d.module(f"nn.Conv2d({x.channels}, {inner}, 1)") for _ in range(3)]
    q, k, v = (d.name(f"{layer}({x.name}).flatten(2)") for layer in layers)
    scores = d.name(f"torch.bmm({q}.transpose(1, 2), {k}) * {q}.shape[1] ** -0.5")
    out = d.name(f"torch.bmm({v}, {scores}.softmax(-1).transpose(1, 2))")
    places = f"{x.name}.shape[2], {x.name}.shape[3]"
    back = d.projected(Value(f"{out}.view(-1, {inner}, {places})", "image", inner), x.channels)
    return d.value(f"{x.name} + {back.name}", x)


@step(*ANY)
def glu(d: Draft, x: Value) -> Value | None:
    """Half of the channels gates the other half."""
    if x.channels % 2:
        return None
    half = x.channels // 2
    if d.yes():
        return d.value(f"F.glu({x.name}, {x.dim})", x, channels=half)
    a, b = d.names(2, f"{x.name}.chunk(2, {x.dim})")
    text = d.choose(f"F.silu({a}) * {b}", f"{b} * F.gelu({a})", f"{a} * torch.sigmoid({b})")
    return d.value(text, x, channels=half)


@step("image", "signal", "vector")
def maxout(d: Draft, x: Value) -> Value | None:
    """The largest or the sum of each pair of channels."""
    if x.channels % 2:
        return None
    half = x.channels // 2
    view = d.choose((f"{half}, 2", 2), (f"2, {half}", 1))
    sizes = "".join(f", {x.name}.shape[{i + 2}]" for i in range(len(x.extent)))
    how = d.choose("amax", "sum", "mean", "logsumexp")
    text = f"{x.name}.reshape(-1, {view[0]}{sizes}).{how}({view[1]})"
    return d.value(text, x, channels=half)


@step("image", "signal")
def selective_kernel(d: Draft, x: Value) -> Value:
    """Two branches weighted by a softmax over them, channel by channel (SK)."""
    y = d.partner(x)
    rank = len(x.extent)
    both = d.name(f"torch.stack([{x.name}, {y.name}], 1)")
    dims = tuple(range(3, 3 + rank))
    layer = d.module(f"nn.Linear({x.channels}, {2 * x.channels})")
    weights = d.name(f"{layer}({both}.sum(1).mean({tuple(dim - 1 for dim in dims)}))")
    ones = ", 1" * rank
    weights = d.name(f"{weights}.view(-1, 2, {x.channels}{ones}).softmax(1)")
    return d.value(f"({both} * {weights}).sum(1)", x)


@step(*ANY)
def scaled(d: Draft, x: Value) -> Value:
    """A factor and a shift for each channel, as parameters or buffers."""
    tail = ", 1" * len(x.extent) if x.dim == 1 else ""
    shape = f"({x.channels}{tail})"
    if d.yes():
        scale = d.buffer(f"torch.linspace(0.5, 1.5, {x.channels})")
    else:
        scale = d.parameter(x.channels)
    text = f"{x.name} * {scale}.view{shape}"
    if d.yes():
        text += f" + {d.parameter(x.channels)}.reshape{shape}"
    return d.value(text, x)


@step("sequence")
def mixture(d: Draft, x: Value) -> Value | None:
    """Experts in one parameter, weighted by a softmax for each token."""
    experts, out = d.choose(2, 3), d.width()
    if x.channels > WIDEST:
        return None
    gate = d.module(f"nn.Linear({x.channels}, {experts})")
    weight = d.parameter(experts, x.channels, out)
    gates = d.name(f"{gate}({x.name}).softmax(-1)")
    each = d.name(f'torch.einsum("nlc,eco->nleo", {x.name}, {weight})')
    return d.value(f"({each} * {gates}.unsqueeze(-1)).sum(2)", x, channels=out)
