"""Structured pruning as a compiler pass: remove channels of a PyTorch model, and prove it.

>>> import torch, fxprune
>>> model = torch.nn.Sequential(torch.nn.Linear(8, 6), torch.nn.ReLU(), torch.nn.Linear(6, 2))
>>> plan = fxprune.plan(model, torch.randn(1, 8), ratio=0.5)
>>> small = fxprune.shrink(model, plan)
>>> small.get_submodule("0")
Linear(in_features=8, out_features=3, bias=True)
"""

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
from fxprune.report import ShrinkReport
from fxprune.rules import rule
from fxprune.sensitivities import sensitivity
from fxprune.sparsifying import SparsityReport, make_permanent, sparsify, sparsity
from fxprune.streaming import CheckpointReport, shrink_checkpoint
from fxprune.verification import verify
from fxprune.version import __version__ as __version__

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
    "load",
    "make_permanent",
    "plan",
    "rule",
    "save",
    "sensitivity",
    "shrink",
    "shrink_checkpoint",
    "sparsify",
    "sparsity",
    "verify",
]
