"""Norms are repaired in closed form, or their statistics are told anew; never for the worse."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn

import fxprune
from fxprune import InputError, VerificationError
from fxprune.reconstruction.norm_reads import NormRead
from fxprune.reconstruction.norms import NormMeasured
from models_zoo import randomize
from tests.processes import join_group, run_two
from tests.reconstruction.models import images
from tests.reconstruction.norm_models import NORMS, Net, features, inputs

MODES = ("sequential", "parallel")
GONE = {"first": [0, 2, 5, 7]}


def net(name: str, *, head: bool = False) -> Net:
    """The net with the norm of that name."""
    make, of_images, _, _ = NORMS[name]
    return randomize(Net(make(), of_images=of_images, head=head)).eval()


def yielded(out: Tensor) -> NormRead:
    """What a norm of as many channels yields."""
    gone = torch.zeros(out.shape[1], dtype=torch.bool).numpy()
    rows = torch.arange(out.shape[1])
    nothing = out.new_empty(0, 0)
    return NormRead(None, "norm", gone, "", out, rows, None, None, None, nothing)


def rows(count: int = 50) -> tuple[Tensor, Tensor]:
    """What a norm yielded and what it yields, float64."""
    torch.manual_seed(0)
    y = torch.randn(count, 4, dtype=torch.float64) * 3 + 2
    return y, 0.6 * y + 0.5 * torch.randn_like(y) - 1


def measured(y: Tensor, z: Tensor) -> NormMeasured:
    found = NormMeasured.of(yielded(y))
    found.add(yielded(y), yielded(z))
    return found


def outputs(model: nn.Module, x: Tensor) -> Tensor:
    with torch.no_grad():
        y: Tensor = model(x)
        return y


# -- the closed form ------------------------------------------------------------------------


@pytest.mark.parametrize("ridge", [0.0, 1e-3, 0.5])
@pytest.mark.parametrize("with_constant", [False, True])
def test_the_line_is_what_least_squares_finds(ridge: float, *, with_constant: bool) -> None:
    """`torch.linalg.lstsq` for each channel, with one more row for the penalty on 1 - factor."""
    y, z = rows()
    line = measured(y, z).line(ridge, with_constant=with_constant)
    centred = z - z.mean(0) if with_constant else z
    penalty = math.sqrt(ridge * float(centred.square().sum(0).mean()))
    for channel in range(y.shape[1]):
        left = torch.cat([z[:, channel], torch.tensor([penalty], dtype=z.dtype)])[:, None]
        if with_constant:
            left = torch.cat([left, torch.ones_like(left)], 1)
            left[-1, 1] = 0
        right = torch.cat([y[:, channel], torch.tensor([penalty], dtype=z.dtype)])[:, None]
        found = torch.linalg.lstsq(left, right, driver="gelsd").solution[:, 0]
        torch.testing.assert_close(line.factor[channel], found[0])
        expected = found[1] if with_constant else torch.zeros_like(found[0])
        torch.testing.assert_close(line.constant[channel], expected)


@pytest.mark.parametrize("with_constant", [False, True])
def test_no_channel_gets_worse_at_any_ridge(*, with_constant: bool) -> None:
    """Whatever the penalty is."""
    y, z = rows()
    for ridge in (0.0, 1e-3, 1.0, 100.0):
        line = measured(y, z).line(ridge, with_constant=with_constant)
        after = (y - line.factor * z - line.constant).square().sum(0)
        assert (after <= (y - z).square().sum(0) * (1 + 1e-12)).all()


def test_channels_that_do_not_vary_keep_their_scale() -> None:
    """Nothing tells it; a constant can still be right."""
    y, z = rows()
    z[:, 1] = 0.3 + 1e-9 * torch.randn(len(z), dtype=z.dtype)
    z[:, 2] = 0
    for ridge in (0.0, 1e-3):
        line = measured(y, z).line(ridge, with_constant=True)
        assert line.factor[1:3].tolist() == [1.0, 1.0]
        torch.testing.assert_close(line.constant[1:3], (y - z).mean(0)[1:3])
        assert float(measured(y, z).line(ridge, with_constant=False).factor[2]) == 1.0


def test_sums_of_parts_add_up_to_those_of_the_whole() -> None:
    """So that batches, and processes, can share the work."""
    y, z = rows()
    parts = [measured(y[part], z[part]) for part in (slice(0, 9), slice(9, None))]
    sums = [sum(both) for both in zip(*(part.tensors() for part in parts), strict=True)]
    for one, other in zip(sums, measured(y, z).tensors(), strict=True):
        torch.testing.assert_close(one, other)


# -- each kind of norm ----------------------------------------------------------------------


@pytest.mark.parametrize("name", NORMS)
def test_a_norm_yields_the_best_line_of_what_it_yielded_when_pruned(name: str) -> None:
    """As least squares finds it, channel by channel, of what the pruned model returns."""
    model, x = net(name), inputs(name)(40)
    plan = fxprune.plan(model, x, channels=GONE)
    found = fxprune.reconstruct(model, plan, [x], method="none", ridge=0.0, progress=False)
    (entry,) = found.repairs
    scale, shift = NORMS[name][2:]
    assert (entry.kind, entry.weight, entry.intercept) == ("norm", scale, shift)
    assert set(found.tensors) == {scale, shift} - {""}
    assert entry.after < entry.before
    plain, small = fxprune.shrink(model, plan), fxprune.shrink(found.model, plan)
    y, z, ours = (outputs(each, x).double() for each in (model, plain, small))
    if NORMS[name][1]:
        y, z, ours = (each.movedim(1, -1) for each in (y, z, ours))
    if name == "layer norm of images":  # a scale for each place
        y, z, ours = (each.flatten(1) for each in (y, z, ours))
    y, z, ours = (each.reshape(-1, each.shape[-1]) for each in (y, z, ours))
    for channel in range(y.shape[1]):
        left = z[:, channel, None]
        if shift:
            left = torch.cat([left, torch.ones_like(left)], 1)
        best = left @ torch.linalg.lstsq(left, y[:, channel, None]).solution
        torch.testing.assert_close(ours[:, channel], best[:, 0], rtol=1e-3, atol=1e-3)
    error = (ours - y).square().sum() / (y - y.mean(0)).square().sum()
    assert float(error) == pytest.approx(entry.after, rel=1e-3)


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("method", ["regression", "mean", "none"])
@pytest.mark.parametrize("name", NORMS)
def test_no_norm_gets_worse(name: str, method: Any, mode: Any, *, exact: bool) -> None:
    """With its own channels removed too, beside each repair of layers, for both meanings."""
    model = net(name, head=True)
    batches = [inputs(name)(30) for _ in range(2)]
    gone = {**GONE, "second": [1, 5]}
    plan = fxprune.plan(model, batches[0], channels=gone)
    norm: Any = "exact" if exact else "kept"
    found = fxprune.reconstruct(
        model, plan, batches, method=method, mode=mode, norm=norm, progress=False
    )
    norms = [each for each in found.repairs if each.kind == "norm"]
    assert all(each.after <= each.before and not each.why for each in norms)
    if mode == "sequential":
        assert [(each.inputs, each.kept) for each in norms] == [
            (288, 216) if name == "layer norm of images" else (8, 6)
        ]
    for each in found.tensors.keys() & set(NORMS[name][2:]):
        old, new = model.get_parameter(each), found.model.get_parameter(each)
        assert torch.equal(old[[1, 5]], new[[1, 5]])
        if each == NORMS[name][2]:
            assert not torch.equal(old, new)
    small = fxprune.shrink(found.model, plan, norm=norm)
    proof = fxprune.verify(found.model, small, plan)
    assert proof.relative <= proof.tolerance


@pytest.mark.parametrize("name", ["layer norm", "group norm", "layer norm of images"])
def test_at_once_norms_make_up_for_the_statistics_of_what_is_kept(name: str) -> None:
    """They read what the original reads, without the removed positions."""
    model, x = net(name, head=True), inputs(name)(60)
    plan = fxprune.plan(model, x, channels={"second": [1, 5]})
    found = fxprune.reconstruct(model, plan, [x], method="none", mode="parallel", progress=False)
    (entry,) = found.repairs
    assert entry.after < entry.before
    before = (outputs(fxprune.shrink(model, plan), x) - outputs(model, x)).square().mean()
    after = (outputs(fxprune.shrink(found.model, plan), x) - outputs(model, x)).square().mean()
    assert after != before


class Stream(nn.Module):
    """A residual stream that two blocks read through layer norms."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(6, 16)
        self.norm1, self.up1, self.down1 = nn.LayerNorm(16), nn.Linear(16, 12), nn.Linear(12, 16)
        self.norm2, self.up2, self.down2 = nn.LayerNorm(16), nn.Linear(16, 12), nn.Linear(12, 16)
        self.norm, self.head = nn.LayerNorm(16), nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        """Features of tokens."""
        x = self.embed(x)
        x = x + self.down1(self.up1(self.norm1(x)).relu())
        x = x + self.down2(self.up2(self.norm2(x)).relu())
        y: Tensor = self.head(self.norm(x))
        return y


