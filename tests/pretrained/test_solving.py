"""The class is asked which sizes follow from which number."""

from __future__ import annotations

from typing import Any

import pytest

from fxprune.pretrained.configs import built, field_name, fields, is_config, is_model
from fxprune.pretrained.solving import Equations, quantities
from tests.pretrained.models import build

pytestmark = pytest.mark.filterwarnings("ignore")


def equations(family: str) -> Equations:
    model = build(family)
    return Equations.of(lambda config: built(type(model), config), model.config)


def powers(found: Equations, name: str, dim: int) -> dict[str, int]:
    return {field_name(f): power for f, power in found.powers["shape", name, dim].items()}


def test_the_rows_of_queries_are_heads_times_their_width() -> None:
    found = equations("llama")
    name = "model.layers.0.self_attn.q_proj.weight"
    assert powers(found, name, 0) == {"num_attention_heads": 1, "head_dim": 1}
    assert powers(found, name, 1) == {"hidden_size": 1}


def test_a_number_that_the_class_derives_becomes_explicit() -> None:
    assert equations("gpt2").numbers["n_inner",] == 128
    assert equations("phi3").numbers["head_dim",] == 8


def test_a_sum_of_products_is_no_equation_for_its_terms() -> None:
    found = powers(equations("phi3"), "model.layers.0.self_attn.qkv_proj.weight", 0)
    assert found == {"num_attention_heads": 0, "num_key_value_heads": 0, "head_dim": 1}


def test_numbers_of_the_vocabulary_and_of_layers_are_not_tried() -> None:
    assert {field_name(f) for f in fields(build("gpt2").config)}.isdisjoint(
        {"vocab_size", "n_layer", "n_positions", "eos_token_id"}
    )


def test_a_model_of_the_same_sizes_has_the_same_numbers() -> None:
    found = equations("t5")
    assert found.solved(found.before) == found.numbers


def test_where_layers_do_not_agree_most_of_them_count() -> None:
    found = equations("llama")
    after = dict(found.before)
    for part, dim in (("gate_proj", 0), ("up_proj", 0), ("down_proj", 1)):
        after["shape", f"model.layers.0.mlp.{part}.weight", dim] = 24
    numbers = found.solved({q: size for q, size in after.items() if "layers.1" not in q[1]})
    assert numbers["intermediate_size",] == 24
    after["shape", "model.layers.0.mlp.up_proj.weight", 0] = 48
    assert found.solved(after)["intermediate_size",] == 48


def test_what_is_no_model_of_transformers_is_told_apart() -> None:
    model: Any = build("bert")
    assert is_model(model)
    assert is_model(model.bert)
    assert is_config(model.config)
    assert not is_model(model.bert.encoder)
    assert not is_config(model)
    assert quantities(model.cls)["shape", "predictions.bias", 0] == 96
