"""Layers make up for removed channels, and what is proved is the repaired original."""

from __future__ import annotations

import copy
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import fxprune
from fxprune import InputError, PlanError, VerificationError
from fxprune.checkpoint_files import Document
from fxprune.readings import products
from models_zoo import randomize
from tests.processes import join_group, run_two
from tests.reconstruction.models import REPEATED, Repeated, images

MODES = ("sequential", "parallel")


def network(width: int = 12) -> nn.Sequential:
    """Three layers that mix all channels."""
    layers = (nn.Linear(6, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU())
    return randomize(nn.Sequential(*layers, nn.Linear(width, 3)))


def data(count: int = 6) -> list[Tensor]:
    """Batches of correlated features."""
    generator = torch.Generator().manual_seed(1)
    mixed = torch.randn(3, 6, generator=generator)
    return [torch.randn(40, 3, generator=generator) @ mixed for _ in range(count)]


def difference(model: nn.Module, other: nn.Module, x: Tensor) -> float:
    """The mean square of the difference, as a share of the variance."""
    with torch.no_grad():
        ours, theirs = model(x), other(x)
    return float((ours - theirs).square().mean() / ours.var())


# -- what can be restored is ----------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", REPEATED)
def test_channels_that_repeat_others_can_go_for_nothing(name: str, mode: Any) -> None:
    """The small model equals the original on new inputs; so do its kept layers."""
    case: Repeated = REPEATED[name]()
    model = case.model.eval()
    batches = [case.inputs(150) for _ in range(4)]
    plan = fxprune.plan(model, batches[0], channels={case.name: case.gone})
    repaired = fxprune.reconstruct(
        model, plan, batches, mode=mode, norms="keep", ridge=0.0, progress=False
    )
    assert tuple(each.weight for each in repaired.repairs) == case.readers
    assert tuple(each.intercept for each in repaired.repairs) == case.takes
    for each in repaired.repairs:
        assert each.before > 0.01
        assert each.after < 1e-9
    small = fxprune.shrink(repaired.model, plan)
    x = case.inputs(50)
    with torch.no_grad():
        torch.testing.assert_close(small(x), model(x), rtol=1e-4, atol=1e-4)


def test_a_constant_channel_goes_into_the_bias() -> None:
    """What is removed is the same for all inputs; kept channels know nothing of it."""
    model = network()
    with torch.no_grad():
        model[0].weight[3] = 0
        model[0].bias[3] = 2.0
    plan = fxprune.plan(model, data()[0], channels={"0": [3]})
    small = fxprune.shrink(model, plan, calibrate=data())
    assert difference(model, small, data()[0]) < 1e-9
    assert difference(model, fxprune.shrink(model, plan), data()[0]) > 1e-3


def test_padding_sees_the_constant_as_often_as_the_kernel_does() -> None:
    """A convolution with zero padding gets the mean of the constant over all places."""
    model = randomize(nn.Sequential(nn.Conv2d(3, 6, 1), nn.Conv2d(6, 4, 3, padding=1)))
    with torch.no_grad():
        model[0].weight[5] = 0
        model[0].bias[5] = 2.0
    batches = [images(20) for _ in range(3)]
    plan = fxprune.plan(model, batches[0], channels={"0": [5]})
    small = fxprune.shrink(model, plan, calibrate=batches)
    with torch.no_grad():
        mean = (small(batches[0]) - model(batches[0])).mean((0, 2, 3))
    torch.testing.assert_close(mean, torch.zeros(4), rtol=0, atol=1e-4)


@pytest.mark.parametrize("mode", MODES)
def test_of_a_long_flattened_axis_the_channels_are_told_apart(
    monkeypatch: pytest.MonkeyPatch, mode: Any
) -> None:
    """A few samples do, as each has many places, and the moments are small."""
    monkeypatch.setattr(products, "WIDEST", 20)
    case = REPEATED["concatenated and flattened"]()
    batches = [case.inputs(4)]
    plan = fxprune.plan(case.model, batches[0], channels={case.name: case.gone})
    repaired = fxprune.reconstruct(case.model, plan, batches, mode=mode, ridge=0, progress=False)
    flat = repaired.repairs[-1]
    assert (flat.weight, flat.inputs, flat.kept) == ("flat.weight", 12, 8)
    x = case.inputs(50)
    with torch.no_grad():
        small = fxprune.shrink(repaired.model, plan)
        torch.testing.assert_close(small(x), case.model(x), rtol=1e-4, atol=1e-4)


def test_layers_that_read_too_much_are_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their moments would not fit into memory."""
    monkeypatch.setattr(products, "WIDEST", 10)
    model, batches = network(), data()
    plan = fxprune.plan(model, batches[0], ratio=0.5)
    repaired = fxprune.reconstruct(model, plan, batches, progress=False)
    assert {each.why for each in repaired.repairs} == {
        "it reads more than 10 channels, whose moments take too much memory"
    }


# -- what cannot be restored gets better ----------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
def test_outputs_come_nearer_to_the_original_s(mode: Any) -> None:
    """On inputs that no layer was repaired with."""
    model, batches = network(), data()
    plan = fxprune.plan(model, batches[0], ratio=0.5)
    repaired = fxprune.reconstruct(model, plan, batches, mode=mode, progress=False)
    x = data(7)[-1]
    before = difference(model, fxprune.shrink(model, plan), x)
    after = difference(model, fxprune.shrink(repaired.model, plan), x)
    assert after < before / 3


@pytest.mark.parametrize("mode", MODES)
def test_means_are_made_up_for_without_changing_weights(mode: Any) -> None:
    """What a layer computes has the mean that it had, and less is repaired than by regression."""
    model, batches = network(), data()
    plan = fxprune.plan(model, batches[0], channels={"0": [0, 1, 2, 3, 4, 5]})
    found = fxprune.reconstruct(model, plan, batches, method="mean", mode=mode, progress=False)
    best = fxprune.reconstruct(model, plan, batches, mode=mode, progress=False)
    assert set(found.tensors) == {"2.bias"}
    assert best.repairs[0].after < found.repairs[0].after < found.repairs[0].before
    x = torch.cat(batches)
    small = fxprune.shrink(found.model, plan)
    with torch.no_grad():
        made = small.get_submodule("2")(small.get_submodule("0")(x).relu())
        torch.testing.assert_close(made.mean(0), model[:3](x).mean(0), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("ridge", [0.0, 1e-3, 1.0])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", REPEATED)
def test_no_layer_gets_worse(name: str, mode: Any, ridge: float) -> None:
    """For the data that it was repaired with, at any ridge."""
    case: Repeated = REPEATED[name]()
    randomize(case.model, seed=3).eval()  # nothing repeats any more
    batches = [case.inputs(20) for _ in range(2)]
    plan = fxprune.plan(case.model, batches[0], channels={case.name: case.gone})
    repaired = fxprune.reconstruct(
        case.model, plan, batches, mode=mode, norms="keep", ridge=ridge, progress=False
    )
    assert len(repaired.repairs) == len(case.readers)
    for each in repaired.repairs:
        assert each.after <= each.before


def test_later_layers_are_repaired_for_what_earlier_ones_yield_now() -> None:
    """In turn, the second layer makes up for the first one's error, too."""
    model, batches = network(), data()
    plan = fxprune.plan(model, batches[0], channels={"0": [0, 1, 2, 3, 4, 5], "2": [0]})
    outcome = {}
    for mode in MODES:
        repaired = fxprune.reconstruct(model, plan, batches, mode=mode, progress=False)
        small = fxprune.shrink(repaired.model, plan)
        outcome[mode] = sum(difference(model, small, x) for x in batches)
    assert outcome["sequential"] < outcome["parallel"]


class Heads(nn.Module):
    """Attention in one module, after a layer that makes its features."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(6, 16)
        self.attention = nn.MultiheadAttention(16, 4, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        """Without a residual stream, so that errors of attention count."""
        x = self.embed(x)
        y: Tensor = self.attention(x, x, x, need_weights=False)[0]
        return y


@pytest.mark.parametrize("seed", range(3))
def test_products_inside_of_a_module_are_repaired_one_after_the_other(seed: int) -> None:
    """The second projection of attention is repaired for what the repaired first one yields."""
    model = randomize(Heads(), seed=seed).eval()
    generator = torch.Generator().manual_seed(seed)
    mixed = torch.randn(3, 6, generator=generator)
    batches = [torch.randn(20, 5, 3, generator=generator) @ mixed for _ in range(3)]
    heads = next(g.name for g in fxprune.analyze(model, batches[0]).groups if g.kind == "heads")
    plan = fxprune.plan(model, batches[0], ratios={"embed": 0.4, heads: 0.25})
    repaired = fxprune.reconstruct(model, plan, batches, progress=False)
    names = [each.weight for each in repaired.repairs]
    assert names == ["attention.in_proj_weight", "attention.out_proj.weight"]
    small = fxprune.shrink(repaired.model, plan)
    with torch.no_grad():
        dense, ours = (
            torch.cat([each(x) for x in batches]).flatten(0, 1) for each in (model, small)
        )
    error = (ours - dense).square().sum() / (dense - dense.mean(0)).square().sum()
    assert float(error) == pytest.approx(repaired.repairs[-1].after, rel=1e-3)


def test_a_repair_that_makes_an_outcome_worse_is_taken_back() -> None:
    """Taps are repaired one by one, and what they leave may add up where it cancelled before."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 4, 1), nn.Conv2d(4, 1, 3))
    kernel = torch.tensor([[0.0, 1, 0], [1, -4, 1], [0, 1, 0]])
    smooth = torch.nn.functional.interpolate(torch.randn(60, 2, 3, 3), 24, mode="bicubic")
    with torch.no_grad():
        model[1].weight[:] = kernel * torch.randn(4, 1, 1)
    plan = fxprune.plan(model, smooth, channels={"0": [0, 1]})
    for mode in MODES:
        repaired = fxprune.reconstruct(model, plan, smooth.split(20), mode=mode, progress=False)  # type: ignore[arg-type]
        small, plain = fxprune.shrink(repaired.model, plan), fxprune.shrink(model, plan)
        assert difference(model, small, smooth) <= difference(model, plain, smooth) * (1 + 1e-4)


# -- where constants go ---------------------------------------------------------------------


class Elsewhere(nn.Module):
    """A convolution of three channels of places, and what else is done with them."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.first, self.conv = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 6, 1, bias=False)
        self.norm = nn.BatchNorm2d(6)
        self.places = nn.Parameter(torch.randn(6))
        self.lines, self.times = nn.Linear(8, 6, bias=False), nn.BatchNorm1d(5)
        self.factor = nn.Parameter(torch.randn(6))

    def forward(self, x: Tensor) -> Any:
        """Of images of 6 by 6."""
        h = self.first(x).relu()
        if self.kind == "places":
            return self.conv(h) + self.places
        if self.kind == "times":
            return self.times(self.lines(h.flatten(2).transpose(1, 2)[:, :5]))
        if self.kind == "returned":
            y = self.conv(h)
            return y, self.norm(y)
        if self.kind == "halves":
            above, below = self.conv(h).chunk(2, 2)
            return self.norm(above), below
        if self.kind == "factors":
            rows = h.mean((2, 3))
            return torch.addmm(self.factor, rows, self.lines.weight.t(), beta=0.25, alpha=2.0)
        if self.kind == "one":
            return torch.addmm(self.factor[:1], h.mean((2, 3)), self.lines.weight.t())
        raise ValueError(self.kind)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", ["places", "times", "returned", "halves", "factors", "one"])
def test_a_constant_goes_nowhere_but_to_its_channels(kind: str, mode: Any) -> None:
    """Not to what is added to places, to what others read, or with a factor."""
    model = randomize(Elsewhere(kind)).eval()
    batches = [images(30) for _ in range(3)]
    plan = fxprune.plan(model, batches[0], channels={"first": [0, 2, 5]})
    repaired = fxprune.reconstruct(model, plan, batches, mode=mode, norms="keep", progress=False)
    (entry,) = repaired.repairs
    assert entry.intercept == ""
    small = fxprune.shrink(repaired.model, plan)
    plain = fxprune.shrink(model, plan)
    x = batches[0]
    with torch.no_grad():
        outputs = [
            [each(x)] if kind not in ("returned", "halves") else each(x)
            for each in (small, plain, model)
        ]
    for ours, other, dense in zip(*outputs, strict=True):
        assert (ours - dense).square().sum() <= (other - dense).square().sum() * 1.02


class Overlapping(nn.Module):
    """A table that is looked up, and read but for its first row by a product."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.last = nn.Embedding(7, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Embedded tokens, and scores of all tokens but one."""
        h = self.table(x)
        return self.last(h), torch.nn.functional.linear(h, self.table.weight[1:])


@pytest.mark.parametrize("mode", MODES)
def test_parts_of_one_weight_that_overlap_are_one_weight(mode: Any) -> None:
    """What one reads differently would change the other."""
    model, tokens = randomize(Overlapping()).eval(), torch.randint(7, (20, 4))
    plan = fxprune.plan(model, tokens, channels={"table": [1, 4]})
    repaired = fxprune.reconstruct(model, plan, [tokens], mode=mode, progress=False)
    assert set(repaired.tensors) == {"last.weight", "last.bias"}
    assert [each.why for each in repaired.repairs if each.weight == "table.weight"] == [
        "its weight is used elsewhere"
    ]


class Counting(nn.Module):
    """A model that adds how often it was called."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(6, 8), nn.Linear(8, 3)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        """A call more each time."""
        self.calls.add_(1.0)
        y: Tensor = self.last((self.first(x) * self.calls).relu())
        return y


def test_buffers_that_forward_changes_are_those_of_one_batch() -> None:
    """In turn, batches would read what others wrote; the user's model stays as it is."""
    model, batches = randomize(Counting()).eval(), data()
    plan = fxprune.plan(model, batches[0], channels={"first": [1, 2]})
    calls = float(model.calls)
    found = fxprune.reconstruct(model, plan, batches, mode="parallel", progress=False)
    assert float(model.calls) == calls
    assert found.repairs[0].after < found.repairs[0].before
    with pytest.raises(InputError, match="forward writes into calls"):
        fxprune.reconstruct(model, plan, batches, progress=False)


# -- the proof ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "emit"),
    [
        (name, emit)
        for name in REPEATED
        for emit in ("graph", "module")
        if (name, emit) != ("attention", "module")  # its own forward knows one width only
    ],
)
def test_the_result_is_proved_to_be_the_repaired_original(name: str, emit: Any) -> None:
    """By `shrink` itself, and by `verify` with the original that was not repaired."""
    case: Repeated = REPEATED[name]()
    randomize(case.model, seed=3).eval()
    batches = [case.inputs(20)]
    plan = fxprune.plan(case.model, batches[0], channels={case.name: case.gone})
    small = fxprune.shrink(case.model, plan, calibrate=batches, emit=emit)
    proof = fxprune.verify(case.model, small, plan)
    assert proof.relative <= proof.tolerance
    assert any(each.after < each.before for each in small.meta["fxprune"].repairs)


