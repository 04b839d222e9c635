"""Make module attributes tell the truth again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fxprune.fixers import Widths, fixer_of
from fxprune.module_trees import module_at
from fxprune.passes.base import Pass

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import fx, nn

    from fxprune.planning import Layout


def set_attributes(module: nn.Module, wanted: Mapping[str, Any]) -> bool:
    """Set the attributes that differ; tells whether any did."""
    differs = {name: value for name, value in wanted.items() if getattr(module, name) != value}
    for name, value in differs.items():
        setattr(module, name, value)
    return bool(differs)


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
            module = module_at(graph_module, str(node.target))
            fix = fixer_of(module)
            before = layout.tensors(node.all_input_nodes[0].name)
            after = layout.tensors(node.name)
            if fix is None or not before or not after or module in aligned:
                continue
            aligned.add(module)
            wanted = fix(module, Widths(layout, str(node.target), before[0], after[0]))
            modified |= set_attributes(module, wanted)
        return modified

    def ensures(self, graph_module: fx.GraphModule, layout: Layout) -> None:
        """Nothing to check: the nodes are as they were."""
