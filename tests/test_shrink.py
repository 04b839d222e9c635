"""What `shrink` promises beside equality."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

import fxprune
from models_zoo import ZOO, randomize


def residual() -> tuple[nn.Module, Tensor]:
    model = ZOO["residual"]
    return randomize(model.build()).eval(), model.example_inputs()[0]


def frozen_state(model: nn.Module) -> dict[str, Any]:
    return copy.deepcopy(model.state_dict())


def unchanged(model: nn.Module, before: dict[str, Any]) -> bool:
    return all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_the_result_is_a_graph_module_with_the_same_parameter_names() -> None:
    model, x = residual()
    small = fxprune.shrink(model, fxprune.plan(model, x, 0.5))
    assert isinstance(small, fx.GraphModule)
    assert dict(small.named_parameters()).keys() == dict(model.named_parameters()).keys()


def test_a_plan_can_be_given_by_its_path(tmp_path: Path) -> None:
    model, x = residual()
    plan = fxprune.plan(model, x, 0.5)
    plan.save(tmp_path / "plan.json")
    assert torch.equal(
        fxprune.shrink(model, tmp_path / "plan.json")(x), fxprune.shrink(model, plan)(x)
    )


def test_a_dict_of_ratios_and_channels_is_a_plan() -> None:
    model, x = residual()
    small = fxprune.shrink(model, {"1.body.0.0": [0, 3], "2": 0.25}, x)
    widths = {name: group.width for name, group in small.meta["fxprune"].groups.items()}
    assert widths == {
        "0.0": 8,
        "1.body.0.0": 6,
        "2.body.0.0": 12,
        "2.downsample.0": 12,
        "3.body.0.0": 16,
    }


def test_an_analysis_can_be_used_again() -> None:
    model, x = residual()
    deps = fxprune.analyze(model, x)
    plan = fxprune.plan(deps, ratio=0.5)
    assert plan == fxprune.plan(model, x, 0.5)
    assert torch.equal(fxprune.shrink(deps, plan)(x), fxprune.shrink(model, plan)(x))
    assert torch.equal(fxprune.shrink(deps, {"*": 0.5})(x), fxprune.shrink(model, plan)(x))


def test_train_and_eval_flags_survive() -> None:
    model, x = residual()
    model.train()
    model.get_submodule("1").eval()
    small = fxprune.shrink(model, fxprune.plan(model, x, 0.5))
    assert small.training
    for name, module in small.named_modules():
        assert module.training == model.get_submodule(name).training, name
    assert model.training


def test_frozen_parameters_stay_frozen() -> None:
    model, x = residual()
    for name, parameter in model.named_parameters():
        parameter.requires_grad_("body" in name)
    small = fxprune.shrink(model, fxprune.plan(model, x, 0.5))
    for name, parameter in small.named_parameters():
        assert parameter.requires_grad == ("body" in name)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_the_dtype_survives(dtype: torch.dtype) -> None:
    model, x = residual()
    model = model.to(dtype)
    small = fxprune.shrink(model, fxprune.plan(model, x.to(dtype), 0.5))
    assert {p.dtype for p in small.parameters()} == {dtype}


def test_the_result_trains_and_leaves_the_original_alone() -> None:
    model, x = residual()
    before = frozen_state(model)
    small = fxprune.shrink(model, fxprune.plan(model, x, 0.5)).train()
    optimizer = torch.optim.SGD(small.parameters(), lr=0.1)
    first = small(x).square().mean()
    for _ in range(3):
        optimizer.zero_grad()
        loss = small(x).square().mean()
        loss.backward()
        optimizer.step()
    assert loss < first
    assert unchanged(model, before)


def test_the_result_survives_pickling_and_deep_copies() -> None:
    model, x = residual()
    small = fxprune.shrink(model, fxprune.plan(model, x, 0.5))
    again = pickle.loads(pickle.dumps(small))
    assert torch.equal(again(x), small(x))
    assert torch.equal(copy.deepcopy(small)(x), small(x))


def test_the_result_can_be_shrunk_again() -> None:
    model, x = residual()
    once = fxprune.shrink(model, fxprune.plan(model, x, 0.5))
    twice = fxprune.shrink(once, fxprune.plan(once, x, 0.5))
    assert twice.meta["fxprune"].after.parameters < once.meta["fxprune"].after.parameters
    assert once.meta["fxprune"].before.parameters > once.meta["fxprune"].after.parameters


def test_tied_weights_stay_tied() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Linear(6, 8)
            self.left = nn.Linear(8, 8)
            self.right = nn.Linear(8, 8)
            self.right.weight = self.left.weight
            self.head = nn.Linear(8, 3)

        def forward(self, x: Tensor) -> Tensor:
            x = F.relu(self.stem(x))
            return self.head(F.relu(self.left(x)) + F.relu(self.right(x)))

    model, x = randomize(Tied()).eval(), torch.randn(4, 6)
    small = fxprune.shrink(model, fxprune.plan(model, x, 0.5))
    assert small.get_parameter("left.weight") is small.get_parameter("right.weight")
    assert small.get_parameter("left.weight").shape == (4, 4)


def test_hooks_survive() -> None:
    model, x = residual()
    calls = []
    model.get_submodule("0.0").register_forward_hook(lambda *args: calls.append(1) or None)
    small = fxprune.shrink(model, fxprune.plan(model, x, 0.5), verify=False)
    calls.clear()
    small(x)
    assert calls == [1]


def test_a_unet_keeps_its_output_shape_at_any_resolution() -> None:
    model = randomize(ZOO["unet"].build()).eval()
    (x,) = ZOO["unet"].example_inputs()
    small = fxprune.shrink(model, fxprune.plan(model, x, 0.5))
    for shape in ((1, 3, 48, 32), (3, 3, 64, 64)):
        image = torch.randn(shape)
        assert small(image).shape == model(image).shape


def test_module_attributes_tell_the_truth() -> None:
    model = randomize(ZOO["inverted_residual"].build()).eval()
    small = fxprune.shrink(model, fxprune.plan(model, ZOO["inverted_residual"].example_inputs()))
    small = fxprune.shrink(small, {"1.expand.0": 0.5}, ZOO["inverted_residual"].example_inputs())
    for module in small.modules():
        if isinstance(module, nn.Conv2d):
            shape = (module.out_channels, module.in_channels // module.groups)
            assert module.weight.shape[:2] == shape
        if isinstance(module, nn.BatchNorm2d):
            assert module.weight.shape == (module.num_features,)


def test_a_report_prints_as_tables() -> None:
    model, x = residual()
    text = str(fxprune.shrink(model, fxprune.plan(model, x, 0.5)).meta["fxprune"])
    for word in ("parameters", "bytes", "MACs", "1.body.0.0", "verified"):
        assert word in text
    unverified = fxprune.shrink(model, fxprune.plan(model, x, 0.5), verify=False)
    assert "NOT verified" in str(unverified.meta["fxprune"])


def branching(x: Tensor) -> Tensor:
    return x if x.sum() > 0 else -x


class Untraceable(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return branching(self.fc(x))


def test_every_wrong_input_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    model, x = residual()
    other = randomize(ZOO["vgg"].build()).eval()
    before = frozen_state(model)
    plan = fxprune.plan(model, x, 0.5)
    rows = torch.randn(2, 4)
    untraced = fxprune.plan(Untraceable(), rows, 0.5)
    poisoned = copy.deepcopy(model)
    with torch.no_grad():
        poisoned.get_parameter("0.0.weight")[0, 0] = float("nan")
    wrong = {
        "ratio is 1.0": lambda: fxprune.plan(model, x, 1.0),
        "ratio is -0.1": lambda: fxprune.plan(model, x, -0.1),
        "the nearest names are.*1.body.0.0": lambda: fxprune.shrink(model, {"1.body.0.O": 0.5}, x),
        "out of range": lambda: fxprune.shrink(model, {"0.0": [8]}, x),
        "another model": lambda: fxprune.shrink(other, plan),
        "example inputs are missing": lambda: fxprune.shrink(model, {"0.0": 0.5}),
        "these example inputs only": lambda: fxprune.shrink(Untraceable(), untraced, rows),
        "0.0.weight contains NaN": lambda: fxprune.plan(poisoned, x, 0.5),
        "itself computes NaN": lambda: fxprune.shrink(poisoned, plan),
        "cannot be read": lambda: fxprune.shrink(model, tmp_path / "none.json"),
        "nothing of 4.2 can be removed": lambda: fxprune.shrink(model, {"4.2": 0.5}, x),
        "the plan is a int": lambda: fxprune.shrink(model, 3, x),  # type: ignore[arg-type]
    }
    for message, call in wrong.items():
        with pytest.raises(fxprune.FxPruneError, match=f"(?s){message}"):
            call()
    assert unchanged(model, before)


class Tables(nn.Module):
    """Adds the first rows of two tables, as many as there are tokens, and masks by another."""

    mask: Tensor
    sines: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.head = nn.Linear(5, 8), nn.Linear(8, 3)
        self.positions = nn.Parameter(torch.randn(16, 5))
        self.register_buffer("mask", torch.randn(16, 16).tril())
        self.register_buffer("sines", torch.randn(17, 8))

    def forward(self, x: Tensor) -> Tensor:
        tokens = x.shape[1]
        x = self.embed(x) + self.embed(self.positions * 0.5)[:tokens]
        x = x + self.sines.index_select(0, torch.arange(tokens) + 1)
        return self.head(self.mask[:tokens, :tokens] @ x)


@pytest.mark.parametrize("tokens", [1, 6, 7, 16])
def test_a_table_can_be_read_further_than_with_the_example_inputs(tokens: int) -> None:
    torch.manual_seed(0)
    model = Tables()
    plan = fxprune.plan(model, torch.randn(2, 6, 5), 0.5)
    small = fxprune.shrink(model, plan)
    assert small.get_parameter("positions").shape == (16, 5)
    assert small.get_buffer("mask").shape == (16, 16)
    assert small.get_buffer("sines").shape == (17, 4)
    fxprune.verify(model, small, plan, torch.randn(2, tokens, 5))


def test_a_table_says_why_the_rows_that_no_example_reads_stay() -> None:
    deps = fxprune.analyze(Tables(), torch.randn(2, 6, 5))
    rows = {group.size: group.pinned for group in deps.groups if group.name.startswith("mask")}
    assert rows[10] is not None
    assert rows[10].what == "not read with example inputs of this size"


def test_an_axis_that_only_parameters_share_can_be_pruned() -> None:
    class LowRank(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.down, self.up = nn.Parameter(torch.randn(5, 8)), nn.Parameter(torch.randn(8, 4))

        def forward(self, x: Tensor) -> Tensor:
            return x @ (self.down @ self.up)

    small = fxprune.shrink(model := LowRank(), fxprune.plan(model, torch.randn(2, 5), 0.5))
    assert small.get_parameter("up").shape == (4, 4)


@pytest.mark.parametrize("name", ["multi_output_dataclass", "multi_output_values"])
def test_plain_values_and_the_containers_of_outputs_stay(name: str) -> None:
    model, inputs = ZOO[name].build().eval(), ZOO[name].example_inputs()
    small = fxprune.shrink(model, fxprune.plan(model, inputs, 0.5), inputs)
    expected, got = model(*inputs), small(*inputs)
    assert type(got) is type(expected)
    if isinstance(expected, list):
        assert got[1:] == expected[1:] == [16, "scores", None]
        return
    assert (got.stride, got.note) == (2, "levels")
    assert [level.shape for level in got.levels] == [level.shape for level in expected.levels]
