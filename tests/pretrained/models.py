"""Small random models of transformers."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from models_zoo import randomize

SIZES = {"vocab_size": 96, "num_hidden_layers": 2, "hidden_size": 32, "intermediate_size": 48}
GROUPED = {
    **SIZES,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 32,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "use_cache": False,
}
GPT2 = {
    "vocab_size": 96,
    "n_embd": 32,
    "n_layer": 2,
    "n_head": 4,
    "n_positions": 32,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "use_cache": False,
}
BERT = {**SIZES, "num_attention_heads": 4, "max_position_embeddings": 32}
VIT = {**SIZES, "num_attention_heads": 4, "image_size": 16, "patch_size": 4}
T5 = {
    "vocab_size": 96,
    "d_model": 32,
    "d_kv": 8,
    "d_ff": 48,
    "num_heads": 4,
    "num_layers": 2,
    "pad_token_id": 0,
    "eos_token_id": 1,
    "decoder_start_token_id": 0,
    "use_cache": False,
}
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("AutoModelForCausalLM", {**GROUPED, "head_dim": 8}),
    "qwen2": ("AutoModelForCausalLM", GROUPED),
    "mistral": ("AutoModelForCausalLM", GROUPED),
    "gemma": ("AutoModelForCausalLM", {**GROUPED, "head_dim": 8}),
    "phi3": ("AutoModelForCausalLM", GROUPED),
    "gpt2": ("AutoModelForCausalLM", GPT2),
    "bert": ("AutoModelForMaskedLM", BERT),
    "vit": ("AutoModelForImageClassification", VIT),
    "t5": ("AutoModelForSeq2SeqLM", T5),
}


def build(family: str, **options: Any) -> Any:
    """A model with random weights, in eval mode."""
    transformers: Any = pytest.importorskip("transformers")
    head, own = FAMILIES[family]
    torch.manual_seed(0)
    config = transformers.AutoConfig.for_model(family, **{**own, **options})
    return randomize(getattr(transformers, head).from_config(config)).eval()


def inputs(family: str) -> dict[str, torch.Tensor]:
    """Example inputs of a family."""
    generator = torch.Generator().manual_seed(0)
    if family == "vit":
        return {"pixel_values": torch.randn(2, 3, 16, 16, generator=generator)}
    ids = torch.randint(3, 96, (2, 7), generator=generator)
    if family == "t5":
        return {"input_ids": ids, "decoder_input_ids": ids[:, :4]}
    return {"input_ids": ids}