def test_a_proof_still_finds_what_is_wrong() -> None:
    """Another weight that was not repaired, or one that was left out of the repair."""
    model, batches = network(), data()
    plan = fxprune.plan(model, batches[0], ratio=0.5)
    small = fxprune.shrink(model, plan, calibrate=batches)
    with torch.no_grad():
        small.get_parameter("0.weight")[0] += 0.1
    with pytest.raises(VerificationError, match="differs from the original"):
        fxprune.verify(model, small, plan)


def test_without_its_report_a_repaired_model_is_not_the_original() -> None:
    """Nothing says that it was repaired."""
    model, batches = network(), data()
    plan = fxprune.plan(model, batches[0], ratio=0.5)
    small = fxprune.shrink(model, plan, calibrate=batches)
    small.meta["fxprune"] = replace(small.meta["fxprune"], repaired=())
    with pytest.raises(VerificationError):
        fxprune.verify(model, small, plan)


def test_the_report_tells_of_the_repair() -> None:
    """Layer by layer, as `reconstruct` does."""
    model, batches = network(), data()
    plan = fxprune.plan(model, batches[0], ratio=0.5)
    small = fxprune.shrink(model, plan, calibrate=batches)
    repaired = fxprune.reconstruct(model, plan, batches, progress=False)
    assert small.meta["fxprune"].repairs == repaired.repairs
    text = str(repaired)
    assert "2.weight" in text
    assert "error before" in text


