"""Attributes of the modules of `torch.nn` that tell widths."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from fxprune.errors import RewriteError
from fxprune.fixers.registry import fixer

if TYPE_CHECKING:
    from fxprune.fixers.widths import Widths


@fixer(nn.modules.conv._ConvNd)
def conv(module: Any, widths: Widths) -> dict[str, Any]:
    """A depthwise convolution loses groups with its channels."""
    first, second = _weight(module).shape[:2]
    groups = widths.kept_groups("weight", -len(module.kernel_size) - 1, module.groups)
    is_transposed = module.transposed
    return {
        "in_channels": first if is_transposed else second * groups,
        "out_channels": second * groups if is_transposed else first,
        "groups": groups,
    }


@fixer(nn.Linear)
def linear(module: Any, widths: Widths) -> dict[str, Any]:
    """Rows are outputs, columns inputs."""
    rows, columns = _weight(module).shape
    return {"in_features": columns, "out_features": rows}


def _weight(module: Any) -> torch.Tensor:
    """The weight, or what `torch.nn.utils.prune` makes it of in the next call."""
    return torch.as_tensor(getattr(module, "weight_orig", module.weight))


@fixer(nn.modules.batchnorm._NormBase)
def batch_norm(module: Any, widths: Widths) -> dict[str, Any]:
    """Channels; without parameters and statistics, those of the input."""
    if module.weight is not None or module.running_mean is not None:
        vector = module.weight if module.weight is not None else module.running_mean
        return {"num_features": len(vector)}
    ranks = {nn.InstanceNorm1d: -2, nn.InstanceNorm2d: -3, nn.InstanceNorm3d: -4}
    dim = next((dim for kind, dim in ranks.items() if isinstance(module, kind)), 1)
    return {"num_features": widths.input[dim]}


@fixer(nn.GroupNorm)
def group_norm(module: Any, widths: Widths) -> dict[str, Any]:
    """As many groups as before, unless each channel is one."""
    channels = widths.input[1] if module.weight is None else len(module.weight)
    each = module.num_groups == module.num_channels
    return {"num_channels": channels, "num_groups": channels if each else module.num_groups}


@fixer(nn.LayerNorm, nn.RMSNorm)
def layer_norm(module: Any, widths: Widths) -> dict[str, Any]:
    """The normalized axes; without a weight, the last ones of the input."""
    if module.weight is not None:
        return {"normalized_shape": tuple(module.weight.shape)}
    shape = widths.input
    return {"normalized_shape": shape[len(shape) - len(module.normalized_shape) :]}


@fixer(nn.Embedding, nn.EmbeddingBag)
def embedding(module: Any, widths: Widths) -> dict[str, Any]:
    """The width of an entry."""
    return {"embedding_dim": module.weight.shape[1]}


@fixer(nn.PReLU)
def prelu(module: Any, widths: Widths) -> dict[str, Any]:
    """One slope for all channels, or one for each."""
    return {"num_parameters": module.weight.numel()}


@fixer(nn.Unflatten)
def unflatten(module: Any, widths: Widths) -> dict[str, Any]:
    """The sizes that an axis is split into."""
    sizes, start = module.unflattened_size, module.dim % len(widths.input)
    new = widths.output[start : start + len(sizes)]
    fixed = (-1 if size == -1 else n for size, n in zip(sizes, new, strict=True))
    return {"unflattened_size": tuple(fixed)}


@fixer(nn.RNNBase)
def recurrent(module: Any, widths: Widths) -> dict[str, Any]:
    """All layers and directions of nn.LSTM, GRU and RNN share their widths."""
    gates = {"LSTM": 4, "GRU": 3}.get(module.mode, 1)
    inner = {name: tuple(p.shape) for name, p in module.named_parameters()}
    hidden = {shape[0] // gates for name, shape in inner.items() if name.startswith("weight_ih")}
    outer = {shape[0] for name, shape in inner.items() if name.startswith("weight_hr")}
    if len(hidden) != 1 or len(outer) > 1 or hidden == outer:
        raise RewriteError(
            f"the layers of a {type(module).__name__} come out with hidden sizes "
            f"{sorted(hidden)} and projections to {sorted(outer)}",
            why="all layers and directions need the same sizes, the projection a smaller one",
            hint="ignore the groups of this module, or choose other ratios for them",
        )
    module.__dict__["_flat_weights"] = [getattr(module, n) for n in module._flat_weights_names]
    return {
        "input_size": inner["weight_ih_l0"][1],
        "hidden_size": hidden.pop(),
        "proj_size": outer.pop() if outer else 0,
    }


@fixer(nn.RNNCellBase)
def recurrent_cell(module: Any, widths: Widths) -> dict[str, Any]:
    """Input and hidden size."""
    input_size, hidden_size = module.weight_ih.shape[1], module.weight_hh.shape[1]
    return {"input_size": input_size, "hidden_size": hidden_size}


@fixer(nn.Bilinear)
def bilinear(module: Any, widths: Widths) -> dict[str, Any]:
    """Both inputs and the output."""
    out, first, second = module.weight.shape
    return {"in1_features": first, "in2_features": second, "out_features": out}
