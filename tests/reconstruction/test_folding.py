"""Channels are merged into those that are like them, without data."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import fxprune
from fxprune import InputError, PlanError, VerificationError
from fxprune.importance import folding
from fxprune.reconstruction.results import told_repairs
from models_zoo import randomize
from tests.reconstruction.models import REPEATED, Repeated, images, repeat


def outputs(model: nn.Module, x: Tensor) -> tuple[Tensor, ...]:
    """All outputs, as a tuple."""
    with torch.no_grad():
        found = model(x)
    return found if isinstance(found, tuple) else (found,)


def distance(model: nn.Module, other: nn.Module, x: Tensor) -> float:
    """The mean square of the difference, as a share of the variance of the second one."""
    pairs = zip(outputs(model, x), outputs(other, x), strict=True)
    return max(float((a - b).square().mean() / b.var()) for a, b in pairs)


# -- what is the same folds exactly ---------------------------------------------------------


class Separable(nn.Module):
    """A depthwise convolution with a multiplier between two others, each with a batch norm."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(3, 8, 1, bias=False), nn.BatchNorm2d(8)
        self.deep, self.deep_norm = nn.Conv2d(8, 16, 3, groups=8), nn.BatchNorm2d(16)
        self.last = nn.Conv2d(16, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        """In the order of the layers."""
        x = F.relu6(self.norm(self.first(x)))
        y: Tensor = self.last(self.deep_norm(self.deep(x)).relu())
        return y


class Gated(nn.Module):
    """Channels that are scaled by what two other layers make of their means."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 4, 1)
        self.down, self.up = nn.Conv2d(8, 3, 1), nn.Conv2d(3, 8, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Squeeze and excite."""
        x = self.first(x).relu()
        y: Tensor = self.last(x * self.up(self.down(x.mean((2, 3), keepdim=True))).sigmoid())
        return y


class Twice(nn.Module):
    """A linear layer that is called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.twice, self.last = nn.Linear(5, 8), nn.Linear(8, 8), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        """One layer after itself."""
        y: Tensor = self.last(self.twice(self.twice(self.first(x)).relu()))
        return y


class Heads(nn.Module):
    """Attention with a projection for each of queries, keys and values."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(5, 16) for _ in range(3))
        self.out = nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Four heads of four."""
        b, n, _ = x.shape
        q, k, v = (
            layer(x).view(b, n, 4, 4).transpose(1, 2)
            for layer in (self.query, self.key, self.value)
        )
        mixed = (q @ k.transpose(-1, -2) * 0.5).softmax(-1) @ v
        y: Tensor = self.out(mixed.transpose(1, 2).reshape(b, n, 16))
        return y


def _normed() -> Repeated:
    layers = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 4, 3)
    model = randomize(nn.Sequential(*layers))
    repeat(*layers[:2])
    return Repeated(model, images, "0", [4, 5, 6, 7], ("3.weight",), ())


def _scaled() -> Repeated:
    """Rows that differ by a factor which the batch norm takes back."""
    case = _normed()
    with torch.no_grad():
        for name, factor in (("0.weight", 3.0), ("0.bias", 3.0), ("1.running_mean", 3.0)):
            case.model.state_dict()[name][4:] *= factor
        case.model[1].weight[4:] /= 3.0  # type: ignore[index]
    return case


def _separable() -> Repeated:
    model = randomize(Separable())
    repeat(model.first, model.norm, model.deep, model.deep_norm)
    return Repeated(model, images, "first", [4, 5, 6, 7], ("last.weight",), ())


def _gated() -> Repeated:
    model = randomize(Gated())
    repeat(model.first, model.up)
    return Repeated(model, images, "first", [4, 5, 6, 7], ("down.weight", "last.weight"), ())


def _twice() -> Repeated:
    model = randomize(Twice())
    repeat(model.first, model.twice)
    return Repeated(
        model,
        lambda n: torch.randn(n, 5),
        "first",
        [4, 5, 6, 7],
        ("twice.weight", "last.weight"),
        (),
    )


def _transposed() -> Repeated:
    layers = nn.ConvTranspose2d(3, 8, 2), nn.ReLU(), nn.ConvTranspose2d(8, 4, 2)
    model = randomize(nn.Sequential(*layers))
    with torch.no_grad():
        layers[0].weight[:, 4:] = layers[0].weight[:, :4]
        layers[0].bias[4:] = layers[0].bias[:4]  # type: ignore[index]
    return Repeated(model, images, "0", [4, 5, 6, 7], ("2.weight",), ())


def _heads() -> Repeated:
    model = randomize(Heads())
    repeat(model.query, model.key, model.value)
    name = "query[heads]"
    return Repeated(model, lambda n: torch.randn(n, 6, 5), name, [2, 3], ("out.weight",), ())


def _values() -> Repeated:
    model = randomize(Heads())
    repeat(model.value, groups=4)
    name = "value[head_dims]"
    return Repeated(model, lambda n: torch.randn(n, 6, 5), name, [2, 3], ("out.weight",), ())


SAME: dict[str, Callable[[], Repeated]] = {
    **REPEATED,
    "batch norm": _normed,
    "batch norm that takes factors back": _scaled,
    "depthwise with a multiplier": _separable,
    "gate": _gated,
    "called twice": _twice,
    "transposed convolution": _transposed,
    "heads": _heads,
    "values of heads": _values,
}


def planned(case: Repeated) -> fxprune.Plan:
    """The plan that removes what repeats other channels."""
    return fxprune.plan(case.model, case.inputs(2), channels={case.name: case.gone})


@pytest.mark.parametrize("name", SAME)
def test_channels_that_repeat_others_fold_exactly(name: str) -> None:
    """The small model equals the original, and without folding it does not."""
    case = SAME[name]()
    model = case.model.eval()
    plan = planned(case)
    folded = fxprune.fold(model, plan)
    assert tuple(each.weight for each in folded.repairs) == case.readers
    for each in folded.repairs:
        assert each.why == ""
        assert each.merged == each.inputs - each.kept > 0
        assert math.isnan(each.before)
    x = case.inputs(30)
    small = fxprune.shrink(folded.model, plan)
    for ours, dense in zip(outputs(small, x), outputs(model, x), strict=True):
        torch.testing.assert_close(ours, dense, rtol=1e-4, atol=1e-4)
    assert distance(fxprune.shrink(model, plan), model, x) > 1e-3


@pytest.mark.parametrize("name", SAME)
def test_a_folded_original_computes_what_the_small_model_does(name: str) -> None:
    """Nothing reads the merged channels any more."""
    case = SAME[name]()
    folded = fxprune.fold(case.model.eval(), planned(case))
    assert distance(folded.model, case.model, case.inputs(30)) < 1e-8


def test_a_group_of_a_convolution_folds_into_one_like_it() -> None:
    """All channels of the group go along, in their order."""
    layers = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 12, 3, groups=4), nn.Conv2d(12, 2, 1)
    model = randomize(nn.Sequential(*layers)).eval()
    repeat(*layers[:2])
    deps = fxprune.analyze(model, images(2))
    name = next(group.name for group in deps.groups if group.kind == "groups" and group.prunable)
    plan = fxprune.plan(deps, channels={name: [2, 3]})
    folded = fxprune.fold(deps, plan)
    assert [each.merged for each in folded.repairs] == [6]
    assert distance(fxprune.shrink(folded.model, plan), model, images(9)) < 1e-8


def test_a_dead_channel_is_folded_into_without_loss() -> None:
    """A batch norm's scale of 0 in the kept one would let no other channel through."""
    case = _normed()
    with torch.no_grad():
        case.model[1].weight[[0, 4]] = 0  # type: ignore[index]
    plan = planned(case)
    assert distance(fxprune.shrink(case.model, plan, fold=True), case.model, images(9)) < 1e-8


def test_weights_of_half_precision_are_folded() -> None:
    """In double precision, and rounded once."""
    case = REPEATED["linear"]()
    model = case.model.to(torch.bfloat16)
    plan = fxprune.plan(model, case.inputs(2).to(torch.bfloat16), channels={case.name: case.gone})
    folded = fxprune.fold(model, plan)
    assert {tensor.dtype for tensor in folded.tensors.values()} == {torch.bfloat16}
    assert folded.repairs[0].merged == 4


# -- what is nearly the same gets better ----------------------------------------------------


@pytest.mark.parametrize("name", SAME)
def test_channels_that_nearly_repeat_others_are_worth_folding(name: str) -> None:
    """The error is a fraction of what dropping them costs."""
    case = SAME[name]()
    model = case.model.eval()
    torch.manual_seed(5)
    with torch.no_grad():
        for tensor in model.parameters():
            tensor.add_(0.02 * tensor.std() * torch.randn_like(tensor))
    plan, x = planned(case), case.inputs(50)
    small = fxprune.shrink(model, plan, fold=True)
    assert distance(small, model, x) < distance(fxprune.shrink(model, plan), model, x) / 5


def test_the_kept_channel_is_made_by_the_mean_as_long_as_its_members() -> None:
    """Each has the share that the square of what reads it has."""
    model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[3.0, 0.5], [3.0, -0.5], [0.0, 5.0]]))
        model[0].bias.copy_(torch.tensor([1.0, 2.0, 3.0]))
        model[2].weight.copy_(torch.tensor([[1.0, 2.0, 4.0]]))
    plan = fxprune.plan(model, torch.randn(1, 2), channels={"0": [0]})
    folded = fxprune.fold(model, plan).tensors
    mean = torch.tensor([3.0, 0.2 * 0.5 - 0.8 * 0.5])
    row = mean / mean.norm() * torch.tensor([3.0, 0.5]).norm()
    torch.testing.assert_close(folded["0.weight"][1].detach(), row)
    torch.testing.assert_close(folded["0.bias"].detach(), torch.tensor([1.8, 1.8, 3.0]))
    torch.testing.assert_close(folded["2.weight"].detach(), torch.tensor([[0.0, 3.0, 4.0]]))


