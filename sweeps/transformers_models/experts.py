"""Mixtures of experts, each with its language model head."""

from __future__ import annotations

from typing import Any

from sweeps.transformers_models.architecture import Architecture, architecture, text, text_pair
from sweeps.transformers_models.common import GROUPED, SPECIAL, TEXT, UNIFORM, Options


def _causal(model_type: str, **options: Any) -> Architecture:
    return architecture(model_type, text, "AutoModelForCausalLM", **options)


_ROUTED: Options = {"num_experts_per_tok": 2, "moe_intermediate_size": 32}
_LATENT: Options = {
    **TEXT,
    **_ROUTED,
    "use_cache": False,
    "num_key_value_heads": 4,
    "n_routed_experts": 4,
    "n_shared_experts": 1,
    "first_k_dense_replace": 1,
    "n_group": 2,
    "topk_group": 1,
    "q_lora_rank": 32,
    "kv_lora_rank": 32,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 16,
    "v_head_dim": 16,
}

EXPERTS = (
    _causal("mixtral", **GROUPED, num_local_experts=4, num_experts_per_tok=2),
    _causal("qwen2_moe", **UNIFORM, **_ROUTED, num_experts=4, shared_expert_intermediate_size=32),
    _causal("qwen3_moe", **GROUPED, **_ROUTED, num_experts=4),
    _causal("olmoe", **UNIFORM, num_experts=4, num_experts_per_tok=2),
    _causal("granitemoe", **UNIFORM, num_local_experts=4, num_experts_per_tok=2),
    _causal(
        "granitemoeshared",
        **UNIFORM,
        num_local_experts=4,
        num_experts_per_tok=2,
        shared_intermediate_size=32,
    ),
    _causal("phimoe", **UNIFORM, num_local_experts=4, num_experts_per_tok=2),
    _causal("gpt_oss", **GROUPED, num_local_experts=4, num_experts_per_tok=2, sliding_window=8),
    _causal("deepseek_v2", **_LATENT),
    _causal("deepseek_v3", **_LATENT),
    _causal(
        "glm4_moe",
        **GROUPED,
        **_ROUTED,
        n_routed_experts=4,
        n_shared_experts=1,
        first_k_dense_replace=1,
        n_group=2,
        topk_group=1,
    ),
    _causal(
        "dots1",
        **GROUPED,
        **_ROUTED,
        n_routed_experts=4,
        n_shared_experts=1,
        first_k_dense_replace=1,
        n_group=2,
        topk_group=1,
    ),
    _causal(
        "ernie4_5_moe",
        **GROUPED,
        moe_intermediate_size=32,
        moe_num_experts=4,
        moe_k=2,
        moe_num_shared_experts=1,
    ),
    _causal(
        "jetmoe",
        vocab_size=128,
        hidden_size=64,
        num_hidden_layers=2,
        num_key_value_heads=2,
        kv_channels=16,
        intermediate_size=64,
        num_local_experts=4,
        num_experts_per_tok=2,
        max_position_embeddings=64,
        use_cache=False,
    ),
    architecture(
        "switch_transformers",
        text_pair,
        **SPECIAL,
        vocab_size=128,
        d_model=64,
        d_kv=16,
        d_ff=128,
        num_layers=2,
        num_heads=4,
        num_decoder_layers=2,
        num_experts=4,
        num_sparse_encoder_layers=1,
        num_sparse_decoder_layers=1,
        decoder_start_token_id=0,
        use_cache=False,
    ),
)
