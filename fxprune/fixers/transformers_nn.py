"""Attributes of modules of transformers whose names or values tell too little."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fxprune.fixers.by_name import by_name
from fxprune.fixers.registry import fixer_by_name

if TYPE_CHECKING:
    from fxprune.fixers.widths import Widths


@fixer_by_name("transformers.pytorch_utils.Conv1D")
def conv1d(module: Any, widths: Widths) -> dict[str, Any]:
    """A linear layer whose rows are inputs, columns outputs."""
    return {"nx": module.weight.shape[0], "nf": module.weight.shape[1]}


@fixer_by_name("transformers.models.gpt2.modeling_gpt2.GPT2Attention")
def gpt2_attention(module: Any, widths: Widths) -> dict[str, Any]:
    """Queries, keys and values are cut apart by the width of each."""
    return {**by_name(module, widths), "split_size": module.c_proj.weight.shape[0]}


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