def test_norms_of_a_pruned_stream_alone_bring_outputs_nearer() -> None:
    """On new inputs, without another repair, in the mean over models."""
    before = after = 0.0
    for seed in range(5):
        model = randomize(Stream(), seed=seed).eval()
        batches = [features(60, seed=number) for number in range(4)]
        plan = fxprune.plan(model, batches[0], ratios={"embed": 0.4})
        found = fxprune.reconstruct(model, plan, batches, method="none", progress=False)
        weights = [each.weight for each in found.repairs]
        assert weights == ["norm1.weight", "norm2.weight", "norm.weight"]
        x = features(80, seed=9)
        plain, small = fxprune.shrink(model, plan), fxprune.shrink(found.model, plan)
        y = outputs(model, x)
        before += float((outputs(plain, x) - y).square().mean())
        after += float((outputs(small, x) - y).square().mean())
    assert after < before * 0.9


# -- what stays -----------------------------------------------------------------------------


@pytest.mark.parametrize("norms", ["refit", "reestimate"])
def test_norms_that_read_what_they_did_stay_as_they_are(norms: Any) -> None:
    """Bit by bit, and nothing is told of them."""
    layers = [nn.Conv2d(3, 8, 1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 1)]
    model = nn.Sequential(*layers, nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 4, 1))
    randomize(model).eval()
    x = images(30)
    plan = fxprune.plan(model, x, channels={"0": [1, 2]})
    found = fxprune.reconstruct(model, plan, [x], method="none", norms=norms, progress=False)
    assert [each.weight for each in found.repairs] == ["4.weight"]
    for name, tensor in model.state_dict(keep_vars=True).items():
        if not name.startswith("4."):
            assert found.model.state_dict(keep_vars=True)[name] is tensor


