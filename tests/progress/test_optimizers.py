"""An optimizer goes on with the smaller parameters as if its state had been sliced by hand."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

import fxprune
from fxprune import InputError, Plan
from tests.planning.test_after import Branched

Make = Callable[[Iterable[Any]], Optimizer]
ELEMENTWISE: dict[str, Make] = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1),
    "momentum": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.01),
    "nesterov": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True),
    "adam": lambda p: torch.optim.Adam(p, lr=0.01),
    "adam foreach": lambda p: torch.optim.Adam(p, lr=0.01, foreach=True),
    "adam fused": lambda p: torch.optim.Adam(p, lr=0.01, fused=True),
    "amsgrad": lambda p: torch.optim.Adam(p, lr=0.01, amsgrad=True),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=0.1),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=0.01, momentum=0.5, centered=True),
    "adagrad": lambda p: torch.optim.Adagrad(p, lr=0.01),
    "adadelta": torch.optim.Adadelta,
    "adamax": torch.optim.Adamax,
    "nadam": torch.optim.NAdam,
    "radam": torch.optim.RAdam,
    "asgd": torch.optim.ASGD,
    "rprop": torch.optim.Rprop,
}
MAKERS: dict[str, Make] = {
    **ELEMENTWISE,
    "adafactor": torch.optim.Adafactor,
    "muon": lambda p: torch.optim.Muon([w for w in p if w.dim() == 2], lr=0.01),
}
X = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))


class Net(nn.Module):
    """Convolutions, a batch norm, a tied pair of layers and a residual sum."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.norm = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.conv2 = nn.Conv2d(8, 8, 3, padding=1)
        self.first, self.second = nn.Linear(8, 8, bias=False), nn.Linear(8, 8, bias=False)
        self.second.weight = self.first.weight
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.conv1(x)).relu()
        x = (x + self.conv2(x)).mean((2, 3))
        x = self.second(self.first(x).relu())
        return self.head(x)


def network() -> Net:
    torch.manual_seed(0)
    return Net()


def put_gradients(model: nn.Module, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator)


def train(model: nn.Module, optimizer: Optimizer, steps: int = 3) -> None:
    for seed in range(steps):
        put_gradients(model, seed)
        optimizer.step()


def kept(plan: Plan, name: str, tensor: Tensor) -> Tensor:
    """What stays of a tensor of the model's shape, straight from the plan."""
    for dim, gone in plan.slices.get(name, {}).items():
        stays = [k for k in range(tensor.shape[dim]) if k not in gone]
        tensor = tensor.index_select(dim, torch.tensor(stays))
    return tensor


def shrunk(model: nn.Module, ratio: float = 0.5) -> tuple[nn.Module, Plan]:
    plan = fxprune.plan(model, X, ratio)
    return fxprune.shrink(model, plan, verify=False), plan


@pytest.mark.parametrize("make", ELEMENTWISE.values(), ids=ELEMENTWISE)
def test_the_next_step_is_that_of_the_whole_model_at_what_stays(make: Make) -> None:
    model = network()
    optimizer = make(model.parameters())
    train(model, optimizer)
    small, plan = shrunk(model)
    whole = copy.deepcopy(model)
    theirs = make(whole.parameters())
    theirs.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    put_gradients(whole, 9)
    theirs.step()

    fxprune.carry_over(optimizer, model, small, plan)
    put_gradients(model, 9)
    gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    for name, parameter in small.named_parameters():
        parameter.grad = kept(plan, name, gradients[name])
    optimizer.step()
    for name, parameter in whole.named_parameters():
        assert torch.equal(small.get_parameter(name), kept(plan, name, parameter)), name


