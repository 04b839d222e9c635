"""State-space and recurrent language models."""

from __future__ import annotations

from typing import Any

from sweeps.transformers_models.architecture import Architecture, architecture, ids
from sweeps.transformers_models.common import GROUPED, SPECIAL, TEXT, Options


def _causal(model_type: str, **options: Any) -> Architecture:
    return architecture(model_type, ids, "AutoModelForCausalLM", **options)


_STATE: Options = {
    **SPECIAL,
    "vocab_size": 128,
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "state_size": 8,
    "use_cache": False,
}

STATE_SPACE = (
    _causal("mamba", **_STATE),
    _causal("falcon_mamba", **_STATE),
    _causal("mamba2", **_STATE, num_heads=8, head_dim=16, n_groups=2, expand=2, chunk_size=4),
    _causal(
        "rwkv",
        **SPECIAL,
        vocab_size=128,
        hidden_size=64,
        attention_hidden_size=64,
        num_hidden_layers=2,
        context_length=64,
        use_cache=False,
    ),
    _causal("recurrent_gemma", **GROUPED, lru_width=64, attention_window_size=8),
    _causal(
        "jamba",
        **TEXT,
        num_key_value_heads=2,
        num_experts=2,
        num_experts_per_tok=1,
        attn_layer_period=2,
        attn_layer_offset=1,
        expert_layer_period=2,
        expert_layer_offset=1,
        mamba_d_state=8,
        use_mamba_kernels=False,
        use_cache=False,
    ),
    _causal(
        "bamba",
        **TEXT,
        num_key_value_heads=2,
        mamba_n_heads=8,
        mamba_d_head=16,
        mamba_n_groups=2,
        mamba_d_state=8,
        mamba_chunk_size=4,
        attn_layer_indices=[1],
        use_cache=False,
    ),
    _causal(
        "zamba2",
        **{**TEXT, "num_hidden_layers": 2},
        num_key_value_heads=4,
        n_mamba_heads=8,
        mamba_headdim=16,
        mamba_ngroups=2,
        mamba_d_state=8,
        chunk_size=4,
        layers_block_type=["mamba", "hybrid"],
        num_mem_blocks=1,
        use_mem_rope=False,
        use_cache=False,
    ),
    _causal("lfm2", **GROUPED, layer_types=["conv", "full_attention"]),
    _causal(
        "qwen3_next",
        **GROUPED,
        moe_intermediate_size=32,
        shared_expert_intermediate_size=32,
        num_experts=4,
        num_experts_per_tok=2,
        linear_num_value_heads=4,
        linear_num_key_heads=2,
        linear_key_head_dim=16,
        linear_value_head_dim=16,
        layer_types=["linear_attention", "full_attention"],
    ),
    _causal(
        "xlstm", vocab_size=128, hidden_size=64, num_hidden_layers=2, num_heads=4, use_cache=False
    ),
)