@pytest.mark.parametrize("method", ["regression", "mean"])
def test_norms_are_kept_if_that_is_asked_for(method: Any) -> None:
    """Layers only."""
    model, x = net("layer norm", head=True), features(30)
    plan = fxprune.plan(model, x, channels=GONE)
    found = fxprune.reconstruct(model, plan, [x], method=method, norms="keep", progress=False)
    assert {each.kind for each in found.repairs} == {"layer"}


class Twice(nn.Module):
    """A norm, or its scale, that is used twice."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.first, self.second = nn.Linear(6, 12), nn.Linear(12, 8)
        self.norm, self.other = nn.LayerNorm(8), nn.LayerNorm(8)
        self.gamma = nn.Parameter(torch.ones(8))
        if kind == "shift":
            self.other.bias = self.norm.bias

    def forward(self, x: Tensor) -> Tensor:
        """Of tokens."""
        x = self.second(self.first(x).relu())
        if self.kind == "norm":
            y: Tensor = self.norm(self.norm(x).tanh())
        elif self.kind == "shift":
            y = self.norm(x) * self.other(x.tanh())
        elif self.kind == "vector":
            scale = 1.0 + self.gamma
            y = x.tanh() * scale + x.sigmoid() * scale
        elif self.kind == "written":
            y = x.tanh() * self.gamma.repeat(1).add_(1.0)
        elif self.kind == "infinite":
            y = x.masked_fill(x > 0, -torch.inf) * self.gamma
        else:
            y = x.tanh() * self.gamma.exp()
        return y


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        ("norm", "its scale is used elsewhere"),
        ("shift", "its shift is used elsewhere"),
        ("vector", "its scale is used elsewhere"),
        ("computed", "its scale is computed of others"),
        ("written", "its scale is computed of others"),
        ("infinite", "what it reads or yields is not finite"),
    ],
)
def test_norms_that_are_not_alone_are_left_with_the_reason(kind: str, why: str) -> None:
    """What is best for one would change the other."""
    model, x = randomize(Twice(kind)).eval(), features(30)
    plan = fxprune.plan(model, x, channels=GONE)
    found = fxprune.reconstruct(model, plan, [x], method="none", progress=False)
    assert {each.why for each in found.repairs} == {why}
    assert all(math.isnan(each.before) for each in found.repairs)
    assert not found.tensors
    assert f"left: {why}" in str(found)


class Shifted(nn.Module):
    """A scale, and a shift that is added by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(6, 12), nn.Linear(12, 8)
        self.gamma, self.beta = nn.Parameter(torch.ones(8)), nn.Parameter(torch.ones(8))

    def forward(self, x: Tensor) -> Tensor:
        """Of tokens."""
        return self.second(self.first(x).relu()).tanh() * self.gamma + self.beta


