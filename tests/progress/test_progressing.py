"""Progressive pruning: steps, optimizers, checkpoints."""

from __future__ import annotations

import copy
import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import fxprune
from fxprune import InputError, Plan, PlanError, Progressive, importance
from fxprune.errors import FxPruneError
from models_zoo import ZOO, randomize
from tests.planning.models import chain
from tests.planning.test_after import Branched, removed, widths
from tests.progress.test_optimizers import X, network, put_gradients

TARGET = {"params": 0.4}


def progressive(model: nn.Module | None = None, **options: Any) -> Progressive:
    if not options.keys() & {"target", "ratio", "ratios", "strategies"}:
        options["target"] = TARGET
    return Progressive(network() if model is None else model, X, **{"steps": 3, **options})


def train(model: nn.Module, *optimizers: torch.optim.Optimizer, seed: int = 0) -> None:
    """A few steps that depend on nothing but the seed and what is given."""
    model.train()
    generator = torch.Generator().manual_seed(seed)
    for _ in range(3):
        images = torch.randn(8, 3, 8, 8, generator=generator)
        labels = torch.randint(5, (8,), generator=generator)
        model.zero_grad()
        F.cross_entropy(model(images), labels).backward()
        for optimizer in optimizers:
            optimizer.step()


def momentum(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)


def stays(plan: Plan, name: str) -> dict[int, list[int]]:
    shape = plan.shapes[name]
    gone = plan.slices.get(name, {})
    return {dim: [k for k in range(shape[dim]) if k not in gone.get(dim, ())] for dim in gone}


def narrowed(tensor: Tensor, before: Plan, after: Plan, name: str) -> Tensor:
    """From what one plan keeps of a tensor to what a later one does, position by position."""
    old = stays(before, name)
    for dim, positions in stays(after, name).items():
        there = old.get(dim, list(range(after.shapes[name][dim])))
        index = torch.tensor([there.index(position) for position in positions])
        tensor = tensor.index_select(dim, index)
    return tensor


def same(one: nn.Module, other: nn.Module) -> bool:
    ours, theirs = one.state_dict(), other.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[n], theirs[n]) for n in ours)


# -- steps ----------------------------------------------------------------------------------


def test_every_step_slices_weights_and_momentum_as_they_are() -> None:
    run = progressive()
    optimizer = momentum(run.model)
    while not run.done:
        train(run.model, optimizer, seed=run.step_number)
        before, old = run.plan, dict(run.model.named_parameters())
        buffers = {name: value.clone() for name, value in run.model.named_buffers()}
        state = {name: optimizer.state[p]["momentum_buffer"].clone() for name, p in old.items()}
        small = run.step(optimizer)
        assert small is run.model
        assert removed(before) <= removed(run.plan)
        for name, parameter in small.named_parameters():
            assert torch.equal(parameter, narrowed(old[name], before, run.plan, name)), name
            moved = optimizer.state[parameter]["momentum_buffer"]
            assert torch.equal(moved, narrowed(state[name], before, run.plan, name)), name
        for name, value in small.named_buffers():
            assert torch.equal(value, narrowed(buffers[name], before, run.plan, name)), name
        assert [id(p) for p in optimizer.param_groups[0]["params"]] == [
            id(p) for p in small.parameters()
        ]


def test_the_original_is_never_changed() -> None:
    model = network().train()
    tensors = {
        name: (t, t.detach().clone()) for name, t in model.state_dict(keep_vars=True).items()
    }
    modules = dict(model.named_modules())
    run = progressive(model)
    optimizer = momentum(run.model)
    while not run.done:
        train(run.step(optimizer), optimizer)
        run.teacher(X)
    assert dict(model.named_modules()) == modules
    assert all(module.training for module in modules.values())
    for name, tensor in model.state_dict(keep_vars=True).items():
        assert tensor is tensors[name][0]
        assert torch.equal(tensor, tensors[name][1])
        assert tensor.grad is None


def test_the_model_starts_as_a_copy() -> None:
    model = network()
    run = progressive(model)
    assert type(run.model) is type(model)
    assert same(run.model, model)
    assert {id(p) for p in run.model.parameters()}.isdisjoint(map(id, model.parameters()))
    assert (run.step_number, run.steps, run.done, run.history) == (0, 3, False, ())
    assert removed(run.plan) == set()


