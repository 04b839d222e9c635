"""What `save_pretrained` of a shrunk model writes loads in plain transformers, or it refuses."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import fxprune
from fxprune.errors import RewriteError
from fxprune.model_files import save_model
from tests.pretrained.models import FAMILIES, build, inputs

pytestmark = [
    # One worker analyzes every model once for all the tests of this file.
    pytest.mark.xdist_group("pretrained"),
    # transformers warns of optional libraries that are missing.
    pytest.mark.filterwarnings("ignore"),
]

# family, what goes, and what the configuration says then
SAVED: tuple[tuple[str, dict[str, Any], dict[str, int]], ...] = (
    (
        "llama",
        {"ratio": 0.5},
        {
            "hidden_size": 16,
            "intermediate_size": 24,
            "head_dim": 8,
            "num_attention_heads": 1,
            "num_key_value_heads": 1,
        },
    ),
    (
        "llama",
        {"ratios": {"*.k_proj": 0.5}},
        {"hidden_size": 32, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 8},
    ),
    ("llama", {"ratios": {"*.gate_proj": 0.25}}, {"intermediate_size": 36, "hidden_size": 32}),
    (
        "llama",
        {"ratios": {f"model.layers.{k}.self_attn.q_proj[heads]#1": 0.5 for k in (0, 1)}},
        {"num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 8},
    ),
    (
        "qwen2",
        {"ratio": 0.5},
        {"hidden_size": 16, "num_attention_heads": 1, "num_key_value_heads": 1, "head_dim": 8},
    ),
    ("phi3", {"ratio": 0.5}, {"hidden_size": 16, "num_attention_heads": 1, "head_dim": 8}),
    (
        "gemma",
        {"ratio": 0.5, "ratios": {"model.embed_tokens.embedding": 0.0}},
        {"hidden_size": 32, "intermediate_size": 24, "num_attention_heads": 1, "head_dim": 8},
    ),
    ("gpt2", {"ratio": 0.5}, {"n_embd": 16, "n_head": 2, "n_inner": 64}),
    ("gpt2", {"ratios": {"*.c_fc": 0.5}}, {"n_embd": 32, "n_head": 4, "n_inner": 64}),
    (
        "bert",
        {"ratio": 0.25},
        {"hidden_size": 24, "intermediate_size": 36, "num_attention_heads": 3},
    ),
    ("vit", {"ratio": 0.5}, {"hidden_size": 16, "intermediate_size": 24, "num_attention_heads": 2}),
    ("t5", {"ratio": 0.5}, {"d_model": 32, "d_ff": 24, "num_heads": 2, "d_kv": 8}),
    (
        "t5",
        {"ratio": 0.5, "heads": False, "head_dims": True},
        {"d_model": 32, "d_ff": 24, "num_heads": 4, "d_kv": 4},
    ),
)


@cache
def analyzed(family: str) -> fxprune.DependencyGraph:
    return fxprune.analyze(build(family), inputs(family))


def shrunk(family: str, **options: Any) -> Any:
    deps = analyzed(family)
    plan = fxprune.plan(deps, **options)
    given = deps.model if "drop" in options else deps
    return fxprune.shrink(given, plan, inputs(family), emit="module", verify="quick")


def loaded(small: Any, folder: Path) -> Any:
    small.save_pretrained(folder)
    return type(small).from_pretrained(folder)


def logits(model: Any, family: str) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model(**inputs(family)).logits
    return found


@pytest.mark.parametrize(
    ("family", "options", "numbers"), SAVED, ids=[f"{s[0]}-{k}" for k, s in enumerate(SAVED)]
)
def test_a_saved_model_is_loaded_with_its_new_widths_and_returns_the_same(
    family: str, options: dict[str, Any], numbers: dict[str, int], tmp_path: Path
) -> None:
    small = shrunk(family, uniform=True, **options)
    assert small.meta["fxprune"].unsavable == ()
    again = loaded(small, tmp_path)
    written = json.loads((tmp_path / "config.json").read_text())
    assert {name: written[name] for name in numbers} == numbers
    assert {n: t.shape for n, t in again.named_parameters()} == {
        n: t.shape for n, t in small.named_parameters()
    }
    assert torch.equal(logits(again, family), logits(small, family))


@pytest.mark.parametrize("family", list(FAMILIES))
def test_ranked_all_together_layers_of_a_type_keep_one_width(family: str) -> None:
    plan = fxprune.plan(analyzed(family), ratio=0.3, scope="global", uniform=True)
    loose = fxprune.plan(analyzed(family), ratio=0.3, scope="global")
    widths: dict[Any, set[int]] = {}
    for name, group in plan.groups.items():
        if group.kind == "heads" or name.endswith((".c_fc", ".wi", "gate_proj", "up_proj", "fc1")):
            number = name.rpartition("#")[2] if "#" in name else ""
            widths.setdefault((group.kind, number), set()).add(group.width)
    assert widths
    assert all(len(each) == 1 for each in widths.values())
    assert plan != loose


CLEAN = """
import sys
sys.modules["fxprune"] = None  # importing it fails
import torch
from transformers import AutoModelForCausalLM
model = AutoModelForCausalLM.from_pretrained(sys.argv[1])
inputs, expected, tokens = torch.load(sys.argv[2], weights_only=True)
with torch.no_grad():
    assert torch.equal(model(**inputs).logits, expected)
