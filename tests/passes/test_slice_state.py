"""Slicing keeps the kept positions of every tensor, and all that a tensor is besides."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import fxprune
from fxprune import RewriteError
from fxprune.module_trees import named_state
from fxprune.passes import SliceState
from models_zoo import randomize
from tests.passes.models import laid_out, zoo

X = torch.randn(2, 4, generator=torch.Generator().manual_seed(0))


class Buffers(nn.Module):
    """Scales by a persistent buffer, one that is not, and a plain tensor."""

    kept: Tensor
    passing: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(4, 8), nn.Linear(8, 2)
        self.register_buffer("kept", torch.rand(8))
        self.register_buffer("passing", torch.rand(8), persistent=False)
        self.plain = torch.rand(8)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.first(x) * self.kept * self.passing * self.plain)


class Tied(nn.Module):
    """Two layers with one weight."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 8), nn.Linear(8, 8)
        self.third, self.last = nn.Linear(8, 8), nn.Linear(8, 2)
        self.third.weight = self.second.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.third(self.second(self.first(x)).relu()))


def mlp() -> nn.Sequential:
    return randomize(
        nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 2))
    ).eval()


def sliced(model: nn.Module, ratio: float = 0.5) -> Any:
    deps, layout = laid_out(model, X, ratio)
    return SliceState()(deps.graph_module, layout).graph_module


@pytest.mark.parametrize(
    "name", ["residual", "classic_cnn", "grouped_conv", "raw_parameter", "transposed", "conv1d_3d"]
)
def test_every_tensor_is_the_original_without_the_removed_positions(name: str) -> None:
    deps, layout = zoo(name)
    result = named_state(SliceState()(deps.graph_module, layout).graph_module)
    assert layout.slices
    for parameter, tensor in deps.state.items():
        expected = tensor.detach().numpy()
        for dim, positions in layout.slices.get(parameter, {}).items():
            expected = np.delete(expected, positions, axis=dim)
        np.testing.assert_array_equal(result[parameter].detach().numpy(), expected)


def test_the_result_shares_no_memory_with_the_original() -> None:
    deps, layout = zoo("residual")
    result = SliceState()(deps.graph_module, layout).graph_module
    mine = {tensor.untyped_storage().data_ptr() for tensor in deps.state.values()}
    others = {t.untyped_storage().data_ptr() for t in named_state(result).values()}
    assert mine.isdisjoint(others)


def test_training_the_result_leaves_the_original_alone() -> None:
    model = mlp()
    before = copy.deepcopy(model.state_dict())
    small = sliced(model).train()
    small(X).sum().backward()
    torch.optim.SGD(small.parameters(), lr=1.0).step()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_tied_weights_stay_tied() -> None:
    small = sliced(Tied())
    assert small.get_submodule("third").weight is small.get_submodule("second").weight
    assert small.get_submodule("third").weight.shape == (4, 4)


def test_a_module_that_is_used_twice_stays_one_module() -> None:
    model = Tied()
    model.third = model.second
    small = sliced(model)
    nodes = [str(node.target) for node in small.graph.nodes if node.op == "call_module"]
    assert nodes == ["first", "second", "second", "last"]


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16], ids=str)
def test_the_dtype_survives(dtype: torch.dtype) -> None:
    model = mlp().to(dtype)
    deps, layout = laid_out(model, X.to(dtype))
    result = SliceState()(deps.graph_module, layout).graph_module
    assert {n: t.dtype for n, t in named_state(result).items()} == {
        n: t.dtype for n, t in named_state(deps.graph_module).items()
    }


def test_requires_grad_survives_on_sliced_and_whole_tensors() -> None:
    model = mlp()
    model[0].weight.requires_grad_(False)
    model[3].bias.requires_grad_(False)
    flags = {name: p.requires_grad for name, p in model.named_parameters()}
    assert {n: p.requires_grad for n, p in sliced(model).named_parameters()} == flags


