"""Faults in slicing parameters and buffers."""

from __future__ import annotations

from faults.fault import Fault, fault
from faults.injection import Edit

_SLICED = "passes.slicing:sliced"
_POSITIONS = "torch.from_numpy(np.ascontiguousarray(index))"
_KEPT = "[layout.kept(axis) for axis in layout.deps.trace.axes[name]]"


def _positions(becomes: str) -> Edit:
    return Edit(_SLICED, _POSITIONS, f"torch.from_numpy(np.ascontiguousarray({becomes}))")


FAULTS: tuple[Fault, ...] = (
    fault(
        "slices are off by one",
        "slicing",
        _positions("(index + 1) % tensor.shape[dim]"),
        "classic_cnn",
    ),
    fault(
        "slices are one off at the last position",
        "slicing",
        _positions("np.append(index[:-1], (index[-1] + 1) % tensor.shape[dim])"),
        "unet",
    ),
    fault("slices reverse the order", "slicing", _positions("index[::-1]"), "temporal_shift"),
    fault(
        "slices take the first positions",
        "slicing",
        _positions("np.arange(len(index))"),
        "inception",
    ),
    fault(
        "slices keep what was to go",
        "slicing",
        _positions("np.setdiff1d(np.arange(tensor.shape[dim]), index)"),
        "raw_parameter_functional",
    ),
    fault(
        "buffers keep their first positions",
        "slicing",
        _positions("index if isinstance(tensor, torch.nn.Parameter) else np.arange(len(index))"),
        "residual_preactivation",
    ),
    fault(
        "vectors keep their first positions",
        "slicing",
        _positions("index if tensor.dim() > 1 else np.arange(len(index))"),
        "conv1d_3d",
    ),
    fault(
        "only the outputs of a weight are sliced as planned",
        "slicing",
        _positions("index if dim == 0 else np.arange(len(index))"),
        "bottleneck",
    ),
    fault(
        "square weights are sliced along the other axis",
        "slicing",
        Edit(
            _SLICED,
            "in enumerate(kept)",
            "in enumerate(kept[::-1] if len({*tensor.shape}) == 1 < len(kept) else kept)",
        ),
        "attention_kinds_talking",
    ),
    fault(
        "a tensor is sliced as the last one of its shape",
        "slicing",
        Edit(
            "passes.slice_state:SliceState.copy",
            "lambda tensor: taken(tensor, kept.get(id(tensor), ()))",
            "lambda tensor: taken(tensor, [*({t.shape: kept[id(t)] for t in named_state(graph_module).values()}.get(tensor.shape, ()))])",
        ),
        "residual",
    ),
    fault(
        "sliced weights lose their sign",
        "slicing",
        Edit(
            _SLICED,
            "as_parameter(_formatted(result, tensor), tensor)",
            "as_parameter(_formatted(result, tensor).abs() if result.is_floating_point() else result, tensor)",
        ),
        "classic_cnn",
    ),
)