@pytest.mark.parametrize("schedule", ["linear", "cubic", "geometric", lambda t: t**2])
def test_each_step_meets_what_the_schedule_says(schedule: Any) -> None:
    x = torch.zeros(1, 4)
    run = Progressive(chain(4, 64, 64, 4), x, {"params": 0.3}, 3, schedule, verify=False)
    while not run.done:
        run.step()
    expected = {
        "linear": [1 - 0.7 / 3, 1 - 1.4 / 3, 0.3],
        "cubic": [1 - 0.7 * 19 / 27, 1 - 0.7 * 26 / 27, 0.3],
        "geometric": [0.3 ** (1 / 3), 0.3 ** (2 / 3), 0.3],
    }.get(schedule, [1 - 0.7 / 9, 1 - 0.7 * 4 / 9, 0.3])
    for step, most in zip(run.history, expected, strict=True):
        assert most - 0.05 < step.parameters <= most
        assert step.report is not None
        assert step.report.after.parameters / step.report.before.parameters == step.parameters
    assert [step.number for step in run.history] == [1, 2, 3]


def test_ratios_and_strategies_go_step_by_step_and_end_as_said() -> None:
    options: dict[str, Any] = {
        "ratio": 0.5,
        "ratios": {"conv2": 0.25},
        "strategies": {"first": {"ratio": 0.75, "criterion": "l1"}},
    }
    model = network()
    run = progressive(model, schedule="linear", steps=2, verify=False, **options)
    run.step()
    assert widths(run.plan) == widths(
        fxprune.plan(
            model,
            X,
            0.25,
            ratios={"conv2": 0.125},
            strategies={"first": {"ratio": 0.375}},
        )
    )
    run.step()
    assert widths(run.plan) == widths(fxprune.plan(model, X, **options))


def test_channels_that_are_named_go_with_the_first_step() -> None:
    run = Progressive(Branched(), torch.zeros(1, 4), ratio=0.5, channels={"up": [3]}, steps=2)
    run.step()
    assert 3 in run.plan.groups["up"].removed
    run.step()
    assert run.plan.groups["up"].width == 8


def test_a_branch_that_goes_whole_stays_away() -> None:
    channels = {"up": list(range(16))}
    run = Progressive(
        Branched(), torch.zeros(1, 4), ratio=0.5, ratios={}, channels=channels, steps=2
    )
    optimizer = momentum(run.model)
    for _ in range(2):
        put_gradients(run.model, 0)
        optimizer.step()
        run.step(optimizer)
        names = [name for name, _ in run.model.named_parameters()]
        assert names == ["other.weight", "other.bias"]


@pytest.mark.parametrize("emit", ["graph", "module", "auto"])
def test_every_kind_of_model_can_be_made(emit: Any) -> None:
    model = network()
    run = progressive(model, emit=emit, ratio=0.5)
    while not run.done:
        small = run.step()
    assert isinstance(small, type(model)) == (emit == "module")
    assert same(small, fxprune.shrink(model, run.plan, X))


def test_norm_exact_holds_for_every_step() -> None:
    model = nn.Sequential(nn.Linear(4, 16), nn.LayerNorm(16), nn.Linear(16, 4))
    x = torch.randn(2, 4)
    run = Progressive(model, x, ratio=0.5, steps=2, norm="exact")
    run.step()
    small = run.step()
    torch.testing.assert_close(small(x), fxprune.shrink(model, run.plan, x, norm="exact")(x))


@pytest.mark.parametrize("name", ["residual", "qkv_separate_grouped", "csp_split", "grouped_conv"])
def test_models_of_many_kinds_go_step_by_step(name: str) -> None:
    model = randomize(ZOO[name].build()).eval()
    x = ZOO[name].example_inputs()
    run = Progressive(model, x, ratio=0.6, steps=3)
    while not run.done:
        run.step()
    assert widths(run.plan) == widths(fxprune.plan(model, x, 0.6))


def test_modes_frozen_parameters_and_devices_of_data_go_along() -> None:
    run = progressive()
    run.model.train()
    run.model.get_submodule("norm").eval()
    run.model.get_submodule("conv2").requires_grad_(False)
    small = run.step()
    assert small.training
    assert not small.get_submodule("norm").training
    assert not small.get_parameter("conv2.weight").requires_grad
    assert small.get_parameter("conv1.weight").requires_grad


