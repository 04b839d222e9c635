"""Layers of transformers are dropped whole, and what is left generates.

The models are small random ones, with weights large enough for every layer to matter.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch

import fxprune
from fxprune import RewriteError
from fxprune.planning.blocks import residual_blocks

transformers = pytest.importorskip("transformers", reason="transformers is not installed")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.xdist_group("dropped layers"),
    # transformers warns of optional libraries that are missing.
    pytest.mark.filterwarnings("ignore"),
]
IDS = torch.randint(0, 97, (2, 9), generator=torch.Generator().manual_seed(0))
SIZES = {
    "vocab_size": 97,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
}
UNCACHED = {"input_ids": IDS, "use_cache": False}


def with_weights(model: Any) -> Any:
    torch.manual_seed(0)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model.eval()


def llama(layers: int = 4) -> Any:
    sizes = {**SIZES, "num_hidden_layers": layers, "num_key_value_heads": 2}
    return with_weights(transformers.LlamaForCausalLM(transformers.LlamaConfig(**sizes)))


@cache
def model_of(kind: str) -> Any:
    if kind == "llama":
        return llama()
    return with_weights(transformers.BertForMaskedLM(transformers.BertConfig(**SIZES)))


def llama_of(kept: list[int]) -> Any:
    """A Llama that has some layers of the other only."""
    small, state = llama(len(kept)), {}
    for name, tensor in model_of("llama").state_dict().items():
        head, _, rest = name.partition("model.layers.")
        number, _, tail = rest.partition(".")
        if not rest:
            state[name] = tensor
        elif int(number) in kept:
            state[f"{head}model.layers.{kept.index(int(number))}.{tail}"] = tensor
    small.load_state_dict(state)
    return small


def dropped(kind: str, numbers: list[int], inputs: Any, **options: Any) -> Any:
    prefix = "model.layers" if kind == "llama" else "bert.encoder.layer"
    ratio = options.pop("ratio", 0.0)
    names = [f"{prefix}.{number}" for number in numbers]
    plan = fxprune.plan(model_of(kind), inputs, ratio=ratio, drop=names)
    return fxprune.shrink(model_of(kind), plan, inputs, **options)


@pytest.mark.parametrize("kind", ["llama", "bert"])
def test_the_layers_are_the_blocks(kind: str) -> None:
    prefix = "model.layers" if kind == "llama" else "bert.encoder.layer"
    inputs = UNCACHED if kind == "llama" else {"input_ids": IDS}
    found = residual_blocks(fxprune.analyze(model_of(kind), inputs))
    assert [block.name for block in found] == [f"{prefix}.{k}" for k in range(4)]


@pytest.mark.parametrize("numbers", [[0], [1, 2], [3]])
def test_a_graph_computes_what_the_other_layers_do(numbers: list[int]) -> None:
    small = dropped("llama", numbers, UNCACHED)
    expected = llama_of([k for k in range(4) if k not in numbers])(**UNCACHED).logits
    got = small(**UNCACHED)
    got = got["logits"] if isinstance(got, dict) else got.logits
    torch.testing.assert_close(got, expected)


@pytest.mark.parametrize("kind", ["llama", "bert"])
@pytest.mark.parametrize("emit", ["graph", "module"])
def test_a_layer_goes_with_half_of_the_channels_of_the_others(kind: str, emit: Any) -> None:
    inputs = UNCACHED if kind == "llama" else {"input_ids": IDS}
    report = dropped(kind, [1], inputs, ratio=0.5, emit=emit).meta["fxprune"]
    assert report.verification.dropped == 1
    assert report.after.parameters < report.before.parameters / 2


GENERATION: dict[str, dict[str, Any]] = {
    "with a cache": {"use_cache": True},
    "without a cache": {"use_cache": False},
    "by beams": {"num_beams": 3},
    "with a static cache": {"cache_implementation": "static", "disable_compile": True},
}


@pytest.mark.parametrize("numbers", [[1], [3], [1, 2]])
def test_a_module_generates_what_the_other_layers_do(numbers: list[int]) -> None:
    small = dropped("llama", numbers, UNCACHED, emit="module")
    other = llama_of([k for k in range(4) if k not in numbers])
    always = {"max_new_tokens": 8, "do_sample": False, "pad_token_id": 0}
    for how, options in GENERATION.items():
        got = small.generate(IDS, **always, **options)
        assert torch.equal(got, other.generate(IDS, **always, **options)), how


def test_a_call_that_returns_a_cache_has_no_keys_of_the_dropped_layer() -> None:
    small = dropped("llama", [1], {"input_ids": IDS}, emit="module")
    cache = small(IDS).past_key_values
    assert [layer.get_seq_length() for layer in cache.layers] == [9, 0, 9, 9]


def test_the_layer_that_the_length_of_the_cache_is_read_off_stays_in_a_module() -> None:
    with pytest.raises(RewriteError, match=r"without model\.layers\.0") as caught:
        dropped("llama", [0], UNCACHED, emit="module")
    assert caught.value.where == "module model.layers.0.self_attn"
    assert 'emit="graph"' in caught.value.hint


def test_an_encoder_has_no_such_layer() -> None:
    inputs = {"input_ids": IDS}
    small = dropped("bert", [0], inputs, emit="module")
    assert type(small) is type(model_of("bert"))
