"""Nodes that cannot take pruned operands are replaced by their operators."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

import fxprune
from fxprune.lowering import Lowering
from models_zoo import ZOO, randomize


def built(name: str) -> tuple[nn.Module, tuple[Tensor, ...]]:
    return randomize(ZOO[name].build()).eval(), ZOO[name].example_inputs()


def shrunk(name: str) -> tuple[nn.Module, fx.GraphModule, tuple[Tensor, ...]]:
    model, inputs = built(name)
    return model, fxprune.shrink(model, fxprune.plan(model, inputs, 0.5), inputs), inputs


@fx.wrap
def mean_over_tokens(x: Tensor, weight: Tensor) -> Tensor:
    """Uses the number of tokens as a number that no formula of sizes gives."""
    batch, tokens, _ = x.shape
    pairs = (x @ weight).reshape(batch, tokens, 2, -1)
    return pairs.sum(1).flatten(1) * (1.0 / tokens)


class Averaged(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.head = nn.Linear(8, 6), nn.Linear(10, 3)
        self.mix = nn.Parameter(torch.randn(6, 10))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(mean_over_tokens(self.embed(x), self.mix))


@fx.wrap
def mixed_heads(parts: tuple[Tensor, Tensor], heads: int) -> Tensor:
    """The first of two parts, and the second with its heads in reverse, summed over tokens."""
    first, second = (p.reshape(p.shape[0], p.shape[1], heads, -1) for p in parts)
    return (first * 2 + second.sum(1, keepdim=True).flip(2)).flatten(2)


class MixedHeads(nn.Module):
    """A hidden function gets both halves of a tensor as one argument."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.head = nn.Linear(8, 24), nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(mixed_heads(self.embed(x).chunk(2, dim=-1), 4))


def test_a_function_may_take_what_is_in_a_tuple() -> None:
    model, x = randomize(MixedHeads()).eval(), torch.randn(2, 5, 8)
    small = fxprune.shrink(model, fxprune.plan(model, x, 0.5), x)
    assert small.meta["fxprune"].verification.every_node
    assert len(small.get_parameter("embed.weight")) < 24
    assert mixed_heads not in {node.target for node in small.graph.nodes}


@pytest.mark.parametrize("name", ["attention_modules", "attention_modules_decoder"])
def test_a_lowered_model_keeps_its_state_dict_names_and_node_names(name: str) -> None:
    model, small, _ = shrunk(name)
    assert small.state_dict().keys() == model.state_dict().keys()
    before = [node.name for node in fxprune.analyze(model, built(name)[1]).graph_module.graph.nodes]
    after = [node.name for node in small.graph.nodes]
    assert [n for n in after if n in set(before)] == before
    modules = {str(node.target) for node in small.graph.nodes if node.op == "call_module"}
    assert not modules & {"attention", "layer"}


def test_the_module_of_a_lowered_node_holds_its_tensors_only() -> None:
    _, small, _ = shrunk("attention_modules")
    holder = small.get_submodule("attention")
    assert type(holder) is nn.Module
    assert holder.get_parameter("in_proj_weight").shape == (24, 8)


def test_a_lowered_model_can_be_pickled() -> None:
    _, small, inputs = shrunk("attention_modules_encoder")
    small.meta = {}
    again = pickle.loads(pickle.dumps(small))
    assert torch.equal(again(*inputs), small(*inputs))


def test_a_lowered_model_can_be_trained() -> None:
    _, small, inputs = shrunk("attention_modules_encoder")
    small(*inputs).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in small.parameters())


def test_a_lowered_model_can_be_shrunk_again() -> None:
    _, small, inputs = shrunk("attention_modules_encoder")
    less = fxprune.shrink(small, fxprune.plan(small, inputs, 0.5), inputs)
    report = less.meta["fxprune"]
    assert report.after.parameters < report.before.parameters


@pytest.mark.parametrize("lengths", [(9, 7), (6, 3), (1, 1)])
@pytest.mark.parametrize("name", ["attention_modules_cross", "attention_modules_decoder"])
def test_a_lowered_model_takes_other_lengths(name: str, lengths: tuple[int, int]) -> None:
    model, inputs = built(name)
    plan = fxprune.plan(model, inputs, 0.5)
    small = fxprune.shrink(model, plan)
    others = tuple(
        torch.randn(3, length, x.shape[2]) for length, x in zip(lengths, inputs, strict=True)
    )
    assert fxprune.verify(model, small, plan, others).relative < 1e-9


@pytest.mark.parametrize("name", ["attention_modules", "attention_modules_encoder"])
def test_the_batch_is_dynamic_even_if_the_example_has_one_sample(name: str) -> None:
    model, (x,) = built(name)
    plan = fxprune.plan(model, x[:1], 0.5)
    small = fxprune.shrink(model, plan)
    assert fxprune.verify(model, small, plan, torch.cat([x, x])).relative < 1e-9