class Backwards(nn.Module):
    """Uses its layers in another order than it lists them."""

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Linear(16, 4)
        self.inner = nn.Sequential(nn.Linear(16, 16), nn.Linear(16, 16))
        self.first = nn.Linear(4, 16)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.inner[0](self.inner[1](self.first(x).relu()).relu()))


@pytest.mark.parametrize("emit", ["graph", "module"])
def test_parameters_are_listed_in_the_order_of_the_original(emit: Any) -> None:
    model = Backwards()
    run = Progressive(model, torch.zeros(1, 4), ratio=0.5, steps=1, emit=emit)
    names = [name for name, _ in run.step().named_parameters()]
    assert names == [name for name, _ in model.named_parameters()]


def test_a_state_of_ones_own_checkpoint_goes_on() -> None:
    run = progressive()
    optimizer = momentum(run.model)
    train(run.step(optimizer), optimizer)
    state, weights = run.state_dict(), run.model.state_dict()
    other = progressive()
    other.load_state_dict(state)
    other.model.load_state_dict(weights)
    again = momentum(other.model)
    again.load_state_dict(copy.deepcopy(optimizer.state_dict()))  # by places
    for each, held in ((run, optimizer), (other, again)):
        train(each.step(held), held)
    assert same(run.model, other.model)
    assert run.plan.groups == other.plan.groups
    with pytest.raises(InputError, match="steps is 3 there, 2 here"):
        progressive(steps=2).load_state_dict(state)
    with pytest.raises(InputError, match="no state of progressive pruning"):
        progressive().load_state_dict({"step": 1})


def test_several_optimizers_go_on() -> None:
    run = progressive()
    bodies = [p for name, p in run.model.named_parameters() if not name.startswith("head")]
    body = torch.optim.Adam(bodies)
    head = torch.optim.SGD(run.model.get_submodule("head").parameters(), lr=0.1, momentum=0.9)
    train(run.model, body, head)
    small = run.step(body, None, head)
    assert {id(p) for p in head.param_groups[0]["params"]} == {
        id(p) for p in small.get_submodule("head").parameters()
    }
    assert len(body.state) == len(bodies)
    train(small, body, head)


# -- criteria -------------------------------------------------------------------------------


def batches() -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(5)
    return [(torch.randn(4, 3, 8, 8, generator=generator), torch.tensor([0, 1, 2, 3]))]


CRITERIA = {
    "taylor": lambda: importance.Taylor(
        batches(), lambda model, batch: F.cross_entropy(model(batch[0]), batch[1]), progress=False
    ),
    "fisher": lambda: importance.Fisher(
        batches(), lambda model, batch: F.cross_entropy(model(batch[0]), batch[1]), progress=False
    ),
    "activation": lambda: importance.Activation(batches(), progress=False),
    "l2": lambda: "l2",
    "fpgm": lambda: "fpgm",
    "function": lambda: lambda _, weights: weights.abs() ** 3,
}


@pytest.mark.parametrize("name", CRITERIA)
def test_a_criterion_sees_the_model_as_it_is_now(name: str) -> None:
    run = progressive(ratio=0.5, steps=2, schedule="linear", criterion=CRITERIA[name]())
    optimizer = momentum(run.model)
    train(run.step(optimizer), optimizer)
    # 8 -> 6 -> 4: of the model itself, as if nothing were known of the original, a third goes
    own = fxprune.plan(run.model, X, 1 / 3, criterion=CRITERIA[name]())
    before = run.plan
    run.step(optimizer)
    for group, entry in own.groups.items():
        there = [k for k in range(8) if k not in before.groups[group].removed]
        chosen = {there[channel] for channel in entry.removed}
        assert chosen == set(run.plan.groups[group].removed) - set(before.groups[group].removed)


@pytest.mark.parametrize("scope", ["global", "isomorphic"])
def test_groups_compare_by_what_is_left_of_them(scope: Any) -> None:
    run = progressive(ratio=0.5, scope=scope, criterion=CRITERIA["taylor"]())
    seen = set()
    while not run.done:
        run.step()
        assert seen <= removed(run.plan)
        seen = removed(run.plan)
    sizes = sum(entry.size for entry in run.plan.groups.values())
    assert len(seen) == sizes // 2