def by_hand(make: Make, optimizer: Optimizer, model: nn.Module, small: Any, plan: Plan) -> Any:
    """A new optimizer for a copy of the small model, with the state sliced entry by entry."""
    twin = copy.deepcopy(small)
    result = make(twin.parameters())
    for name, old in model.named_parameters():
        for key, value in optimizer.state.get(old, {}).items():
            new = value
            if isinstance(value, Tensor) and value.dim() == old.dim() and value.numel() > 1:
                new = value.clone()
                for dim, gone in plan.slices.get(name, {}).items():
                    if value.shape[dim] > 1:
                        rows = new.unbind(dim)
                        new = torch.stack([r for k, r in enumerate(rows) if k not in gone], dim)
            elif isinstance(value, Tensor):
                new = value.clone()
            result.state[twin.get_parameter(name)][key] = new
    return twin, result


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_carried_over_is_as_sliced_by_hand(make: Make) -> None:
    model = network()
    optimizer = make(model.parameters())
    train(model, optimizer)
    small, plan = shrunk(model)
    twin, expected = by_hand(make, optimizer, model, small, plan)
    fxprune.carry_over(optimizer, model, small, plan)
    for seed in (7, 8):
        for network_, each in ((small, optimizer), (twin, expected)):
            put_gradients(network_, seed)
            each.step()
    for name, parameter in small.named_parameters():
        assert torch.equal(parameter, twin.get_parameter(name)), name
        ours, theirs = optimizer.state.get(parameter, {}), expected.state[twin.get_parameter(name)]
        assert ours.keys() == theirs.keys()
        for key, value in ours.items():
            assert torch.equal(torch.as_tensor(value), torch.as_tensor(theirs[key])), (name, key)


def test_groups_options_names_and_schedulers_stay() -> None:
    model = network()
    named = list(model.named_parameters())
    optimizer = torch.optim.SGD(
        [{"params": named[:3], "lr": 0.5}, {"params": named[3:], "lr": 0.25, "momentum": 0.9}],
        lr=0.1,
    )
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.5)
    train(model, optimizer)
    groups = optimizer.param_groups
    lists = [group["params"] for group in groups]
    small, plan = shrunk(model)
    fxprune.carry_over(optimizer, model, small, plan)
    assert optimizer.param_groups is groups
    assert [group["params"] for group in groups] == lists
    assert all(a is b["params"] for a, b in zip(lists, groups, strict=True))
    assert [n for group in groups for n in group["param_names"]] == [n for n, _ in named]
    for group in groups:
        for name, parameter in zip(group["param_names"], group["params"], strict=True):
            assert parameter is small.get_parameter(name)
    optimizer.step()
    scheduler.step()
    assert [group["lr"] for group in groups] == [0.25, 0.125]


def test_a_tied_parameter_moves_once() -> None:
    model = network()
    optimizer = MAKERS["adam"](model.parameters())
    train(model, optimizer)
    small, plan = shrunk(model)
    fxprune.carry_over(optimizer, model, small, plan)
    held = [p for group in optimizer.param_groups for p in group["params"]]
    assert len(held) == len(set(map(id, held))) == len(list(small.parameters()))
    assert sum(p is small.get_parameter("second.weight") for p in held) == 1
    assert {id(key) for key in optimizer.state} == set(map(id, held))


def test_other_parameters_and_frozen_ones_stay_out_of_it() -> None:
    model, other = network(), nn.Linear(2, 2)
    model.conv1.requires_grad_(False)
    learned = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam([*other.parameters(), *learned])
    put_gradients(other, 0)
    train(model, optimizer)
    before = {key: value.clone() for key, value in optimizer.state[other.weight].items()}
    small, plan = shrunk(model)
    fxprune.carry_over(optimizer, model, small, plan)
    held = [p for group in optimizer.param_groups for p in group["params"]]
    assert held[0] is other.weight
    assert held[1] is other.bias
    assert small.get_parameter("conv1.weight") not in set(held)
    assert not small.get_parameter("conv1.weight").requires_grad
    assert all(torch.equal(optimizer.state[other.weight][k], v) for k, v in before.items())


def test_parameters_of_a_branch_that_is_gone_leave_their_group() -> None:
    torch.manual_seed(0)
    model = Branched()
    optimizer = torch.optim.Adam(model.named_parameters())
    train(model, optimizer)
    plan = fxprune.plan(model, torch.zeros(1, 4), channels={"up": list(range(16))})
    small = fxprune.shrink(model, plan)
    fxprune.carry_over(optimizer, model, small, plan)
    group = optimizer.param_groups[0]
    assert group["param_names"] == ["other.weight", "other.bias"]
    assert set(optimizer.state) == set(group["params"]) == set(small.parameters())


def test_the_smaller_parameters_have_no_gradients_yet() -> None:
    model = network()
    optimizer = MAKERS["adam"](model.parameters())
    train(model, optimizer)
    small, plan = shrunk(model)
    fxprune.carry_over(optimizer, model, small, plan)
    assert all(parameter.grad is None for parameter in small.parameters())