def test_a_shift_that_is_added_by_hand_takes_the_constant() -> None:
    """As a layer's own bias does: means come back."""
    model, x = randomize(Shifted()).eval(), features(60)
    plan = fxprune.plan(model, x, channels=GONE)
    found = fxprune.reconstruct(model, plan, [x], method="none", progress=False)
    (entry,) = found.repairs
    assert (entry.weight, entry.intercept) == ("gamma", "beta")
    small = fxprune.shrink(found.model, plan)
    ours, dense = outputs(small, x), outputs(model, x)
    torch.testing.assert_close(ours.mean((0, 1)), dense.mean((0, 1)), rtol=1e-4, atol=1e-4)
    error = (ours - dense).square().sum() / (dense - dense.mean((0, 1))).square().sum()
    assert float(error) == pytest.approx(entry.after, rel=1e-3)


def test_frozen_scales_that_are_no_parameters_stay() -> None:
    """A window, or the statistics of a data set, is not what was learned."""
    model = randomize(Shifted()).eval()
    gamma = model.gamma.detach()
    del model.gamma
    model.register_buffer("gamma", gamma)
    x = features(30)
    plan = fxprune.plan(model, x, channels=GONE)
    assert not fxprune.reconstruct(model, plan, [x], method="none", progress=False).repairs


# -- how data is cut ------------------------------------------------------------------------


@pytest.mark.parametrize("norms", ["refit", "reestimate"])
def test_two_batches_are_as_good_as_one(norms: Any) -> None:
    """All rows count alike, in batches of any size."""
    model, x = net("batch norm", head=True), images(40)
    plan = fxprune.plan(model, x, channels=GONE)
    one, two = (
        fxprune.reconstruct(model, plan, data, norms=norms, progress=False)
        for data in ([x], [x[:10], x[10:]])
    )
    assert one.tensors.keys() == two.tensors.keys()
    for name, tensor in one.tensors.items():
        torch.testing.assert_close(two.tensors[name], tensor, rtol=1e-4, atol=1e-5)


def repaired_in_part(rank: int, folder: str) -> None:
    """Repair with every second batch."""
    join_group(rank, folder)
    model, batches = net("layer norm", head=True), [features(20, seed=n) for n in range(4)]
    plan = fxprune.plan(model, batches[0], channels={**GONE, "second": [1, 5]})
    found = fxprune.reconstruct(model, plan, batches[rank::2], progress=False)
    torch.save(dict(found.tensors), Path(folder) / f"{rank}.pt")


