"""The label domain: which positions of which axes live and die together. Knows numpy, not torch."""

from fxprune.labels.algebra import LabelAlgebra
from fxprune.labels.axis import Axis
from fxprune.labels.store import Ids, LabelStore, Refinement

__all__ = ["Axis", "Ids", "LabelAlgebra", "LabelStore", "Refinement"]