def test_heads_are_scored_where_one_of_several_is_left() -> None:
    for name in ("qkv_fused_grouped", "qkv_separate_grouped"):
        entry = ZOO[name]
        model, x = randomize(entry.build()).eval(), entry.example_inputs()
        criterion = importance.Activation([x], inputs=lambda batch: batch, progress=False)
        run = Progressive(model, x, ratio=0.6, steps=4, criterion=criterion, verify=False)
        while not run.done:
            run.step()
        assert widths(run.plan) == widths(fxprune.plan(model, x, 0.6))


def test_a_criterion_of_a_strategy_sees_it_too() -> None:
    seen: list[int] = []

    def loss(model: nn.Module, batch: Any) -> Tensor:
        seen.append(sum(p.numel() for p in model.parameters()))
        return F.cross_entropy(model(batch[0]), batch[1])

    taylor = importance.Taylor(batches(), loss, progress=False)
    run = progressive(ratio=0.5, strategies={"conv2": {"criterion": taylor}})
    sizes = []
    while not run.done:
        sizes.append(sum(p.numel() for p in run.model.parameters()))
        run.step()
    assert seen == sizes
    assert run.plan.made["strategies"]["conv2"]["criterion"] == "Taylor"


# -- what is refused ------------------------------------------------------------------------


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "no goal": ({"ratio": 0.0}, "nothing says how much is to go"),
    "no ratio": ({"strategies": {"conv1": {"criterion": "l1"}}}, "nothing says how much"),
    "no steps": ({"steps": 0}, "steps is 0"),
    "steps": ({"steps": 2.5}, r"steps is 2\.5"),
    "threshold": ({"threshold": 0.1}, "threshold= is given"),
    "drop": ({"drop": ["conv2"]}, "drop= is given"),
    "by": ({"by": "blocks"}, "by= is given"),
    "after": ({"after": None}, "after= is given"),
    "unknown": ({"critereon": "l1"}, "unknown option critereon"),
    "threshold of some": ({"strategies": {"conv1": {"threshold": 1.0}}}, "has a threshold"),
    "ratio": ({"ratio": 1.5}, r"ratio is 1\.5"),
    "ratios": ({"ratios": [0.5]}, "ratios is"),
    "both": ({"ratio": 0.5, "target": TARGET}, "both ratio"),
    "target": ({"target": {"flops": 0.5}}, "unknown cost"),
    "module": ({"ignore": ["conv9"]}, "conv9"),
    "criterion": ({"criterion": "l3"}, "unknown criterion"),
    "fold": ({"constants": "fold"}, "constants='fold' is given"),
    "emit": ({"emit": "onnx"}, "emit='onnx' is not known"),
    "verify": ({"verify": "no"}, "verify='no' is not known"),
    "norm": ({"norm": "layer"}, "norm='layer' is not known"),
    "schedule": ({"schedule": "square"}, "unknown schedule 'square'"),
    "falling": ({"schedule": lambda t: 1 - t}, "the schedule falls"),
    "short": ({"schedule": lambda t: t / 2}, r"the schedule ends at 0\.5"),
    "above": ({"schedule": lambda t: 2 * t}, "the schedule returns"),
    "failing": ({"schedule": lambda t: {}[t]}, "the schedule fails"),
    "folder": ({"checkpoint": "nowhere/run.pt"}, "its folder does not exist"),
    "path": ({"checkpoint": 3}, "checkpoint is 3"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_options_are_refused_before_any_training(case: str) -> None:
    options, text = WRONG[case]
    with pytest.raises(FxPruneError, match=text):
        progressive(**options)


def test_a_target_out_of_reach_is_refused_before_any_training() -> None:
    with pytest.raises(PlanError, match="cannot be met"):
        progressive(target={"params": 0.001})


def test_no_more_steps_than_there_are() -> None:
    run = progressive(steps=1, verify=False)
    run.step()
    assert run.done
    with pytest.raises(InputError, match="all 1 steps are done"):
        run.step()


def test_an_optimizer_of_the_original_is_told_and_nothing_happens() -> None:
    model = network()
    run = progressive(model)
    before = run.model
    with pytest.raises(InputError, match="holds no parameter of the model"):
        run.step(momentum(model))
    assert run.model is before
    assert run.step_number == 0


class Dropping(nn.Module):
    """Asks by itself whether it is trained."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(4, 16), nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(F.dropout(self.first(x).relu(), 0.5, training=self.training))


def test_a_graph_that_would_drop_out_in_eval_mode_is_refused() -> None:
    x = torch.randn(2, 4)
    with pytest.raises(InputError, match=r"the model is in training mode"):
        Progressive(Dropping(), x, ratio=0.5)
    with pytest.raises(InputError, match=r"the model is in training mode"):
        fxprune.sensitivity(Dropping(), x, lambda _: 1.0, progress=False)
    for run in (
        Progressive(Dropping().eval(), x, ratio=0.5),
        Progressive(Dropping(), x, ratio=0.5, emit="module"),
    ):
        small = run.step().eval()
        assert torch.equal(small(x), small(x))


def test_an_optimizer_of_which_one_group_is_the_originals_is_told() -> None:
    model = network()
    run = progressive(model, verify=False)
    groups = [
        {"params": run.model.get_submodule("conv1").parameters()},
        {"params": model.head.parameters()},
    ]
    with pytest.raises(InputError, match=r"holds head.weight of the original"):
        run.step(torch.optim.SGD(groups, lr=0.1))
    assert run.step_number == 0


def test_a_state_that_cannot_be_carried_stops_the_step_before_anything_is_changed() -> None:
    run = progressive()
    good = momentum(run.model)
    bad = torch.optim.Adam(run.model.parameters())
    train(run.model, good, bad)
    bad.state[run.model.get_parameter("head.weight")]["odd"] = torch.zeros(3, 3)
    held = [id(p) for p in good.param_groups[0]["params"]]
    with pytest.raises(InputError, match="'odd' of a Adam"):
        run.step(good, bad)
    assert [id(p) for p in good.param_groups[0]["params"]] == held
    assert run.step_number == 0
    assert removed(run.plan) == set()


def test_a_model_that_was_changed_between_steps_is_told() -> None:
    run = progressive()
    run.model.half()
    with pytest.raises(InputError, match=r"type torch\.float16"):
        run.step()
    run = progressive()
    run.model.register_parameter("more", nn.Parameter(torch.zeros(2)))
    with pytest.raises(InputError, match="a parameter more of its own"):
        run.step()


def test_tensors_that_were_tied_stay_so_or_are_told() -> None:
    run = progressive()
    assert run.step().get_parameter("first.weight") is run.model.get_parameter("second.weight")
    weight = run.model.get_parameter("first.weight")
    run.model.get_submodule("second").weight = nn.Parameter(weight.detach().clone())  # type: ignore[assignment]
    with pytest.raises(InputError, match="of the model are two tensors"):
        run.step()


def test_names_that_can_be_read_once_only_hold_for_every_step() -> None:
    run = Progressive(
        Backwards(),
        torch.zeros(1, 4),
        ratio=0.5,
        ignore=(name for name in ["inner.0"]),
        keep={"first": iter([0, 1])},
        channels={"first": map(int, ["5"])},
    )
    while not run.done:
        run.step()
    assert widths(run.plan) == {"first": 8, "inner.0": 16, "inner.1": 8}
    assert 5 in run.plan.groups["first"].removed
    assert not {0, 1} & set(run.plan.groups["first"].removed)


def test_dropped_blocks_are_refused() -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            return x + self.inner(x)

    model = nn.Sequential(nn.Linear(4, 4), Block(), nn.Linear(4, 4))
    x = torch.zeros(1, 4)
    plan = fxprune.plan(model, x, drop=["1"])
    with pytest.raises(InputError, match="blocks of the model were dropped: 1"):
        Progressive(plan.analyze(model, x), x, ratio=0.5)  # type: ignore[arg-type]


# -- checkpoints ----------------------------------------------------------------------------


def looped(
    path: Path,
    model: nn.Module | None = None,
    *,
    until: int = 3,
    make: Any = momentum,
    **options: Any,
) -> tuple[Progressive, torch.optim.Optimizer]:
    """A user's loop, left after some steps."""
    run = progressive(checkpoint=path, **options)
    optimizer = make(run.model)
    run.restore(optimizer)
    while not run.done and run.step_number < until:
        train(run.step(optimizer), optimizer, seed=run.step_number)
        run.save(optimizer, epoch=run.step_number * 10)
    return run, optimizer


@pytest.mark.parametrize("emit", ["graph", "module"])
@pytest.mark.parametrize(
    "make",
    [momentum, lambda model: torch.optim.AdamW(model.named_parameters(), amsgrad=True)],
    ids=["sgd", "adamw"],
)
def test_a_run_that_goes_on_ends_as_one_that_was_never_left(
    tmp_path: Path, make: Any, emit: Any
) -> None:
    whole, optimizer = looped(tmp_path / "whole.pt", make=make, emit=emit)
    for until in (1, 2, 3):
        path = tmp_path / "parts.pt"
        parts, others = looped(path, until=until, make=make, emit=emit)
        assert parts.step_number == until
    assert parts.done
    assert same(parts.model, whole.model)
    assert parts.plan.groups == whole.plan.groups
    assert parts.extra == {"epoch": 30}
    assert [step.shares() for step in parts.history] == [step.shares() for step in whole.history]
    ours, theirs = optimizer.state_dict(), others.state_dict()
    assert ours["param_groups"] == theirs["param_groups"]
    for number, state in ours["state"].items():
        for key, value in state.items():
            assert torch.equal(
                torch.as_tensor(value), torch.as_tensor(theirs["state"][number][key])
            )


def test_a_checkpoint_before_the_first_step_holds_the_copy(tmp_path: Path) -> None:
    run = progressive(checkpoint=tmp_path / "run.pt")
    optimizer = momentum(run.model)
    train(run.model, optimizer)
    run.save(optimizer)
    other = progressive(checkpoint=tmp_path / "run.pt")
    assert other.step_number == 0
    assert same(other.model, run.model)


def test_modes_and_frozen_parameters_come_back(tmp_path: Path) -> None:
    run = progressive(checkpoint=tmp_path / "run.pt", verify=False)
    run.step()
    run.model.train()
    run.model.get_submodule("norm").eval()
    run.model.get_submodule("conv2").requires_grad_(False)
    run.save()
    other = progressive(checkpoint=tmp_path / "run.pt").model
    assert other.training
    assert not other.get_submodule("norm").training
    assert not other.get_parameter("conv2.weight").requires_grad
    assert other.get_parameter("conv1.weight").requires_grad


def test_parameters_are_matched_by_name_and_others_by_place(tmp_path: Path) -> None:
    other = nn.Linear(2, 2)
    run = progressive(checkpoint=tmp_path / "run.pt", verify=False)
    optimizer = torch.optim.Adam([*other.parameters(), *run.model.parameters()])
    put_gradients(other, 0)
    train(run.model, optimizer)
    run.step(optimizer)
    run.save(optimizer)
    again = progressive(checkpoint=tmp_path / "run.pt")
    backwards = torch.optim.Adam([*other.parameters(), *reversed(list(again.model.parameters()))])
    again.restore(backwards)
    for name, parameter in again.model.named_parameters():
        before = optimizer.state[run.model.get_parameter(name)]
        assert torch.equal(backwards.state[parameter]["exp_avg"], before["exp_avg"]), name
    assert torch.equal(
        backwards.state[other.weight]["exp_avg"], optimizer.state[other.weight]["exp_avg"]
    )


def test_options_of_groups_and_schedulers_go_on(tmp_path: Path) -> None:
    run = progressive(checkpoint=tmp_path / "run.pt", verify=False)
    optimizer = momentum(run.model)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda epoch: 0.5**epoch)
    train(run.step(optimizer), optimizer)
    scheduler.step()
    run.save(optimizer, scheduler={"last_epoch": scheduler.last_epoch}, rng=torch.get_rng_state())
    again = progressive(checkpoint=tmp_path / "run.pt")
    other = momentum(again.model)
    again.restore(other)
    assert other.param_groups[0]["lr"] == 0.025
    assert again.extra["scheduler"] == {"last_epoch": 1}
    assert torch.equal(again.extra["rng"], torch.get_rng_state())


