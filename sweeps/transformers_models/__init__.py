"""Small random configurations of transformers architectures."""

from __future__ import annotations

from collections.abc import Iterable

from sweeps.entry import SweepModel
from sweeps.transformers_models.architecture import Architecture
from sweeps.transformers_models.audio import AUDIO
from sweeps.transformers_models.decoders import DECODERS
from sweeps.transformers_models.encoder_decoders import ENCODER_DECODERS
from sweeps.transformers_models.encoders import ENCODERS
from sweeps.transformers_models.experts import EXPERTS
from sweeps.transformers_models.multimodal import MULTIMODAL
from sweeps.transformers_models.state_space import STATE_SPACE
from sweeps.transformers_models.vision import VISION

_FAMILIES = {
    "encoders": ENCODERS,
    "decoders": DECODERS,
    "mixtures of experts": EXPERTS,
    "encoder-decoders": ENCODER_DECODERS,
    "vision": VISION,
    "audio": AUDIO,
    "multimodal": MULTIMODAL,
    "state space": STATE_SPACE,
}


def architectures() -> dict[str, Architecture]:
    """All of them by model type."""
    return {each.model_type: each for family in _FAMILIES.values() for each in family}


def entries() -> Iterable[SweepModel]:
    """All of them, family by family."""
    for family, architectures in _FAMILIES.items():
        for architecture in architectures:
            yield architecture.entry(family)
