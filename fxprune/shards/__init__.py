"""Checkpoints in files of safetensors, one or several: read lazily, written part by part."""

from fxprune.shards.checkpoint import INDEX, SINGLE, Checkpoint
from fxprune.shards.reading import Entry, Shard
from fxprune.shards.writing import Planned, as_bytes, header_of, write_in_parts

__all__ = [
    "INDEX",
    "SINGLE",
    "Checkpoint",
    "Entry",
    "Planned",
    "Shard",
    "as_bytes",
    "header_of",
    "write_in_parts",
]