def test_what_is_more_like_nothing_is_dropped() -> None:
    """Merging it would cost more than it carries; all stays as it is."""
    model = nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 2))
    with torch.no_grad():
        model[0].weight.copy_(torch.diag(torch.tensor([0.1, 4.0, 4.0])))
        model[0].bias.zero_()
    plan = fxprune.plan(model, torch.randn(1, 3), channels={"0": [0]})
    folded = fxprune.fold(model, plan)
    (entry,) = folded.repairs
    assert entry.why == "no removed channel is more like a kept one than like nothing"
    assert folded.tensors == {}
    assert folded.model.get_parameter("0.weight") is model[0].weight


# -- the proof ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SAME)
@pytest.mark.parametrize("emit", ["graph", "module"])
def test_the_result_is_proved_to_be_the_folded_original(name: str, emit: Any) -> None:
    """By `shrink` itself, and by `verify` with the original that was not folded."""
    if emit == "module" and name in ("attention", "heads", "values of heads"):
        emit = "auto"  # its own forward knows one width only
    case = SAME[name]()
    randomize(case.model, seed=3).eval()
    plan = planned(case)
    small = fxprune.shrink(case.model, plan, fold=True, emit=emit)
    proof = fxprune.verify(case.model, small, plan)
    assert proof.relative <= proof.tolerance


