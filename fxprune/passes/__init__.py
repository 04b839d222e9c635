"""Rewrite passes, one a file: each takes a GraphModule and a Layout and returns a new one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fxprune.passes.align_attributes import AlignAttributes
from fxprune.passes.base import Pass, PassResult, Pipeline
from fxprune.passes.drop_branches import DropBranches
from fxprune.passes.note_values import NoteValues
from fxprune.passes.repair_shapes import RepairShapes
from fxprune.passes.slice_state import SliceState

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch

    from fxprune.meaning import Norm
    from fxprune.passes.donation import Donation

__all__ = [
    "AlignAttributes",
    "DropBranches",
    "NoteValues",
    "Pass",
    "PassResult",
    "Pipeline",
    "RepairShapes",
    "SliceState",
    "shrink_pipeline",
]


def shrink_pipeline(
    norm: Norm = "kept",
    known: Mapping[str, torch.Tensor] | None = None,
    donation: Donation | None = None,
) -> Pipeline:
    """The passes that shrink a model, in order.

    These are for tensors, branches, module attributes, shapes and metadata.

    Args:
        norm: see `shrink`.
        known: the tensors of the result, if it was made before of the original's weights.
        donation: the weights of the original, if they are used up; the result has its tensors once
            they are filled in.
    """
    branches = DropBranches(norm, known)
    slicing = SliceState(donation)
    return Pipeline((slicing, branches, AlignAttributes(), RepairShapes(norm), NoteValues()))
