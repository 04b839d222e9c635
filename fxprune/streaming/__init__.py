"""Checkpoints larger than memory, shrunk file by file."""

from fxprune.streaming.reports import CheckpointReport, Progress, WrittenShard
from fxprune.streaming.shrinking import shrink_checkpoint

__all__ = ["CheckpointReport", "Progress", "WrittenShard", "shrink_checkpoint"]