def test_the_state_keeps_the_memory_format() -> None:
    model = network().to(memory_format=torch.channels_last)
    optimizer = MAKERS["adam"](model.parameters())
    train(model, optimizer)
    small, plan = shrunk(model)
    fxprune.carry_over(optimizer, model, small, plan)
    weight = small.get_parameter("conv2.weight")
    assert weight.stride() == optimizer.state[weight]["exp_avg"].stride()
    assert weight.is_contiguous(memory_format=torch.channels_last)


def test_an_optimizer_without_state_only_gets_the_parameters() -> None:
    model = network()
    optimizer = torch.optim.LBFGS(model.parameters())
    small, plan = shrunk(model)
    fxprune.carry_over(optimizer, model, small, plan)
    assert {id(p) for p in optimizer.param_groups[0]["params"]} == set(map(id, small.parameters()))

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss: Tensor = small(X).square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)


def snapshot(optimizer: Optimizer) -> tuple[list[int], set[int]]:
    held = [id(p) for group in optimizer.param_groups for p in group["params"]]
    return held, set(map(id, optimizer.state))


def test_flat_states_are_refused_before_anything_is_changed() -> None:
    model = network()
    optimizer = torch.optim.LBFGS(model.parameters())

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss: Tensor = model(X).square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    small, plan = shrunk(model)
    before = snapshot(optimizer)
    with pytest.raises(InputError, match="of a LBFGS cannot be carried over") as error:
        fxprune.carry_over(optimizer, model, small, plan)
    assert "parameter conv1.weight" in str(error.value)
    assert snapshot(optimizer) == before


def test_a_state_of_another_shape_is_refused() -> None:
    model = network()
    optimizer = MAKERS["adam"](model.parameters())
    train(model, optimizer)
    optimizer.state[model.head.weight]["quantized"] = torch.zeros(7, 8)
    small, plan = shrunk(model)
    with pytest.raises(InputError, match="'quantized' of a Adam") as error:
        fxprune.carry_over(optimizer, model, small, plan)
    assert "parameter head.weight of shape [5, 8]" in str(error.value)


def test_an_optimizer_of_another_model_is_told() -> None:
    model = network()
    small, plan = shrunk(model)
    with pytest.raises(InputError, match="holds no parameter of the model"):
        fxprune.carry_over(MAKERS["adam"](network().parameters()), model, small, plan)


def test_an_optimizer_inside_another_is_refused() -> None:
    class Wrapper(torch.optim.SGD):
        def __init__(self, base: Optimizer) -> None:
            super().__init__(base.param_groups, lr=0.1)
            self.base = base

    model = network()
    small, plan = shrunk(model)
    with pytest.raises(InputError, match="another optimizer inside, as its base"):
        fxprune.carry_over(Wrapper(MAKERS["adam"](model.parameters())), model, small, plan)


def test_arguments_that_do_not_belong_together_are_refused() -> None:
    model = network()
    optimizer = MAKERS["adam"](model.parameters())
    small, plan = shrunk(model)
    smaller, _ = shrunk(model, 0.75)
    before = snapshot(optimizer)
    cases: list[tuple[tuple[Any, ...], str]] = [
        ((optimizer, small, model, plan), "the plan does not belong to the model"),
        ((optimizer, nn.DataParallel(model), small, plan), "ddp.module"),
        ((optimizer, model, smaller, plan), "was not made by this plan"),
        ((optimizer, model, nn.Linear(2, 2), plan), "no parameter of the same name"),
        ((optimizer, model, small, "plan.json"), "the plan is a str"),
        ((None, model, small, plan), "the optimizer is a NoneType"),
    ]
    for arguments, text in cases:
        with pytest.raises(InputError, match=text):
            fxprune.carry_over(*arguments)
    assert snapshot(optimizer) == before


def test_the_model_is_not_changed() -> None:
    model = network()
    optimizer = MAKERS["adam"](model.parameters())
    train(model, optimizer)
    small, plan = shrunk(model)
    before = {name: (p, p.detach().clone()) for name, p in model.named_parameters()}
    fxprune.carry_over(optimizer, model, small, plan)
    put_gradients(small, 3)
    optimizer.step()
    for name, parameter in model.named_parameters():
        assert parameter is before[name][0]
        assert torch.equal(parameter, before[name][1])
