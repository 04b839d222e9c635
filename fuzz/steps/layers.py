"""Layers: convolutions, linear layers, norms, activations, pools."""

from __future__ import annotations

from fuzz.drafting import Draft, step
from fuzz.program import Layout, Value

ACTIVATIONS = (
    *("F.relu({})", "F.gelu({})", "F.silu({})", "F.elu({})", "F.leaky_relu({}, 0.1)"),
    *("torch.sigmoid({})", "torch.tanh({})", "F.softplus({})", "torch.cos({})", "F.mish({})"),
    *("torch.exp(-{}.abs())", "F.hardswish({})", "F.hardsigmoid({})", "F.celu({})", "F.selu({})"),
    *("F.logsigmoid({})", "{}.clamp(-1, 2)", "F.relu6({} + 1)", "torch.where({0} > 0, {0}, 0.3)"),
    *("1 - {}", "{}.square().add(0.1).sqrt()", "F.hardtanh({})", "F.softsign({})", "-{}"),
    *("{}.relu()", "{}.sin() + 0.5", "F.dropout({}, 0.3, False)", "{0} * torch.sigmoid({0})"),
    *("{}.masked_fill({} < 0, 0.2)", "F.threshold({}, 0.1, 0.7)", "torch.rsqrt({}.abs() + 1)"),
)
ACTIVATION_MODULES = (
    *("nn.ReLU()", "nn.GELU()", "nn.SiLU(inplace=True)", "nn.ReLU(inplace=True)", "nn.Sigmoid()"),
    *("nn.Hardswish()", "nn.Mish()", "nn.Dropout(0.2)", "nn.Identity()", "nn.PReLU()", "nn.ELU()"),
)
ANY: tuple[Layout, ...] = ("image", "signal", "sequence", "vector")


@step("image", "signal", "sequence", "vector")
def activation(d: Draft, x: Value) -> Value:
    """A function of single elements, also such that f(0) is not 0."""
    if d.yes():
        layer = d.module(d.choose(*ACTIVATION_MODULES))
        safe = x.name if "inplace" not in d.members[-1] else f"{x.name}.clone()"
        return d.value(f"{layer}({safe if d.yes() else x.name})", x)
    return d.value(d.choose(*ACTIVATIONS).format(x.name, x.name), x)


