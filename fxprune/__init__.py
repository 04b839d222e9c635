"""Structured pruning as a compiler pass: remove channels of a PyTorch model, and prove it.

>>> import torch, fxprune
>>> model = torch.nn.Sequential(torch.nn.Linear(8, 6), torch.nn.ReLU(), torch.nn.Linear(6, 2))
>>> plan = fxprune.plan(model, torch.randn(1, 8), ratio=0.5)
>>> small = fxprune.shrink(model, plan)
>>> small.get_submodule("0")
Linear(in_features=8, out_features=3, bias=True)
"""

import importlib
from typing import TYPE_CHECKING, Any

from fxprune.version import __version__ as __version__

if TYPE_CHECKING:
    from fxprune.analysis import DependencyGraph, analyze
    from fxprune.api import shrink
    from fxprune.checkpoints import load, save
    from fxprune.choosing import plan
    from fxprune.comparison import Verification
    from fxprune.drawing import draw
    from fxprune.errors import (
        AnalysisError,
        CaptureError,
        Diagnostic,
        FxPruneError,
        InputError,
        PlanError,
        RewriteError,
        VerificationError,
    )
    from fxprune.explanations import Explanation
    from fxprune.fixers import fixer
    from fxprune.groups import Group
    from fxprune.meaning import Meaning
    from fxprune.planning import Plan, Strategy
    from fxprune.planning.sensitivity_data import Sensitivity
    from fxprune.progress import Progressive, carry_over, distillation_loss
    from fxprune.reconstruction import Reconstruction, fold, reconstruct
    from fxprune.report import ShrinkReport
    from fxprune.rules import rule
    from fxprune.sensitivities import sensitivity
    from fxprune.sparsifying import SparsityReport, make_permanent, sparsify, sparsity
    from fxprune.streaming import CheckpointReport, shrink_checkpoint
    from fxprune.verification import verify

__all__ = [
    "AnalysisError",
    "CaptureError",
    "CheckpointReport",
    "DependencyGraph",
    "Diagnostic",
    "Explanation",
    "FxPruneError",
    "Group",
    "InputError",
    "Meaning",
    "Plan",
    "PlanError",
    "Progressive",
    "Reconstruction",
    "RewriteError",
    "Sensitivity",
    "ShrinkReport",
    "SparsityReport",
    "Strategy",
    "Verification",
    "VerificationError",
    "analyze",
    "carry_over",
    "distillation_loss",
    "draw",
    "fixer",
    "fold",
    "load",
    "make_permanent",
    "plan",
    "reconstruct",
    "rule",
    "save",
    "sensitivity",
    "shrink",
    "shrink_checkpoint",
    "sparsify",
    "sparsity",
    "verify",
]

_HOMES = {
    "analysis": ("DependencyGraph", "analyze"),
    "api": ("shrink",),
    "checkpoints": ("load", "save"),
    "choosing": ("plan",),
    "comparison": ("Verification",),
    "drawing": ("draw",),
    "errors": (
        "AnalysisError",
        "CaptureError",
        "Diagnostic",
        "FxPruneError",
        "InputError",
        "PlanError",
        "RewriteError",
        "VerificationError",
    ),
    "explanations": ("Explanation",),
    "fixers": ("fixer",),
    "groups": ("Group",),
    "meaning": ("Meaning",),
    "planning": ("Plan", "Strategy"),
    "planning.sensitivity_data": ("Sensitivity",),
    "progress": ("Progressive", "carry_over", "distillation_loss"),
    "reconstruction": ("Reconstruction", "fold", "reconstruct"),
    "report": ("ShrinkReport",),
    "rules": ("rule",),
    "sensitivities": ("sensitivity",),
    "sparsifying": ("SparsityReport", "make_permanent", "sparsify", "sparsity"),
    "streaming": ("CheckpointReport", "shrink_checkpoint"),
    "verification": ("verify",),
}
"""The public names by the module that holds them."""
_HOME = {name: module for module, names in _HOMES.items() for name in names}


if not TYPE_CHECKING:  # a type checker would take every name for one that is there

    def __getattr__(name: str) -> Any:
        """Public names and modules, each imported when it is first asked for (PEP 562)."""
        missing = f"module {__name__!r} has no attribute {name!r}"
        if name in _HOME:
            value = getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
            globals()[name] = value
            return value
        if name.startswith("_") or not name.isidentifier():
            raise AttributeError(missing)
        try:
            return importlib.import_module(f"{__name__}.{name}")
        except Exception as error:  # there is none, or it needs a package that is not installed
            raise AttributeError(f"{missing}: {error}") from error


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__} - {"Any", "TYPE_CHECKING", "importlib"})