def test_a_file_keeps_what_was_repaired(tmp_path: Path) -> None:
    """What is loaded is proved as what was saved."""
    model, batches = network(), data()
    plan = fxprune.plan(model, batches[0], ratio=0.5)
    small = fxprune.shrink(model, plan, calibrate=batches)
    fxprune.save(small, tmp_path / "small.safetensors")
    loaded = fxprune.load(network(), tmp_path / "small.safetensors")
    assert loaded.meta["fxprune"].repaired == small.meta["fxprune"].repaired
    assert fxprune.verify(model, loaded, plan).relative < 1e-6


def test_files_that_were_written_before_there_were_repairs_are_read() -> None:
    """They say nothing of it."""
    told: dict[str, Any] = {name: [] for name in ("training", "frozen", "order", "complex")}
    told |= {"torch": "2.14.1", "emit": "graph", "norm": "kept", "constants": "drop"}
    told |= {"captured_by": "symbolic_trace", "original_training": [], "tied": {}, "modules": {}}
    document = json.loads(Document(**told).to_json())
    del document["repaired"]
    assert Document.from_json(json.dumps(document)) == Document(**told, repaired=[])


# -- the original ---------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
def test_the_original_stays_as_it_is(mode: Any) -> None:
    """Its weights, flags and buffers; what was not repaired is shared with the repaired one."""
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 4, 3))
    randomize(model).train()
    before = copy.deepcopy(model.state_dict())
    plan = fxprune.plan(model, images(4), ratio=0.5)
    repaired = fxprune.reconstruct(model, plan, [images(9)], mode=mode, progress=False)
    after = model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert model.training
    assert repaired.model.training
    assert set(repaired.tensors) == {"3.weight", "3.bias"}
    assert repaired.model.get_parameter("0.weight") is model.get_parameter("0.weight")
    assert isinstance(repaired.model.get_parameter("3.weight"), nn.Parameter)
    gone = list(plan.slices["3.weight"][1])
    assert gone
    torch.testing.assert_close(
        repaired.model.get_parameter("3.weight")[:, gone], model.get_parameter("3.weight")[:, gone]
    )