def test_parameters_stay_parameters_and_leaves() -> None:
    small = sliced(mlp())
    assert all(isinstance(p, nn.Parameter) and p.is_leaf for p in small.parameters())
    assert all(not b.requires_grad for b in small.buffers())


def test_the_state_dict_keeps_its_names_in_their_order() -> None:
    model = mlp()
    assert list(sliced(model).state_dict()) == list(model.state_dict())


def test_buffers_and_plain_tensors_are_sliced_and_keep_their_persistence() -> None:
    model = Buffers()
    small = sliced(model)
    assert small.kept.shape == small.passing.shape == small.plain.shape == (4,)
    assert "kept" in small.state_dict()
    assert "passing" not in small.state_dict()


def test_integer_buffers_are_copied_whole() -> None:
    model = mlp()
    model[1].num_batches_tracked.fill_(7)
    assert int(sliced(model).get_submodule("1").num_batches_tracked) == 7


def test_the_memory_format_of_an_untouched_tensor_survives() -> None:
    model = nn.Sequential(nn.Conv2d(4, 8, 3), nn.Conv2d(8, 4, 3))
    model = model.to(memory_format=torch.channels_last)
    x = torch.randn(1, 4, 6, 6)
    deps, layout = laid_out(model, x, ratio=0.0)
    small = SliceState()(deps.graph_module, layout).graph_module
    weight = small.get_submodule("0").weight
    assert weight.is_contiguous(memory_format=torch.channels_last)


def test_hooks_survive() -> None:
    model = mlp()
    seen: list[int] = []
    model[0].register_forward_hook(lambda module, args, out: seen.append(out.shape[1]))
    small = fxprune.shrink(model, fxprune.plan(model, X, 0.5), verify=False)
    seen.clear()
    small(X)
    assert seen == [4]


def test_a_hook_on_the_result_is_not_one_on_the_original() -> None:
    model = mlp()
    seen: list[int] = []
    small = sliced(model)
    small.get_submodule("0").register_forward_hook(lambda *args: seen.append(1))
    model(X)
    assert seen == []


def test_parametrizations_survive() -> None:
    model = mlp()
    nn.utils.parametrizations.weight_norm(model[0])
    plan = fxprune.plan(model, X, 0.5)
    layer = fxprune.shrink(model, plan).get_submodule("0")
    assert nn.utils.parametrize.is_parametrized(layer, "weight")
    assert layer.weight.shape == (4, 4)
    kept = [c for c in range(8) if c not in plan.slices["0.parametrizations.weight.original1"][0]]
    torch.testing.assert_close(layer.weight, model[0].weight[kept])


def test_tensors_without_data_are_sliced_too() -> None:
    model = mlp().to("meta")
    deps = fxprune.analyze(model, X)
    layout = fxprune.plan(deps, ratio=0.5, criterion="random").layout(deps)
    result = SliceState()(deps.graph_module, layout).graph_module
    assert result.get_submodule("0").weight.shape == (4, 4)
    assert result.get_submodule("0").weight.device.type == "meta"


def test_a_tensor_that_came_out_wrong_is_named() -> None:
    deps, layout = zoo("classic_cnn")
    with pytest.raises(RewriteError, match=r"conv1\.weight came out as \(4, 1, 3, 3\) instead"):
        SliceState().ensures(deps.graph_module, layout)


def test_the_memory_format_of_a_sliced_tensor_survives() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 3)).eval()
    model = model.to(memory_format=torch.channels_last)
    small = fxprune.shrink(model, {"0": 0.5}, torch.randn(2, 3, 9, 9))
    weight = small.get_parameter("2.weight")
    assert weight.shape == (4, 4, 3, 3)
    assert weight.is_contiguous(memory_format=torch.channels_last)


def test_a_model_that_is_sliced_already_is_refused() -> None:
    deps, layout = zoo("residual")
    once = SliceState()(deps.graph_module, layout).graph_module
    with pytest.raises(RewriteError, match="run SliceState once"):
        SliceState()(once, layout)