def network() -> nn.Sequential:
    """Three layers; what the first two make repeats itself nearly."""
    layers = nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, 12), nn.ReLU(), nn.Linear(12, 3)
    model = randomize(nn.Sequential(*layers))
    repeat(layers[0])
    return model


def test_a_proof_still_finds_what_is_wrong() -> None:
    """A weight that was not folded."""
    model, x = network(), torch.randn(2, 6)
    plan = fxprune.plan(model, x, channels={"0": [6, 7]})
    small = fxprune.shrink(model, plan, fold=True)
    with torch.no_grad():
        small.get_parameter("4.weight")[0] += 0.1
    with pytest.raises(VerificationError, match="differs from the original"):
        fxprune.verify(model, small, plan)


def test_without_its_report_a_folded_model_is_not_the_original() -> None:
    """Nothing says that it was folded."""
    model, x = network(), torch.randn(2, 6)
    plan = fxprune.plan(model, x, channels={"0": [6, 7]})
    small = fxprune.shrink(model, plan, fold=True)
    small.meta["fxprune"] = replace(small.meta["fxprune"], repaired=())
    with pytest.raises(VerificationError):
        fxprune.verify(model, small, plan)


def test_the_report_tells_of_the_folding() -> None:
    """How much was merged, and what was not."""
    model, x = network(), torch.randn(2, 6)
    plan = fxprune.plan(model, x, channels={"0": [6, 7]})
    report = fxprune.shrink(model, plan, fold=True).meta["fxprune"]
    assert set(report.repaired) == {"2.weight"}
    told = "repaired without data: 2 of 2 removed inputs are merged into kept ones"
    assert any(told in note for note in report.notes())
    assert "merged" in str(fxprune.fold(model, plan))
    assert "nan" not in str(fxprune.fold(model, plan))


