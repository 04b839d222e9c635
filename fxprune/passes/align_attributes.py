"""Make module attributes tell the truth again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from torch import nn

from fxprune.passes.base import Pass

if TYPE_CHECKING:
    from torch import fx

    from fxprune.planning import Layout

Shape: TypeAlias = tuple[int, ...]
Align: TypeAlias = Callable[[Any, Shape, Shape], dict[str, Any]]


def _conv(module: Any, before: Shape, after: Shape) -> dict[str, Any]:
    """`groups` follows from the widths: a depthwise convolution loses groups with channels."""
    weight = module.weight.shape
    rank = len(module.kernel_size)
    inputs, outputs = before[-rank - 1], after[-rank - 1]
    groups = outputs // weight[1] if module.transposed else inputs // weight[1]
    return {"in_channels": inputs, "out_channels": outputs, "groups": groups}


def _linear(module: Any, before: Shape, after: Shape) -> dict[str, Any]:
    return {"in_features": module.weight.shape[1], "out_features": module.weight.shape[0]}


def _batch_norm(module: Any, before: Shape, after: Shape) -> dict[str, Any]:
    axis = 1 if not isinstance(module, nn.modules.instancenorm._InstanceNorm) else _channel(module)
    return {"num_features": before[axis]}


def _channel(module: Any) -> int:
    """The channel dim of an instance norm's input, counted from the back: it may be unbatched."""
    ranks = {nn.InstanceNorm1d: -2, nn.InstanceNorm2d: -3, nn.InstanceNorm3d: -4}
    return next(dim for kind, dim in ranks.items() if isinstance(module, kind))


def _group_norm(module: Any, before: Shape, after: Shape) -> dict[str, Any]:
    groups = module.num_groups
    return {
        "num_channels": before[1],
        "num_groups": before[1] if groups == module.num_channels else groups,
    }


def _layer_norm(module: Any, before: Shape, after: Shape) -> dict[str, Any]:
    return {"normalized_shape": before[len(before) - len(module.normalized_shape) :]}


def _embedding(module: Any, before: Shape, after: Shape) -> dict[str, Any]:
    return {"num_embeddings": module.weight.shape[0], "embedding_dim": module.weight.shape[1]}


def _prelu(module: Any, before: Shape, after: Shape) -> dict[str, Any]:
    return {"num_parameters": module.weight.shape[0]}


def _unflatten(module: Any, before: Shape, after: Shape) -> dict[str, Any]:
    sizes = module.unflattened_size
    start = module.dim % len(before)
    fixed = [
        -1 if size == -1 else new
        for size, new in zip(sizes, after[start : start + len(sizes)], strict=True)
    ]
    return {"unflattened_size": tuple(fixed)}


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
}


@dataclass(frozen=True)
class AlignAttributes(Pass):
    """Set `in_channels`, `groups`, `num_features`, `normalized_shape` ... to the new widths.

    So `repr`, pickling, export and the module's own checks agree with its tensors. The widths are
    those that the layout predicts for the module's first input and output.
    """

    def apply(self, graph_module: fx.GraphModule, layout: Layout) -> bool:
        """Set every attribute that differs."""
        modified = False
        for node in graph_module.graph.nodes:
            if node.op != "call_module" or not node.all_input_nodes:
                continue
            module = graph_module.get_submodule(str(node.target))
            align = next((_ALIGN[kind] for kind in _ALIGN if isinstance(module, kind)), None)
            before = layout.tensors(node.all_input_nodes[0].name)
            after = layout.tensors(node.name)
            if align is None or not before or not after:
                continue
            wanted = align(module, layout.shape(before[0]), layout.shape(after[0]))
            for name, value in wanted.items():
                if getattr(module, name) != value:
                    setattr(module, name, value)
                    modified = True
        return modified

    def ensures(self, graph_module: fx.GraphModule, layout: Layout) -> None:
        """Nothing to check: the nodes are as they were."""
