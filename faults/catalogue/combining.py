"""Faults in rules of operators that combine numbers: products, norms, reductions, sums."""

from __future__ import annotations

from faults.fault import Fault, fault, refused
from faults.injection import Edit, WrongRule

_CONVOLUTION = "rules.convolution"

FAULTS: tuple[Fault, ...] = (
    fault(
        "an element-wise operator does not unify its operands",
        "rules",
        Edit("rules.pointwise:pointwise", "call.labels.unify(axis, other)", "pass"),
        "squeeze_excite",
    ),
    refused(
        "an element-wise operator takes the labels of a mask",
        "rules",
        Edit("rules.pointwise:pointwise", "call.labels.unify(axis, other)", "axis = other"),
        "raw_parameter_vector",
    ),
    fault(
        "a matrix product does not couple the axis that it sums over",
        "rules",
        Edit("rules.contraction:addmm", "call.labels.unify(a[1], b[0])", "pass"),
        "mixer",
    ),
    refused(
        "a bias does not follow its outputs",
        "rules",
        Edit("rules.contraction:addmm", '_couple_addend(call, "self", [a[0], b[1]])', "pass"),
        "mixer",
    ),
    fault(
        "a batched product does not couple its batch",
        "rules",
        Edit("rules.contraction:_batched", "call.labels.unify(a[0], b[0])", "pass"),
        "experts_batched",
    ),
    fault(
        "a batched product does not couple the axis that it sums over",
        "rules",
        Edit("rules.contraction:_batched", "call.labels.unify(a[2], b[1])", "pass"),
        "qkv_separate",
        head_dims=True,
    ),
    fault(
        "a batched product returns its operand's last axis",
        "rules",
        Edit(
            "rules.contraction:bmm",
            "call.result([a[0], a[1], b[2]])",
            "call.result([a[0], a[1], a[2] if a[2].size == b[2].size else b[2]])",
        ),
        "attention_kinds_linear",
        head_dims=True,
    ),
    fault(
        "a batched product does not say that it sums",
        "rules",
        WrongRule(("bmm",), sums=False),
        "qkv_separate",
        head_dims=True,
    ),
    fault(
        "nn.Bilinear does not couple its operands",
        "rules",
        Edit("rules.matrices:trilinear", "call.labels.unify(wide[0], other)", "pass"),
        "odd_layers_bilinear",
    ),
    fault(
        "nn.Bilinear does not say over what it sums",
        "rules",
        WrongRule(("_trilinear",), sums=False),
        "odd_layers_bilinear",
    ),
    fault(
        "a convolution does not couple its input channels",
        "rules",
        Edit(f"{_CONVOLUTION}:plain_channels", "labels.unify(channels, weight[1])", "pass"),
        "classic_cnn",
    ),
    fault(
        "a convolution's bias does not follow its outputs",
        "rules",
        Edit(
            f"{_CONVOLUTION}:convolution",
            'call.labels.unify(call.axes("bias")[0], out)',
            "pass",
        ),
        "conv1d_3d",
    ),
    fault(
        "a convolution does not say that it sums",
        "rules",
        WrongRule(("convolution",), sums=False),
        "vgg",
    ),
    fault(
        "a grouped convolution reads its input as (channel, group)",
        "rules",
        Edit(
            f"{_CONVOLUTION}:plain_channels",
            "group_in, inner = labels.split(channels, groups, size_in)",
            "inner, group_in = labels.split(channels, size_in, groups)",
        ),
        "bottleneck_grouped",
        groups=True,
    ),
    fault(
        "a grouped convolution does not couple the channels in a group",
        "rules",
        Edit(f"{_CONVOLUTION}:plain_channels", "labels.unify(inner, weight[1])", "pass"),
        "bottleneck_grouped",
    ),
    fault(
        "a depthwise convolution does not couple inputs and outputs",
        "rules",
        Edit(f"{_CONVOLUTION}:plain_channels", "labels.unify(group_in, group_out)", "pass"),
        "inverted_residual",
    ),
    fault(
        "a grouped convolution is taken for a plain one in its outputs",
        "rules",
        Edit(
            f"{_CONVOLUTION}:plain_channels",
            "group_out, _ = labels.split(weight[0], groups, size_out, prefer_rows=size_in == 1)",
            "group_out = group_in",
        ),
        "grouped_conv",
        criterion="random",
        seed=1,
    ),
    fault(
        "a grouped transposed convolution returns (channel, group)",
        "rules",
        Edit(
            f"{_CONVOLUTION}:transposed_channels",
            "labels.merge([group, weight[1]])",
            "labels.merge([weight[1], group])",
        ),
        "transposed",
    ),
    fault(
        "a transposed convolution does not couple its inputs",
        "rules",
        Edit(f"{_CONVOLUTION}:convolution", "call.labels.unify(x[1], weight[0])", "pass"),
        "unet",
    ),
    fault(
        "a grouped transposed convolution forgets its groups",
        "rules",
        Edit(
            f"{_CONVOLUTION}:transposed_channels",
            "group, _ = labels.split(weight[0], groups, weight[0].size // groups)",
            "group = labels.pinned_axis(groups)",
        ),
        "transposed",
    ),
    fault(
        "batch norm forgets the running variance",
        "rules",
        Edit(
            "rules.normalization:batch_norm",
            '"running_mean", "running_var")',
            '"running_mean")',
        ),
        "residual",
    ),
    fault(
        "batch norm forgets its weight and bias",
        "rules",
        Edit(
            "rules.normalization:batch_norm",
            '"weight", "bias", "running_mean"',
            '"running_mean"',
        ),
        "dense_concat",
    ),
    fault(
        "layer norm forgets its bias",
        "rules",
        Edit(
            "rules.normalization:layer_norm",
            'for name in ("weight", "bias"):',
            'for name in ("weight",):',
        ),
        "group_norm_layer",
    ),
    fault(
        "layer norm does not say that it looks across its width",
        "rules",
        WrongRule(("native_layer_norm",), normalizes=False),
        "group_norm_layer",
    ),
    fault(
        "layer norm on kept channels has the whole weight shifted by one",
        "rules",
        Edit(
            "rules.normalization:_layer_norm_kept",
            "take(call.arg(name), index, shift=first)",
            "take(call.arg(name).roll(1, -1), index, shift=first)",
        ),
        "group_norm_layer",
    ),
    fault(
        "group norm lets groups lose different numbers of channels",
        "rules",
        Edit(
            "rules.normalization:group_norm",
            "rows, _ = call.labels.split(x[1], group, x[1].size // group)",
            "rows = call.pinned(group)",
        ),
        "group_norm",
        criterion="random",
        seed=1,
    ),
    fault(
        "group norm reads channels as (channel, group)",
        "rules",
        Edit(
            "rules.normalization:group_norm",
            "rows, _ = call.labels.split(x[1], group, x[1].size // group)",
            "_, rows = call.labels.split(x[1], x[1].size // group, group)",
        ),
        "group_norm",
        criterion="random",
        seed=1,
    ),
    fault(
        "group norm does not couple its weight",
        "rules",
        Edit("rules.normalization:group_norm", '_couple(call, x[1], "weight", "bias")', "pass"),
        "group_norm",
    ),
    fault(
        "softmax does not say that it looks across its axis",
        "rules",
        Edit("rules.normalization:_one_dim", 'return [("self", call.dim())] if', "return [] if"),
        "channel_softmax",
    ),
    fault(
        "softmax is said to look across another axis",
        "rules",
        Edit("rules.normalization:_one_dim", '("self", call.dim())', '("self", call.dim() - 1)'),
        "channel_softmax",
    ),
    fault(
        "a mean has the rule of a sum",
        "rules",
        WrongRule(("mean",), rule="sum.dim_IntList"),
        "channel_norm",
    ),
    fault(
        "a maximum has the rule of a sum",
        "rules",
        WrongRule(("amax",), rule="sum.dim_IntList"),
        "glu_maxout",
        groups=True,
    ),
    fault(
        "a variance does not say that it looks across channels",
        "rules",
        WrongRule(("var", "var_mean"), normalizes=False),
        "reparametrized_standardized",
    ),
    fault(
        "a sum does not mask removed positions",
        "rules",
        WrongRule(("sum",), sums=False),
        "channel_norm_distance",
    ),
    refused(
        "a reduction drops the axis before",
        "rules",
        Edit(
            "rules.reduction:reduced_dims",
            "return [d % rank for d in",
            "return [(d - 1) % rank for d in",
        ),
        "glu_maxout",
    ),
    fault(
        "argmax lets positions go that it numbers",
        "rules",
        Edit(
            "rules.reduction:positional",
            '        [call.axes("self")[dim] for dim in reduced_dims(call)],',
            "        [],",
        ),
        "experts_gathered",
    ),
)
