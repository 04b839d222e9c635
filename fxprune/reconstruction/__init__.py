"""Repair of what reads removed channels: `reconstruct` from data, `fold` without."""

from fxprune.reconstruction.folds import fold
from fxprune.reconstruction.reconstructing import reconstruct
from fxprune.reconstruction.results import Reconstruction, Repair

__all__ = ["Reconstruction", "Repair", "fold", "reconstruct"]