def test_an_analysis_can_take_the_model_s_place() -> None:
    """As for `shrink`."""
    model, batches = network(), data()
    deps = fxprune.analyze(model, batches[0])
    plan = fxprune.plan(deps, ratio=0.5)
    ours = fxprune.reconstruct(deps, plan, batches, progress=False)
    theirs = fxprune.reconstruct(model, plan, batches, progress=False)
    assert ours.repairs == theirs.repairs


def test_labels_are_left_out_of_batches() -> None:
    """The first item of a batch counts, or what `inputs` makes of it."""
    model, batches = network(), data()
    plan = fxprune.plan(model, batches[0], ratio=0.5)
    plain = fxprune.reconstruct(model, plan, batches, progress=False)
    labelled = [(x, torch.zeros(len(x))) for x in batches]
    named = [{"image": x} for x in batches]
    assert fxprune.reconstruct(model, plan, labelled, progress=False).repairs == plain.repairs
    found = fxprune.reconstruct(
        model, plan, named, inputs=lambda batch: batch["image"], progress=False
    )
    assert found.repairs == plain.repairs


def test_how_data_is_cut_into_batches_makes_no_difference() -> None:
    """Moments add up, in turn and at once."""
    model, batches = network(), data()
    plan = fxprune.plan(model, batches[0], ratio=0.5)
    for mode in MODES:
        many = fxprune.reconstruct(model, plan, batches, mode=mode, progress=False)  # type: ignore[arg-type]
        one = fxprune.reconstruct(model, plan, [torch.cat(batches)], mode=mode, progress=False)  # type: ignore[arg-type]
        for name, tensor in many.tensors.items():
            torch.testing.assert_close(one.tensors[name], tensor, rtol=1e-4, atol=1e-5)


