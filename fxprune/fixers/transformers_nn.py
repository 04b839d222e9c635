"""Attributes of modules of transformers whose names or values tell too little."""

from __future__ import annotations

from copy import copy
from typing import TYPE_CHECKING, Any

from fxprune.fixers.by_name import by_name
from fxprune.fixers.registry import fixer_by_name

if TYPE_CHECKING:
    from fxprune.fixers.widths import Widths


@fixer_by_name("transformers.pytorch_utils.Conv1D")
def conv1d(module: Any, widths: Widths) -> dict[str, Any]:
    """A linear layer whose rows are inputs, columns outputs."""
    return {"nx": module.weight.shape[0], "nf": module.weight.shape[1]}


@fixer_by_name("transformers.models.gpt_bigcode.modeling_gpt_bigcode.GPTBigCodeAttention")
def gpt_bigcode_attention(module: Any, widths: Widths) -> dict[str, Any]:
    """Queries, keys and values are cut apart by the width of all heads, and of one."""
    inner = module.c_proj.weight.shape[1]
    others = module.c_attn.weight.shape[0] - inner
    return {**by_name(module, widths), "embed_dim": inner, "kv_dim": others // 2}


@fixer_by_name("transformers.models.codegen.modeling_codegen.CodeGenAttention")
def codegen_attention(module: Any, widths: Widths) -> dict[str, Any]:
    """Queries, values and keys alternate from shard to shard, each of some heads."""
    return {
        **by_name(module, widths),
        "embed_dim": module.out_proj.weight.shape[1],
        "mp_num": widths.count(module.mp_num, "heads"),
    }


@fixer_by_name(
    "transformers.models.phi3.modeling_phi3.Phi3Attention",
)
def phi3_attention(module: Any, widths: Widths) -> dict[str, Any]:
    """Forward reads the number of heads from the configuration, so it gets one of its own."""
    found = by_name(module, widths)
    config = copy(module.config)
    config.num_attention_heads = module.o_proj.weight.shape[1] // found["head_dim"]
    return {**found, "config": config}


@fixer_by_name(
    "transformers.models.mamba.modeling_mamba.MambaMixer",
    "transformers.models.falcon_mamba.modeling_falcon_mamba.FalconMambaMixer",
    "transformers.models.jamba.modeling_jamba.JambaMambaMixer",
)
def mamba_mixer(module: Any, widths: Widths) -> dict[str, Any]:
    """Inner width, states and rank of the steps; the convolution is as long as the rank is wide."""
    inner, states = module.A_log.shape
    return {
        **by_name(module, widths),
        "intermediate_size": inner,
        "ssm_state_size": states,
        "time_step_rank": module.dt_proj.weight.shape[1],
    }
