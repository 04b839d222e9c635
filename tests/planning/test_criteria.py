"""Criteria agree with slow, obvious ones."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import fxprune
from fxprune import DependencyGraph, InputError
from fxprune.groups import Group
from fxprune.importance import criterion_of
from fxprune.planning.criteria import scores
from tests.planning.models import analyzed_chain, chain, zoo

X = torch.zeros(1, 3)


def weights_of(deps: DependencyGraph, group: Group, channel: int) -> torch.Tensor:
    """All weights, of every coupled parameter, that go with a channel."""
    parameters = dict(deps.graph_module.named_parameters())
    pieces = [
        parameters[member.parameter].select(member.dim, position).flatten()
        for member in group.members
        if member.parameter in parameters
        for position in member.positions[channel]
    ]
    return torch.cat(pieces).detach().double()


@pytest.mark.parametrize(("criterion", "order"), [("l1", 1), ("l2", 2)])
@pytest.mark.parametrize("name", ["residual", "classic_cnn", "dense_concat", "grouped_conv"])
def test_a_score_is_the_norm_of_all_weights_that_go_with_a_channel(
    name: str, criterion: Any, order: int
) -> None:
    deps = zoo(name)
    found = scores(deps, criterion_of(criterion))
    for group in deps.groups:
        if group.prunable:
            norms = [weights_of(deps, group, c).norm(p=order) for c in range(group.size)]
            np.testing.assert_allclose(found[group.ids], norms, rtol=1e-5)


@pytest.mark.parametrize(("criterion", "order"), [("l1", 1), ("l2", 2)])
def test_the_channels_with_the_lowest_scores_go(criterion: Any, order: int) -> None:
    deps = zoo("residual")
    plan = fxprune.plan(deps, ratio=0.5, criterion=criterion)
    for name, entry in plan.groups.items():
        group = deps.group(name)
        norms = [float(weights_of(deps, group, c).norm(p=order)) for c in range(group.size)]
        lowest = sorted(range(group.size), key=norms.__getitem__)[: group.size // 2]
        assert entry.removed == tuple(sorted(lowest))


def test_l1_and_l2_can_choose_differently() -> None:
    model = nn.Sequential(nn.Linear(4, 2, bias=False), nn.Linear(2, 1, bias=False))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[3.0, 0, 0, 0], [1, 1, 1, 1]]))
        model[1].weight.zero_()
    removed = {
        criterion: fxprune.plan(model, torch.zeros(1, 4), 0.5, criterion=criterion)
        .groups["0"]
        .removed
        for criterion in ("l1", "l2")
    }
    assert removed == {"l1": (0,), "l2": (1,)}


def test_of_equal_channels_the_first_go() -> None:
    model = chain(3, 4, 2)
    nn.init.ones_(model[0].weight)
    nn.init.zeros_(model[0].bias)
    nn.init.ones_(model[1].weight)
    assert fxprune.plan(model, X, 0.5).groups["0"].removed == (0, 1)


def test_random_choices_depend_on_the_seed_alone() -> None:
    deps = analyzed_chain(3, 64, 2)
    first, again, other = (
        fxprune.plan(deps, ratio=0.5, criterion="random", seed=seed) for seed in (1, 1, 2)
    )
    assert first == again
    assert first.slices != other.slices


def test_random_choices_leave_the_random_state_of_torch_alone() -> None:
    deps = analyzed_chain(3, 8, 2)
    before = torch.get_rng_state()
    fxprune.plan(deps, ratio=0.5, criterion="random")
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16], ids=str)
def test_weights_of_every_precision_can_be_ranked(dtype: torch.dtype) -> None:
    model = chain(3, 8, 2).to(dtype)
    deps = fxprune.analyze(model, torch.zeros(1, 3, dtype=dtype))
    found = scores(deps, criterion_of("l2"))
    (group,) = (group for group in deps.groups if group.prunable)
    norms = [weights_of(deps, group, c).norm() for c in range(group.size)]
    np.testing.assert_allclose(found[group.ids], norms, rtol=1e-5)


def test_buffers_and_pinned_axes_do_not_count() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2)).eval()
    before = fxprune.plan(model, X, 0.5)
    model[1].running_mean.copy_(torch.tensor([0.0, 1e6, 0.0, 1e6]))
    assert fxprune.plan(model, X, 0.5) == before


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("criterion", ["l1", "l2", "random"])
def test_weights_that_are_not_finite_are_named(value: float, criterion: Any) -> None:
    model = chain(3, 8, 8, 2)
    with torch.no_grad():
        model[1].weight[3, 4] = value
    with pytest.raises(InputError, match=r"parameter 1\.weight contains NaN or infinite values"):
        fxprune.plan(model, X, 0.5, criterion=criterion)


def test_weights_without_data_cannot_be_ranked() -> None:
    with pytest.raises(InputError, match=r"parameter 0\.weight has no data") as caught:
        fxprune.plan(chain(3, 8, 2).to("meta"), X, 0.5)
    assert 'criterion="random"' in caught.value.hint


def test_weights_without_data_can_be_chosen_at_random() -> None:
    plan = fxprune.plan(chain(3, 8, 2).to("meta"), X, 0.5, criterion="random")
    assert plan.groups["0"].width == 4


@pytest.mark.parametrize("criterion", ["l3", "", "L2", None])
def test_an_unknown_criterion_is_answered_with_the_known_ones(criterion: Any) -> None:
    with pytest.raises(InputError, match="unknown criterion") as caught:
        fxprune.plan(chain(3, 8, 2), X, criterion=criterion)
    assert "l2, l1, random" in caught.value.hint
