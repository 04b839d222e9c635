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
)