@pytest.mark.slow
def test_processes_get_the_norms_of_all_their_data(tmp_path: Path) -> None:
    """The same in both, and those of one process with all batches."""
    run_two(repaired_in_part, tmp_path)
    model, batches = net("layer norm", head=True), [features(20, seed=n) for n in range(4)]
    plan = fxprune.plan(model, batches[0], channels={**GONE, "second": [1, 5]})
    whole = fxprune.reconstruct(model, plan, batches, progress=False)
    assert {"norm.weight", "norm.bias"} <= set(whole.tensors)
    ours, theirs = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    for name, tensor in whole.tensors.items():
        assert torch.equal(ours[name], theirs[name])
        torch.testing.assert_close(ours[name], tensor.detach(), rtol=1e-4, atol=1e-5)


# -- statistics -----------------------------------------------------------------------------


def normed(*, affine: bool = True) -> nn.Sequential:
    """A net whose batch norm has the statistics of its inputs, as training would give it."""
    norm = nn.BatchNorm2d(8, affine=affine)
    layers = (nn.Conv2d(3, 12, 1), nn.ReLU(), nn.Conv2d(12, 8, 1), norm)
    model = randomize(nn.Sequential(*layers, nn.ReLU(), nn.Conv2d(8, 4, 1)))
    update_bn([images(200)], model)
    return model.eval()


@pytest.mark.parametrize("affine", [False, True])
def test_statistics_are_those_that_update_bn_finds_in_the_pruned_model(*, affine: bool) -> None:
    """Mean and unbiased variance, of all rows and places."""
    model, x = normed(affine=affine), images(60)
    plan = fxprune.plan(model, x, channels={"0": list(range(6)), "2": [3]})
    found = fxprune.reconstruct(model, plan, [x], method="none", norms="reestimate", progress=False)
    (entry,) = found.repairs
    assert entry.weight == ("3.weight" if affine else "3.running_mean")
    assert set(found.tensors) == {"3.running_mean", "3.running_var"}
    assert entry.after < entry.before
    small, plain = fxprune.shrink(found.model, plan), fxprune.shrink(model, plan)
    update_bn([x], plain)
    for name in ("3.running_mean", "3.running_var"):
        ours, theirs = small.get_buffer(name), plain.get_buffer(name)
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)
        assert name in dict(found.model.named_buffers())
        assert torch.equal(found.model.get_buffer(name)[3], model.get_buffer(name)[3])


def test_statistics_that_make_the_outcome_worse_are_taken_back() -> None:
    """Of few samples of another kind, which the kept ones were right for."""
    model = normed()
    with torch.no_grad():
        model[2].weight[:, 0] = 1e-3  # what is removed hardly counts
    x = images(3)
    plan = fxprune.plan(model, x, channels={"0": [0]})
    found = fxprune.reconstruct(model, plan, [x], method="none", norms="reestimate", progress=False)
    (entry,) = found.repairs
    assert entry.why == "the outcome is better without a repair"
    assert entry.after == entry.before
    assert not found.tensors


def test_statistics_go_along_with_repaired_layers() -> None:
    """The norm is told anew what the repaired layer before it yields."""
    model, x = normed(), images(60)
    plan = fxprune.plan(model, x, channels={"0": list(range(6))})
    found = fxprune.reconstruct(model, plan, [x], method="mean", norms="reestimate", progress=False)
    assert [each.kind for each in found.repairs] == ["layer", "norm"]
    if not found.repairs[1].why:
        small = fxprune.shrink(found.model, plan)
        with torch.no_grad():
            mean = small.get_submodule("2")(outputs(model[:2], x)[:, 6:]).mean((0, 2, 3))
        torch.testing.assert_close(small.get_buffer("3.running_mean"), mean)


# -- the proof ------------------------------------------------------------------------------


@pytest.mark.parametrize("emit", ["graph", "module"])
@pytest.mark.parametrize("name", NORMS)
def test_the_result_is_proved_with_repaired_norms(name: str, emit: Any, tmp_path: Path) -> None:
    """By `shrink`, by `verify` with the user's own original, and once more from a file."""
    model, x = net(name, head=True), inputs(name)(30)
    plan = fxprune.plan(model, x, channels={**GONE, "second": [1, 5]})
    small = fxprune.shrink(model, plan, calibrate=[x], emit=emit)
    report = small.meta["fxprune"]
    assert set(NORMS[name][2:]) - {""} <= set(report.repaired)
    proof = fxprune.verify(model, small, plan)
    assert proof.relative <= proof.tolerance
    assert proof.repaired == report.repaired
    assert any("norms that yield something else" in note for note in report.notes())
    fxprune.save(small, tmp_path / "small.safetensors")
    loaded = fxprune.load(net(name, head=True), tmp_path / "small.safetensors")
    assert fxprune.verify(model, loaded, plan).repaired == report.repaired