def test_a_folded_model_can_be_reconstructed() -> None:
    """From data, after the folding without."""
    model = network()
    batches = [torch.randn(40, 6) for _ in range(3)]
    plan = fxprune.plan(model, batches[0], ratio=0.5)
    folded = fxprune.fold(model, plan)
    repaired = fxprune.reconstruct(folded.model, plan, batches, progress=False)
    fxprune.shrink(repaired.model, plan)


# -- the original ---------------------------------------------------------------------------


def test_the_original_stays_as_it_is() -> None:
    """Its weights, flags and buffers; what was not folded is shared with the folded one."""
    case = _normed()
    model = case.model.train()
    before = copy.deepcopy(model.state_dict())
    folded = fxprune.fold(model, planned(case))
    after = model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert model.training
    assert folded.model.training
    assert set(folded.tensors) == {"3.weight"}
    assert folded.model.get_parameter("0.weight") is model.get_parameter("0.weight")
    assert isinstance(folded.model.get_parameter("3.weight"), nn.Parameter)
    assert folded.batches == 0


class Deciding(nn.Module):
    """Two layers, between which forward decides by values."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(6, 8), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        """What can be recorded only."""
        factor = 2.0 if float(x.sum()) > -1e6 else 1.0
        y: Tensor = self.last(self.first(x).relu() * factor)
        return y


def test_recorded_models_are_folded() -> None:
    """With the example inputs that they are analyzed on."""
    model, x = randomize(Deciding()).eval(), torch.randn(3, 6)
    repeat(model.first)
    plan = fxprune.plan(model, x, channels={"first": [4, 5, 6, 7]})
    small = fxprune.shrink(model, plan, x, fold=True, emit="auto")
    assert distance(small, model, x) < 1e-8


# -- what is dropped, with the reason -------------------------------------------------------


class Otherwise(nn.Module):
    """A layer of eight channels, of which the second four repeat the first, and its readers."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.first, self.last = nn.Linear(5, 8), nn.Linear(8, 3)
        self.norm, self.other = nn.LayerNorm(8), nn.Linear(5, 8)
        self.table = nn.Embedding(7, 8)
        self.left = nn.Parameter(torch.randn(3, 8))
        self.normed = nn.utils.parametrizations.weight_norm(nn.Linear(8, 3))

    def forward(self, x: Tensor) -> Tensor:
        """What the kind says."""
        h = self.first(x)
        made: dict[str, Callable[[], Tensor]] = {
            "layer norm": lambda: self.last(self.norm(h)),
            "product of values": lambda: h @ self.other(x).T,
            "sum": lambda: self.last(h.relu()) + h.sum(1, keepdim=True),
            "table": lambda: F.linear(h + self.table.weight[:1], self.table.weight),
            "weight first": lambda: self.left.mm(h.t()),
            "computed weight": lambda: self.normed(h),
            "two ways": lambda: self.last(torch.cat([h[:, :4].relu(), h[:, 4:].tanh()], 1)),
            "constants": lambda: self.last(h * torch.arange(8.0)),
        }
        return made[self.kind]()


REASONS = {
    "layer norm": "native_layer_norm goes over channels",
    "product of values": "mm sums over channels in another way than linear layers do",
    "sum": "sum sums over channels in another way than linear layers do",
    "table": "a weight that reads them is used elsewhere",
    "weight first": "mm sums over channels in another way than linear layers do",
    "computed weight": "reads channels with a weight that is computed of others",
    "two ways": "kept channels that are made alike carry something else",
    "constants": "kept channels that are made alike carry something else",
}


@pytest.mark.parametrize("kind", REASONS)
def test_what_does_not_read_channels_alike_is_left_with_the_reason(kind: str) -> None:
    """No tensor changes, and what is shrunk is the original."""
    model = randomize(Otherwise(kind)).eval()
    repeat(model.first, model.other)
    x = torch.randn(6, 5)
    plan = fxprune.plan(model, x, channels={"first": [4, 5, 6, 7]})
    folded = fxprune.fold(model, plan)
    assert folded.tensors == {}
    assert all(REASONS[kind] in each.why for each in folded.repairs)
    assert folded.repairs
    assert all(each.merged == 0 for each in folded.repairs)
    weights = [each.weight for each in folded.repairs]
    assert len(set(weights)) == len(weights)
    assert not any("bias" in weight for weight in weights)
    fxprune.shrink(model, plan, fold=True)


