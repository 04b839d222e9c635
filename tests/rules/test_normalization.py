"""What a group norm means on kept channels: the original's groups, smaller."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from fxprune.labels import LabelAlgebra
from fxprune.rules import Call, lookup

aten = torch.ops.aten
WEIGHT, BIAS = torch.rand(6) + 0.5, torch.randn(6)


def on_kept(x: Tensor, groups: int, **index: list[int]) -> tuple[Tensor, ...]:
    """Outcome and statistics of a group norm of six channels on some of them."""
    arguments = (x, WEIGHT, BIAS, len(x), 6, x[0, 0].numel(), groups, 1e-5)
    op = aten.native_group_norm.default
    rule = lookup(op)
    assert rule is not None
    dims = {"channels": 1, "places": 2}
    kept = {dims[name]: torch.tensor(positions) for name, positions in index.items()}
    outputs = rule.on_kept(Call(LabelAlgebra(), op, arguments, {}), {"input": kept})
    assert isinstance(outputs, tuple)
    return outputs


def normalized(part: Tensor) -> Tensor:
    """Numbers of a sample with zero mean and unit variance."""
    rows = part.flatten(1)
    mean, variance = rows.mean(1), rows.var(1, unbiased=False)
    shape = (-1, *[1] * (part.dim() - 1))
    return (part - mean.view(shape)) / torch.sqrt(variance.view(shape) + 1e-5)


@pytest.mark.parametrize("channels", [[0, 2, 3, 5], [0, 1, 2, 4], [1, 3, 4, 5], [0, 1, 2, 3, 4, 5]])
def test_each_group_of_the_original_is_normalized_by_itself(channels: list[int]) -> None:
    x = torch.randn(2, 6, 4)
    out, mean, scale = on_kept(x, 2, channels=channels)
    expected = torch.zeros(2, 6, 4)
    for group in (range(3), range(3, 6)):
        own = [c for c in channels if c in group]
        scaled = normalized(x[:, own]) * WEIGHT[own, None] + BIAS[own, None]
        expected[:, own] = scaled
        assert torch.allclose(mean[:, group.start // 3], x[:, own].mean((1, 2)), atol=1e-6)
    assert torch.allclose(out, expected, atol=1e-5)
    assert mean.shape == scale.shape == (2, 2)


def test_a_group_may_go_as_a_whole() -> None:
    x = torch.randn(2, 6, 4)
    out, mean, _ = on_kept(x, 2, channels=[3, 5])
    assert not out[:, :3].any()
    assert mean.shape == (2, 1)


def test_places_of_the_map_may_go_instead_of_channels() -> None:
    x = torch.randn(2, 6, 4)
    out, _, _ = on_kept(x, 3, places=[0, 3])
    part = x[:, :2, [0, 3]]
    expected = normalized(part) * WEIGHT[:2, None] + BIAS[:2, None]
    assert torch.allclose(out[:, :2, [0, 3]], expected, atol=1e-5)
    assert not out[:, :, 1:3].any()
