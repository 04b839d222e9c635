"""Faults in modules that keep their own forward (`emit="module"`)."""

from __future__ import annotations

from faults.fault import Fault, fault
from faults.injection import Edit

_BY_NAME = "fixers.by_name:_followed"

FAULTS: tuple[Fault, ...] = (
    fault(
        "the number of heads stays",
        "modules",
        Edit(_BY_NAME, 'return widths.count(old, "heads")', "return old"),
        "qkv_fused_unbind",
        "module",
    ),
    fault(
        "groups of a group norm shrink with the channels of a module",
        "modules",
        Edit(
            "fixers.torch_nn:group_norm",
            "channels if each else module.num_groups}",
            "channels * module.num_groups // module.num_channels}",
        ),
        "group_norm",
        "module",
    ),
    fault(
        "tensors of a module are sliced one off",
        "modules",
        Edit(
            "passes.slicing:sliced",
            "np.ascontiguousarray(index)",
            "np.ascontiguousarray((index + 1) % tensor.shape[dim])",
        ),
        "residual",
        "module",
    ),
    fault(
        "tensors of a module are sliced along their first axis as planned, else not",
        "modules",
        Edit(
            "passes.slicing:sliced",
            "np.ascontiguousarray(index)",
            "np.ascontiguousarray(index if dim == 0 else np.arange(len(index)))",
        ),
        "squeeze_excite_linear",
        "module",
    ),
    fault(
        "buffers of a module keep their first positions",
        "modules",
        Edit(
            "passes.slicing:sliced",
            "np.ascontiguousarray(index)",
            "np.ascontiguousarray(index if isinstance(tensor, torch.nn.Parameter) else np.arange(len(index)))",
        ),
        "dense_concat",
        "module",
    ),
)
