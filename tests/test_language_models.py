"""Every width of a transformer goes by itself, and what is left generates.

The models are small random ones of the sweep, with another head where the architecture alone
returns its hidden states, which have to stay.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch

import fxprune
from fxprune.api import Emit
from models_zoo import randomize
from sweeps.transformers_models import architectures

pytestmark = [
    pytest.mark.slow,
    # One worker analyzes every model once for all the tests of this file.
    pytest.mark.xdist_group("language models"),
    # transformers warns of optional libraries that are missing.
    pytest.mark.filterwarnings("ignore"),
]

HEADS = {
    "bert": "AutoModelForMaskedLM",
    "t5": "AutoModelForSeq2SeqLM",
    "whisper": "AutoModelForSpeechSeq2Seq",
}
# The class has one `head_dim` for queries, keys and values, so only a graph can hold two widths.
HEAD_DIMS = {"heads": False, "head_dims": True, "emit": "graph"}
ATTENTION = "model.layers.1.self_attn"
MIXER = "backbone.layers.1.mixer"
EXPERTS = "model.layers.1.mlp.experts"
DECODER = "model.decoder.layers.1"
BLOCK = "decoder.block.1.layer"
BERT = "bert.encoder.layer.1"
TEXT = "text_model.encoder.layers.1"
VISION = "vision_model.encoder.layers.1"
SAM = "vision_encoder.layers.1"

# model, what goes by half, the options of the plan, and what is left of some parameters
WIDTHS: tuple[tuple[str, str, dict[str, Any], dict[str, tuple[int, ...]]], ...] = (
    (
        *("llama", "key and value heads with their query heads"),
        {"ratios": {"*.k_proj": 0.5}},
        {
            f"{ATTENTION}.k_proj.weight": (16, 64),
            f"{ATTENTION}.v_proj.weight": (16, 64),
            f"{ATTENTION}.q_proj.weight": (32, 64),
            f"{ATTENTION}.o_proj.weight": (64, 32),
        },
    ),
    (
        *("llama", "query heads of each key head"),
        {"ratios": {f"model.layers.{i}.self_attn.q_proj[heads]#1": 0.5 for i in (0, 1)}},
        {
            f"{ATTENTION}.k_proj.weight": (32, 64),
            f"{ATTENTION}.q_proj.weight": (32, 64),
            f"{ATTENTION}.o_proj.weight": (64, 32),
        },
    ),
    (
        *("llama", "dims of value heads"),
        {"ratios": {"*.v_proj": 0.5}, **HEAD_DIMS},
        {f"{ATTENTION}.v_proj.weight": (16, 64), f"{ATTENTION}.o_proj.weight": (64, 32)},
    ),
    (
        *("llama", "dims of query and key heads, which rotate in pairs"),
        {"ratios": {"*.k_proj": 0.5}, **HEAD_DIMS},
        {f"{ATTENTION}.k_proj.weight": (16, 64), f"{ATTENTION}.q_proj.weight": (32, 64)},
    ),
    (
        *("llama", "the inner width of the MLPs"),
        {"ratios": {"*.gate_proj": 0.5}},
        {"model.layers.1.mlp.up_proj.weight": (64, 64)},
    ),
    (
        *("llama", "the hidden width"),
        {"ratios": {"model.embed_tokens": 0.5}},
        {"model.norm.weight": (32,), f"{ATTENTION}.q_proj.weight": (64, 32)},
    ),
    (
        *("qwen2_moe", "key and value heads"),
        {"ratios": {"*.k_proj": 0.5}},
        {f"{ATTENTION}.k_proj.bias": (16,), f"{ATTENTION}.q_proj.bias": (32,)},
    ),
    (
        *("qwen2_moe", "the inner width of the experts"),
        {"ratios": {"*.experts": 0.5, "model.embed_tokens": 0.0}},
        {f"{EXPERTS}.gate_up_proj": (4, 32, 64), f"{EXPERTS}.down_proj": (4, 64, 16)},
    ),
    (
        *("qwen2_moe", "the inner width of the shared expert"),
        {"ratios": {"*.shared_expert.gate_proj": 0.5}},
        {"model.layers.1.mlp.shared_expert.down_proj.weight": (64, 16)},
    ),
    (
        *("qwen2_moe", "the hidden width"),
        {"ratios": {"model.embed_tokens": 0.5}},
        {f"{EXPERTS}.gate_up_proj": (4, 64, 32), "lm_head.weight": (128, 32)},
    ),
    (
        *("mamba", "the inner width"),
        {"ratios": {"*.in_proj": 0.5}},
        {f"{MIXER}.in_proj.weight": (128, 64), f"{MIXER}.out_proj.weight": (64, 64)},
    ),
    (
        *("mamba", "the states and the rank of the steps"),
        {"ratios": {"*.x_proj": 0.5}},
        {f"{MIXER}.dt_proj.weight": (128, 2), f"{MIXER}.A_log": (128, 4)},
    ),
    (
        *("mamba", "the hidden width"),
        {"ratios": {"*.out_proj": 0.5}},
        {f"{MIXER}.in_proj.weight": (256, 32), "backbone.embeddings.weight": (128, 32)},
    ),
    (
        *("whisper", "heads of the encoder"),
        {"ratios": {"model.encoder.*.q_proj": 0.5}},
        {"model.encoder.layers.1.self_attn.v_proj.weight": (32, 64)},
    ),
    (
        *("whisper", "heads of both attentions of the decoder"),
        {"ratios": {"model.decoder.*.q_proj": 0.5}},
        {
            f"{DECODER}.self_attn.out_proj.weight": (64, 32),
            f"{DECODER}.encoder_attn.k_proj.weight": (32, 64),
        },
    ),
    (
        *("whisper", "the inner width of the MLPs"),
        {"ratios": {"*.fc1": 0.5}},
        {f"{DECODER}.fc2.weight": (64, 64)},
    ),
    (
        *("whisper", "the hidden width of the decoder"),
        {"ratios": {"model.decoder.embed_positions": 0.5}},
        {f"{DECODER}.fc1.weight": (128, 32), "model.decoder.embed_positions.weight": (20, 32)},
    ),
    (
        *("t5", "heads"),
        {"ratios": {"*.q": 0.5}},
        {f"{BLOCK}.1.EncDecAttention.k.weight": (32, 64)},
    ),
    (
        *("t5", "the inner width of the MLPs"),
        {"ratios": {"*.wi": 0.5}},
        {f"{BLOCK}.2.DenseReluDense.wo.weight": (64, 64)},
    ),
    (
        *("bert", "heads"),
        {"ratios": {"*.query": 0.5}},
        {f"{BERT}.attention.output.dense.weight": (64, 32)},
    ),
    (
        *("bert", "the inner width of the MLPs"),
        {"ratios": {"*.intermediate.dense": 0.5}},
        {f"{BERT}.output.dense.weight": (64, 64)},
    ),
    (
        *("bert", "the hidden width"),
        {"ratios": {"bert.embeddings.position_embeddings": 0.5}},
        {f"{BERT}.output.dense.weight": (32, 128), "bert.embeddings.LayerNorm.weight": (32,)},
    ),
    (
        *("clip", "heads of both towers"),
        {"ratios": {"*.q_proj": 0.5}},
        {
            f"{TEXT}.self_attn.out_proj.weight": (64, 32),
            f"{VISION}.self_attn.out_proj.weight": (64, 32),
        },
    ),
    (
        *("clip", "the inner width of the MLPs"),
        {"ratios": {"*.mlp.fc1": 0.5}},
        {f"{TEXT}.mlp.fc2.weight": (64, 64), f"{VISION}.mlp.fc2.weight": (64, 64)},
    ),
    (
        *("sam", "heads of the image encoder"),
        {"ratios": {"*.qkv": 0.5}},
        {f"{SAM}.attn.qkv.weight": (96, 64), f"{SAM}.attn.proj.weight": (64, 32)},
    ),
    (
        *("sam", "the inner width of the MLPs"),
        {"ratios": {"*.mlp.lin1": 0.5}},
        {f"{SAM}.mlp.lin2.weight": (64, 64)},
    ),
    (
        *("sam", "the hidden width of the image encoder"),
        {"ratios": {"vision_encoder.patch_embed.projection": 0.5}},
        {f"{SAM}.attn.qkv.weight": (192, 32), f"{SAM}.mlp.lin1.weight": (128, 32)},
    ),
)


@cache
def analyzed(model_type: str) -> fxprune.DependencyGraph:
    pytest.importorskip("transformers")
    entry = architectures()[model_type]
    torch.manual_seed(0)
    model = replace(entry, head=HEADS.get(model_type, entry.head)).build()
    return fxprune.analyze(randomize(model).eval(), entry.inputs())


def shrunk(model_type: str, emit: Emit = "module", **options: Any) -> Any:
    """A model after a plan, of its own class unless told otherwise."""
    deps = analyzed(model_type)
    inputs = architectures()[model_type].inputs()
    return fxprune.shrink(deps, fxprune.plan(deps, **options), inputs, emit=emit)


@pytest.mark.parametrize(
    ("model_type", "what", "options", "left"), WIDTHS, ids=[f"{w[0]}: {w[1]}" for w in WIDTHS]
)
def test_a_width_goes_by_half(
    model_type: str, what: str, options: dict[str, Any], left: dict[str, tuple[int, ...]]
) -> None:
    small = shrunk(model_type, **options)
    assert {name: tuple(small.get_parameter(name).shape) for name in left} == left
    proof = small.meta["fxprune"].verification
    assert proof.dtype == "float64"
    assert proof.relative < 1e-12


@pytest.mark.parametrize(
    ("model_type", "parameter"),
    [
        ("clip", "text_model.embeddings.token_embedding.weight"),
        ("whisper", "model.encoder.conv2.bias"),
    ],
)
def test_hidden_states_that_are_returned_stay_with_that_reason(
    model_type: str, parameter: str
) -> None:
    axis = analyzed(model_type).why(parameter).axes[-1]
    assert not axis.prunable
    assert "output of the model" in str(axis.reason)


def test_query_heads_that_share_a_key_head_are_counted_anew() -> None:
    attention = shrunk("llama", ratios={"*.q_proj": 0.5}).model.layers[1].self_attn
    assert attention.q_proj.out_features == attention.k_proj.out_features == 16
    assert attention.num_key_value_groups == 1
    attention = shrunk("llama", ratios={"*.k_proj": 0.5}).model.layers[1].self_attn
    assert attention.num_key_value_groups == 2


def test_heads_whose_slopes_are_fixed_stay_and_their_dims_stay_head_dims() -> None:
    kinds = {
        (group.kind, group.size, group.pinned is None)
        for group in analyzed("bloom").groups
        if group.name.startswith("transformer.h.0.self_attention")
    }
    assert kinds == {("heads", 4, False), ("channels", 1, False), ("head_dims", 16, True)}


@pytest.mark.parametrize("model_type", ["phi3", "falcon"])
def test_key_heads_and_query_heads_of_a_fused_projection_go_apart(model_type: str) -> None:
    heads = [g for g in analyzed(model_type).groups if g.kind == "heads" and g.pinned is None]
    assert {group.size for group in heads} == {2}
    for number in (0, 1):
        ratios = {group.name: 0.5 for group in heads if group.name.endswith(f"#{number}")}
        report = shrunk(model_type, ratios=ratios).meta["fxprune"]
        assert report.verification.relative < 1e-12


# Generating

GREEDY = {
    "max_new_tokens": 6,
    "do_sample": False,
    "return_dict_in_generate": True,
    "output_logits": True,
}


def inputs_of(model_type: str, **others: torch.Tensor) -> dict[str, torch.Tensor]:
    return {**architectures()[model_type].inputs(), **others}


DECODERS = ["llama", "qwen2_moe", "mamba", "gpt2", "openai-gpt", "gpt_bigcode", "codegen", "phi3"]
ALIBI_AND_OTHERS = ["bloom", "mpt", "falcon", "olmo", "xglm"]
STATES = ["mamba2", "zamba2", "qwen3_next", "deepseek_v3"]


@pytest.mark.parametrize("model_type", [*DECODERS, *ALIBI_AND_OTHERS, *STATES])
def test_the_shrunk_decoder_generates_with_and_without_a_cache(model_type: str) -> None:
    small = shrunk(model_type, ratio=0.5)
    inputs = inputs_of(model_type)
    plain = small.generate(**inputs, **GREEDY, use_cache=False)
    cached = small.generate(**inputs, **GREEDY, use_cache=True)
    assert plain.sequences.shape[1] > inputs["input_ids"].shape[1]
    assert torch.equal(plain.sequences, cached.sequences)
    for left, right in zip(plain.logits, cached.logits, strict=True):
        torch.testing.assert_close(left, right, rtol=1e-4, atol=1e-5)
    with torch.no_grad():
        torch.testing.assert_close(plain.logits[0], small(**inputs).logits[:, -1])


def test_states_that_begin_as_zeros_have_the_new_width() -> None:
    small, inputs = shrunk("rwkv", ratio=0.5), inputs_of("rwkv")
    cached = small.generate(**inputs, **GREEDY, use_cache=True)
    with torch.no_grad():
        torch.testing.assert_close(cached.logits[0], small(**inputs).logits[:, -1])


def test_sequences_that_are_padded_generate_too() -> None:
    small = shrunk("llama", ratio=0.5)
    mask = torch.ones(2, 12, dtype=torch.long)
    mask[0, :5] = 0
    padded = small.generate(**inputs_of("llama", attention_mask=mask), **GREEDY, use_cache=True)
    alone = small.generate(inputs_of("llama")["input_ids"][:1, 5:], **GREEDY, use_cache=True)
    for left, right in zip(padded.logits, alone.logits, strict=False):
        torch.testing.assert_close(left[:1], right, rtol=1e-4, atol=1e-5)


def test_the_shrunk_decoder_generates_what_the_original_with_zeros_does() -> None:
    deps = analyzed("llama")
    plan = fxprune.plan(deps, ratios={"*.gate_proj": 0.5, "*.k_proj": 0.5})
    small: Any = fxprune.shrink(deps, plan, inputs_of("llama"), emit="module")
    masked = architectures()["llama"].build().eval()
    masked.load_state_dict(deps.model.state_dict())
    with torch.no_grad():
        for name, dims in plan.slices.items():
            for dim, gone in dims.items():  # heads and inner widths are no norm's
                masked.get_parameter(name).index_fill_(dim, torch.tensor(gone), 0)
    ours, theirs = (m.generate(**inputs_of("llama"), **GREEDY) for m in (small, masked))
    assert torch.equal(ours.sequences, theirs.sequences)
    for left, right in zip(ours.logits, theirs.logits, strict=True):
        torch.testing.assert_close(left, right, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("model_type", ["t5", "whisper"])
def test_a_shrunk_encoder_decoder_generates(model_type: str) -> None:
    small = shrunk(model_type, ratio=0.5)
    inputs = inputs_of(model_type)
    plain = small.generate(**inputs, **GREEDY, use_cache=False)
    cached = small.generate(**inputs, **GREEDY, use_cache=True)
    assert torch.equal(plain.sequences, cached.sequences)
