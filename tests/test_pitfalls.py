"""Models that fool a tracer or a rewrite: each is shrunk right, or refused with a reason."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import fxprune
from models_zoo import randomize


class Between(nn.Module):
    """Two convolutions, 3 to 8 to 4 channels, and anything between them."""

    def __init__(self, between: Callable[[Any, Tensor], Any], channels: int = 8) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.last = nn.Conv2d(channels, 4, 3, padding=1)
        self.weight = nn.Parameter(torch.randn(8, 1, 3, 3))
        self.between = between

    def forward(self, x: Tensor) -> Any:
        return self.last(self.between(self, self.first(x)))


def images(batch: int) -> Tensor:
    return torch.randn(batch, 3, 8, 8, generator=torch.Generator().manual_seed(batch))


def shrunk(model: nn.Module, x: Any) -> Any:
    return fxprune.shrink(model, fxprune.plan(model, x, 0.5), x)


def add_to_a_view(_: Any, y: Tensor) -> Tensor:
    view = y[:, :4]
    view += 1.0
    return y


def scale_another_name(_: Any, y: Tensor) -> Tensor:
    other = y
    other *= 2
    return y


def write_through_a_step(_: Any, y: Tensor) -> Tensor:
    y = y * 1
    y[:, ::2].add_(1.0)
    return y


def divide_by_batch_times_channels(_: Any, y: Tensor) -> Tensor:
    flat = y.flatten(0, 1)
    return (flat / flat.shape[0]).unflatten(0, (y.shape[0], -1))


def count_channels_with_the_batch_folded_in(_: Any, y: Tensor) -> Tensor:
    return y * (y.flatten(0, 1).shape[0] // y.shape[0])


def modulate(model: Any, y: Tensor) -> Tensor:
    batch, _, height, width = y.shape
    weight = model.weight.repeat(batch, 1, 1, 1)
    folded = y.reshape(1, -1, height, width)
    return F.conv2d(folded, weight, None, 1, 1, 1, batch * 8).view(batch, 8, height, width)


def read_a_size_by_keyword(_: Any, y: Tensor) -> Tensor:
    return y * y.size(dim=1)


def convolve_by_keyword(model: Any, y: Tensor) -> Tensor:
    return F.conv2d(weight=model.weight, input=y, groups=8, padding=1)


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize(
    "between",
    [
        add_to_a_view,
        scale_another_name,
        divide_by_batch_times_channels,
        count_channels_with_the_batch_folded_in,
        modulate,
        read_a_size_by_keyword,
        convolve_by_keyword,
    ],
)
def test_the_result_is_right_at_every_batch_whatever_the_example(
    between: Callable[[Any, Tensor], Tensor], batch: int
) -> None:
    model = randomize(Between(between)).eval()
    x = images(batch)
    plan = fxprune.plan(model, x, 0.5)
    small = fxprune.shrink(model, plan, x)
    assert small.first.out_channels == 4
    for other in (1, 2, 3):
        assert fxprune.verify(model, small, plan, images(other)).relative < 1e-12


@pytest.mark.parametrize("between", [add_to_a_view, scale_another_name, write_through_a_step])
def test_without_a_removal_in_place_writes_stay(between: Callable[[Any, Tensor], Tensor]) -> None:
    model = randomize(Between(between)).eval()
    small = fxprune.shrink(model, fxprune.plan(model, images(2), 0.0))
    assert torch.equal(small(images(2)), model(images(2)))


def test_a_stepped_view_that_is_written_to_never_becomes_a_copy() -> None:
    model = randomize(Between(write_through_a_step)).eval()
    even = fxprune.plan(model, images(2), channels={"first": [0, 1]})  # 2, 4, 6 stay
    assert fxprune.shrink(model, even).meta["fxprune"].verification.relative < 1e-12
    uneven = fxprune.plan(model, images(2), channels={"first": [0, 3]})  # 1, 2, 4 of six
    with pytest.raises(fxprune.RewriteError, match="written to in place"):
        fxprune.shrink(model, uneven, verify=False)


@dataclass
class Output:
    features: Tensor
    scores: Tensor


class ReturnsDataclass(Between):
    def forward(self, x: Tensor) -> Output:
        features = self.first(x)
        return Output(features=features, scores=self.last(features * 2))


def test_tensors_in_a_dataclass_are_outputs_and_stay() -> None:
    model = randomize(ReturnsDataclass(add_to_a_view)).eval()
    assert shrunk(model, images(2))(images(2)).features.shape == (2, 8, 8, 8)


@pytest.mark.filterwarnings("ignore::FutureWarning")  # torch 2.13 warns of itself
def test_an_exported_module_gives_one_that_can_be_called() -> None:
    model = randomize(nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 4, 3))).eval()
    exported = torch.export.export(model, (images(2),), strict=False).module()
    assert isinstance(exported, torch.fx.GraphModule)
    small = shrunk(exported, images(2))
    assert small(images(2)).shape == model(images(2)).shape
    assert dict(small.named_parameters())["0.weight"].shape[0] == 4


class Mixed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3).bfloat16()
        self.last = nn.Conv2d(8, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.first(x.bfloat16()).float())


def test_a_model_of_several_precisions_is_verified_in_double() -> None:
    small = shrunk(Mixed().eval(), images(2))
    assert small.meta["fxprune"].verification.dtype == "float64"
    assert small(images(2)).dtype is torch.float32
    assert small.get_submodule("first").weight.dtype is torch.bfloat16


class Optional(Between):
    def forward(self, x: Tensor, mask: Tensor | None = None, times: int = 1) -> Tensor:
        y = self.first(x)
        if mask is not None:
            y = y * mask
        return self.last(y) * times


def test_an_argument_that_is_not_given_is_its_default() -> None:
    model = randomize(Optional(add_to_a_view)).eval()
    small = shrunk(model, {"x": images(2)})
    assert small(images(2)).shape == (2, 4, 8, 8)
    with pytest.raises(AssertionError, match="captured for mask = None"):
        small(images(2), torch.ones(1))


class ReadsFlag(Between):
    def forward(self, x: Tensor) -> Tensor:
        return self.last(F.dropout(self.first(x), 0.5, self.training))


@pytest.mark.parametrize("training", [True, False])
def test_a_flag_that_the_graph_has_fixed_is_told(training: bool) -> None:
    model = randomize(ReadsFlag(add_to_a_view)).train(training)
    told = [d.what for d in fxprune.analyze(model, images(2)).diagnostics]
    mode = "train" if training else "eval"
    assert any(f"does in {mode} mode, whatever mode it is put into" in what for what in told)


class Counts(Between):
    """Keeps a number between calls, which no graph shows."""

    calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return self.last(self.first(x)) * (self.calls % 2)


def test_a_graph_that_is_not_what_the_model_does_is_refuted() -> None:
    model = randomize(Counts(add_to_a_view)).eval()
    deps = fxprune.analyze(model, images(2))
    model.calls = 1
    with pytest.raises(fxprune.VerificationError, match="the graph of the model does not compute"):
        fxprune.shrink(deps, fxprune.plan(deps, ratio=0.5))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch.compile's own, in torch 2.13
@pytest.mark.parametrize(
    ("message", "call"),
    [
        ("has no elements", lambda m: fxprune.analyze(m, torch.randn(0, 3, 8, 8))),
        ("not a torch.nn.Module", lambda m: fxprune.verify(m, None, fxprune.plan(m, images(1)))),
        ("ratio is a giant integer", lambda m: fxprune.plan(m, images(1), 10**400)),
        ("pass model._orig_mod", lambda m: fxprune.analyze(torch.compile(m), images(1))),
        ("pass model.module", lambda m: fxprune.analyze(nn.DataParallel(m), images(1))),
    ],
)
def test_wrong_use_is_refused_in_words(message: str, call: Callable[[nn.Module], Any]) -> None:
    model = randomize(nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 4, 3))).eval()
    with pytest.raises(fxprune.FxPruneError, match=message):
        call(model)


def test_nan_statistics_are_refused() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, 4, 3)).eval()
    model.get_buffer("1.running_var")[0] = float("nan")
    with pytest.raises(fxprune.InputError, match=r"buffer 1\.running_var contains NaN"):
        fxprune.plan(model, images(2), 0.5)


def test_a_pattern_of_channels_means_every_module_that_it_matches() -> None:
    layers = nn.ModuleDict({"a1": nn.Conv2d(3, 8, 3), "a2": nn.Conv2d(8, 6, 3)})
    model = nn.Sequential(*layers.values(), nn.Conv2d(6, 4, 3)).eval()
    with pytest.raises(fxprune.PlanError, match="channel 1 of 2 cannot be removed"):
        fxprune.plan(model, images(1), channels={"?": [1]})
    inner = nn.Sequential(nn.Sequential(*layers.values()), nn.Conv2d(6, 4, 3)).eval()
    plan = fxprune.plan(inner, images(1), channels={"0.*": [1]})
    assert [plan.slices[f"0.{k}.weight"][0] for k in (0, 1)] == [(1,), (1,)]


class Projection(nn.Module):
    """A linear layer whose weight has the inputs first, for inputs that it makes flat."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(inputs, outputs))
        self.bias = nn.Parameter(torch.randn(outputs))

    def forward(self, x: Tensor) -> Tensor:
        flat = torch.addmm(self.bias, x.view(-1, x.size(-1)), self.weight)
        return flat.view(*x.shape[:-1], -1)


