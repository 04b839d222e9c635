"""Checkpoints of transformers: what is written is what plain `from_pretrained` loads."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import fxprune
from fxprune.errors import InputError, RewriteError
from fxprune.shards import SINGLE
from fxprune.streaming.markers import MARKER
from tests.streaming.nets import digests, read_back, same

transformers = pytest.importorskip("transformers", reason="needs transformers")
pytest.importorskip("safetensors", reason="needs the extra safetensors")

TOKENS = torch.arange(3, 27).reshape(2, 12)


def llama(**options: Any) -> Any:
    sizes = {"hidden_size": 32, "intermediate_size": 80, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 4}
    return transformers.LlamaConfig(vocab_size=64, **sizes, **heads, **options)


def gpt2() -> Any:
    return transformers.GPT2Config(vocab_size=64, n_embd=32, n_head=4, n_layer=2, n_positions=32)


def qwen2() -> Any:
    sizes = {"hidden_size": 32, "intermediate_size": 80, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2}
    return transformers.Qwen2Config(vocab_size=64, **sizes, **heads)


def bert() -> Any:
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    return transformers.BertConfig(vocab_size=64, num_attention_heads=4, **sizes)


CASES: dict[str, tuple[Callable[[], Any], str, dict[str, Any]]] = {
    "llama": (llama, "LlamaForCausalLM", {"use_cache": False}),
    "tied llama": (
        lambda: llama(tie_word_embeddings=True),
        "LlamaForCausalLM",
        {"use_cache": False},
    ),
    "gpt2": (gpt2, "GPT2LMHeadModel", {"use_cache": False}),
    "qwen2": (qwen2, "Qwen2ForCausalLM", {"use_cache": False}),
    "bert": (bert, "BertForMaskedLM", {}),
}


def made(case: str) -> tuple[Any, Any, dict[str, Any]]:
    """A model with weights, one without, and example inputs."""
    config, name, others = CASES[case]
    kind = getattr(transformers, name)
    torch.manual_seed(0)
    model = kind(config()).eval()
    with torch.device("meta"):
        bare = kind(config()).eval()
    return model, bare, {"input_ids": TOKENS, **others}


@pytest.mark.parametrize("case", CASES)
def test_what_is_written_is_loaded_and_computes_what_shrink_makes_in_memory(
    tmp_path: Path, case: str
) -> None:
    model, bare, inputs = made(case)
    source, target = tmp_path / "source", tmp_path / "target"
    model.save_pretrained(source, max_shard_size="20KB")
    before = digests(source)
    options: dict[str, Any] = {"ratio": 0.25, "uniform": True}
    plan = fxprune.plan(bare, inputs, weights=source, **options)
    assert plan == fxprune.plan(model, inputs, **options)
    report = fxprune.shrink_checkpoint(bare, source, target, plan)
    assert digests(source) == before
    small: Any = fxprune.shrink(model, plan, inputs, emit="module")
    again = type(model).from_pretrained(target).eval()
    with torch.no_grad():
        assert torch.equal(again(**inputs).logits, small(**inputs).logits)
    state = small.state_dict()
    assert same(read_back(target), {name: state[name] for name in read_back(target)})
    assert report.has_config
    small.save_pretrained(tmp_path / "memory")
    written, expected = (
        json.loads((folder / "config.json").read_text()) for folder in (target, tmp_path / "memory")
    )
    assert written == expected
    if (source / "generation_config.json").exists():
        assert "generation_config.json" in report.copied


def test_the_loaded_models_are_compared_on_request(tmp_path: Path) -> None:
    model, bare, inputs = made("llama")
    model.save_pretrained(tmp_path / "source")
    assert (tmp_path / "source" / SINGLE).exists()
    plan = fxprune.plan(bare, inputs, 0.25, uniform=True, weights=tmp_path / "source")
    report = fxprune.shrink_checkpoint(
        bare, tmp_path / "source", tmp_path / "target", plan, inputs, verify="quick"
    )
    assert report.verification is not None
    assert report.verification.nodes
    assert not (tmp_path / "target" / MARKER).exists()


def test_widths_that_no_configuration_tells_are_refused_before_anything_is_written(
    tmp_path: Path,
) -> None:
    model, bare, inputs = made("llama")
    model.save_pretrained(tmp_path / "source")
    plan = fxprune.plan(bare, inputs, ratios={"model.layers.0.mlp": 0.5}, criterion="random")
    with pytest.raises(RewriteError, match="could not be loaded by from_pretrained") as caught:
        fxprune.shrink_checkpoint(bare, tmp_path / "source", tmp_path / "target", plan)
    assert "uniform=True" in caught.value.hint
    assert not (tmp_path / "target").exists()


def test_a_number_that_forward_reads_has_to_be_the_new_one(tmp_path: Path) -> None:
    class Scaled(transformers.GPT2LMHeadModel):  # type: ignore[name-defined,misc]
        def forward(self, input_ids: torch.Tensor, use_cache: bool = False) -> Any:
            out = super().forward(input_ids, use_cache=use_cache)
            out.logits = out.logits * self.transformer.embed_dim
            return out

    inputs = {"input_ids": TOKENS, "use_cache": False}
    Scaled(gpt2()).save_pretrained(tmp_path / "source")
    with torch.device("meta"):
        bare = Scaled(gpt2()).eval()
    plan = fxprune.plan(bare, inputs, 0.25, uniform=True, criterion="random")
    with pytest.raises(RewriteError, match="could not be loaded") as caught:
        fxprune.shrink_checkpoint(bare, tmp_path / "source", tmp_path / "target", plan)
    assert "embed_dim is 24, not 32" in caught.value.why


def test_dims_of_heads_that_rotate_are_refused(tmp_path: Path) -> None:
    model, bare, inputs = made("llama")
    model.save_pretrained(tmp_path / "source")
    plan = fxprune.plan(bare, inputs, 0.25, head_dims=True, uniform=True, criterion="random")
    assert any("rotary" in name for name in plan.slices)
    with pytest.raises(RewriteError, match="inv_freq"):
        fxprune.shrink_checkpoint(bare, tmp_path / "source", tmp_path / "target", plan)
    assert not (tmp_path / "target").exists()


def test_a_checkpoint_of_the_model_without_its_head_is_told(tmp_path: Path) -> None:
    model, bare, inputs = made("llama")
    model.model.save_pretrained(tmp_path / "source")
    plan = fxprune.plan(model, inputs, 0.25, uniform=True)
    with pytest.raises(InputError, match=r"the model's begin with 'model\.'"):
        fxprune.shrink_checkpoint(bare, tmp_path / "source", tmp_path / "target", plan)


def test_a_quantized_checkpoint_is_refused(tmp_path: Path) -> None:
    model, bare, inputs = made("llama")
    model.save_pretrained(tmp_path / "source")
    plan = fxprune.plan(model, inputs, 0.25, uniform=True)
    bare.config.quantization_config = {"quant_method": "fp8"}
    with pytest.raises(InputError, match="quantized, by its configuration"):
        fxprune.shrink_checkpoint(bare, tmp_path / "source", tmp_path / "target", plan)


def test_a_model_without_data_is_emitted_with_its_configuration() -> None:
    model, bare, inputs = made("llama")
    plan = fxprune.plan(model, inputs, 0.25, uniform=True)
    small: Any = fxprune.shrink(bare, plan, emit="module", verify=False)
    full: Any = fxprune.shrink(model, plan, inputs, emit="module", verify=False)
    assert small.config.to_dict() == full.config.to_dict()
    assert {n: t.shape for n, t in small.state_dict().items()} == {
        n: t.shape for n, t in full.state_dict().items()
    }
