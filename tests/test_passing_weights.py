"""Weights that are there while a node may read them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn

from fxprune import passing_weights
from fxprune.passing_weights import PassingWeights
from fxprune.reference import QuietMode
from fxprune.stepping import Stepper

X = torch.randn(2, 4)


@pytest.fixture(autouse=True)
def _all_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passing_weights, "_LARGE", 1)


class Shared(nn.Module):
    """Reads the weight of another module out of a list."""

    def __init__(self, other: nn.Linear) -> None:
        super().__init__()
        self.others = [other]

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.others[0].weight


class Net(nn.Module):
    """Reads weights as modules, as attributes and by way of other modules."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Linear(4, 4), nn.BatchNorm1d(4)
        self.shared, self.scale = Shared(self.first), nn.Parameter(torch.randn(4))
        self.second = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        scale = self.scale * 2
        x = self.shared(self.norm(self.first(x)) * self.scale)
        return self.second(x) + scale.sum()


class Whole(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, Shared) or super().is_leaf_module(m, module_qualified_name)


def traced(model: nn.Module) -> fx.GraphModule:
    return fx.GraphModule(model, Whole().trace(model))


def stepped(weights: PassingWeights) -> list[tuple[str, int, Any]]:
    """The nodes, how many large weights are there after each, and the values."""
    stepper = Stepper("it", weights.module, [X.double()], QuietMode(), weights)
    with torch.no_grad():
        return [
            (n.name, sum(bool(p.numel()) for p in weights.module.parameters()), value)
            for n, value in stepper
        ]


def double(tensor: Tensor) -> Any:
    return nn.Parameter(tensor.detach().double()) if tensor.requires_grad else tensor.double()


def test_values_are_those_of_weights_that_stay() -> None:
    model = Net().eval()
    weights = PassingWeights(traced(model), double)
    for _ in range(2):
        *_, (_, _, out) = stepped(weights)
        assert torch.equal(out, Net.forward(model.double(), X.double()))
        model.float()


def test_at_no_time_there_are_more_than_one_node_reads() -> None:
    weights = PassingWeights(traced(Net().eval()), double)
    counts = {name: count for name, count, _ in stepped(weights)}
    assert counts["first"] == counts["second"] == counts["shared"] == counts["norm"] == 2
    assert counts["mul"] == 1
    assert counts["add"] == 0


def test_the_model_itself_stays_as_it_is() -> None:
    model = Net().eval()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    stepped(PassingWeights(traced(model), double))
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize("through", ["itself", "a view"])
def test_a_weight_that_was_written_into_stays(through: str) -> None:
    class Counting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(4, 4), requires_grad=False)
            self.other = nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            weight = self.weight if through == "itself" else self.weight.t()
            weight.mul_(2)
            return self.other(x) + (x @ self.weight)

    model = fx.symbolic_trace(Counting())
    weights = PassingWeights(model, lambda t: nn.Parameter(t.detach().double(), False))
    got = [stepped(weights)[-1][-1] for _ in range(2)]
    other, x = model.get_submodule("other").double(), X.double()
    expected = [other(x) + x @ torch.full((4, 4), 2.0**k, dtype=torch.float64) for k in (1, 2)]
    for one, two in zip(got, expected, strict=True):
        torch.testing.assert_close(one, two.detach())
