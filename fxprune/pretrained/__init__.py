"""Models of transformers: their configurations tell the widths that are left."""

from fxprune.pretrained.configs import is_model
from fxprune.pretrained.rewriting import adapt_configs, quiet, without_refusals

__all__ = ["adapt_configs", "is_model", "quiet", "without_refusals"]
