"""Criteria of weights against slow, obvious ones."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

import fxprune
from fxprune import DependencyGraph, InputError, importance
from fxprune.importance import Criterion, channel_scores
from models_zoo import randomize
from tests.planning.models import chain, zoo

X = torch.zeros(1, 3)
NAMES = ["residual", "dense_concat", "grouped_conv", "group_norm"]


def scored(deps: DependencyGraph, criterion: Criterion, reduction: Any = "sum") -> Any:
    found = channel_scores(criterion.evidence(deps), deps.trace.labels, reduction)
    return criterion.finished(found)


def positions(deps: DependencyGraph, group: Any, channel: int) -> list[tuple[str, int, int]]:
    """Every parameter, dim and position that carries a channel, in the order of the parameters."""
    parameters = dict(deps.graph_module.named_parameters())
    return [
        (member.parameter, member.dim, position)
        for name in parameters
        for member in group.members
        if member.parameter == name
        for position in member.positions[channel]
    ]


def lamp(weights: Tensor) -> Tensor:
    squares = sorted(weights.double().flatten().square().tolist())
    found = [
        square / sum(other for other in squares[squares.index(square) :])
        for square in weights.double().flatten().square().tolist()
    ]
    return torch.tensor(found, dtype=torch.float64).view(weights.shape)


def medians(weights: Tensor, dim: int) -> list[float]:
    filters = weights.detach().double().unbind(dim)
    return [sum(float((a - b).norm()) for b in filters) for a in filters]


def cosines(weights: Tensor, dim: int) -> list[float]:
    filters = [f.flatten() for f in weights.detach().double().unbind(dim)]
    found = []
    for k, a in enumerate(filters):
        others = [b for j, b in enumerate(filters) if j != k]
        found.append(1 - max(float(abs(a @ b) / (a.norm() * b.norm())) for b in others))
    return found


ELEMENTS: dict[str, tuple[Criterion, Callable[[Tensor], Tensor]]] = {
    "l1": (importance.L1(), lambda w: w.double().abs()),
    "squares": (importance.ByFunction(lambda name, w: w.square()), lambda w: w.double() ** 2),
    "lamp": (importance.LAMP(), lamp),
}
REDUCED: dict[str, Callable[[list[float]], float]] = {
    "sum": sum,
    "mean": lambda found: sum(found) / len(found),
    "max": max,
}


@pytest.mark.parametrize("reduction", REDUCED)
@pytest.mark.parametrize("criterion", ELEMENTS)
@pytest.mark.parametrize("name", NAMES)
def test_a_position_counts_as_its_weights_and_a_channel_as_its_positions(
    name: str, criterion: str, reduction: str
) -> None:
    deps = zoo(name)
    ours, reference = ELEMENTS[criterion]
    parameters = dict(deps.graph_module.named_parameters())
    saliency = {n: reference(p.detach()) for n, p in parameters.items()}
    found = scored(deps, ours, reduction)
    for group in deps.groups:
        if group.prunable:
            expected = [
                REDUCED[reduction](
                    [float(saliency[n].select(d, p).sum()) for n, d, p in positions(deps, group, c)]
                )
                for c in range(group.size)
            ]
            np.testing.assert_allclose(found[group.ids], expected, rtol=1e-5)


def test_the_first_is_the_parameter_of_the_layer_that_makes_the_channel() -> None:
    deps = fxprune.analyze(chain(3, 4, 2), X)
    found = scored(deps, importance.L1(), "first")
    weight = deps.state["0.weight"].detach().abs().sum(1)
    np.testing.assert_allclose(found[deps.group("0").ids], weight, rtol=1e-6)


@pytest.mark.parametrize(
    ("criterion", "reference"),
    [(importance.GeometricMedian(), medians), (importance.Cosine(), cosines)],
    ids=["geometric median", "cosine"],
)
@pytest.mark.parametrize("name", ["residual", "classic_cnn"])
def test_filters_are_compared_with_all_others_of_their_layer(
    name: str, criterion: Criterion, reference: Callable[[Tensor, int], list[float]]
) -> None:
    deps = zoo(name)
    parameters = dict(deps.graph_module.named_parameters())
    found = scored(deps, criterion)
    for group in (group for group in deps.groups if group.prunable):
        expected = np.zeros(group.size)
        for member in group.members:
            weights = parameters.get(member.parameter)
            if weights is not None and weights.dim() > 1:
                along = reference(weights, member.dim)
                for channel, places in enumerate(member.positions):
                    expected[channel] += sum(along[place] for place in places)
        np.testing.assert_allclose(found[group.ids], expected, rtol=1e-9, atol=1e-12)


def test_a_copy_of_another_filter_is_redundant() -> None:
    model = nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 2))
    with torch.no_grad():
        model[0].weight[2] = -3 * model[0].weight[1]
    criterion = importance.Cosine()
    deps = fxprune.analyze(model, torch.zeros(1, 5))
    found = scored(deps, criterion, "first")[deps.group("0").ids]
    assert found[[1, 2]] == pytest.approx(0, abs=1e-12)
    assert (found[[0, 3]] > 0).all()


def test_a_dead_filter_is_redundant() -> None:
    model = chain(3, 4, 2)
    with torch.no_grad():
        for weights in (model[0].weight[2], model[0].bias[2:3], model[1].weight[:, 2]):  # type: ignore[index]
            weights.zero_()
    assert fxprune.plan(model, X, 0.25, criterion="cosine").groups["0"].removed == (2,)


def test_a_filter_that_is_tiny_is_compared_as_any_other() -> None:
    model = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    with torch.no_grad():
        model[0].weight.copy_(torch.eye(4)[:3])
        model[0].weight[1] = 1e-20 * model[0].weight[0]
    deps = fxprune.analyze(model, torch.zeros(1, 4))
    found = scored(deps, importance.Cosine(), "first")[deps.group("0").ids]
    np.testing.assert_allclose(found, [0, 0, 1], atol=1e-12)


class Outer(nn.Module):
    """The products of all pairs of channels."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(3, 4), nn.Linear(16, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.first(x))
        return self.last((x[:, :, None] * x[:, None, :]).flatten(1))


