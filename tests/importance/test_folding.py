"""The criterion of channels that are alike keeps one of each kind, at every budget."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import fxprune
from fxprune import importance
from fxprune.errors import InputError
from fxprune.importance import folding
from fxprune.importance.folding import heights
from fxprune.importance.units import Compared, Sides, compared, stored_values
from models_zoo import ZOO, randomize


def chosen(rows: Tensor, masses: Tensor) -> Compared:
    """Channels with these rows."""
    distances = (rows[:, None] - rows).square().sum(2).double().numpy()
    return Compared(distances, rows.square().sum(1).double().numpy(), masses.double().numpy())


def scores(model: nn.Module, x: Tensor, group: str) -> list[float]:
    """Those of a group's channels."""
    deps = fxprune.analyze(model, x)
    criterion = importance.Folding()
    found = importance.channel_scores(criterion.evidence(deps), deps.trace.labels)
    return list(criterion.finished(found)[deps.group(group).ids])


def clustered(scale: float = 1e-3) -> nn.Sequential:
    """Twelve channels in three clusters of four, whose members are nearly the same."""
    model = randomize(nn.Sequential(nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, 3)))
    with torch.no_grad():
        for tensor in (model[0].weight, model[0].bias):
            tensor.copy_(tensor[:3].repeat(4, *[1] * (tensor.dim() - 1)))
        model[0].weight += scale * torch.randn(12, 6)
        model[2].weight.fill_(1.0)
    return model


# -- clusters -------------------------------------------------------------------------------


def test_one_of_each_cluster_is_kept() -> None:
    """The channels with the highest scores are of different clusters."""
    found = scores(clustered(), torch.zeros(1, 6), "0")
    best = np.argsort(found)[-3:]
    assert {int(channel) % 3 for channel in best} == {0, 1, 2}
    assert sorted(found)[-4] < min(found[channel] for channel in best) / 10


def test_a_smaller_budget_keeps_a_part_of_what_a_larger_one_keeps() -> None:
    """One clustering serves all."""
    model, x = clustered(0.3), torch.zeros(1, 6)
    kept = []
    for ratio in (0.25, 0.5, 0.75):
        plan = fxprune.plan(model, x, ratio, criterion="folding")
        kept.append(set(range(12)) - set(plan.groups["0"].removed))
    assert kept[0] > kept[1] > kept[2]


def brute(units: Compared) -> list[tuple[float, frozenset[int]]]:
    """Ward's clusters, each with the root of its height: the cheapest pair first, until none."""
    n = len(units.squares)
    vectors = units.distances  # of points; means are told by distances alone
    clusters = [frozenset([channel]) for channel in range(n)]

    def inner(members: frozenset[int]) -> float:
        own = list(members)
        mass = units.masses[own]
        pairs = mass[:, None] * mass * vectors[np.ix_(own, own)]
        return float(pairs.sum() / (2 * mass.sum()))

    def dropped(members: frozenset[int]) -> float:
        own = list(members)
        return float((units.masses[own] * units.squares[own]).sum()) - inner(members)

    found = []
    while clusters:
        best = min((dropped(one), one, None) for one in clusters)
        for one, two in itertools.combinations(clusters, 2):
            cost = inner(one | two) - inner(one) - inner(two)
            best = min(best, (cost, one, two), key=lambda entry: entry[0])
        cost, first, second = best
        clusters.remove(first)
        if second is not None:
            clusters.remove(second)
            clusters.append(first | second)
        found.append((float(np.sqrt(max(cost, 0))), first | (second or frozenset())))
    return found


@pytest.mark.parametrize("seed", range(8))
def test_heights_are_those_of_merging_the_cheapest_pair_again_and_again(seed: int) -> None:
    """And dropping a cluster is one way to merge it."""
    generator = torch.Generator().manual_seed(seed)
    units = chosen(torch.randn(9, 3, generator=generator), torch.rand(9, generator=generator) + 0.1)
    expected = sorted(height for height, _ in brute(units))
    np.testing.assert_allclose(sorted(heights(units)), expected, rtol=1e-6)


def test_channels_that_carry_nothing_go_first() -> None:
    """They are dropped at no cost, and so are those that nothing reads."""
    rows = torch.tensor([[3.0, 0.0], [0.0, 0.0], [0.0, 2.0], [1.0, 1.0]])
    found = heights(chosen(rows, torch.tensor([1.0, 1.0, 1.0, 0.0])))
    assert set(np.argsort(found)[:2]) == {1, 3}
    assert found[1] == 0
    assert (found[[0, 2]] > 1).all()


def test_the_channel_stays_that_is_nearest_to_the_others() -> None:
    """Of three in a row, the one in the middle."""
    rows = torch.tensor([[9.0, 1.0], [9.0, 0.0], [9.0, -1.1]])
    assert int(np.argmax(heights(chosen(rows, torch.ones(3))))) == 1


def test_many_channels_are_clustered() -> None:
    """All have a finite score."""
    torch.manual_seed(0)
    found = heights(chosen(torch.randn(300, 5), torch.rand(300)))
    assert np.isfinite(found).all()
    assert (found > 0).all()


def test_a_group_that_is_too_wide_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """With its name."""
    monkeypatch.setattr(folding, "WIDEST", 10)
    with pytest.raises(InputError, match="group 0 has 12 channels"):
        fxprune.plan(clustered(), torch.zeros(1, 6), 0.5, criterion="folding")


# -- what is compared -----------------------------------------------------------------------


def test_rows_are_compared_as_the_batch_norm_after_them_scales_them() -> None:
    """What differs by a factor that the batch norm takes back is the same."""
    layers = nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 2, 1)
    model = randomize(nn.Sequential(*layers)).eval()
    with torch.no_grad():
        for tensor in (*layers[0].parameters(), *layers[1].parameters(), *layers[1].buffers()):
            if tensor.dim():
                tensor[3:] = tensor[:3]
        layers[0].weight[3:] *= 5
        layers[0].bias[3:] *= 5  # type: ignore[index]
        layers[1].running_mean[3:] *= 5  # type: ignore[index]
        layers[1].weight[3:] /= 5
    found = scores(model, torch.zeros(1, 3, 5, 5), "0")
    assert sorted(found)[:3] == pytest.approx([0, 0, 0], abs=1e-3)
    assert min(sorted(found)[3:]) > 0.1


def test_rows_and_readers_are_told_apart() -> None:
    """The numbers of one group, by hand: rows with bias, and what reads them."""
    model = randomize(nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4 * 9, 2)))
    deps = fxprune.analyze(model, torch.zeros(1, 3, 5, 5))
    found = compared(deps.group("0"), Sides.of(deps), stored_values(deps))
    state = {name: tensor.detach().double() for name, tensor in model.state_dict().items()}
    rows = torch.cat([state["0.weight"].flatten(1), state["0.bias"][:, None]], 1)
    np.testing.assert_allclose(found.squares, rows.square().sum(1))
    np.testing.assert_allclose(found.distances, torch.cdist(rows, rows).square(), atol=1e-9)
    columns = state["2.weight"].view(2, 4, 9)
    np.testing.assert_allclose(found.masses, columns.square().sum((0, 2)))


@pytest.mark.parametrize("name", ["residual", "classic_cnn", "qkv_fused", "inverted_residual"])
def test_every_prunable_group_of_a_model_has_scores(name: str) -> None:
    """Residual streams, heads and depthwise convolutions too."""
    entry = ZOO[name]
    model = randomize(entry.build()).eval()
    plan = fxprune.plan(model, entry.example_inputs(), 0.5, criterion="folding")
    fxprune.shrink(model, plan)
