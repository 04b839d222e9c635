"""A transformers architecture in a small random configuration."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from sweeps.entry import SweepModel, normal, tokens

Inputs = Callable[[], dict[str, Tensor]]


@dataclass(frozen=True)
class Architecture:
    """A model type of transformers, the head to build it with, its inputs and its options.

    Options are the fields of its configuration class; a dict is a nested configuration.
    """

    model_type: str
    head: str
    inputs: Inputs
    options: dict[str, Any]

    def build(self) -> nn.Module:
        """The model, with the weights that its configuration draws."""
        import transformers  # noqa: PLC0415  # listing the models needs no transformers

        config = transformers.AutoConfig.for_model(self.model_type, **self.options)
        model: nn.Module = getattr(transformers, self.head).from_config(config)
        return model

    def entry(self, family: str) -> SweepModel:
        """Its place in the sweep."""
        return SweepModel("transformers", family, self.model_type, self.build, self.inputs)


def architecture(
    model_type: str, inputs: Inputs, head: str = "AutoModel", **options: Any
) -> Architecture:
    """An Architecture with its options as keywords."""
    return Architecture(model_type, head, inputs, options)


def text() -> dict[str, Tensor]:
    """Two sequences of 12 tokens."""
    return {"input_ids": tokens(2, 12), "attention_mask": torch.ones(2, 12, dtype=torch.long)}


def text_pair() -> dict[str, Tensor]:
    """Two sequences of 12 tokens for the encoder and two of 6 for the decoder."""
    return {**text(), "decoder_input_ids": tokens(2, 6)}


def image(side: int, batch: int = 2) -> Inputs:
    """Square images."""
    return partial(_image, side, batch)


def _image(side: int, batch: int) -> dict[str, Tensor]:
    return {"pixel_values": normal(batch, 3, side, side)}


def text_and_image(side: int) -> Inputs:
    """Two sequences and two images."""
    return partial(_text_and_image, side)


def _text_and_image(side: int) -> dict[str, Tensor]:
    return {**text(), **_image(side, 2)}


def wave() -> dict[str, Tensor]:
    """Two sounds of 1,600 samples."""
    return {"input_values": normal(2, 1600)}


def ids() -> dict[str, Tensor]:
    """Two sequences of 12 tokens without a mask."""
    return {"input_ids": tokens(2, 12)}