class Residual(nn.Module):
    """A stream that two projections read from, and add to."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Linear(3, 8), nn.Linear(8, 2)
        self.up, self.down = Projection(8, 16), Projection(16, 8)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        out: Tensor = self.head(x + self.down(torch.relu(self.up(x))))
        return out


def test_a_layer_means_what_it_makes_and_not_what_it_makes_flat_first() -> None:
    model, x = randomize(Residual()).eval(), torch.randn(2, 5, 3)
    plan = fxprune.plan(model, x, ratios={"up": 0.5})
    assert {name: group.width for name, group in plan.groups.items()} == {"stem": 8, "up": 8}
    assert fxprune.plan(model, x, channels={"up": [3]}).groups["up"].removed == (3,)
    plan = fxprune.plan(model, x, ratios={"down": 0.5})
    assert {name: group.width for name, group in plan.groups.items()} == {"stem": 4, "up": 16}


class Product(nn.Module):
    """A function as a module."""

    def forward(self, x: Tensor, weight: Tensor) -> Tensor:
        return x @ weight


class Handing(Projection):
    """Hands its weight to a child, and uses another parameter itself."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs)
        self.gain = nn.Parameter(torch.rand(inputs) + 0.5)
        self.product = Product()

    def forward(self, x: Tensor) -> Tensor:
        return 1.5 * self.product(x * self.gain, self.weight)