def test_norms_are_told_apart_from_layers() -> None:
    """They merge nothing, and are not counted among what is removed."""
    first, last = nn.Linear(5, 8), randomize(Otherwise("layer norm"))
    model = nn.Sequential(first, nn.ReLU(), nn.Linear(8, 5), last).eval()
    repeat(first, last.first)
    channels = {"0": [4, 5, 6, 7], "3.first": [4, 5, 6, 7]}
    plan = fxprune.plan(model, torch.randn(6, 5), channels=channels)
    folded = fxprune.fold(model, plan)
    kinds = {each.weight: each.kind for each in folded.repairs}
    assert kinds == {"2.weight": "layer", "3.last.weight": "layer", "3.norm.weight": "norm"}
    (told,) = [note for note in told_repairs(folded.repairs) if "merged into kept ones" in note]
    assert "4 of 8 removed inputs are merged into kept ones" in told


def test_what_no_weight_reads_is_told_of_by_its_node() -> None:
    """Queries and keys, of which nothing else goes."""
    model = randomize(Heads()).eval()
    name = next(
        group.name
        for group in fxprune.analyze(model, torch.randn(2, 6, 5)).groups
        if any(m.parameter == "query.weight" for m in group.members) and group.kind == "head_dims"
    )
    plan = fxprune.plan(model, torch.randn(2, 6, 5), channels={name: [2, 3]})
    (entry,) = fxprune.fold(model, plan).repairs
    assert entry.weight == entry.node != ""
    assert (entry.inputs, entry.kept, entry.merged) == (4, 2, 0)
    assert "in another way than linear layers do" in entry.why


def test_a_layer_with_merged_and_dropped_channels_tells_both() -> None:
    """How many are merged, and why others are not."""
    torch.manual_seed(3)
    model, x = Ties([0, 1], wide=10).eval(), torch.randn(9, 6)
    plan = fxprune.plan(model, x, channels={"first": [1, *range(10, 20)]})
    (entry,) = fxprune.fold(model, plan).repairs
    assert entry.merged == 1
    assert entry.why == "kept channels that are made alike carry something else"
    assert entry.tensors == ("last.weight",)
    told = told_repairs([entry])
    assert told[0].startswith("1 of 1 layers")
    assert told[1:] == [f"in part repaired: last.weight: {entry.why}"]


