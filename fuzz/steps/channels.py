"""Functions that look across the channels."""

from __future__ import annotations

from fuzz.drafting import Draft, step
from fuzz.program import Value
from fuzz.steps.layers import ANY


@step(*ANY)
def across_channels(d: Draft, x: Value) -> Value:
    """A softmax, a norm or a standardization over the channels."""
    a, dim = x.name, x.dim
    texts = (
        f"torch.softmax({a}, {dim})",
        f"F.log_softmax({a}, {dim})",
        f"F.normalize({a}, dim={dim})",
        f"{a} - {a}.mean({dim}, keepdim=True)",
        f"{a} * torch.rsqrt({a}.pow(2).mean({dim}, keepdim=True) + 1e-3)",
        f"{a} / (1 + {a}.abs().sum({dim}, keepdim=True))",
        f"{a} / (0.5 + {a}.norm(dim={dim}, keepdim=True))",
        f"{a} / (0.5 + {a}.var({dim}, keepdim=True, unbiased=False))",
        f"{a} - {a}.amax({dim}, keepdim=True)",
        f"{a} + torch.logsumexp({a}, {dim}, keepdim=True)",
        f"{a} * ({a}.shape[{dim}] ** -0.5)",
        f"{a}.sum({dim}, keepdim=True) / {a}.shape[{dim}] + {a}",
        f"{a} + torch.linalg.vector_norm({a}, dim={dim}, keepdim=True)",
        f"{a} - {a}.amin({dim}, keepdim=True)",
        f"F.softmin({a}, {dim})",
    )
    return d.value(d.choose(*texts), x)


@step("image", "signal")
def grouped_statistics(d: Draft, x: Value) -> Value:
    """A group norm by hand, or a mean over groups of channels that is spread again."""
    groups = d.divisor(x.channels)
    width = x.channels // groups
    view = d.name(f"{x.name}.reshape({x.name}.shape[0], {groups}, {width}, *{x.name}.shape[2:])")
    out = d.choose(
        f"{view} - {view}.mean(2, keepdim=True)",
        f"{view} * torch.sigmoid({view}.sum(1, keepdim=True))",
        f"{view} + {view}.amax((1, 2), keepdim=True)",
        f"{view} / (1 + {view}.pow(2).sum(2, keepdim=True))",
    )
    return d.value(f"({out}).reshape({x.name}.shape)", x)


@step(*ANY)
def in_order(d: Draft, x: Value) -> Value | None:
    """Running sums and sorted channels, which are told by their places, so that all must stay."""
    if d.number(0, 2) < 2:
        return None  # drawn less often, since it leaves little to prune
    a, dim = x.name, x.dim
    texts = (
        f"torch.cumsum({a}, {dim}) * 0.2",
        f"torch.sort({a}, {dim})[0]",
        f"{a} + torch.max({a}, {dim}, keepdim=True)[0]",
        f"{a} * (1 + torch.argmax({a}, {dim}, keepdim=True))",
        f"torch.cumsum({a}, 0)",
    )
    return d.value(d.choose(*texts), x)


@step("sequence")
def channel_mixer(d: Draft, x: Value) -> Value:
    """Layers over tokens and over channels in turns (MLP-Mixer)."""
    length, hidden = x.extent[0], d.choose(4, 6, 3)
    one, two = (
        d.module(f"nn.Linear({length}, {hidden})"),
        d.module(f"nn.Linear({hidden}, {length})"),
    )
    text = f"{two}(F.gelu({one}({x.name}.transpose(1, 2)))).transpose(1, 2)"
    return d.value(f"{x.name} + {text}", x)


@step("vector", "sequence")
def distances(d: Draft, x: Value) -> Value:
    """Distances from a table of rows, as in vector quantization."""
    rows = d.choose(4, 3, 6)
    table = d.parameter(rows, x.channels)
    if x.layout == "vector" and d.yes():
        return d.value(f"torch.cdist({x.name}, {table})", x, channels=rows)
    text = f"({x.name}.unsqueeze(-2) - {table}).square().sum(-1)"
    return d.value(f"torch.exp(-{text})", x, channels=rows)


@step("sequence")
def gram(d: Draft, x: Value) -> Value:
    """Products of channels over tokens applied to the channels (XCA)."""
    a = d.name(f"F.normalize({x.name}, dim=1)")
    weights = d.name(f"torch.softmax({a}.transpose(1, 2) @ {a}, -1)")
    return d.value(f"{x.name} @ {weights}.transpose(1, 2)", x)
