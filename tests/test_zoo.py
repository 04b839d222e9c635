"""Every model of the zoo, through the whole chain."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import fxprune
from fxprune.interpretation import decomposed_attention
from fxprune.module_trees import clone_tree, to_meta
from models_zoo import ZOO, randomize
from tests.golden import FOLDER, listing

NOTHING_TO_PRUNE = {"nothing_to_prune", "nothing_to_prune_pyramid"}
FIXED_SIZE = {name for name in ZOO if name.startswith(("classic_cnn", "flatten_concat"))} | {
    "conv1d_3d",  # its last linear layer takes a fixed length
    "shape_arithmetic_literal",  # names its sizes
    "temporal_shift",  # four frames are one sample
    "temporal_shift_split",
}


def with_kind(*kinds: str) -> list[str]:
    """The models that have free groups of one of the kinds."""
    ends = tuple(f" {kind}" for kind in kinds)
    texts = {name: (FOLDER / f"{name}.txt").read_text(encoding="utf-8") for name in ZOO}
    return [name for name in ZOO if any(line.endswith(ends) for line in texts[name].splitlines())]


def built(name: str) -> tuple[nn.Module, tuple[Tensor, ...]]:
    return randomize(ZOO[name].build()).eval(), ZOO[name].example_inputs()


@pytest.mark.parametrize("name", ZOO)
def test_the_groups_are_the_expected_ones(name: str) -> None:
    assert listing(name) == (FOLDER / f"{name}.txt").read_text(encoding="utf-8")


def test_every_expected_listing_has_a_model() -> None:
    assert {path.stem for path in FOLDER.glob("*.txt")} == set(ZOO)


@pytest.mark.parametrize("ratio", [0.5, 0.9])
@pytest.mark.parametrize("name", ZOO)
def test_a_shrunk_model_equals_the_masked_original(name: str, ratio: float) -> None:
    model, inputs = built(name)
    small = fxprune.shrink(model, fxprune.plan(model, inputs, ratio), inputs)
    report = small.meta["fxprune"]
    assert report.verification.every_node
    assert report.verification.dtype == "float64"
    assert report.verification.relative < 1e-9
    assert report.after.parameters <= report.before.parameters
    if name not in NOTHING_TO_PRUNE and ratio == 0.5:
        assert report.after.parameters < report.before.parameters


@pytest.mark.parametrize("name", ZOO)
def test_any_channels_can_go_not_only_the_small_ones(name: str) -> None:
    model, inputs = built(name)
    for seed in range(2):
        plan = fxprune.plan(model, inputs, 0.6, criterion="random", seed=seed)
        assert fxprune.verify(model, fxprune.shrink(model, plan, verify=False), plan).nodes


@pytest.mark.parametrize(("heads", "head_dims"), [(True, True), (False, True), (False, False)])
@pytest.mark.parametrize("name", with_kind("heads", "head_dims"))
def test_heads_and_head_dims_go_alone_or_together(name: str, heads: bool, head_dims: bool) -> None:
    model, inputs = built(name)
    plan = fxprune.plan(model, inputs, 0.5, heads=heads, head_dims=head_dims)
    small = fxprune.shrink(model, plan, inputs)
    larger = tuple(torch.cat([x, x + 1, x[:1]]) for x in inputs)
    assert small.meta["fxprune"].verification.relative < 1e-9
    assert fxprune.verify(model, small, plan, larger).relative < 1e-9
    chosen = {"channels": True, "heads": heads, "head_dims": head_dims}
    for group in plan.groups.values():
        assert bool(group.removed) is chosen[group.kind]


@pytest.mark.parametrize("name", with_kind("groups"))
def test_whole_groups_go_where_that_is_asked_for(name: str) -> None:
    model, inputs = built(name)
    plan = fxprune.plan(model, inputs, 0.5, groups=True)
    report = fxprune.shrink(model, plan, inputs).meta["fxprune"]
    assert report.verification.relative < 1e-9
    groups = [group for group in plan.groups.values() if group.kind == "groups" and group.size > 1]
    assert all(group.removed for group in groups)


@pytest.mark.parametrize("name", ZOO)
def test_the_original_is_left_alone(name: str) -> None:
    model, inputs = built(name)
    before = copy.deepcopy(model.state_dict())
    text = repr(model)
    modules = list(model.modules())
    small = fxprune.shrink(model, fxprune.plan(model, inputs, 0.5), inputs)
    assert repr(model) == text
    assert all(a is b for a, b in zip(model.modules(), modules, strict=True))
    assert not model.training
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key])
    storages = {p.untyped_storage().data_ptr() for p in model.state_dict().values() if p.numel()}
    assert not storages & {
        p.untyped_storage().data_ptr() for p in small.state_dict().values() if p.numel()
    }


@pytest.mark.parametrize("name", sorted(set(ZOO) - FIXED_SIZE))
def test_another_batch_works_after_shrinking(name: str) -> None:
    model, inputs = built(name)
    plan = fxprune.plan(model, inputs, 0.5)
    small = fxprune.shrink(model, plan, verify=False)
    larger = tuple(torch.cat([x, x + 1, x[:1]]) for x in inputs)
    assert fxprune.verify(model, small, plan, larger).relative < 1e-9


@pytest.mark.parametrize("name", sorted(NOTHING_TO_PRUNE))
def test_a_model_with_nothing_to_prune_comes_back_equal_with_the_reason(name: str) -> None:
    model, inputs = built(name)
    small = fxprune.shrink(model, fxprune.plan(model, inputs, 0.5), inputs)
    report = small.meta["fxprune"]
    assert not report.changed
    assert "nothing to prune" in str(report)
    expected, got = model(*inputs), small(*inputs)
    for a, b in zip([expected] if isinstance(expected, Tensor) else expected, got, strict=False):
        assert torch.equal(a if isinstance(expected, tuple) else a[0], b)


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")  # of checkpoints
@pytest.mark.parametrize("name", ZOO)
def test_the_reported_macs_are_those_that_torch_counts(name: str) -> None:
    model, inputs = built(name)
    small = fxprune.shrink(model, fxprune.plan(model, inputs, 0.5), verify=False)
    report = small.meta["fxprune"]
    for module, cost in ((model, report.before), (small, report.after)):
        # torch counts nothing in the fused kernels that some CPUs have for recurrent layers
        twin = clone_tree(module, to_meta)
        counter = FlopCounterMode(display=False)
        with torch.no_grad(), decomposed_attention(), counter:
            twin(*(x.to("meta") for x in inputs))
        assert cost.macs == counter.get_total_flops() // 2


@pytest.mark.parametrize("name", ZOO)
def test_the_widths_follow_the_plan_exactly(name: str) -> None:
    model, inputs = built(name)
    plan = fxprune.plan(model, inputs, 0.5)
    small = fxprune.shrink(model, plan, verify=False)
    state = small.state_dict()
    for parameter, shape in plan.shapes.items():
        removed = plan.slices.get(parameter, {})
        expected = [n - len(removed.get(dim, ())) for dim, n in enumerate(shape)]
        if parameter in state and "index" not in parameter:
            assert list(state[parameter].shape) == expected
    for group in plan.groups.values():
        if group.kind in ("channels", "heads") and group.size > 1:
            assert group.width == group.size - group.size // 2
