"""Make module attributes tell the truth again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from torch import nn

from fxprune.errors import RewriteError
from fxprune.passes.base import Pass

if TYPE_CHECKING:
    from torch import fx

    from fxprune.interpretation import TracedTensor
    from fxprune.planning import Layout

Align: TypeAlias = Callable[[Any, "Widths"], dict[str, Any]]


@dataclass(frozen=True)
class Widths:
    """A module's first input and output before and after the rewrite."""

    layout: Layout
    input: TracedTensor
    output: TracedTensor

    @property
    def before(self) -> tuple[int, ...]:
        """The new shape of the input."""
        return self.layout.shape(self.input)

    @property
    def after(self) -> tuple[int, ...]:
        """The new shape of the output."""
        return self.layout.shape(self.output)

    def kept_groups(self, dim: int, groups: int) -> int:
        """How many of the groups of consecutive input channels keep any."""
        axis = self.input.axes[dim]
        kept = self.layout.kept(axis)
        return groups if kept is None else len(np.unique(kept // (axis.size // groups)))


def _conv(module: Any, widths: Widths) -> dict[str, Any]:
    """A depthwise convolution loses groups with its channels."""
    dim = -len(module.kernel_size) - 1
    return {
        "in_channels": widths.before[dim],
        "out_channels": widths.after[dim],
        "groups": widths.kept_groups(dim, module.groups),
    }


def _linear(module: Any, widths: Widths) -> dict[str, Any]:
    return {"in_features": widths.before[-1], "out_features": widths.after[-1]}


def _batch_norm(module: Any, widths: Widths) -> dict[str, Any]:
    ranks = {nn.InstanceNorm1d: -2, nn.InstanceNorm2d: -3, nn.InstanceNorm3d: -4}
    dim = next((dim for kind, dim in ranks.items() if isinstance(module, kind)), 1)
    return {"num_features": widths.before[dim]}


def _group_norm(module: Any, widths: Widths) -> dict[str, Any]:
    channels, each = widths.before[1], module.num_groups == module.num_channels
    return {"num_channels": channels, "num_groups": channels if each else module.num_groups}


def _layer_norm(module: Any, widths: Widths) -> dict[str, Any]:
    shape = widths.before
    return {"normalized_shape": shape[len(shape) - len(module.normalized_shape) :]}


def _embedding(module: Any, widths: Widths) -> dict[str, Any]:
    return {"embedding_dim": widths.after[-1]}


def _prelu(module: Any, widths: Widths) -> dict[str, Any]:
    return {"num_parameters": widths.before[1] if module.num_parameters > 1 else 1}


def _unflatten(module: Any, widths: Widths) -> dict[str, Any]:
    sizes, start = module.unflattened_size, module.dim % len(widths.before)
    new = widths.after[start : start + len(sizes)]
    fixed = (-1 if size == -1 else n for size, n in zip(sizes, new, strict=True))
    return {"unflattened_size": tuple(fixed)}


def _recurrent(module: Any, widths: Widths) -> dict[str, Any]:
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


def _recurrent_cell(module: Any, widths: Widths) -> dict[str, Any]:
    input_size, hidden_size = module.weight_ih.shape[1], module.weight_hh.shape[1]
    return {"input_size": input_size, "hidden_size": hidden_size}


def _bilinear(module: Any, widths: Widths) -> dict[str, Any]:
    out, first, second = module.weight.shape
    return {"in1_features": first, "in2_features": second, "out_features": out}


_ALIGN: dict[type[nn.Module], Align] = {
    nn.modules.conv._ConvNd: _conv,
    nn.Linear: _linear,
    nn.modules.batchnorm._NormBase: _batch_norm,
    nn.GroupNorm: _group_norm,
    nn.LayerNorm: _layer_norm,
    nn.RMSNorm: _layer_norm,
    nn.Embedding: _embedding,
    nn.EmbeddingBag: _embedding,
    nn.PReLU: _prelu,
    nn.Unflatten: _unflatten,
    nn.RNNBase: _recurrent,
    nn.RNNCellBase: _recurrent_cell,
    nn.Bilinear: _bilinear,
}


@dataclass(frozen=True)
class AlignAttributes(Pass):
    """Set `in_channels`, `groups`, `num_features`, `normalized_shape` ... to the new widths.

    So `repr`, pickling, export and the module's own checks agree with its tensors. The widths are
    those that the layout predicts for the module's first input and output.
    """

    def apply(self, graph_module: fx.GraphModule, layout: Layout) -> bool:
        """Set every attribute that differs; once a module, whose calls all have the same widths."""
        modified, aligned = False, set()
        for node in graph_module.graph.nodes:
            if node.op != "call_module" or not node.all_input_nodes:
                continue
            module = graph_module.get_submodule(str(node.target))
            align = next((_ALIGN[kind] for kind in _ALIGN if isinstance(module, kind)), None)
            before = layout.tensors(node.all_input_nodes[0].name)
            after = layout.tensors(node.name)
            if align is None or not before or not after or module in aligned:
                continue
            aligned.add(module)
            wanted = align(module, Widths(layout, before[0], after[0]))
            for name, value in wanted.items():
                if getattr(module, name) != value:
                    setattr(module, name, value)
                    modified = True
        return modified

    def ensures(self, graph_module: fx.GraphModule, layout: Layout) -> None:
        """Nothing to check: the nodes are as they were."""