def test_a_checkpoint_that_is_not_restored_is_not_lost_in_silence(tmp_path: Path) -> None:
    looped(tmp_path / "run.pt", until=1)
    run = progressive(checkpoint=tmp_path / "run.pt")
    for call in (run.step, run.save):
        with pytest.raises(InputError, match="have not been taken over"):
            call(momentum(run.model))


OTHERS: dict[str, tuple[dict[str, Any], str]] = {
    "steps": ({"steps": 4}, "steps is 3 there, 4 here"),
    "target": ({"target": {"params": 0.5}}, r"target is \{params: 0.4\} there"),
    "schedule": ({"schedule": "linear"}, "schedule is cubic there, linear here"),
    "function": ({"schedule": lambda t: t}, "schedule is cubic there, halving"),
    "criterion": ({"criterion": "l1"}, "criterion is not given there, l1 here"),
    "norm": ({"norm": "exact"}, "norm is kept there, exact here"),
    "round_to": ({"round_to": 2}, "round_to is not given there, 2 here"),
}


@pytest.mark.parametrize("case", OTHERS)
def test_a_checkpoint_of_other_settings_is_refused_with_what_differs(
    tmp_path: Path, case: str
) -> None:
    looped(tmp_path / "run.pt", until=1, verify=False)
    options, text = OTHERS[case]
    with pytest.raises(InputError, match=text):
        progressive(checkpoint=tmp_path / "run.pt", **options)


