"""Metadata for the passes that come next: values of the new shapes, places of new nodes."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import fx
from torch._guards import detect_fake_mode
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.fx.passes.fake_tensor_prop import FakeTensorProp
from torch.fx.passes.shape_prop import _extract_tensor_metadata
from torch.utils import _pytree as pytree

from fxprune.module_trees import as_parameter, clone_tree, named_tensors
from fxprune.passes.base import Pass

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fxprune.planning import Layout

_PLACE = ("stack_trace", "nn_module_stack")


@dataclass(frozen=True)
class NoteValues(Pass):
    """Note in the metadata of nodes what is noted in the original's.

    1. A node that a pass made gets the `stack_trace` and `nn_module_stack` of its first user, where
       it has none of its own.
    2. `val`: where all inputs of the original have one, the graph is run on these. They are fake
       tensors: there is no data, and sizes that are symbols stay symbols. Where an operator does
       not run on them, nodes from there on have no `val`, as none has one that is stale.
    3. `tensor_meta`: likewise, made of `val`, for nodes that had it.
    """

    def apply(self, graph_module: fx.GraphModule, layout: Layout) -> bool:
        """Note all; the graph stays as it is."""
        original = {node.name: node for node in layout.deps.graph_module.graph.nodes}
        _pass_places_on(graph_module.graph)
        inputs = graph_module.graph.find_nodes(op="placeholder")
        given = [original[n.name].meta.get("val") if n.name in original else None for n in inputs]
        mode = detect_fake_mode([v for v in given if isinstance(v, FakeTensor)])
        if isinstance(mode, FakeTensorMode) and all(value is not None for value in given):
            state = layout.deps.state
            devices = {
                id(tensor): state[name].device
                for name, tensor in named_tensors(graph_module).items()
                if tensor.is_meta and name in state
            }
            _propagate(graph_module, given, mode, devices)
            _note_tensor_meta(graph_module.graph, original)
        return False


def _pass_places_on(graph: fx.Graph) -> None:
    for node in reversed(graph.nodes):
        user = next(iter(node.users), None)
        if user is not None and node.op.startswith("call") and "stack_trace" not in node.meta:
            node.meta |= {k: user.meta[k] for k in _PLACE if k in user.meta and k not in node.meta}


def _propagate(
    graph_module: fx.GraphModule,
    values: list[Any],
    mode: FakeTensorMode,
    devices: Mapping[int, torch.device],
) -> None:
    """Run the graph on fake tensors; those without data get the devices of what they stand for."""

    def fake(tensor: torch.Tensor) -> torch.Tensor:
        made: torch.Tensor = mode.from_tensor(tensor.detach(), static_shapes=True)
        if id(tensor) in devices:
            with mode:
                made = torch.empty_like(made, device=devices[id(tensor)])
        return as_parameter(made, tensor)

    guards = nullcontext() if mode.shape_env is None else mode.shape_env.suppress_guards()
    try:
        with torch.no_grad(), guards:
            run = FakeTensorProp(clone_tree(graph_module, fake), mode)
            run.extra_traceback = False
            with mode:
                run.run(*values, enable_io_processing=False)
    except Exception:  # noqa: BLE001  # the graph is right, and so is what was noted until here
        return


def _note_tensor_meta(graph: fx.Graph, original: dict[str, fx.Node]) -> None:
    for node in graph.nodes:
        if "val" in node.meta and "tensor_meta" in getattr(original.get(node.name), "meta", ()):
            node.meta["tensor_meta"] = pytree.tree_map_only(
                torch.Tensor, _extract_tensor_metadata, node.meta["val"]
            )
