"""The operators of a node in its place: what the node becomes, and what they keep of it."""

from __future__ import annotations

import operator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

import fxprune
from models_zoo import randomize
from tests.passes.models import call

X = torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
OTHER = torch.randn(3, 5, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def in_pairs(x: Tensor) -> Tensor:
    """The same, in an order that depends on the width: pairs of channels change places."""
    return x.view(*x.shape[:2], 2, -1).flip(2).flatten(2)


@fx.wrap
def as_list(x: Tensor) -> list[Tensor]:
    return [in_pairs(x), x * 2]


@fx.wrap
def as_tuple(x: Tensor) -> tuple[Tensor, Tensor]:
    return in_pairs(x), x * 2


@fx.wrap
def as_dict(x: Tensor) -> dict[str, Tensor]:
    return {"pairs": in_pairs(x), "double": x * 2}


@fx.wrap
def as_one(x: Tensor) -> Tensor:
    return in_pairs(x)


@fx.wrap
def twice_in_one(x: Tensor) -> list[Tensor]:
    y = in_pairs(x)
    return [y, y]


@fx.wrap
def with_constants(x: Tensor) -> Tensor:
    steps = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0], device=x.device)
    shift = torch.tensor([0.5], device=x.device)
    return in_pairs(x) * steps.view(-1, 1) + shift


class Between(nn.Module):
    """A function on 12 channels that is a leaf of the graph, and uses their number."""

    def __init__(self, function: Any) -> None:
        super().__init__()
        self.embed, self.head = nn.Linear(8, 12), nn.Linear(12, 3)
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.function(self.embed(x)))


def shrunk(function: Any, norm: Any = "kept") -> tuple[nn.Module, Any, fx.GraphModule]:
    """The model around a function, a plan, and the result, which holds for another batch too."""
    model = randomize(Between(function)).double().eval()
    plan = fxprune.plan(model, X, 0.5)
    assert plan.slices
    small = fxprune.shrink(model, plan, X, norm=norm)
    with torch.no_grad():
        small(OTHER)
    fxprune.verify(model, small, plan, OTHER)
    return model, plan, small


FUNCTIONS: dict[str, tuple[Any, Any]] = {
    "as_list": (lambda x: operator.sub(*halves(as_list(x))), list),
    "as_tuple": (lambda x: operator.sub(*halves(as_tuple(x))), tuple),
    "as_dict": (lambda x: operator.sub(*halves(as_dict(x), "pairs", "double")), dict),
    "twice_in_one": (lambda x: operator.mul(*halves(twice_in_one(x))), list),
    "as_one": (lambda x: as_one(x) * 2, torch.ops.aten.flatten.using_ints),
}


def halves(both: Any, first: Any = 0, second: Any = 1) -> tuple[Any, Any]:
    return both[first], both[second]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_node_becomes_what_yields_its_result(name: str) -> None:
    function, target = FUNCTIONS[name]
    small = shrunk(function)[2]
    assert call(small, name).target is target


def test_constants_are_kept_beside_the_state() -> None:
    model, _, small = shrunk(lambda x: with_constants(x) * 2)
    assert small.state_dict().keys() == model.state_dict().keys()
    constants = sorted(value.numel() for _, value in small.named_buffers())
    assert constants == [1, 5]


def test_operators_of_a_node_know_where_it_was_written() -> None:
    small = shrunk(lambda x: as_one(x) * 2)[2]
    made = [node for node in small.graph.nodes if node.name.startswith("as_one")]
    assert len(made) > 2
    assert all("test_inlining.py" in node.meta["stack_trace"] for node in made)
    assert not any("is_wrapped" in node.meta for node in made)


@fx.wrap
def normed(x: Tensor) -> Tensor:
    return F.layer_norm(in_pairs(x), (12,))


@fx.wrap
def normed_in_pairs(x: Tensor) -> Tensor:
    return in_pairs(F.layer_norm(x, (12,)))


@fx.wrap
def normed_twice(x: Tensor) -> Tensor:
    return F.layer_norm(in_pairs(F.layer_norm(x, (12,))), (12,))


@pytest.mark.parametrize(
    "function",
    [lambda x: normed(x) * 2, lambda x: normed_in_pairs(x) * 2, lambda x: normed_twice(x) * 2],
)
def test_a_norm_among_the_operators_of_a_node_can_be_exact(function: Any) -> None:
    assert shrunk(function, "exact")[2].meta["fxprune"].verification.every_node