class Deciding(nn.Module):
    """Two layers, between which forward decides by a length or by values."""

    def __init__(self, *, by_values: bool) -> None:
        super().__init__()
        self.by_values = by_values
        self.first, self.last = nn.Linear(6, 10), nn.Linear(10, 4)

    def forward(self, x: Tensor) -> Tensor:
        """What can be exported only, or recorded only."""
        x = self.first(x).relu()
        if float(x.sum()) > -1.0 if self.by_values else len(x) > 0:
            x = x * 2
        y: Tensor = self.last(x)
        return y


@pytest.mark.parametrize(("by_values", "way"), [(False, "export"), (True, "record")])
@pytest.mark.parametrize("mode", MODES)
def test_models_that_cannot_be_traced_are_repaired(by_values: bool, way: str, mode: Any) -> None:
    """The user's own tensors are those that the exported or recorded graph reads."""
    model, batches = randomize(Deciding(by_values=by_values)).eval(), data()
    deps = fxprune.analyze(model, batches[0])
    assert deps.captured_by == way
    plan = fxprune.plan(deps, ratio=0.5)
    repaired = fxprune.reconstruct(model, plan, batches, batches[0], mode=mode, progress=False)
    assert set(repaired.tensors) == {"last.weight", "last.bias"}
    small = fxprune.shrink(model, plan, batches[0], calibrate=batches, emit="auto")
    before = fxprune.shrink(model, plan, batches[0], emit="auto")
    assert difference(model, small, batches[0]) < difference(model, before, batches[0]) / 2
    assert fxprune.verify(model, small, plan, batches[0]).relative < 1e-6