def test_defaults_that_are_written_out_are_no_other_settings(tmp_path: Path) -> None:
    looped(tmp_path / "run.pt", until=1, verify=False)
    assert progressive(checkpoint=tmp_path / "run.pt", round_to=1, scope="group").step_number == 1


@pytest.mark.parametrize("schedule", ["linear", "cubic"])
def test_steps_by_a_sensitivity_end_where_one_step_does(schedule: Any) -> None:
    model = network()
    found = fxprune.sensitivity(
        model, X, lambda small: small(X).square().sum().item(), ratios=(0.5,), progress=False
    )
    run = Progressive(model, X, ratio=0.5, sensitivity=found, steps=3, schedule=schedule)
    sizes = []
    while not run.done:
        run.step()
        sizes.append(len(removed(run.plan)))
    at_once = fxprune.plan(model, X, ratio=0.5, sensitivity=found)
    assert sizes[0] < sizes[1] < sizes[2] == len(removed(at_once))
    assert widths(run.plan) == widths(at_once)


def test_another_original_is_refused(tmp_path: Path) -> None:
    looped(tmp_path / "run.pt", until=1, verify=False)
    other = network()
    with torch.no_grad():
        other.head.bias[0] += 1
    with pytest.raises(InputError, match="the model has other weights"):
        progressive(other, checkpoint=tmp_path / "run.pt")


