"""Models of transformers: their configurations tell the widths that are left."""

from fxprune.pretrained.rewriting import adapt_configs, without_refusals

__all__ = ["adapt_configs", "without_refusals"]