@pytest.mark.parametrize("reduction", REDUCED)
def test_a_position_that_carries_a_channel_twice_counts_once(reduction: str) -> None:
    torch.manual_seed(0)
    deps = fxprune.analyze(Outer().double().eval(), torch.zeros(5, 3, dtype=torch.float64))
    found = scored(deps, importance.L1(), reduction)[deps.group("first").ids]
    first, bias, last = (
        deps.state[name].detach().abs() for name in ("first.weight", "first.bias", "last.weight")
    )
    for channel in range(4):
        pairs = [(i, j) for i in range(4) for j in range(4) if channel in (i, j)]
        counted = [float(first[channel].sum()), float(bias[channel])]
        counted += [float(last[:, 4 * i + j].sum()) for i, j in pairs]
        assert found[channel] == pytest.approx(REDUCED[reduction](counted), rel=1e-12)


def test_sums_are_made_in_double_precision() -> None:
    model = nn.Sequential(nn.Linear(1 << 14, 2), nn.ReLU(), nn.Linear(2, 2))
    with torch.no_grad():
        model[0].weight.fill_(0.1)
        model[0].weight[:, 0] = 1e6
    deps = fxprune.analyze(model, torch.zeros(1, 1 << 14))
    found = scored(deps, importance.L1(), "first")[deps.group("0").ids]
    expected = math.fsum(model[0].weight[0].tolist())
    np.testing.assert_allclose(found, [expected] * 2, rtol=1e-14)


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_squares_neither_vanish_nor_overflow(scale: float) -> None:
    model = chain(3, 4, 2)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(scale)
    deps = fxprune.analyze(model, X)
    found = scored(deps, importance.L2())
    group = deps.group("0")
    parameters = {name: p.detach().double() for name, p in model.named_parameters()}
    for channel in range(group.size):
        places = positions(deps, group, channel)
        expected = math.hypot(*(float(parameters[n].select(d, p).norm()) for n, d, p in places))
        assert found[group.ids[channel]] == pytest.approx(expected, rel=1e-12)