class Reshaped(nn.Module):
    """A layer of eight channels, of which the second four repeat the first; views of weights."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.first = nn.Conv2d(3, 8, 3) if kind in ("kernel", "unfolded") else nn.Linear(5, 8)
        shapes = {
            "kernel": (4, 72),
            "unfolded": (4, 8, 3, 3),
            "heads": (4, 2, 3),
            "strided": (4, 16),
            "maker": (40,),
            "maker kernel": (8, 5, 1),
            "maker and reader": (64,),
        }
        self.weight = nn.Parameter(torch.randn(shapes[kind]))
        self.last = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        """What the kind says."""
        w = self.weight
        if self.kind in ("maker", "maker kernel"):
            return self._last(F.linear(x, w.view(8, 5)))
        h = self.first(x).relu()
        made: dict[str, Callable[[], Tensor]] = {
            "kernel": lambda: F.conv2d(h, w.view(4, 8, 3, 3)),
            "unfolded": lambda: F.linear(F.unfold(h, 3).transpose(1, 2), w.flatten(1)),
            "heads": lambda: h.view(-1, 4, 2).tanh().flatten(1) @ w.flatten(0, 1),
            "strided": lambda: F.linear(h, w[:, ::2]) + F.linear(h.sin(), w[:, 1::2]),
            "maker and reader": lambda: self._last(F.linear(h, w.view(8, 8))),
        }
        return made[self.kind]()

    def _last(self, x: Tensor) -> Tensor:
        y: Tensor = self.last(x.relu())
        return y


def reshaped(kind: str) -> tuple[nn.Module, Tensor]:
    """The model, and inputs of it."""
    torch.manual_seed(2)
    model = Reshaped(kind).eval()
    repeat(model.first, groups=4 if kind == "heads" else 1)
    x = torch.randn(2, 3, 8, 8) if kind in ("kernel", "unfolded") else torch.randn(4, 5)
    if kind in ("maker", "maker kernel"):
        half = model.weight.data.view(8, 5)
        half[4:] = half[:4]
    return model, x


@pytest.mark.parametrize("kind", ["kernel", "unfolded", "heads", "strided"])
def test_channels_that_a_reshaped_weight_reads_are_left_with_the_reason(kind: str) -> None:
    """What it sums over is no dim of what is stored; it does not count as what makes them."""
    model, x = reshaped(kind)
    deps = fxprune.analyze(model, x)
    name = "first[head_dims]" if kind == "heads" else "first"
    names = [group.name for group in deps.groups if group.prunable]
    group = deps.group(name if name in names else names[-1])
    plan = fxprune.plan(deps, channels={group.name: list(range(group.size // 2, group.size))})
    folded = fxprune.fold(deps, plan, x)
    assert folded.tensors == {}
    assert {each.why for each in folded.repairs} == {"a weight that reads them is reshaped"}
    assert {each.weight for each in folded.repairs} == {"weight"}
    assert all(each.merged == 0 and each.kept < each.inputs for each in folded.repairs)
    assert distance(folded.model, model, x) == 0
    fxprune.shrink(folded.model, plan, x)


def test_channels_that_a_reshaped_weight_makes_fold_exactly() -> None:
    """What it sums over is a dim of what is stored."""
    model, x = reshaped("maker kernel")
    deps = fxprune.analyze(model, x)
    (group,) = [group for group in deps.groups if group.prunable]
    plan = fxprune.plan(deps, channels={group.name: [4, 5, 6, 7]})
    folded = fxprune.fold(deps, plan, x)
    assert [each.merged for each in folded.repairs] == [4]
    assert distance(folded.model, model, x) < 1e-8
    assert distance(fxprune.shrink(folded.model, plan, x), model, x) < 1e-8


@pytest.mark.parametrize("kind", ["maker", "maker and reader"])
def test_channels_of_a_weight_that_is_stored_flat_are_left(kind: str) -> None:
    """Rows and columns run along the same dim of what is stored."""
    model, x = reshaped(kind)
    deps = fxprune.analyze(model, x)
    for group in deps.groups:
        if group.prunable:
            plan = fxprune.plan(deps, channels={group.name: [4, 5, 6, 7]})
            folded = fxprune.fold(deps, plan, x)
            assert folded.tensors == {}
            whys = {each.why for each in folded.repairs}
            assert "a weight that reads them is used elsewhere" in whys


class Parts(nn.Module):
    """A layer of nine channels: four, four that repeat them, and one that may be large."""

    def __init__(self, large: float) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(6, 9), nn.Linear(9, 5)
        with torch.no_grad():
            for tensor in self.first.parameters():
                tensor[4:8] = tensor[:4]
            self.first.weight[8] *= large
            self.last.weight[:, 8] /= large

    def forward(self, x: Tensor) -> Tensor:
        """Those that repeat others go through another function."""
        h = self.first(x)
        y: Tensor = self.last(torch.cat([h[:, :4].relu(), -h[:, 4:8].sigmoid(), h[:, 8:]], 1))
        return y


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("large", [1, 1e5])
def test_channels_that_differ_beside_a_much_larger_one_are_left(
    large: float, dtype: torch.dtype
) -> None:
    """Each pair is compared by its own size."""
    torch.manual_seed(0)
    model, x = Parts(large).to(dtype).eval(), torch.randn(64, 6, dtype=dtype)
    plan = fxprune.plan(model, x, channels={"first": [4, 5, 6, 7]})
    (entry,) = fxprune.fold(model, plan, x).repairs
    assert entry.merged == 0
    assert entry.why == "kept channels that are made alike carry something else"


class Ties(nn.Module):
    """Channels with the same rows, of which some go through another function."""

    def __init__(self, same: list[int], wide: int = 4) -> None:
        super().__init__()
        self.wide = wide
        self.first, self.last = nn.Linear(6, 2 * wide), nn.Linear(2 * wide, 5)
        with torch.no_grad():
            for tensor in self.first.parameters():
                tensor[same] = tensor[same[0]].clone()

    def forward(self, x: Tensor) -> Tensor:
        """Two halves."""
        h = self.first(x)
        halves = [h[:, : self.wide].relu(), h[:, self.wide :].tanh()]
        y: Tensor = self.last(torch.cat(halves, 1))
        return y


def test_another_channel_is_tried_if_the_nearest_one_carries_something_else() -> None:
    """Of several that are made the same."""
    torch.manual_seed(3)
    model, x = Ties([0, 1, 5, 7]).eval(), torch.randn(9, 6)
    plan = fxprune.plan(model, x, channels={"first": [1, 5]})
    folded = fxprune.fold(model, plan)
    assert [each.merged for each in folded.repairs] == [2]
    assert distance(fxprune.shrink(folded.model, plan), model, x) < 1e-8


def test_others_are_not_tried_for_ever() -> None:
    """What is unlike many is dropped, with the reason."""
    torch.manual_seed(3)
    model, x = Ties([*range(11), 15], wide=11).eval(), torch.randn(9, 6)
    plan = fxprune.plan(model, x, channels={"first": [15]})
    folded = fxprune.fold(model, plan)
    assert [each.merged for each in folded.repairs] == [0]
    assert folded.repairs[0].why == "kept channels that are made alike carry something else"
    assert folded.tensors == {}


def test_channels_of_a_group_that_is_too_wide_are_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the number that is the most."""
    monkeypatch.setattr(folding, "WIDEST", 10)
    model, x = network(), torch.randn(2, 6)
    plan = fxprune.plan(model, x, channels={"0": [6, 7]})
    folded = fxprune.fold(model, plan)
    assert folded.tensors == {}
    why = "distances are computed between all channels of a group, and 10 are the most"
    assert [each.why for each in folded.repairs] == [why]


