"""What arguments that name sizes, positions or groups become for sliced operands."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from fxprune.testing.samples import Adapter, Kept


def sizes(name: str) -> Adapter:
    """The shape of the sliced output."""
    return lambda kept: {name: kept.shape()}


def strided(kept: Kept) -> Mapping[str, Any]:
    """Sizes and strides of the sliced output, laid out row by row."""
    shape = kept.shape()
    return {"size": shape, "stride": torch.empty(shape).stride()}


def pieces(kept: Kept) -> Mapping[str, Any]:
    """For `split_with_sizes`: the sizes of the sliced pieces."""
    dim = kept.arg("dim") % len(kept.outputs[0])
    return {"split_sizes": [len(piece[dim]) for piece in kept.outputs], "dim": dim}


def picked(positions: Any) -> Adapter:
    """For `index_select`: the new numbers of those of the positions that are kept."""

    def adapt(kept: Kept) -> Mapping[str, Any]:
        dim = kept.arg("dim") % len(kept.inputs["self"])
        return {"dim": dim, "index": renumbered_index(kept, dim, positions)}

    return adapt


def renumbered_index(kept: Kept, dim: int, positions: Any) -> torch.Tensor:
    """New numbers of the positions behind the kept positions of output 0."""
    stay = np.asarray(positions)[kept.outputs[0][dim]]
    return torch.tensor(kept.renumbered("self", dim, stay), dtype=torch.int64)


def index_block(first: int) -> Adapter:
    """`indices` of known positions, broadcast together, that span the outcome from dim `first`."""

    def adapt(kept: Kept) -> Mapping[str, Any]:
        indices = list(kept.arg("indices"))
        used = [dim for dim, index in enumerate(indices) if index is not None]
        whole = np.broadcast_arrays(*(indices[dim].numpy() for dim in used))
        stay = np.ix_(*kept.outputs[0][first : first + whole[0].ndim])
        for dim, positions in zip(used, whole, strict=True):
            left = (positions % kept.arg("self").shape[dim])[stay]
            numbers = kept.renumbered("self", dim, left.reshape(-1))
            indices[dim] = torch.tensor(numbers, dtype=torch.int64).reshape(left.shape)
        return {"indices": indices}

    return adapt


def selected(kept: Kept) -> Mapping[str, Any]:
    """The new number of a single position."""
    x = kept.inputs["self"]
    dim = kept.arg("dim") % len(x)
    position = kept.arg("index") % kept.arg("self").shape[dim]
    return {"index": kept.renumbered("self", dim, [position])[0]}


def narrowed(kept: Kept) -> Mapping[str, Any]:
    """Start and length count kept positions."""
    dim = kept.arg("dim") % len(kept.inputs["self"])
    start = kept.arg("start") % kept.arg("self").shape[dim]
    before = int((kept.inputs["self"][dim] < start).sum())
    return {"start": before, "length": kept.shape()[dim]}


def rolled(kept: Kept) -> Mapping[str, Any]:
    """Roll by as many as are kept among the last positions."""
    full = kept.arg("self").shape
    pairs = zip(kept.arg("shifts"), kept.arg("dims"), strict=True)
    inside = kept.inputs["self"]
    return {"shifts": [int((inside[d] >= full[d] - s % full[d]).sum()) for s, d in pairs]}


def repeats(name: str) -> Adapter:
    """An axis of one position is repeated as often as copies are kept, others as before."""

    def adapt(kept: Kept) -> Mapping[str, Any]:
        counts = list(kept.arg(name))
        full = kept.arg("self").shape
        for back in range(1, len(counts) + 1):
            if back > len(full) or full[-back] == 1:
                counts[-back] = kept.shape()[-back]
        return {name: counts}

    return adapt


def interleaved(kept: Kept) -> Mapping[str, Any]:
    """Every position is repeated as often as copies are kept."""
    kept_in = math.prod(len(positions) for positions in kept.inputs["self"])
    return {"repeats": math.prod(kept.shape()) // kept_in}


def padded(kept: Kept) -> Mapping[str, Any]:
    """As many positions on either side as are kept there; a crop takes what was kept there."""
    pad: list[int] = []
    rank = len(kept.inputs["self"])
    given = kept.arg("pad")
    for back, (left, right) in enumerate(zip(given[::2], given[1::2], strict=True)):
        dim = rank - 1 - back
        size = kept.arg("self").shape[dim]
        inside, outside = kept.inputs["self"][dim], kept.outputs[0][dim]
        pad += [
            int((outside < left).sum()) if left > 0 else -int((inside < -left).sum()),
            int((outside >= left + size).sum())
            if right > 0
            else -int((inside >= size + right).sum()),
        ]
    return {"pad": pad}


def conv_groups(kept: Kept) -> Mapping[str, Any]:
    """Whole groups go: as many are left as the weight's width divides the channels."""
    channels = kept.shape()[1] if kept.arg("transposed") else kept.size("input", 1)
    return {"groups": channels // kept.size("weight", 1)}


def trailing_shape(kept: Kept) -> Mapping[str, Any]:
    """`normalized_shape` of the sliced operand."""
    return {"normalized_shape": kept.shape()[-len(kept.arg("normalized_shape")) :]}


def group_norm_sizes(kept: Kept) -> Mapping[str, Any]:
    """N, C and HxW of the sliced operand; with one channel a group, groups go with channels."""
    batch, channels, *spatial = kept.shape()
    group = channels if kept.arg("group") == kept.arg("C") else kept.arg("group")
    return {"N": batch, "C": channels, "HxW": int(np.prod(spatial)), "group": group}


def first_of_size(kept: Kept) -> Mapping[str, Any]:
    """The first entry of `size` is the number of samples."""
    return {"size": [kept.size("theta", 0), *kept.arg("size")[1:]]}


def deformable_groups(kept: Kept) -> Mapping[str, Any]:
    """Whole groups of a deformable convolution go."""
    return {"groups": kept.size("input", 1) // kept.size("weight", 1)}
