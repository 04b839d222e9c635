"""Repair of what reads removed channels, from unlabelled data: `fxprune.reconstruct`."""

from fxprune.reconstruction.reconstructing import reconstruct
from fxprune.reconstruction.results import Reconstruction, Repair

__all__ = ["Reconstruction", "Repair", "reconstruct"]