def test_optimizers_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    looped(tmp_path / "run.pt", until=1, verify=False)
    run = progressive(checkpoint=tmp_path / "run.pt")
    parameters = list(run.model.parameters())
    cases = [
        ((torch.optim.Adam(parameters),), "state of an optimizer SGD, this one is Adam"),
        ((torch.optim.SGD(parameters[1:]),), "conv1.weight is in the checkpoint only"),
        ((torch.optim.SGD([{"params": [p]} for p in parameters]),), "has 1 groups"),
        ((momentum(run.model), momentum(run.model)), "1 optimizers, here are 2"),
        ((), "1 optimizers, here are 0"),
        ((momentum(network()),), "holds no parameter of the model"),
    ]
    for optimizers, text in cases:
        with pytest.raises(InputError, match=text):
            run.restore(*optimizers)
    optimizer = momentum(run.model)
    run.restore(optimizer)
    assert len(optimizer.state) == len(parameters)


def test_what_cannot_be_read_back_is_not_written(tmp_path: Path) -> None:
    run = progressive(checkpoint=tmp_path / "run.pt")
    for extra in ({"a": object()}, {"a": [{1.5: 2}]}, {"a": {"b": {1, 2}}}):
        with pytest.raises(InputError, match=r"extra\['a'\]"):
            run.save(**extra)
    assert not (tmp_path / "run.pt").exists()


def test_without_a_file_nothing_can_be_saved() -> None:
    with pytest.raises(InputError, match="there is no file to save to"):
        progressive().save()