@pytest.mark.parametrize("wrong", ["second.weight", "norm.running_var"])
def test_a_wrong_value_elsewhere_is_still_found(wrong: str) -> None:
    """What was not repaired must be the original's, buffers too."""
    model, x = net("batch norm", head=True), images(30)
    plan = fxprune.plan(model, x, channels=GONE)
    small = fxprune.shrink(model, plan, calibrate=[x])
    small.meta["fxprune"] = replace(small.meta["fxprune"], repaired=("norm.weight", "norm.bias"))
    for name, tensor in small.state_dict(keep_vars=True).items():
        if name in ("second.weight", "second.bias", "norm.running_mean"):
            own = model.state_dict()[name]
            kept = [c for c in range(12) if c not in GONE["first"]]
            tensor.data.copy_(own[:, kept] if name == "second.weight" else own)
    assert fxprune.verify(model, small, plan).relative < 1e-4
    with torch.no_grad():
        small.state_dict(keep_vars=True)[wrong].mul_(1.2)
    with pytest.raises(VerificationError, match="differs from the original"):
        fxprune.verify(model, small, plan)


def test_told_statistics_are_proved_too() -> None:
    """Buffers are taken from the result as parameters are."""
    model, x = normed(), images(60)
    plan = fxprune.plan(model, x, channels={"0": list(range(6))})
    found = fxprune.reconstruct(model, plan, [x], method="none", norms="reestimate", progress=False)
    small = fxprune.shrink(found.model, plan)
    with pytest.raises(VerificationError):
        fxprune.verify(model, small, plan)
    small.meta["fxprune"] = replace(small.meta["fxprune"], repaired=tuple(found.tensors))
    assert fxprune.verify(model, small, plan).repaired == tuple(found.tensors)


class Deciding(Net):
    """A net that forward decides about by values, so that it can be recorded only."""

    def forward(self, x: Tensor) -> Tensor:
        """Doubled if there is anything."""
        y = super().forward(x)
        return y * 2 if float(x.abs().sum()) > 0 else y


def test_recorded_models_get_their_norms_repaired() -> None:
    """The user's own tensors are those that the recorded graph reads."""
    model = randomize(Deciding(nn.InstanceNorm2d(8, affine=True), of_images=True)).eval()
    x = images(30)
    deps = fxprune.analyze(model, x)
    assert deps.captured_by == "record"
    plan = fxprune.plan(deps, channels=GONE)
    found = fxprune.reconstruct(model, plan, [x], x, method="none", progress=False)
    assert set(found.tensors) == {"norm.weight", "norm.bias"}
    small = fxprune.shrink(model, plan, x, calibrate=[x], emit="auto")
    assert fxprune.verify(model, small, plan, x).relative < 1e-5


# -- what is said ---------------------------------------------------------------------------


def test_the_table_has_norms_beside_layers() -> None:
    """In the order in which they run."""
    model, x = net("layer norm", head=True), features(30)
    plan = fxprune.plan(model, x, channels={**GONE, "second": [1, 5]})
    found = fxprune.reconstruct(model, plan, [x], progress=False)
    weights = [each.weight for each in found.repairs]
    assert weights == ["second.weight", "norm.weight", "head.weight"]
    assert "norm.bias" in str(found)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"norms": "all"}, "norms='all' is not known"),
        ({"norms": "reestimate", "mode": "parallel"}, "together are of no use"),
        ({"norms": "keep", "method": "none"}, "repair nothing"),
    ],
)
def test_options_of_no_use_are_refused(options: dict[str, Any], told: str) -> None:
    """With what can be passed instead."""
    model, x = net("batch norm"), images(10)
    plan = fxprune.plan(model, x, channels=GONE)
    with pytest.raises(InputError, match=told):
        fxprune.reconstruct(model, plan, [x], progress=False, **options)
