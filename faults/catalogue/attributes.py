"""Faults in the numbers that modules keep about themselves, in a graph."""

from __future__ import annotations

from faults.fault import Fault, fault
from faults.injection import Edit

FAULTS: tuple[Fault, ...] = (
    fault(
        "groups of a group norm shrink with its channels",
        "attributes",
        Edit(
            "fixers.torch_nn:group_norm",
            "channels if each else module.num_groups}",
            "channels * module.num_groups // module.num_channels}",
        ),
        "group_norm",
    ),
    fault(
        "the groups of a convolution stay",
        "attributes",
        Edit("fixers.torch_nn:conv", '"groups": groups,', '"groups": module.groups,'),
        "inverted_residual",
    ),
    fault(
        "groups of a convolution shrink with its channels",
        "attributes",
        Edit(
            "fixers.torch_nn:conv",
            'groups = widths.kept_groups("weight", -len(module.kernel_size) - 1, module.groups)',
            "groups = max(1, module.groups * first // module.out_channels)",
        ),
        "bottleneck_grouped",
    ),
    fault(
        "a recurrent layer keeps its old weights beside the new ones",
        "attributes",
        Edit(
            "fixers.torch_nn:recurrent",
            'module.__dict__["_flat_weights"] = [getattr(module, n) for n in module._flat_weights_names]',
            "pass",
        ),
        "recurrent_gru",
    ),
    fault(
        "a recurrent layer's gates lie in reverse",
        "attributes",
        Edit(
            "fixers.torch_nn:recurrent",
            "[getattr(module, n) for n in module._flat_weights_names]",
            "[getattr(module, n).flip(0) for n in module._flat_weights_names]",
        ),
        "recurrent_gru",
    ),
)
