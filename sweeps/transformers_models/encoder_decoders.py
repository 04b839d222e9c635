"""Encoders with a decoder."""

from __future__ import annotations

from functools import partial

from torch import Tensor

from sweeps.entry import normal, tokens
from sweeps.transformers_models.architecture import architecture, text_pair
from sweeps.transformers_models.common import SEQ2SEQ, SPECIAL, Options

_T5: Options = {
    **SPECIAL,
    "vocab_size": 128,
    "d_model": 64,
    "d_kv": 16,
    "d_ff": 128,
    "num_layers": 2,
    "num_decoder_layers": 2,
    "num_heads": 4,
    "decoder_start_token_id": 0,
    "use_cache": False,
}


def _sound(*shape: int) -> dict[str, Tensor]:
    return {"input_features": normal(*shape), "decoder_input_ids": tokens(2, 6)}


ENCODER_DECODERS = (
    architecture("t5", text_pair, **_T5),
    architecture("mt5", text_pair, **_T5),
    architecture("umt5", text_pair, **_T5),
    architecture("longt5", text_pair, **_T5, local_radius=4),
    architecture("bart", text_pair, **SEQ2SEQ),
    architecture("mbart", text_pair, **SEQ2SEQ),
    architecture("plbart", text_pair, **SEQ2SEQ),
    architecture("pegasus", text_pair, **SEQ2SEQ),
    architecture("marian", text_pair, **SEQ2SEQ, decoder_vocab_size=128),
    architecture("m2m_100", text_pair, **SEQ2SEQ),
    architecture("blenderbot", text_pair, **SEQ2SEQ),
    architecture("blenderbot-small", text_pair, **SEQ2SEQ),
    architecture(
        "led",
        text_pair,
        **SEQ2SEQ,
        attention_window=4,
        max_encoder_position_embeddings=64,
        max_decoder_position_embeddings=64,
    ),
    architecture(
        "prophetnet",
        text_pair,
        **SPECIAL,
        vocab_size=128,
        hidden_size=64,
        num_encoder_layers=2,
        num_decoder_layers=2,
        num_encoder_attention_heads=4,
        num_decoder_attention_heads=4,
        encoder_ffn_dim=128,
        decoder_ffn_dim=128,
        max_position_embeddings=64,
        decoder_start_token_id=0,
        use_cache=False,
    ),
    architecture(
        "whisper",
        partial(_sound, 2, 16, 40),
        **SEQ2SEQ,
        num_mel_bins=16,
        max_source_positions=20,
        max_target_positions=20,
    ),
    architecture(
        "speech_to_text",
        partial(_sound, 2, 40, 16),
        **SEQ2SEQ,
        input_feat_per_channel=16,
        conv_channels=32,
        max_source_positions=64,
        max_target_positions=20,
    ),
)