class Writing(nn.Module):
    """A layer whose weight forward writes into."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(5, 8), nn.Linear(8, 3)
        self.register_buffer("level", torch.ones(8))

    def forward(self, x: Tensor) -> Tensor:
        """Another level each time."""
        self.level.mul_(0.5)
        y: Tensor = self.last(self.first(x).relu() * self.level)
        return y


def test_channels_of_a_tensor_that_forward_writes_into_are_left() -> None:
    """What it will hold is not known."""
    model = randomize(Writing()).eval()
    repeat(model.first, model)
    plan = fxprune.plan(model, torch.randn(2, 5), channels={"first": [4, 5, 6, 7]})
    folded = fxprune.fold(model, plan)
    assert [each.why for each in folded.repairs] == ["forward writes into weights of theirs"]
    assert folded.tensors == {}


def test_nothing_removed_is_nothing_folded() -> None:
    """The model comes back with all its tensors."""
    model = network()
    folded = fxprune.fold(model, fxprune.plan(model, torch.randn(1, 6), ratio=0.0))
    assert folded.repairs == ()
    assert folded.tensors == {}


# -- refusals -------------------------------------------------------------------------------


def test_what_folding_cannot_go_along_with_is_refused() -> None:
    """Data, folded constants, a donated original, a program, a plan of another model."""
    model, x = network(), torch.randn(2, 6)
    plan = fxprune.plan(model, x, ratio=0.5)
    with pytest.raises(InputError, match="fold=True and calibrate= together are not known"):
        fxprune.shrink(model, plan, fold=True, calibrate=[x])
    with pytest.raises(InputError, match="adds what fold=True has repaired already"):
        fxprune.shrink(model, plan, fold=True, constants="fold")
    with pytest.raises(InputError, match="donate=True and fold=True together are not known"):
        fxprune.shrink(model, plan, fold=True, donate=True, verify=False)
    with pytest.raises(InputError, match="fold='yes' is not known"):
        fxprune.shrink(model, plan, fold="yes")  # type: ignore[call-overload]
    with pytest.raises(InputError, match="an ExportedProgram cannot be repaired"):
        fxprune.fold(torch.export.export(model, (x,)), plan)
    other = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 3))
    with pytest.raises(PlanError):
        fxprune.fold(other, plan)


def test_weights_without_data_are_refused() -> None:
    """Weights are what is compared."""
    model = network()
    plan = fxprune.plan(model, torch.randn(2, 6), ratio=0.5)
    with pytest.raises(InputError, match="has no data"):
        fxprune.fold(network().to("meta"), plan)