assert torch.equal(model.generate(**inputs, max_new_tokens=5, do_sample=False), tokens)
try:
    import fxprune
except ImportError:
    print("same", model.num_parameters())
"""


def test_where_there_is_no_fxprune_a_pruned_llama_returns_and_generates_the_same(
    tmp_path: Path,
) -> None:
    small = shrunk("llama", ratio=0.5, uniform=True)
    small.save_pretrained(tmp_path / "small")
    tokens = small.generate(**inputs("llama"), max_new_tokens=5, do_sample=False)
    assert tokens.shape[1] > inputs("llama")["input_ids"].shape[1]
    expected = logits(small, "llama")
    torch.save((inputs("llama"), expected, tokens), tmp_path / "expected.pt")
    found = subprocess.run(
        [sys.executable, "-I", "-c", CLEAN, str(tmp_path / "small"), str(tmp_path / "expected.pt")],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert found.stdout.split() == ["same", str(small.num_parameters())], found.stderr


def test_the_configuration_of_the_original_stays_and_modules_share_the_new_one() -> None:
    model: Any = analyzed("llama").model
    before = model.config.to_dict()
    small = shrunk("llama", ratios={"*.gate_proj": 0.5})
    assert model.config.to_dict() == before
    assert small.config.intermediate_size == 24
    assert small.model.config is small.model.layers[0].self_attn.config is small.config


def test_numbers_that_modules_keep_and_do_not_use_follow() -> None:
    small = shrunk("gpt2", ratio=0.5)
    assert small.transformer.embed_dim == 16


def test_a_cache_of_fixed_size_has_as_many_heads_as_are_left() -> None:
    small = shrunk("llama", ratio=0.5)
    options = {"max_new_tokens": 4, "do_sample": False}
    plain = small.generate(**inputs("llama"), **options)
    fixed = small.generate(
        **inputs("llama"), **options, cache_implementation="static", disable_compile=True
    )
    assert torch.equal(plain, fixed)


def test_numbers_that_a_user_has_put_there_are_nothing_to_a_configuration() -> None:
    model = build("vit")
    model.threshold = 0.5
    small: Any = fxprune.shrink(model, {"*.fc1": 0.5}, inputs("vit"), emit="module", verify=False)
    assert small.meta["fxprune"].unsavable == ()
    assert (small.threshold, small.config.intermediate_size) == (0.5, 24)


def test_random_numbers_and_messages_of_transformers_are_as_they_were() -> None:
    logging: Any = pytest.importorskip("transformers").utils.logging
    analyzed("vit")
    before = torch.get_rng_state(), logging.get_verbosity(), logging.is_progress_bar_enabled()
    shrunk("vit", ratio=0.5)
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1:] == (logging.get_verbosity(), logging.is_progress_bar_enabled())


# -- what no configuration can say ------------------------------------------------------------


def refused(small: Any, folder: Path) -> RewriteError:
    (reason,) = small.meta["fxprune"].unsavable
    told = f"save_pretrained refuses: {reason}"
    assert told in small.meta["fxprune"].notes()
    assert " ".join(told.split()) in " ".join(str(small.meta["fxprune"]).split())
    with pytest.raises(RewriteError, match="cannot be saved for from_pretrained") as caught:
        small.save_pretrained(folder)
    assert not list(folder.iterdir())
    return caught.value


def test_layers_of_several_widths_are_refused_by_name(tmp_path: Path) -> None:
    small = shrunk("llama", ratios={"model.layers.1.mlp.gate_proj": 0.5})
    error = refused(small, tmp_path)
    assert "model.layers.1.mlp.gate_proj.weight has shape (48, 32), not (24, 32)" in error.why
    assert str(error.where) == "module model.layers.1.mlp.gate_proj"
    assert "uniform=True" in error.hint
    assert small.config.intermediate_size == 48


def test_heads_of_which_the_hidden_width_has_to_be_a_multiple_are_refused(tmp_path: Path) -> None:
    error = refused(shrunk("bert", ratios={"*.query": 0.5}), tmp_path)
    assert "with num_attention_heads=2" in error.why
    assert "attention.self.query.weight has shape (32, 32), not (16, 32)" in error.why


def test_a_scale_that_follows_from_the_hidden_width_is_refused(tmp_path: Path) -> None:
    error = refused(shrunk("gemma", ratio=0.5), tmp_path)
    assert "embed_scale" in error.why


def test_frequencies_of_some_dims_of_heads_are_refused(tmp_path: Path) -> None:
    small = shrunk("llama", ratio=0.5, heads=False, head_dims=True)
    assert "rotary_emb.original_inv_freq has shape (2,), not (4,)" in refused(small, tmp_path).why


def test_new_biases_which_loading_would_leave_out_are_refused(tmp_path: Path) -> None:
    model = build("gpt2")
    model.lm_head.weight = nn.Parameter(model.lm_head.weight.detach().clone())
    model.config.tie_word_embeddings = False
    with torch.no_grad():
        model.transformer.h[0].mlp.c_fc.weight[:, :4] = 0
    plan = fxprune.plan(model, inputs("gpt2"), channels={"transformer.h.0.mlp.c_fc": [0]})
    small = fxprune.shrink(
        model, plan, inputs("gpt2"), emit="module", constants="fold", verify="quick"
    )
    refused(small, tmp_path)


def test_dropped_blocks_which_loading_would_fill_with_random_weights_are_refused(
    tmp_path: Path,
) -> None:
    small = shrunk("llama", drop=["model.layers.1"])
    error = refused(small, tmp_path)
    assert "model.layers.1 would be there again, with random weights" in error.why
    with pytest.raises(RewriteError, match="cannot be saved"):
        small.model.save_pretrained(tmp_path)


def test_a_configuration_that_does_not_fit_the_original_is_refused(tmp_path: Path) -> None:
    model = build("bert")
    model.bert.encoder.layer[0].intermediate.dense = nn.Linear(32, 40)
    model.bert.encoder.layer[0].output.dense = nn.Linear(40, 32)
    small = fxprune.shrink(
        model.eval(),
        {"*.layer.1.intermediate.dense": 0.5},
        inputs("bert"),
        emit="module",
        verify=False,
    )
    error = refused(small, tmp_path)
    assert "that of the original does not fit it" in error.why
    assert "intermediate.dense.weight has shape (48, 32), not (40, 32)" in error.why


def test_what_transformers_itself_says_of_other_sizes_is_an_error(tmp_path: Path) -> None:
    small = shrunk("llama", ratios={"model.layers.1.mlp.gate_proj": 0.5})
    type(small).save_pretrained(small, tmp_path)
    with pytest.raises(RuntimeError, match="ignore_mismatched_sizes"):
        type(small).from_pretrained(tmp_path)


def test_a_type_that_loading_would_give_buffers_is_refused(tmp_path: Path) -> None:
    model = build("llama").to(torch.bfloat16)  # converts the frequencies of rotations, too
    small = fxprune.shrink(
        model, {"*.gate_proj": 0.5}, inputs("llama"), emit="module", verify=False
    )
    assert "has type torch.float32, not torch.bfloat16" in refused(small, tmp_path).why


def test_the_file_of_a_refused_model_is_read_without_fxprune(tmp_path: Path) -> None:
    small = shrunk("vit", ratios={"vit.layers.1.mlp.fc1": 0.5})
    assert small.meta["fxprune"].unsavable
    save_model(small, tmp_path / "small.pt")
    assert b"fxprune" not in (tmp_path / "small.pt").read_bytes()
    assert "save_pretrained" in vars(small)


def test_a_model_inside_a_users_module_is_saved_by_itself(tmp_path: Path) -> None:
    class Scorer(nn.Module):
        def __init__(self, inner: nn.Module) -> None:
            super().__init__()
            self.inner = inner
            self.head = nn.Linear(96, 2)

        def forward(self, ids: torch.Tensor) -> torch.Tensor:
            out: torch.Tensor = self.head(self.inner(input_ids=ids).logits.mean(1))
            return out

    ids = inputs("llama")["input_ids"]
    model = Scorer(build("llama")).eval()
    plan = fxprune.plan(model, ids, ratio=0.5, uniform=True, ignore=["inner.lm_head"])
    small: Any = fxprune.shrink(model, plan, ids, emit="module", verify="quick")
    assert small.meta["fxprune"].unsavable == ()
    assert torch.equal(logits(loaded(small.inner, tmp_path), "llama"), logits(small.inner, "llama"))


def test_a_model_without_values_gets_its_configuration_too() -> None:
    model = build("vit").to("meta")
    plan = fxprune.plan(analyzed("vit"), ratio=0.5)
    images = {"pixel_values": torch.zeros(2, 3, 16, 16, device="meta")}
    small: Any = fxprune.shrink(model, plan, images, emit="module", verify=False)
    assert small.config.hidden_size == 16
    assert small.meta["fxprune"].unsavable == ()
