"""Repair of what reads removed channels: `fxprune.reconstruct` from unlabelled data, `fxprune.fold`
without any.
"""

from fxprune.reconstruction.folds import fold
from fxprune.reconstruction.reconstructing import reconstruct
from fxprune.reconstruction.results import Reconstruction, Repair

__all__ = ["Reconstruction", "Repair", "fold", "reconstruct"]