class HandingTwo(Handing):
    """What it makes with the other parameter has no channels."""

    def forward(self, x: Tensor) -> Any:
        made = 1.5 * self.product(x, self.weight)
        return made, x.mean(-1, keepdim=True) * self.gain.mean()


class Gated(nn.Sequential):
    """The first of two results goes on, and the second is a factor."""

    def forward(self, x: Tensor) -> Tensor:
        out = self[1](self[0](x))
        made, factor = out if isinstance(self[1], HandingTwo) else (out, 1)
        gated: Tensor = self[2](made) * factor
        return gated


class Dropping(Projection):
    """Drops values of its inputs before it makes them flat."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs)
        self.drop, self.sizes = nn.Dropout(), (-1, inputs)

    def forward(self, x: Tensor) -> Tensor:
        flat = torch.addmm(self.bias, self.drop(x).view(self.sizes), self.weight)
        return flat.view(x.size(0), x.size(1), flat.size(1))


@pytest.mark.parametrize("kind", [Handing, HandingTwo])
def test_a_layer_means_what_a_child_makes_with_its_weight(kind: type[Handing]) -> None:
    model = randomize(Gated(nn.Linear(3, 8), kind(8, 16), nn.Linear(16, 2)))
    model, x = model.eval(), torch.randn(2, 5, 3)
    made = next(group.name for group in fxprune.analyze(model, x).groups if group.size == 16)
    assert fxprune.plan(model, x, ratios={"1": 0.5}).groups[made].width == 8
    ignored = fxprune.plan(model, x, 0.5, ignore=["1"]).groups
    assert made not in ignored or ignored[made].width == 16


@pytest.mark.parametrize("trace", ["symbolic_trace", "export"])
def test_a_layer_means_what_it_makes_and_not_what_it_drops_first(trace: str) -> None:
    model, x = (
        nn.Sequential(nn.Linear(3, 8), Dropping(8, 16), nn.Linear(16, 2)),
        torch.randn(2, 5, 3),
    )
    model = randomize(model).eval()
    deps = fxprune.analyze(
        model if trace != "export" else torch.export.export(model, (x,)).module(), x
    )
    plan = fxprune.plan(deps, ratios={"1": 0.5})
    assert sorted(group.width for group in plan.groups.values()) == [8, 8]


def test_whole_copies_go_by_name_only() -> None:
    def expand(_: Any, y: Tensor) -> Tensor:
        y = y + y[:, 2:3]
        batch, channels, height, width = y.shape
        copies = y.unsqueeze(2).expand(batch, channels, 2, height, width)
        return copies.reshape(batch, channels * 2, height, width)

    model = randomize(Between(expand, channels=16)).eval()
    plan = fxprune.plan(model, images(2), 0.5)
    assert {group.kind for group in plan.groups.values() if group.removed} == {"channels"}
