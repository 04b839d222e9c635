"""Channels count by how wrong their readers are without them, at best."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import fxprune
from fxprune import InputError, importance
from fxprune.importance import reconstruction
from models_zoo import ZOO, randomize
from tests.importance.test_data import X, batches, network
from tests.importance.test_weights import scored

criterion = partial(importance.ReconstructionError, progress=False)
RIDGE = 1e-9  # hardly any


def data(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def two(seed: int = 0, *, bias: bool = True) -> nn.Sequential:
    torch.manual_seed(seed)
    layers = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 3, bias=bias))
    return layers.double().eval()


def share_left(x: Tensor, weight: Tensor, kept: Sequence[int], *, about_mean: bool) -> float:
    """The error of W x after the best regression on some positions, as a share."""
    y = x @ weight.T
    read = x[:, list(kept)]
    if about_mean:
        y, read = y - y.mean(0), read - read.mean(0)
    rest = y - read @ torch.linalg.lstsq(read, y).solution
    return float(rest.square().sum() / y.square().sum())


@pytest.mark.parametrize("bias", [True, False], ids=["with bias", "without"])
def test_a_score_is_what_the_error_of_the_reader_grows_by(bias: bool) -> None:
    """One that goes later never counts less, though the error may grow by less then."""
    model, x = two(bias=bias), data(200, 5)
    deps = fxprune.analyze(model, x)
    scores = scored(deps, criterion([x], RIDGE))[deps.group("0").ids]
    read, weight = model[:2](x).detach(), model[2].weight.detach()
    order = np.argsort(scores)
    errors = [
        share_left(read, weight, order[count:].tolist(), about_mean=bias) for count in range(9)
    ]
    expected = np.maximum.accumulate(np.diff(errors))
    np.testing.assert_allclose(scores[order], expected, rtol=1e-4)


def test_one_of_two_channels_that_carry_the_same_counts_nothing() -> None:
    model, x = two(), data(200, 5)
    model.requires_grad_(requires_grad=False)
    with torch.no_grad():
        model[0].weight *= 3.0
        model[0].bias *= 3.0
        model[0].weight[6] = model[0].weight[2]
        model[0].bias[6] = model[0].bias[2]
        model[2].weight[:, [2, 6]] = 0.8  # by magnitude both would be last
    deps = fxprune.analyze(model, x)
    group = deps.group("0")
    scores = scored(deps, criterion([x], 1e-3))[group.ids]
    first, second = sorted((scores[2], scores[6]))
    assert first == scores.min() < 1e-3
    assert second == scores.max() > 0.1
    plan = fxprune.plan(model, x, 0.25, criterion=criterion([x], 1e-3))
    assert len({2, 6} & {*plan.groups["0"].removed}) == 1
    assert plan.made["criterion"] == "ReconstructionError"


def test_a_constant_counts_where_no_bias_takes_it_up() -> None:
    x = data(200, 5)
    for bias in (True, False):
        model = two(bias=bias)
        with torch.no_grad():
            model[0].weight[4] = 0.0
            model[0].bias[4] = 0.9
        deps = fxprune.analyze(model, x)
        scores = scored(deps, criterion([x], RIDGE))[deps.group("0").ids]
        assert (scores.argmin() == 4) == bias
        assert (scores[4] < 1e-6) == bias


class Grouped(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.second = nn.Conv2d(8, 8, 3, padding=1, groups=2)
        self.head = nn.Linear(8 * 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.first(x))
        x = torch.relu(self.second(x)) + x
        return self.head(F.adaptive_avg_pool2d(x, 2).flatten(1))


def test_readers_of_all_kinds_are_added_up() -> None:
    """A grouped convolution, and a linear layer that reads each channel four times."""
    torch.manual_seed(0)
    model, x = Grouped().double().eval(), data(20, 3, 6, 6)
    deps = fxprune.analyze(model, x)
    scores = scored(deps, criterion([x], RIDGE))
    for group in (g for g in deps.groups if g.prunable):
        lowest = int(np.argmin(scores[group.ids]))
        gone = np.array([group.ids[lowest]])
        assert scores[gone[0]] == pytest.approx(wrong_by(model, x, deps, gone), rel=1e-3)


def wrong_by(model: Grouped, x: Tensor, deps: Any, gone: Any) -> float:
    """The shares of errors of both readers without some channels, each after a regression."""
    first = torch.relu(model.first(x)).detach()
    weight = model.second.weight.detach()
    inside = F.pad(torch.full((4, 4), 9.0), (1, 1, 1, 1), value=6.0)  # how many taps read a place
    inside[[0, 0, 5, 5], [0, 5, 0, 5]] = 4.0
    times = inside.double().flatten().repeat(len(x))[:, None]
    sums = torch.zeros(2, dtype=torch.float64)
    for part, rows, axis in zip(
        first.chunk(2, 1),
        weight.chunk(2),
        np.split(mask(deps, "first.weight", 0, gone), 2),
        strict=True,
    ):
        read = part.movedim(1, -1).reshape(-1, 4)
        read = times.sqrt() * (read - (times * read).sum(0) / times.sum())
        kept = read[:, ~axis]
        rest = read - kept @ torch.linalg.lstsq(kept, read).solution
        for number, left in enumerate((rest, read)):
            sums[number] += torch.einsum("nc,ockl->nokl", left, rows).square().sum()
    total = float(sums[0] / sums[1])
    last = F.adaptive_avg_pool2d(torch.relu(model.second(first)) + first, 2).flatten(1).detach()
    kept_places = np.flatnonzero(~mask(deps, "head.weight", 1, gone)).tolist()
    return total + share_left(last, model.head.weight.detach(), kept_places, about_mean=True)


def mask(deps: Any, name: str, dim: int, gone: Any) -> Any:
    found = np.zeros(deps.state[name].shape[dim], dtype=bool)
    for vector in deps.trace.labels.leaves(deps.trace.axes[name][dim]):
        found |= np.isin(vector, gone)
    return found


@pytest.mark.parametrize("name", sorted(ZOO))
def test_every_group_of_a_model_that_something_reads_is_scored(name: str) -> None:
    model, inputs = randomize(ZOO[name].build()).eval(), ZOO[name].example_inputs()
    deps = fxprune.analyze(model, inputs)
    read = importance.Activation([inputs], inputs=lambda batch: batch, progress=False)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "LSTM with projections")
        known = scored(deps, read)
        found = scored(deps, criterion([inputs], inputs=lambda batch: batch))
    for group in (g for g in deps.groups if g.prunable):
        assert np.isfinite(found[group.ids]).all() == np.isfinite(known[group.ids]).all()
        assert len(np.unique(found[group.ids])) == group.size or np.isnan(found[group.ids]).all()


def test_batches_do_not_matter() -> None:
    deps = fxprune.analyze(network(), X)
    whole = torch.cat([batch[0] for batch in batches()])
    one = scored(deps, criterion([whole]))
    np.testing.assert_allclose(scored(deps, criterion(batches())), one, rtol=1e-6)


def test_a_second_run_for_other_groups_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    model, x = Grouped().double().eval(), data(20, 3, 6, 6)
    deps = fxprune.analyze(model, x)
    once = scored(deps, criterion([x]))
    monkeypatch.setattr(reconstruction, "MOST", 1)
    np.testing.assert_array_equal(scored(deps, criterion([x])), once)


@pytest.mark.parametrize("reduction", ["mean", "max", "first"])
def test_the_reduction_does_not_matter(reduction: Any) -> None:
    deps = fxprune.analyze(network(), X)
    expected = scored(deps, criterion(batches()))
    np.testing.assert_array_equal(scored(deps, criterion(batches()), reduction), expected)


def test_queries_and_keys_count_their_shares() -> None:
    torch.manual_seed(0)
    model = nn.MultiheadAttention(8, 2, batch_first=True).double().eval()
    x = data(3, 5, 8)
    deps = fxprune.analyze(model, (x, x, x))
    found = scored(deps, criterion([(x, x, x)], inputs=lambda batch: batch))
    scored_ones = [group for group in deps.groups if group.prunable]
    assert {group.kind for group in scored_ones} >= {"heads", "head_dims"}
    for group in scored_ones:
        assert np.isfinite(found[group.ids]).all()
        assert (found[group.ids] > 0).any()


def test_the_model_stays_as_it_is() -> None:
    model = network().train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    scored(fxprune.analyze(model, X), criterion(batches()))
    assert model.training
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(tensor, before[name], rtol=0, atol=0)


def test_a_plan_by_it_is_repaired_better_than_one_by_magnitude() -> None:
    """Channels are mixtures of few: some of each are enough, whatever their weights."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(6, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 4)
    )
    model, x = model.double().eval(), data(500, 6)
    errors = {}
    model.requires_grad_(requires_grad=False)
    for name, chosen in (("l2", "l2"), ("ours", criterion([x]))):
        plan = fxprune.plan(model, x, 0.75, criterion=chosen)
        small = fxprune.shrink(model, plan, calibrate=[x])
        errors[name] = float((small(x) - model(x)).square().mean())
    assert errors["ours"] < errors["l2"]


@pytest.mark.parametrize("ridge", [0, -1.0, float("nan"), float("inf"), True, "1"])
def test_a_ridge_that_is_no_positive_number_is_refused(ridge: Any) -> None:
    with pytest.raises(InputError, match="it must be a positive number"):
        importance.ReconstructionError([X], ridge)


def test_wrong_data_is_refused() -> None:
    deps = fxprune.analyze(network(), X)
    with pytest.raises(InputError, match="there are no batches to compute reconstruction errors"):
        scored(deps, criterion([]))
    with pytest.raises(InputError, match="NaN or infinite values"):
        scored(deps, criterion([torch.full_like(X, torch.nan)]))
    with pytest.raises(InputError):
        scored(deps, criterion([torch.zeros(1, 7)]))


@pytest.mark.parametrize("ridge", [1e-6, 1e-15, 5e-324])
def test_more_channels_than_what_they_are_made_of_are_scored_with_any_ridge(ridge: float) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 64), nn.Linear(64, 3)).double().eval()
    x = data(32, 4)
    deps = fxprune.analyze(model, x)
    scores = scored(deps, criterion([x], ridge))[deps.group("0").ids]
    assert np.isfinite(scores).all()
    assert (scores < 1e-3).sum() >= 60  # four are enough