def test_no_criterion_changes_the_weights_whatever_their_precision() -> None:
    for dtype in (torch.float64, torch.float32, torch.bfloat16):
        deps = fxprune.analyze(chain(3, 4, 2).to(dtype), X.to(dtype))
        before = {name: tensor.detach().clone() for name, tensor in deps.state.items()}
        for name in importance.CRITERIA:
            scored(deps, importance.criterion_of(name))
        assert all(torch.equal(tensor, before[name]) for name, tensor in deps.state.items())


def test_the_saliency_of_a_criterion_of_ones_own_has_the_shape_of_the_parameter() -> None:
    class Wrong(importance.Elementwise):
        def saliency(self, name: str, weights: Tensor) -> Tensor:
            return weights.abs().T

    with pytest.raises(InputError, match=r"Wrong.saliency returns shape \(3, 4\) for parameter 0"):
        fxprune.plan(chain(3, 4, 2), X, 0.5, criterion=Wrong())


@pytest.mark.parametrize("seed", [-1, 0.5, "1"])
def test_a_seed_that_is_no_whole_number_is_refused(seed: Any) -> None:
    with pytest.raises(InputError, match="the seed is"):
        importance.Random(seed)
    assert importance.Random(np.int64(1)).seed == 1  # type: ignore[arg-type]


def test_a_criterion_that_knows_nothing_of_a_group_is_refused() -> None:
    class Silent(importance.Elementwise):
        def saliency(self, name: str, weights: Tensor) -> None:
            return None

    with pytest.raises(InputError, match="criterion Silent cannot score group 0"):
        fxprune.plan(chain(3, 4, 2), X, 0.5, criterion=Silent())
    plan = fxprune.plan(chain(3, 4, 2), X, channels={"0": [1]}, criterion=Silent())
    assert plan.groups["0"].removed == (1,)


def test_a_function_cannot_change_the_model() -> None:
    model = chain(3, 4, 2)
    before = model[0].weight.detach().clone()
    fxprune.plan(model, X, 0.5, criterion=lambda name, weights: weights.abs_())
    assert torch.equal(model[0].weight, before)


def test_the_scale_of_batch_norms_ranks_alone() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 2, 1))
    with torch.no_grad():
        model[1].weight.copy_(torch.tensor([0.5, -2.0, 0.1, 1.0]))
        model[0].weight.mul_(torch.tensor([1.0, 1e-6, 1e6, 1.0]).view(4, 1, 1, 1))
    deps = fxprune.analyze(model.eval(), torch.zeros(1, 3, 4, 4))
    np.testing.assert_allclose(
        scored(deps, importance.BatchNormScale())[deps.group("0").ids],
        [0.5, 2.0, 0.1, 1.0],
        rtol=1e-6,
    )
    assert fxprune.plan(deps, ratio=0.5, criterion="bn_scale").groups["0"].removed == (0, 2)


class Normed(nn.Module):
    """A batch norm as a module, one as a function, and others that are no scale of a channel."""

    def __init__(self, decides: bool = False) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)
        self.second, self.scale = nn.Conv2d(4, 5, 1), nn.Parameter(torch.randn(5))
        self.third, self.shifted = nn.Conv2d(5, 6, 1), nn.Parameter(torch.randn(6))
        self.fourth, self.alone = nn.Conv2d(6, 4, 1), nn.InstanceNorm2d(4, affine=True)
        self.last = nn.Conv2d(4, 2, 1)
        for size in (5, 6):
            self.register_buffer(f"mean{size}", torch.zeros(size))
            self.register_buffer(f"var{size}", torch.ones(size))
        self.decides = decides

    def forward(self, x: Tensor) -> Tensor:
        x = self.second(torch.relu(self.norm(self.first(x))))
        if self.decides and float(x.sum()) > 1e9:  # so that it can only be recorded
            return x
        x = F.batch_norm(x, self.mean5, self.var5, self.scale)
        x = F.batch_norm(self.third(x), self.mean6, self.var6, 1 + self.shifted)
        return self.last(self.alone(self.fourth(x)))


def captured(kind: str) -> DependencyGraph:
    torch.manual_seed(0)
    model, x = randomize(Normed(kind == "record")).eval(), torch.zeros(2, 3, 4, 4)
    if kind == "given":
        model = fx.symbolic_trace(model)
    elif kind == "export":
        return fxprune.analyze(torch.export.export(model, (x,)), x)
    elif kind == "core export":
        return fxprune.analyze(torch.export.export(model, (x,)).run_decompositions(), x)
    return fxprune.analyze(model, x)


