"""Operands of samples."""

from __future__ import annotations

import torch

from fxprune.testing import Operand

NO_CHANNELS = "places of an image, and pieces of numbers, are no channels"


def x(*shape: int) -> Operand:
    """A labelled operand of normal (or all-negative) numbers."""
    return Operand(shape)


def positive(*shape: int) -> Operand:
    """A labelled operand of numbers around 1."""
    return Operand(shape, "positive")


def unit(*shape: int) -> Operand:
    """A labelled operand of numbers in [0, 1)."""
    return Operand(shape, "unit")


def boolean(*shape: int) -> Operand:
    """A labelled operand of truth values."""
    return Operand(shape, "boolean")


def unknown(values: torch.Tensor) -> Operand:
    """A labelled operand of integers that the rule cannot see."""
    return Operand(tuple(values.shape), given=values)


def index(*positions: int) -> torch.Tensor:
    """Known positions."""
    return torch.tensor(positions)
