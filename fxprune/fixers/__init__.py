"""Attribute fixers: a module's numbers follow the widths of its tensors."""

from fxprune.fixers import torch_nn as _torch_nn
from fxprune.fixers import transformers_nn as _transformers_nn
from fxprune.fixers.by_name import by_name
from fxprune.fixers.registry import Fix, fixer, fixer_of
from fxprune.fixers.widths import Widths

__all__ = ["Fix", "Widths", "by_name", "fixer", "fixer_of"]
del _torch_nn, _transformers_nn