@pytest.mark.parametrize("name", [n for n in ZOO if n.startswith("attention_modules")])
def test_the_scale_stays_the_originals_when_head_dims_go(name: str) -> None:
    model, inputs = built(name)
    deps = fxprune.analyze(model, inputs)
    ratios = {g.name: 0.5 for g in deps.groups if g.kind == "head_dims" and g.prunable}
    assert ratios
    report = fxprune.shrink(deps, fxprune.plan(deps, ratios=ratios), inputs).meta["fxprune"]
    assert report.verification.relative < 1e-9


def test_what_was_recorded_for_one_size_only_refuses_others() -> None:
    model, x = randomize(Averaged()).eval(), torch.randn(2, 5, 8)
    plan = fxprune.plan(model, x, 0.5)
    small = fxprune.shrink(model, plan, x)
    assert fxprune.verify(model, small, plan, torch.randn(7, 5, 8)).relative < 1e-9
    with pytest.raises(
        AssertionError, match=r"mean_over_tokens was recorded for .*shape\[1\] == 5"
    ):
        small(torch.randn(2, 6, 8))


@fx.wrap
def mixed_in_windows(x: Tensor, weight: Tensor) -> Tensor:
    """Pads to windows of four tokens, which are shifted if there are more than one."""
    batch, tokens, _ = x.shape
    x = F.pad(x, (0, 0, 0, (4 - tokens % 4) % 4))
    padded = x.size(1)
    if padded > 4:
        x = x.roll(2, 1)
    windows = x.view(batch, padded // 4, 4, -1) @ weight
    return windows.view(batch, padded, 2, -1).flatten(2)[:, :tokens]


class Windows(Averaged):
    def forward(self, x: Tensor) -> Tensor:
        return self.head(mixed_in_windows(self.embed(x), self.mix))


@fx.wrap
def in_two_if_wide(x: Tensor, weight: Tensor) -> Tensor:
    """Decides by a width that shrinking changes."""
    return (x @ weight).view(*x.shape[:2], 2, -1).flatten(2) if x.shape[-1] >= 6 else x


class TwoIfWide(Averaged):
    def forward(self, x: Tensor) -> Tensor:
        return self.head(in_two_if_wide(self.embed(x), self.mix))


def test_sizes_at_which_other_code_would_run_are_refused() -> None:
    model, x = randomize(Windows()).eval(), torch.randn(2, 8, 8)
    plan = fxprune.plan(model, x, 0.5)
    small = fxprune.shrink(model, plan, x)
    for batch, tokens in ((1, 8), (5, 16), (3, 12)):
        other = torch.randn(batch, tokens, 8)
        assert fxprune.verify(model, small, plan, other).relative < 1e-9
    with pytest.raises(AssertionError, match=r"mixed_in_windows was .* \(pad\.shape\[1\] > 4\)"):
        small(torch.randn(2, 4, 8))
    with pytest.raises(AssertionError, match=r"shape\[1\] % 4\)\) % 4\) == 0"):
        small(torch.randn(2, 9, 8))


def test_a_decision_about_widths_is_the_originals() -> None:
    model, x = randomize(TwoIfWide()).eval(), torch.randn(2, 5, 8)
    small = fxprune.shrink(model, fxprune.plan(model, x, 0.5), x)
    assert small.embed.out_features == 3
    assert small(torch.randn(7, 3, 8)).shape == (7, 3, 3)


def test_what_is_decided_by_sizes_in_the_same_way_everywhere_is_not_asserted() -> None:
    small = shrunk("attention_modules_wrapped")[1]
    assert torch._assert not in {node.target for node in small.graph.nodes}


def test_a_node_that_is_random_in_train_mode_is_refused_with_the_way_out() -> None:
    model, inputs = built("attention_modules_encoder")
    plan = fxprune.plan(model.train(), inputs, 0.5)
    with pytest.raises(fxprune.RewriteError, match=r"model\.eval\(\)"):
        fxprune.shrink(model, plan, inputs)


def test_lowering_leaves_the_analysis_as_it_is() -> None:
    model, inputs = built("attention_modules_decoder")
    deps = fxprune.analyze(model, inputs)
    version, listing = deps.trace.labels.version, deps.text(full=True)
    lowered = Lowering(deps).lower("layer")
    assert (deps.trace.labels.version, deps.text(full=True)) == (version, listing)
    assert set(lowered.state) == {n for n in deps.state if n.startswith("layer.")}


def test_nodes_that_compute_the_same_are_recorded_once() -> None:
    layers: Any = [nn.TransformerEncoderLayer(8, 2, 12, batch_first=True) for _ in range(3)]
    layers.append(nn.TransformerEncoderLayer(8, 4, 12, batch_first=True))
    lowering = Lowering(fxprune.analyze(nn.Sequential(*layers).eval(), torch.randn(2, 5, 8)))
    one, two, other = (lowering.lower(name).graph for name in ("_0", "_1", "_3"))
    assert str(one) == str(two)
    assert str(one) != str(other)
    assert len(lowering._records) == 2 * (1 + 2)