@pytest.mark.filterwarnings("ignore::FutureWarning")  # torch 2.13 warns of itself
@pytest.mark.parametrize("kind", ["symbolic_trace", "given", "export", "core export", "record"])
def test_batch_norms_are_found_in_every_captured_graph(kind: str) -> None:
    deps = captured(kind)
    assert kind in ("export", "core export") or deps.captured_by == kind
    assert deps.trace.scales == {"norm.weight", "scale"}
    found = scored(deps, importance.BatchNormScale())
    for name in ("norm.weight", "scale"):
        (ids,) = deps.trace.labels.leaves(deps.trace.axes[name][0])
        np.testing.assert_array_equal(found[ids], deps.state[name].detach().abs().double())
    for name in ("shifted", "alone.weight"):  # 1 + shifted is a scale, but shifted is none
        for ids in deps.trace.labels.leaves(deps.trace.axes[name][0]):
            assert np.isnan(found[ids]).all()


def test_a_group_without_batch_norm_is_refused_unless_it_is_ignored() -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 1), nn.ReLU(), nn.Conv2d(4, 2, 1)
    )
    deps = fxprune.analyze(model.eval(), torch.zeros(1, 3, 4, 4))
    with pytest.raises(InputError, match="BatchNormScale cannot score group 2") as caught:
        fxprune.plan(deps, ratio=0.5, criterion="bn_scale")
    assert caught.value.why.startswith("it needs a batch norm with a scale")
    plan = fxprune.plan(deps, ratio=0.5, criterion="bn_scale", ignore=["2"])
    assert [entry.width for entry in plan.groups.values()] == [2, 4]


def test_a_function_scores_by_name_and_values() -> None:
    deps = fxprune.analyze(chain(3, 4, 2), X)
    wanted = torch.tensor([4.0, 1.0, 3.0, 2.0])

    def by_place(name: str, weights: Tensor) -> Tensor:
        return wanted if name == "0.bias" else torch.zeros_like(weights)

    plan = fxprune.plan(deps, ratio=0.5, criterion=by_place)
    assert plan.groups["0"].removed == (1, 3)
    assert plan.made["criterion"] == "ByFunction(by_place)"
    assert fxprune.Plan.from_json(plan.to_json()) == plan


@pytest.mark.parametrize(
    ("returned", "what"),
    [
        (lambda n, w: w.sum(), r"returns shape \(\) for parameter 0.weight"),
        (lambda n, w: 1.0, "returns 1.0 for parameter 0.weight"),
        (
            lambda n, w: w * math.nan,
            "returns values for parameter 0.weight that are no finite real",
        ),
    ],
)
def test_what_a_function_returns_is_checked(returned: Any, what: str) -> None:
    with pytest.raises(InputError, match=what):
        fxprune.plan(chain(3, 4, 2), X, 0.5, criterion=returned)


def test_an_unknown_criterion_or_reduction_is_refused() -> None:
    with pytest.raises(InputError, match="unknown criterion 'taylor'"):
        fxprune.plan(chain(3, 4, 2), X, 0.5, criterion="taylor")
    with pytest.raises(InputError, match="unknown criterion"):
        fxprune.plan(chain(3, 4, 2), X, 0.5, criterion=importance.L1)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="unknown reduction 'median'"):
        fxprune.plan(chain(3, 4, 2), X, 0.5, reduction="median")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="unknown reduction 'median'"):
        scored(fxprune.analyze(chain(3, 4, 2), X), importance.L1(), "median")


@pytest.mark.parametrize("criterion", importance.CRITERIA)
def test_every_named_criterion_makes_a_plan(criterion: str) -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 2, 1))
    x = torch.randn(1, 3, 5, 5)
    plan = fxprune.plan(model.eval(), x, 0.5, criterion=criterion)
    assert plan.groups["0"].width == 4
    assert plan.made["criterion"] == criterion
    assert fxprune.shrink(model, plan, x).get_submodule("0").out_channels == 4
