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
    "transformers.models.deepseek_v2.modeling_deepseek_v2.DeepseekV2Attention",
    "transformers.models.deepseek_v3.modeling_deepseek_v3.DeepseekV3Attention",
)
def latent_attention(module: Any, widths: Widths) -> dict[str, Any]:
    """Keys and values come out of a latent; some dims of each head rotate, the others do not."""
    found = by_name(module, widths)
    heads, latent = found["num_heads"], module.kv_b_proj.weight.shape[1]
    values = module.o_proj.weight.shape[1] // heads
    still = module.kv_b_proj.weight.shape[0] // heads - values
    turning = module.kv_a_proj_with_mqa.weight.shape[0] - latent
    ranked = module.q_lora_rank is not None
    return {
        **found,
        "kv_lora_rank": latent,
        "q_lora_rank": module.q_b_proj.weight.shape[1] if ranked else None,
        "v_head_dim": values,
        "qk_nope_head_dim": still,
        "qk_rope_head_dim": turning,
        "qk_head_dim": still + turning,
    }


# Forward of these reads numbers from the configuration, so each gets a configuration of its own.


@fixer_by_name("transformers.models.phi3.modeling_phi3.Phi3Attention")
def phi3_attention(module: Any, widths: Widths) -> dict[str, Any]:
    """The number of query heads tells where keys begin."""
    found = by_name(module, widths)
    heads = module.o_proj.weight.shape[1] // found["head_dim"]
    return {**found, "config": _with(module.config, num_attention_heads=heads)}


@fixer_by_name("transformers.models.funnel.modeling_funnel.FunnelRelMultiheadAttention")
def funnel_attention(module: Any, widths: Widths) -> dict[str, Any]:
    """Heads and their dims."""
    heads, dims = module.r_w_bias.shape
    return {"config": _with(module.config, n_head=heads, d_head=dims)}


@fixer_by_name(
    "transformers.models.prophetnet.modeling_prophetnet.ProphetNetEncoder",
    "transformers.models.prophetnet.modeling_prophetnet.ProphetNetDecoder",
)
def prophetnet_stack(module: Any, widths: Widths) -> dict[str, Any]:
    """Masks are repeated for every head."""
    names = "num_encoder_attention_heads", "num_decoder_attention_heads"
    heads = {name: widths.count(getattr(module.config, name), "heads") for name in names}
    return {**by_name(module, widths), "config": _with(module.config, **heads)}


@fixer_by_name("transformers.models.rwkv.modeling_rwkv.RwkvModel")
def rwkv_model(module: Any, widths: Widths) -> dict[str, Any]:
    """States begin as zeros of the hidden width."""
    width = module.embeddings.weight.shape[1]
    return {"config": _with(module.config, hidden_size=width)}


def _with(config: Any, **numbers: int) -> Any:
    own = copy(config)
    for name, number in numbers.items():
        setattr(own, name, number)
    return own


@fixer_by_name("transformers.models.xlstm.modeling_xlstm.xLSTMLayer")
def xlstm_layer(module: Any, widths: Widths) -> dict[str, Any]:
    """Widths of queries and values, in one projection or each in its own, and heads."""
    heads = widths.count(module.config.num_heads, "heads")
    values = module.out_proj.weight.shape[1]
    if module.config.weight_mode == "single":
        queries = module.q.weight.shape[0]
    else:
        queries = module.qkv_opreact.weight.shape[0] // 2 - values
    return {
        "v_dim": values,
        "qk_dim": queries,
        "config": _with(module.config, num_heads=heads),
    }


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


@fixer_by_name(
    "transformers.models.mamba2.modeling_mamba2.Mamba2Mixer",
    "transformers.models.bamba.modeling_bamba.BambaMixer",
    "transformers.models.zamba2.modeling_zamba2.Zamba2MambaMixer",
)
def mamba2_mixer(module: Any, widths: Widths) -> dict[str, Any]:
    """Heads in groups, each of which has states; the convolution runs over values and states."""
    heads, inner = module.A_log.shape[0], module.out_proj.weight.shape[1]
    groups = widths.count(module.n_groups, "heads")
    states = (module.conv1d.weight.shape[0] - inner) // 2 // groups
    return {
        **by_name(module, widths),
        "num_heads": heads,
        "intermediate_size": inner,
        "head_dim": inner // heads,
        "n_groups": groups,
        "ssm_state_size": states,
        "conv_dim": module.conv1d.weight.shape[0],
    }


@fixer_by_name(
    "transformers.models.mamba2.modeling_mamba2.MambaRMSNormGated",
    "transformers.models.bamba.modeling_bamba.BambaRMSNormGated",
    "transformers.models.zamba2.modeling_zamba2.Zamba2RMSNormGated",
)
def norm_in_groups(module: Any, widths: Widths) -> dict[str, Any]:
    """As many channels for each group; a group may go as a whole."""
    groups = widths.layout.deps.trace.axes[f"{widths.path}.weight"][0].size // module.group_size
    return {"group_size": len(module.weight) // widths.kept_groups("weight", 0, groups)}


@fixer_by_name("transformers.models.qwen3_next.modeling_qwen3_next.Qwen3NextGatedDeltaNet")
def gated_delta_net(module: Any, widths: Widths) -> dict[str, Any]:
    """Keys and values of some heads each, side by side in one convolution."""
    found = by_name(module, widths)
    values, both = module.out_proj.weight.shape[1], module.conv1d.weight.shape[0]
    keys = (both - values) // 2
    return {
        **found,
        "key_dim": keys,
        "value_dim": values,
        "conv_dim": both,
        "head_k_dim": keys // found["num_k_heads"],
        "head_v_dim": values // found["num_v_heads"],
    }
