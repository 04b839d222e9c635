"""Networks on sound."""

from __future__ import annotations

from torch import Tensor

from sweeps.entry import normal
from sweeps.transformers_models.architecture import architecture, wave
from sweeps.transformers_models.common import WAVES, WIDE


def _spectrogram() -> dict[str, Tensor]:
    return {"input_values": normal(2, 24, 16)}


def _features() -> dict[str, Tensor]:
    return {"input_features": normal(2, 24, 16)}


AUDIO = (
    architecture("wav2vec2", wave, "AutoModelForCTC", **WAVES),
    architecture("wav2vec2-conformer", wave, **WAVES),
    architecture(
        "wav2vec2-bert",
        _features,
        **WIDE,
        feature_projection_input_dim=16,
        vocab_size=32,
        apply_spec_augment=False,
        add_adapter=False,
    ),
    architecture("hubert", wave, **WAVES),
    architecture("wavlm", wave, **WAVES),
    architecture("data2vec-audio", wave, **WAVES),
    architecture("sew", wave, **WAVES, squeeze_factor=2),
    architecture("sew-d", wave, **WAVES, squeeze_factor=2),
    architecture("unispeech", wave, **WAVES, num_ctc_classes=32),
    architecture("unispeech-sat", wave, **WAVES),
    architecture(
        "audio-spectrogram-transformer",
        _spectrogram,
        **WIDE,
        patch_size=4,
        max_length=24,
        num_mel_bins=16,
        frequency_stride=4,
        time_stride=4,
    ),
    architecture(
        "encodec",
        lambda: {"input_values": normal(1, 1, 320)},
        num_filters=8,
        hidden_size=32,
        codebook_size=16,
        codebook_dim=32,
        upsampling_ratios=[4, 2],
    ),
)
