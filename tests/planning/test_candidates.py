"""The cost of candidates is the cost of what `shrink` makes of them."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils.flop_counter import flop_registry

import fxprune
from fxprune import DependencyGraph, Plan
from fxprune.cost import Cost, cost_of
from fxprune.errors import PlanError
from fxprune.labels import Ids
from fxprune.planning import Layout
from fxprune.planning.candidates import CandidateCost, product_of
from models_zoo import ZOO
from tests.planning.models import analyzed_chain, zoo
from tests.torchvision_models import models

NETWORKS = ("resnet18", "mobilenet_v2", "shufflenet_v2_x0_5", "vit_b_32", "swin_t", "densenet121")


@cache
def network(name: str) -> DependencyGraph:
    model = models.get_model(name, weights=None).eval()
    return fxprune.analyze(model, torch.zeros(1, 3, 224, 224))


@cache
def costs(deps: DependencyGraph) -> CandidateCost:
    return CandidateCost(deps)


def drawn(deps: DependencyGraph, share: float, seed: int) -> Ids:
    """Free ids of all groups at random, whole groups among them, prunable by a ratio or not."""
    random = np.random.default_rng(seed)
    free = [group.ids for group in deps.groups if group.pinned is None]
    ids = np.concatenate([*free, np.zeros(0, dtype=np.int64)])
    return ids[random.random(len(ids)) < share]


def measured(deps: DependencyGraph, removed: Ids) -> Cost | None:
    """The cost by the layout, tensor by tensor; None if some axis would be empty."""
    try:
        layout = Layout(deps, removed)
    except PlanError:
        return None
    axes = {id(tensor): deps.trace.axes[name] for name, tensor in deps.state.items()}
    sizes = {
        key: int(np.prod([layout.size(axis) for axis in found])) for key, found in axes.items()
    }
    module = deps.graph_module
    state = [*module.parameters(), *module.buffers()]
    return Cost(
        parameters=sum(sizes[id(p)] for p in module.parameters()),
        bytes=sum(sizes[id(t)] * t.element_size() for t in state),
        macs=sum(work.macs(layout.shape) for work in deps.trace.work),
    )


def removed_by(deps: DependencyGraph, plan: Plan) -> Ids:
    ids = [deps.group(name).ids[list(group.removed)] for name, group in plan.groups.items()]
    return np.concatenate([*ids, np.zeros(0)]).astype(np.int64)


def removals(deps: DependencyGraph, count: int = 12) -> list[Ids]:
    shares = np.linspace(0, 0.95, count)
    return [drawn(deps, share, seed) for seed, share in enumerate(shares)]


@pytest.mark.parametrize("name", ZOO)
def test_the_cost_of_any_removal_from_a_zoo_model_is_that_of_its_layout(name: str) -> None:
    deps = zoo(name)
    for removed in removals(deps):
        expected = measured(deps, removed)
        assert expected is None or costs(deps)(removed) == expected


@given(st.sampled_from(NETWORKS), st.floats(0, 0.9), st.integers(0, 2**32))
@settings(max_examples=30)
def test_the_cost_of_any_removal_from_a_network_is_that_of_its_layout(
    name: str, share: float, seed: int
) -> None:
    deps = network(name)
    removed = drawn(deps, share, seed)
    expected = measured(deps, removed)
    assert expected is None or costs(deps)(removed) == expected


@pytest.mark.parametrize("name", [*ZOO, "resnet18", "shufflenet_v2_x0_5", "vit_b_32"])
def test_the_cost_of_a_plan_is_what_the_report_says_but_for_new_positions(name: str) -> None:
    deps = zoo(name) if name in ZOO else network(name)
    plan = fxprune.plan(deps, ratio=0.4, head_dims=True, groups=True)
    is_recorded = deps.captured_by == "record"
    small = fxprune.shrink(deps, plan, emit="module" if is_recorded else "graph", verify=False)
    cost = CandidateCost(deps, deps.model if is_recorded else None)
    known = dict(deps.graph_module.named_buffers(remove_duplicate=False))
    new = [b.nbytes for n, b in small.named_buffers() if n not in known and n.endswith("_index")]
    found = cost(removed_by(deps, plan))
    assert cost.dense == small.meta["fxprune"].before
    assert replace(found, bytes=found.bytes + sum(new)) == small.meta["fxprune"].after


def test_without_removals_the_cost_is_the_models_own() -> None:
    deps = network("resnet18")
    expected = cost_of(deps.graph_module, deps.trace, lambda tensor: tensor.shape)
    assert costs(deps).dense == expected
    assert costs(deps)(np.zeros(0, dtype=np.int64)) == expected


def test_all_formulas_of_common_networks_are_products_of_sizes() -> None:
    assert [name for name in NETWORKS if costs(network(name))._formulas] == []


def test_a_formula_that_is_no_product_is_called(monkeypatch: pytest.MonkeyPatch) -> None:
    def sum_of_sizes(a: torch.Size, b: torch.Size, *, out_val: torch.Size) -> int:
        return 2 * (sum(a) + sum(b))

    monkeypatch.setitem(flop_registry, torch.ops.aten.mm, sum_of_sizes)
    model = nn.Sequential(nn.Linear(3, 8, bias=False), nn.Linear(8, 2, bias=False))
    deps = fxprune.analyze(model, torch.zeros(5, 3))
    cost = CandidateCost(deps)
    assert len(cost._formulas) == 2
    removed = deps.group("0").ids[:3]
    assert cost(removed) == measured(deps, removed)
    assert cost(removed).macs == (5 + 3 + 3 + 5) + (5 + 5 + 5 + 2)


def test_a_product_is_told_from_what_looks_like_one_at_some_sizes() -> None:
    assert product_of(lambda s: 6 * s[1] * s[2], {1: 4, 2: 3}) == ((1, 2), 6)
    assert product_of(lambda s: 7, {1: 4}) == ((), 7)
    assert product_of(lambda s: s[1] * min(s[2], 6), {1: 4, 2: 3}) is None
    assert product_of(lambda s: s[1] ** 3, {1: 4}) is None
    assert product_of(lambda s: s[1] // 2 * 4, {1: 4}) is None


def test_a_formula_that_refuses_sizes_is_no_product() -> None:
    def formula(sizes: object) -> int:
        raise AssertionError

    assert product_of(formula, {1: 4}) is None


class Tied(nn.Module):
    """Two names for one weight, a square one, a buffer of other type, and an unread parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(6, 6, bias=False)
        self.second = nn.Linear(6, 6, bias=False)
        self.second.weight = self.first.weight
        self.last = nn.Linear(6, 2)
        self.last.spare = nn.Parameter(torch.zeros(11))
        self.register_buffer("scale", torch.ones(6, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        inner = x + torch.zeros(6)
        return self.last(self.second(self.first(self.last.weight[0] * inner)) * self.scale.float())


def test_tied_weights_count_once_and_unread_ones_count_whole() -> None:
    deps = fxprune.analyze(Tied().eval(), torch.zeros(4, 6))
    assert costs(deps).dense.parameters == 36 + 12 + 2 + 11
    for removed in removals(deps):
        expected = measured(deps, removed)
        assert expected is None or costs(deps)(removed) == expected


def test_an_id_that_was_united_with_another_is_removed_with_it() -> None:
    deps = analyzed_chain(3, 8, 2)
    labels = deps.trace.labels
    (root,) = deps.group("0").ids[:1]
    everything = np.arange(len(labels), dtype=np.int64)
    united = everything[labels.find(everything) == root]
    assert len(united) > 1
    assert {costs(deps)(united[k : k + 1]) for k in range(len(united))} == {
        costs(deps)(deps.group("0").ids[:1])
    }


def test_nothing_prunable_costs_what_it_costs() -> None:
    deps = fxprune.analyze(nn.ReLU(), torch.zeros(2, 3))
    assert CandidateCost(deps).dense == Cost(0, 0, 0)


def test_giant_numbers_are_exact() -> None:
    with torch.device("meta"):
        model = nn.Sequential(
            nn.Linear(3, 1 << 20), nn.Linear(1 << 20, 1 << 20), nn.Linear(1 << 20, 3)
        )
    deps = fxprune.analyze(model, torch.empty(1 << 24, 3, device="meta"))
    removed = deps.group("1").ids[:1]
    assert costs(deps)(removed) == measured(deps, removed)
    assert costs(deps).dense.macs > 1 << 63
