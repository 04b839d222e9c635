"""Options that many configurations share: two layers of width 64 with four heads."""

from __future__ import annotations

from typing import Any, TypeAlias

Options: TypeAlias = dict[str, Any]

LAYERS: Options = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
WIDE: Options = {**LAYERS, "intermediate_size": 128}
SPECIAL: Options = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
TEXT: Options = {**WIDE, **SPECIAL, "vocab_size": 128, "max_position_embeddings": 64}
# Half as many key-value heads as heads: grouped-query attention.
GROUPED: Options = {**TEXT, "num_key_value_heads": 2, "head_dim": 16, "use_cache": False}
# For configurations that know no head width but the even share.
UNIFORM: Options = {key: value for key, value in GROUPED.items() if key != "head_dim"}
SEQ2SEQ: Options = {
    **SPECIAL,
    "vocab_size": 128,
    "d_model": 64,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 128,
    "decoder_ffn_dim": 128,
    "max_position_embeddings": 64,
    "decoder_start_token_id": 2,
    "forced_eos_token_id": 2,
    "use_cache": False,
}
WAVES: Options = {
    **WIDE,
    "vocab_size": 32,
    "conv_dim": (32, 32),
    "conv_kernel": (10, 3),
    "conv_stride": (5, 2),
    "num_feat_extract_layers": 2,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 2,
    "apply_spec_augment": False,
}