# -- what is left alone ---------------------------------------------------------------------


class Tied(nn.Module):
    """A linear layer that is called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.twice, self.last = nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        """One layer after itself."""
        y: Tensor = self.last(self.twice(self.twice(self.first(x)).relu()))
        return y


LEFT: dict[str, tuple[nn.Module, str, str]] = {
    "depthwise": (
        nn.Sequential(nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 3, groups=8), nn.Conv2d(8, 2, 1)),
        "1.weight",
        "each channel is read on its own",
    ),
    "transposed": (
        nn.Sequential(nn.Conv2d(3, 8, 1), nn.ConvTranspose2d(8, 4, 2)),
        "1.weight",
        "a transposed convolution",
    ),
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", LEFT)
def test_what_cannot_read_differently_is_left_with_the_reason(name: str, mode: Any) -> None:
    """And its tensors are the original's."""
    model, weight, why = LEFT[name]
    randomize(model).eval()
    plan = fxprune.plan(model, images(4), ratios={"0": 0.5})
    repaired = fxprune.reconstruct(model, plan, [images(9)], mode=mode, progress=False)
    (entry,) = (each for each in repaired.repairs if each.weight == weight)
    assert entry.why == why
    assert math.isnan(entry.before)
    assert weight not in repaired.tensors
    assert f"left: {why}" in str(repaired)
    fxprune.shrink(model, plan, calibrate=[images(9)])


