"""All named faults, by area."""

from __future__ import annotations

from faults.catalogue import (
    attributes,
    branches,
    combining,
    labels,
    lowering,
    modules,
    moving,
    plan_layout,
    repairs,
    slicing,
)
from faults.fault import Fault

FAULTS: tuple[Fault, ...] = (
    *labels.FAULTS,
    *moving.FAULTS,
    *combining.FAULTS,
    *plan_layout.FAULTS,
    *slicing.FAULTS,
    *attributes.FAULTS,
    *repairs.FAULTS,
    *lowering.FAULTS,
    *modules.FAULTS,
    *branches.FAULTS,
)