@pytest.mark.parametrize("content", [b"", b"text", "other", "code", "version", "history"], ids=str)
def test_a_file_that_is_no_checkpoint_is_refused(tmp_path: Path, content: Any) -> None:
    path = tmp_path / "run.pt"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content == "other":
        torch.save({"weight": torch.zeros(2)}, path)
    elif content == "code":
        torch.save({"format": "fxprune progressive pruning", "model": nn.Linear(2, 2)}, path)
    else:
        looped(path, until=1, verify=False)
        document = torch.load(path)
        document[content] = 7 if content == "version" else [{"number": 1}]
        torch.save(document, path)
    with pytest.raises(InputError, match="checkpoint"):
        progressive(checkpoint=path)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("history", [{"number": float("nan"), "parameters": 0.5, "macs": 0.5}]),
        ("history", [{"number": 2, "parameters": 0.5, "macs": 0.5}]),
        ("history", [{"number": 1, "parameters": float("inf"), "macs": 0.5}]),
        ("history", [{"number": 1, "parameters": 10**400, "macs": 0.5}]),
        ("evaluating", [{}]),
        ("frozen", [["first"]]),
        ("settings", {"ratio": torch.ones(2)}),
    ],
)
def test_a_checkpoint_that_someone_made_up_is_refused(
    tmp_path: Path, name: str, value: Any
) -> None:
    path = tmp_path / "run.pt"
    looped(path, until=1, verify=False)
    document = torch.load(path)
    document[name] = value
    torch.save(document, path)
    with pytest.raises(InputError, match="checkpoint"):
        progressive(checkpoint=path)


@pytest.mark.parametrize("change", ["settings", "plan", "history", "step", "emit", None])
def test_what_is_no_state_is_refused(change: str | None) -> None:
    run = progressive(verify=False)
    run.step()
    state = None if change is None else {**run.state_dict(), change: None}
    with pytest.raises(InputError, match="no state"):
        run.load_state_dict(state)  # type: ignore[arg-type]


def test_a_state_that_would_fill_the_memory_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "run.pt"
    looped(path, until=1, verify=False)
    document = torch.load(path)
    state = document["optimizers"][0]["state"]["state"]
    state[0]["momentum_buffer"] = torch.zeros(1, dtype=torch.float64).expand(1 << 50)
    torch.save(document, path)
    run = progressive(checkpoint=path, verify=False)
    with pytest.raises(InputError, match=r"does not fit: .*more elements than memory"):
        run.restore(momentum(run.model))


@pytest.mark.parametrize("kind", ["deep", "endless", "meta"])
def test_what_could_not_be_read_is_not_written(tmp_path: Path, kind: str) -> None:
    value: Any = torch.zeros(2, device="meta") if kind == "meta" else []
    if kind == "endless":
        value.append(value)
    for _ in range(2000 if kind == "deep" else 0):
        value = [value]
    run = progressive(checkpoint=tmp_path / "run.pt")
    with pytest.raises(InputError, match="extra"):
        run.save(value=value)
    assert not [*tmp_path.iterdir()]


def test_a_checkpoint_is_where_it_was_when_the_run_began(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run = progressive(checkpoint="run.pt")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    run.save()
    assert (tmp_path / "run.pt").exists()


def test_weights_that_are_not_finite_any_more_are_told() -> None:
    run = progressive(verify=False)
    run.step()
    with torch.no_grad():
        run.model.get_parameter("conv1.weight").fill_(torch.nan)
    with pytest.raises(InputError, match=r"parameter conv1\.weight contains NaN"):
        run.step()


def test_a_save_that_fails_leaves_the_file_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, optimizer = looped(tmp_path / "run.pt", until=1, verify=False)
    before = (tmp_path / "run.pt").read_bytes()

    def failing(*_: Any) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(torch, "save", failing)
    with pytest.raises(FxPruneError, match="cannot be written"):
        run.save(optimizer)
    assert (tmp_path / "run.pt").read_bytes() == before
    assert list(tmp_path.iterdir()) == [tmp_path / "run.pt"]


# -- the teacher ----------------------------------------------------------------------------


def test_the_teacher_is_the_original_in_eval_mode_and_frozen() -> None:
    model = network().train()
    run = progressive(model)
    teacher = run.teacher
    assert teacher is run.teacher
    assert not any(module.training for module in teacher.modules())
    assert not any(parameter.requires_grad for parameter in teacher.parameters())
    shared = zip(teacher.parameters(), model.parameters(), strict=True)
    assert all(a is not b and a.data_ptr() == b.data_ptr() for a, b in shared)
    expected = copy.deepcopy(model).eval()(X)
    assert torch.equal(teacher(X), expected)


def test_a_student_learns_from_the_teacher() -> None:
    run = progressive(target={"params": 0.6}, steps=1, verify=False)
    student = run.step().train()
    optimizer = torch.optim.SGD(student.parameters(), lr=0.05)
    losses = []
    for _ in itertools.repeat(None, 10):
        loss = fxprune.distillation_loss(student(X), run.teacher(X))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
