"""Experts whose products are one grouped operator, which counts the rows of each."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import fxprune
from models_zoo import randomize


class Experts(nn.Module):
    """Four experts 24 -> 32 -> 24; each token goes to the two best."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Linear(8, 24), nn.Linear(24, 5)
        self.router = nn.Linear(24, 4)
        self.up = nn.Parameter(torch.zeros(4, 24, 32))
        self.down = nn.Parameter(torch.zeros(4, 32, 24))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        weights, best = self.router(x).softmax(-1).topk(2, -1)
        numbers, order = best.reshape(-1).sort()
        ends = torch.histc(numbers.float(), 4, 0, 3).cumsum(0, dtype=torch.int32)
        hidden = F.gelu(torch._grouped_mm(x[order // 2], self.up, offs=ends))
        out = torch._grouped_mm(hidden, self.down, offs=ends)
        out = (out * weights.reshape(-1)[order].unsqueeze(-1))[order.argsort()]
        return self.head(out.reshape(-1, 2, 24).sum(1))


X = torch.randn(6, 8, generator=torch.Generator().manual_seed(0)).bfloat16()


def experts() -> nn.Module:
    return randomize(Experts()).bfloat16().eval()


def test_both_widths_are_prunable_and_experts_stay_with_a_reason() -> None:
    deps = fxprune.analyze(experts(), X)
    members = {(m.parameter, m.dim): g for g in deps.groups for m in g.members}
    assert members["up", 1] is members["stem.weight", 0] is members["router.weight", 1]
    assert members["up", 2] is members["down", 1]
    assert not members["up", 1].pinned
    assert not members["up", 2].pinned
    assert "routing picks" in str(members["up", 0].pinned)
    assert "routing picks" in str(members["down", 0].pinned)


def test_widths_that_the_kernel_takes_are_pruned_and_verified_in_double() -> None:
    model = experts()
    small = fxprune.shrink(model, fxprune.plan(model, X, 0.4, round_to=8), X)
    result = small.meta["fxprune"].verification
    assert result.dtype == "float64"
    assert result.relative < 1e-12
    assert small.up.shape == (4, 16, 24)
    assert small(X[:3]).shape == (3, 5)


def test_a_width_that_the_kernel_refuses_is_refused_with_a_remedy() -> None:
    model = experts()
    with pytest.raises(fxprune.FxPruneError, match=r"multiple of 16 bytes(.|\n)*round_to=8"):
        fxprune.shrink(model, fxprune.plan(model, X, 0.4), X)


def test_every_row_counts_once_in_the_macs() -> None:
    model = experts()
    small = fxprune.shrink(model, fxprune.plan(model, X, 0.4, round_to=8), X)
    report = small.meta["fxprune"]
    assert report.before.macs == 6 * (8 * 24 + 24 * 4 + 24 * 5) + 12 * (24 * 32) * 2
    assert report.after.macs == 6 * (8 * 16 + 16 * 4 + 16 * 5) + 12 * (16 * 24) * 2


# -- transformers ---------------------------------------------------------------------------

SMALL = {
    "vocab_size": 32,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 8,
    "num_local_experts": 4,
    "num_experts_per_tok": 2,
    "pad_token_id": 0,
}
TOKENS = {"input_ids": torch.arange(12).reshape(2, 6), "use_cache": False}


def decoder(kind: str) -> nn.Module:
    transformers: Any = pytest.importorskip("transformers")
    config = transformers.AutoConfig.for_model(kind, **SMALL)
    return randomize(transformers.AutoModelForCausalLM.from_config(config)).eval()


@pytest.mark.parametrize("kind", ["mixtral", "gpt_oss"])
def test_a_decoder_with_experts_shrinks_in_every_width(kind: str) -> None:
    model = decoder(kind)
    deps = fxprune.analyze(model, TOKENS)
    plan = fxprune.plan(deps, ratio=0.5)
    small = fxprune.shrink(deps, plan, TOKENS)
    result = small.meta["fxprune"].verification
    before, after = dict(model.named_parameters()), dict(small.named_parameters())
    for name in ("gate_up_proj", "down_proj"):
        path = f"model.layers.0.mlp.experts.{name}"
        experts, *widths = before[path].shape
        assert after[path].shape == (experts, *(width // 2 for width in widths))
    assert (result.dtype, result.relative < 1e-12) == ("float64", True)
