"""State dicts pruned by a plan alone are those of the shrunk model."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from torch import nn

import fxprune
from fxprune import PlanError
from models_zoo import ZOO, randomize
from tests.test_dropping import ROWS, net

X = torch.ones(2, 6)
NAMES = [
    "residual",
    "tied_weights",
    "attention_modules",
    "recurrent_lstm",
    "group_norm",
    "qkv_separate",
]


def chain(width: int = 8) -> nn.Sequential:
    return nn.Sequential(nn.Linear(6, width), nn.ReLU(), nn.Linear(width, 3))


@pytest.mark.parametrize("name", NAMES)
def test_it_is_the_state_dict_of_the_shrunk_module(name: str) -> None:
    entry = ZOO[name]
    model = randomize(entry.build()).eval()
    plan = fxprune.plan(model, entry.example_inputs(), ratio=0.5)
    expected = fxprune.shrink(model, plan, emit="module", verify=False).state_dict()
    given = model.state_dict()
    before = {name: value.clone() for name, value in given.items()}
    found = plan.apply_to_state_dict(given)
    assert list(found) == list(expected)
    assert all(torch.equal(found[name], value) for name, value in expected.items())
    assert all(torch.equal(given[name], value) for name, value in before.items())
    fxprune.shrink(model, plan, emit="module", verify=False).load_state_dict(found)


def test_what_loses_nothing_is_the_same_object_and_other_entries_stay() -> None:
    model = chain()
    plan = fxprune.plan(model, X, ratio=0.5)
    given = {**model.state_dict(), "epoch": 3, "ema.decay": torch.ones(2)}
    found = plan.apply_to_state_dict(given)
    assert found["2.bias"] is given["2.bias"]
    assert found["epoch"] == 3
    assert found["ema.decay"] is given["ema.decay"]


@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_tied_tensors_stay_tied_and_others_apart(keep: bool, device: str) -> None:
    entry = ZOO["tied_weights"]
    model = entry.build()
    plan = fxprune.plan(model, entry.example_inputs(), ratio=0.5)
    with torch.device(device):
        given = entry.build().state_dict(keep_vars=keep)
    found = plan.apply_to_state_dict(given)
    memory = {name: tensor.untyped_storage()._cdata for name, tensor in given.items()}
    ours = {name: tensor.untyped_storage()._cdata for name, tensor in found.items()}
    pairs = [(a, b) for a in given for b in given]
    assert any(memory[a] == memory[b] and a != b for a, b in pairs)
    assert all((memory[a] == memory[b]) == (ours[a] == ours[b]) for a, b in pairs)
    assert all(isinstance(t, nn.Parameter) == keep for t in found.values())


def test_entries_of_dropped_blocks_are_left_out() -> None:
    model = net()
    plan = fxprune.plan(model, ROWS, ratio=0.25, drop=["blocks.1"])
    small = fxprune.shrink(model, plan, ROWS, emit="module")
    found = plan.apply_to_state_dict(model.state_dict())
    assert list(found) == list(small.state_dict())


def prefixed(state: dict[str, Any]) -> dict[str, Any]:
    return {f"module.{name}": value for name, value in state.items()}


@pytest.mark.parametrize(
    ("state", "told"),
    [
        (chain(9).state_dict(), r"0.weight: shape \[9, 6\] here, \[8, 6\] in the plan"),
        (prefixed(chain().state_dict()), "0.weight: not in the state dict"),
        ({}, "0.weight: not in the state dict"),
        ({**chain().state_dict(), "2.bias": 3}, "2.bias: a int, and no tensor"),
        ({n: t for n, t in chain().state_dict().items() if n != "0.bias"}, "0.bias: not in"),
        ([1, 2], "the state dict is a list"),
    ],
)
def test_a_state_dict_of_another_model_is_refused_with_what_differs(state: Any, told: str) -> None:
    with pytest.raises(PlanError, match=told):
        fxprune.plan(chain(), X, ratio=0.5).apply_to_state_dict(state)


def test_a_state_dict_of_another_model_is_refused_if_nothing_goes() -> None:
    plan = fxprune.plan(chain(), X, ratio=0)
    assert not plan.slices
    with pytest.raises(PlanError, match=r"0.weight: not in the state dict"):
        plan.apply_to_state_dict({"weight": X})


def test_a_branch_that_goes_whole_is_refused() -> None:
    class Residual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(6, 8), nn.Linear(8, 6)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + self.b(self.a(x))

    plan = fxprune.plan(Residual(), X, channels={"a": list(range(8))})
    with pytest.raises(PlanError, match=r"leaves nothing of a.weight, dim 0"):
        plan.apply_to_state_dict(Residual().state_dict())


@pytest.mark.parametrize("slices", [{0: (8,)}, {2: (0,)}, {0: (-1,)}])
def test_slices_out_of_range_are_refused(slices: dict[int, tuple[int, ...]]) -> None:
    plan = dataclasses.replace(fxprune.plan(chain(), X, ratio=0), slices={"0.weight": slices})
    with pytest.raises(PlanError, match=r"slices of 0.weight are out of range"):
        plan.apply_to_state_dict(chain().state_dict())


class TiedHead(nn.Module):
    """Its forward cannot be traced, so its graph is exported, and has one name of what is tied."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(12, 8)
        self.mid = nn.Linear(8, 8)
        self.head = nn.Linear(8, 12, bias=False)
        self.head.weight = self.table.weight

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.table(tokens)
        if x.shape[1] > 2:
            x = x + self.mid(x)
        return self.head(x)


def test_all_names_of_a_tied_tensor_are_sliced_though_an_exported_graph_has_one() -> None:
    torch.manual_seed(0)
    model = TiedHead().eval()
    tokens = torch.zeros(2, 5, dtype=torch.int64)
    plan = fxprune.plan(model, tokens, ratio=0.5)
    assert len({"table.weight", "head.weight"} & plan.slices.keys()) == 1
    made = plan.apply_to_state_dict(model.state_dict())
    small = fxprune.shrink(model, plan, tokens, emit="module").state_dict()
    assert made.keys() == small.keys()
    assert all(torch.equal(made[name], tensor) for name, tensor in small.items())
    assert made["table.weight"] is made["head.weight"]
