"""Progressive pruning: a step of pruning, some training, and again."""

from fxprune.progress.distilling import distillation_loss
from fxprune.progress.optimizers import carry_over
from fxprune.progress.progressing import Progressive

__all__ = ["Progressive", "carry_over", "distillation_loss"]