class Turned(nn.Module):
    """A product with the weight first, and one with a vector."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(6, 8)
        self.left, self.vector = nn.Parameter(torch.randn(3, 8)), nn.Parameter(torch.randn(8))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """W h, and h v."""
        h = self.first(x).relu()
        return self.left.mm(h.t()), h.mv(self.vector)


@pytest.mark.parametrize("mode", MODES)
def test_other_operators_that_read_removed_channels_are_told(mode: Any) -> None:
    """None is left silently."""
    model, x = randomize(Turned()), data()[0]
    plan = fxprune.plan(model, x, channels={"first": [1, 2]})
    repaired = fxprune.reconstruct(model, plan, [x], mode=mode, progress=False)
    assert {each.weight: each.why for each in repaired.repairs} == {
        "left": "aten.mm.default takes it in another way than linear layers do",
        "vector": "aten.mv.default takes it in another way than linear layers do",
    }


@pytest.mark.parametrize("mode", MODES)
def test_a_weight_that_is_read_twice_is_left(mode: Any) -> None:
    """What is best for one reader is not for the other."""
    model, x = randomize(Tied()), data()[0]
    plan = fxprune.plan(model, x, channels={"first": [1, 2]})
    repaired = fxprune.reconstruct(model, plan, [x], mode=mode, progress=False)
    *twice, last = repaired.repairs
    assert [each.why for each in twice] == ["its weight is used elsewhere"] * 2
    assert last.why == ""
    assert set(repaired.tensors) == {"last.weight", "last.bias"}


def test_nothing_removed_is_nothing_repaired() -> None:
    """The model comes back with all its tensors."""
    model, batches = network(), data()
    plan = fxprune.plan(model, batches[0], ratio=0.0)
    repaired = fxprune.reconstruct(model, plan, batches, progress=False)
    assert repaired.repairs == ()
    assert repaired.model.get_parameter("0.weight") is model.get_parameter("0.weight")


# -- refusals -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"mode": "both"}, "mode='both' is not known"),
        ({"method": "median"}, "method='median' is not known"),
        ({"ridge": -1.0}, "the ridge is -1.0"),
        ({"ridge": "much"}, "the ridge is 'much'"),
        ({"ridge": math.nan}, "the ridge is nan"),
        ({"batches": []}, "there are no batches to compute a repair of"),
        ({"batches": 3}, "the batches are a int"),
        ({"batches": [torch.full((4, 6), torch.nan)]}, "NaN or infinite"),
        ({"batches": [torch.zeros(4, 5)]}, "fails at node"),
        ({"inputs": lambda batch: batch["x"]}, "the inputs of a batch cannot be told"),
    ],
)
@pytest.mark.parametrize("mode", MODES)
def test_wrong_arguments_are_refused(options: dict[str, Any], told: str, mode: str) -> None:
    """With the argument and what it must be."""
    model = network()
    plan = fxprune.plan(model, data()[0], ratio=0.5)
    given = {"batches": data(), "mode": mode, "progress": False, **options}
    with pytest.raises(InputError, match=told):
        fxprune.reconstruct(model, plan, **given)


def test_what_a_repair_cannot_go_along_with_is_refused() -> None:
    """Folded constants, a donated original, a program, a plan of another model."""
    model, batches = network(), data()
    plan = fxprune.plan(model, batches[0], ratio=0.5)
    with pytest.raises(InputError, match="has repaired already"):
        fxprune.shrink(model, plan, calibrate=batches, constants="fold")
    with pytest.raises(InputError, match="donate=True and calibrate= together"):
        fxprune.shrink(model, plan, calibrate=batches, donate=True, verify=False)
    with pytest.raises(InputError, match="an ExportedProgram cannot be repaired"):
        fxprune.reconstruct(torch.export.export(model, (batches[0],)), plan, batches)
    with pytest.raises(PlanError):
        fxprune.reconstruct(network(16), plan, batches, progress=False)


def test_weights_without_data_are_refused() -> None:
    """A repair runs the model."""
    model = network()
    plan = fxprune.plan(model, data()[0], ratio=0.5)
    with pytest.raises(InputError, match="has no data"):
        fxprune.reconstruct(network().to("meta"), plan, data(), progress=False)


# -- several processes ----------------------------------------------------------------------


def repaired_in_part(rank: int, folder: str) -> None:
    """Repair with every second batch."""
    join_group(rank, folder)
    model, batches = network(), data()
    plan = fxprune.plan(model, batches[0], ratio=0.5)
    for mode in MODES:
        found = fxprune.reconstruct(model, plan, batches[rank::2], mode=mode, progress=False)  # type: ignore[arg-type]
        torch.save(dict(found.tensors), Path(folder) / f"{mode}{rank}.pt")


@pytest.mark.slow
def test_processes_get_the_repair_of_all_their_data(tmp_path: Path) -> None:
    """The same in both, and that of one process with all batches."""
    run_two(repaired_in_part, tmp_path)
    model, batches = network(), data()
    plan = fxprune.plan(model, batches[0], ratio=0.5)
    for mode in MODES:
        whole = fxprune.reconstruct(model, plan, batches, mode=mode, progress=False)  # type: ignore[arg-type]
        ours, theirs = (torch.load(tmp_path / f"{mode}{rank}.pt") for rank in range(2))
        for name, tensor in whole.tensors.items():
            assert torch.equal(ours[name], theirs[name])
            torch.testing.assert_close(ours[name], tensor.detach(), rtol=1e-4, atol=1e-5)