@step("image", "signal")
def conv(d: Draft, x: Value) -> Value:
    """A convolution, maybe grouped, dilated, padded by content, without a bias."""
    rank = len(x.extent)
    kernel, dilation = d.choose((1, 1), (3, 1), (3, 2))
    groups = d.divisor(x.channels)
    out = d.width(groups)
    padding = dilation * (kernel // 2)
    options = [f"padding={padding}"] if kernel > 1 else []
    options += [f"dilation={dilation}"] if dilation > 1 else []
    options += [f"groups={groups}"] if groups > 1 else []
    options += ["bias=False"] if d.yes() else []
    if kernel > 1 and min(x.extent) > padding:
        mode = d.choose("zeros", "reflect", "replicate", "circular")
        options += [f'padding_mode="{mode}"'] if mode != "zeros" else []
    text = ", ".join([f"{x.channels}, {out}, {kernel}", *options])
    return d.value(f"{d.module(f'nn.Conv{rank}d({text})')}({x.name})", x, channels=out)


@step("image", "signal")
def depthwise(d: Draft, x: Value) -> Value:
    """A depthwise convolution, maybe with a multiplier."""
    out = x.channels * d.choose(1, 2) if x.channels <= 8 else x.channels
    text = f"nn.Conv{len(x.extent)}d({x.channels}, {out}, 3, padding=1, groups={x.channels})"
    return d.value(f"{d.module(text)}({x.name})", x, channels=out)


@step("image", "signal")
def conv_transpose(d: Draft, x: Value) -> Value:
    """A transposed convolution, maybe grouped and with a stride."""
    groups = d.divisor(x.channels)
    out, rank = d.width(groups), len(x.extent)
    stride = d.choose(1, 2) if max(x.extent) <= 4 else 1
    kernel = 2 if stride == 2 else 3
    padding = 0 if stride == 2 else 1
    text = f"{x.channels}, {out}, {kernel}, stride={stride}, padding={padding}, groups={groups}"
    layer = d.module(f"nn.ConvTranspose{rank}d({text})")
    extent = tuple(size * stride for size in x.extent)
    return d.value(f"{layer}({x.name})", x, channels=out, extent=extent)


@step("image", "signal")
def strided_conv(d: Draft, x: Value) -> Value | None:
    """A convolution with a stride."""
    if min(x.extent) < 4:
        return None
    out, rank = d.width(), len(x.extent)
    layer = d.module(f"nn.Conv{rank}d({x.channels}, {out}, 3, stride=2, padding=1)")
    extent = tuple((size + 1) // 2 for size in x.extent)
    return d.value(f"{layer}({x.name})", x, channels=out, extent=extent)


@step("image")
def conv3d(d: Draft, x: Value) -> Value:
    """A convolution over a stack of two images."""
    out = d.width()
    layer = d.module(f"nn.Conv3d({x.channels}, {out}, (2, 3, 3), padding=(0, 1, 1))")
    stacked = d.name(f"torch.stack([{x.name}, {x.name}.flip(2)], 2)")
    return d.value(f"{layer}({stacked}).squeeze(2)", x, channels=out)


@step("sequence", "vector")
def linear(d: Draft, x: Value) -> Value:
    """A linear layer."""
    out = d.width()
    bias = ", bias=False" if d.yes() else ""
    return d.value(
        f"{d.module(f'nn.Linear({x.channels}, {out}{bias})')}({x.name})", x, channels=out
    )


@step("image", "signal", "vector")
def batch_norm(d: Draft, x: Value) -> Value:
    """A batch norm with the statistics of the training."""
    affine = ", affine=False" if d.yes() else ""
    layer = d.module(f"nn.BatchNorm{max(len(x.extent), 1)}d({x.channels}{affine})")
    return d.value(f"{layer}({x.name})", x)


@step("image", "signal")
def group_norm(d: Draft, x: Value) -> Value:
    """A group norm."""
    return d.value(
        f"{d.module(f'nn.GroupNorm({d.divisor(x.channels)}, {x.channels})')}({x.name})", x
    )


@step("image", "signal")
def instance_norm(d: Draft, x: Value) -> Value | None:
    """An instance norm, maybe with weights, maybe with running statistics."""
    if len(x.extent) == 1 and x.extent[0] < 2:
        return None
    options = f"affine={d.yes()}, track_running_stats={d.yes()}"
    layer = d.module(f"nn.InstanceNorm{len(x.extent)}d({x.channels}, {options})")
    return d.value(f"{layer}({x.name})", x)


@step("sequence", "vector")
def layer_norm(d: Draft, x: Value) -> Value:
    """A layer norm or RMS norm over the channels."""
    kind = d.choose("nn.LayerNorm({})", "nn.RMSNorm({}, eps=1e-5)", "nn.LayerNorm({}, bias=False)")
    return d.value(f"{d.module(kind.format(x.channels))}({x.name})", x)


@step("image")
def channels_last_norm(d: Draft, x: Value) -> Value:
    """A layer norm on an image whose channels are put last, as in ConvNeXt."""
    layer = d.module(f"nn.LayerNorm({x.channels})")
    return d.value(f"{layer}({x.name}.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)", x)


@step("image", "signal")
def prelu(d: Draft, x: Value) -> Value:
    """A slope for each channel."""
    return d.value(f"{d.module(f'nn.PReLU({x.channels})')}({x.name})", x)


@step("image", "signal")
def pool(d: Draft, x: Value) -> Value | None:
    """A pool."""
    rank = len(x.extent)
    size = d.choose(1, 2)
    if min(x.extent) < 2:
        return None
    texts = {
        f"F.max_pool{rank}d({x.name}, 2)": tuple(n // 2 for n in x.extent),
        f"F.avg_pool{rank}d({x.name}, 3, 1, 1)": x.extent,
        f"F.max_pool{rank}d({x.name}, 3, 1, 1)": x.extent,
        f"F.adaptive_avg_pool{rank}d({x.name}, {size})": (size,) * rank,
        f"F.adaptive_max_pool{rank}d({x.name}, {size})": (size,) * rank,
    }
    text = d.choose(*texts)
    return d.value(text, x, extent=texts[text])


@step("image")
def interpolate(d: Draft, x: Value) -> Value | None:
    """An image of twice the size."""
    if max(x.extent) > 4:
        return None
    mode = d.choose('mode="nearest"', 'mode="bilinear", align_corners=False', 'mode="bicubic"')
    extent = tuple(2 * size for size in x.extent)
    return d.value(f"F.interpolate({x.name}, scale_factor=2, {mode})", x, extent=extent)


@step("image")
def grid_sample(d: Draft, x: Value) -> Value:
    """A spatial transformer with a fixed grid."""
    height, width = x.extent
    theta = d.buffer("torch.tensor([[[0.8, 0.1, 0.0], [-0.1, 0.9, 0.1]]])")
    grid = d.name(f"F.affine_grid({theta}, [1, 1, {height}, {width}], align_corners=False)")
    grid = f"{grid}.expand({x.name}.shape[0], -1, -1, -1)"
    return d.value(f"F.grid_sample({x.name}, {grid}, align_corners=False)", x)


@step("image")
def fourier(d: Draft, x: Value) -> Value:
    """A global filter between two Fourier transforms."""
    height, width = x.extent
    weight = d.parameter(x.channels, height, width // 2 + 1, 2)
    spectrum = d.name(f'torch.fft.rfft2({x.name}, norm="ortho") * torch.view_as_complex({weight})')
    return d.value(f'torch.fft.irfft2({spectrum}, s=({height}, {width}), norm="ortho")', x)


@step("image", "signal")
def response_norm(d: Draft, x: Value) -> Value:
    """A norm over neighbouring channels."""
    return d.value(f"F.local_response_norm({x.name}, 3)", x)
