"""Decoders, each with its language model head."""

from __future__ import annotations

from typing import Any

from sweeps.transformers_models.architecture import Architecture, architecture, text
from sweeps.transformers_models.common import GROUPED, SPECIAL, TEXT, UNIFORM, Options

_ALL_HEADS: Options = {**TEXT, "use_cache": False}


def _causal(model_type: str, **options: Any) -> Architecture:
    return architecture(model_type, text, "AutoModelForCausalLM", **options)


_GPT: Options = {
    **SPECIAL,
    "vocab_size": 128,
    "n_embd": 64,
    "n_layer": 2,
    "n_head": 4,
    "use_cache": False,
}

DECODERS = (
    _causal("gpt2", **_GPT, n_positions=64),
    _causal("openai-gpt", **{**_GPT, "use_cache": None}, n_positions=64),
    _causal("gpt_bigcode", **_GPT, n_positions=64),
    _causal(
        "gpt_neo",
        **SPECIAL,
        vocab_size=128,
        hidden_size=64,
        num_layers=2,
        num_heads=4,
        attention_types=[[["global", "local"], 1]],
        window_size=4,
        max_position_embeddings=64,
        use_cache=False,
    ),
    _causal("gpt_neox", **_ALL_HEADS),
    _causal("gptj", **_GPT, n_positions=64, rotary_dim=8),
    _causal("codegen", **_GPT, n_positions=64, n_ctx=64, rotary_dim=8),
    _causal(
        "opt",
        **SPECIAL,
        vocab_size=128,
        hidden_size=64,
        num_hidden_layers=2,
        ffn_dim=128,
        num_attention_heads=4,
        max_position_embeddings=64,
        word_embed_proj_dim=64,
        use_cache=False,
    ),
    _causal(
        "bloom", **SPECIAL, vocab_size=128, hidden_size=64, n_layer=2, n_head=4, use_cache=False
    ),
    _causal(
        "mpt", vocab_size=128, d_model=64, n_layers=2, n_heads=4, max_seq_len=64, use_cache=False
    ),
    _causal("falcon", **_ALL_HEADS, num_kv_heads=2, new_decoder_architecture=True),
    _causal("biogpt", **_ALL_HEADS),
    _causal(
        "xglm",
        **SPECIAL,
        vocab_size=128,
        d_model=64,
        num_layers=2,
        attention_heads=4,
        ffn_dim=128,
        max_position_embeddings=64,
        use_cache=False,
    ),
    _causal("llama", **GROUPED),
    _causal("mistral", **GROUPED, sliding_window=8),
    _causal("ministral", **GROUPED, sliding_window=8),
    _causal("qwen2", **GROUPED),
    _causal("qwen3", **GROUPED),
    _causal("gemma", **GROUPED),
    _causal("gemma2", **GROUPED, sliding_window=8, query_pre_attn_scalar=16),
    _causal("gemma3_text", **GROUPED, sliding_window=8, query_pre_attn_scalar=16),
    _causal("phi", **UNIFORM),
    _causal("phi3", **UNIFORM),
    _causal("stablelm", **UNIFORM),
    _causal("olmo", **GROUPED),
    _causal("olmo2", **GROUPED),
    _causal("olmo3", **GROUPED, sliding_window=8),
    _causal("starcoder2", **GROUPED),
    _causal("cohere", **GROUPED),
    _causal("cohere2", **GROUPED, sliding_window=8),
    _causal("granite", **GROUPED),
    _causal("glm", **GROUPED),
    _causal("glm4", **GROUPED),
    _causal("nemotron", **GROUPED),
    _causal("smollm3", **GROUPED),
    _causal("exaone4", **GROUPED, sliding_window=8),
    _causal("helium", **GROUPED),
    _causal("persimmon", **_ALL_HEADS),
    _causal("ctrl", **{**_GPT, "use_cache": False}, n_positions=64, dff=128),
)
