"""Repeated blocks are lowered once, each with its own channels."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import fx, nn

import fxprune
from fxprune.labels import Axis
from fxprune.lowered_repeats import Channels, UnknownChannelError
from fxprune.lowering import Lowered, Lowering
from fxprune.signatures import signature
from fxprune.traces import TracedTensor


class Encoder(nn.Module):
    """Blocks that are lowered, on a residual stream, and a head that reads it."""

    def __init__(self, blocks: int = 4, *, pinned: bool = False) -> None:
        super().__init__()
        self.embed = nn.Identity() if pinned else nn.Linear(8, 8)
        self.blocks = nn.ModuleList(
            nn.MultiheadAttention(8, 4, batch_first=True) for _ in range(blocks)
        )
        self.head = nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.embed(x)
        for block in self.blocks:
            x = x + block(x, x, x, need_weights=False)[0]
        return self.head(x)


X = torch.randn(2, 5, 8)


def lowered_nodes(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of nodes that are lowered from now on, without those that are repeated."""
    names: list[str] = []
    lower = Lowering._lower

    def noted(self: Lowering, node: fx.Node) -> Lowered:
        names.append(node.name)
        return lower(self, node)

    monkeypatch.setattr(Lowering, "_lower", noted)
    return names


def test_blocks_that_compute_the_same_are_lowered_once(monkeypatch: pytest.MonkeyPatch) -> None:
    names = lowered_nodes(monkeypatch)
    fxprune.shrink(Encoder().eval(), {"blocks": 0.5}, X)
    assert names == ["blocks_0"]


def test_each_block_loses_its_own_channels(monkeypatch: pytest.MonkeyPatch) -> None:
    model = Encoder().eval()
    plan = fxprune.plan(model, X, ratio=0.5)
    removed = {tuple(g.removed) for n, g in plan.groups.items() if n.startswith("blocks.")}
    assert len(removed) > 1
    once = fxprune.shrink(model, plan)
    monkeypatch.setattr(Lowering, "_repeated", lambda self, node: None)
    each = fxprune.shrink(model, plan)
    assert once.code == each.code
    assert torch.equal(once(X), each(X))
    longer = torch.randn(3, 7, 8)
    assert torch.equal(once(longer), each(longer))


def test_blocks_of_another_size_are_lowered_for_themselves(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    names = lowered_nodes(monkeypatch)
    model = Encoder().eval()
    model.blocks[2] = nn.MultiheadAttention(8, 2, batch_first=True)
    fxprune.shrink(model, {"blocks": 0.5}, X)
    assert names == ["blocks_0", "blocks_2"]


def test_blocks_of_which_other_channels_must_stay_are_lowered_for_themselves(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Read(Encoder):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.embed(x)
            for block in self.blocks[:2]:
                x = x + block(x, x, x, need_weights=False)[0]
            y = x + self.blocks[2](x, x, x, need_weights=False)[0]
            y = torch.cat([y[..., :4], y[..., 4:]], -1)  # another stream from here on
            return self.head(self.blocks[3](y, y, x, need_weights=False)[0])

    names = lowered_nodes(monkeypatch)
    fxprune.shrink(Read().eval(), {"blocks": 0.5}, X)
    assert "blocks_1" not in names
    assert "blocks_3" in names


class Strided(nn.Module):
    """Goes another way where its weight does not lie row by row."""

    def __init__(self, *, flipped: bool) -> None:
        super().__init__()
        weight = torch.randn(8, 8)
        self.weight = nn.Parameter(weight.t() if flipped else weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x.reshape(-1, 8) @ self.weight
        return x if self.weight.is_contiguous() else x.neg()


def test_modules_with_weights_in_another_order_are_told_apart() -> None:
    one, same, other = (signature(Strided(flipped=flipped)) for flipped in (False, False, True))
    assert one == same != other


def test_numbers_of_another_sign_are_told_apart() -> None:
    plus, minus = nn.LeakyReLU(0.0), nn.LeakyReLU(-0.0)
    assert signature(plus) != signature(minus)


# -- patterns -------------------------------------------------------------------------------


def traced(deps: fxprune.DependencyGraph, name: str) -> TracedTensor:
    return TracedTensor(deps.shapes[name], deps.trace.axes[name])


def channels(deps: fxprune.DependencyGraph, *names: str) -> Channels:
    return Channels.of([traced(deps, name) for name in names], deps.trace.labels)


def test_the_pattern_tells_what_is_the_same_channel() -> None:
    deps = fxprune.analyze(nn.Sequential(*(nn.Linear(4, 4) for _ in range(4))), torch.randn(1, 4))
    chain = channels(deps, "1.weight", "2.weight")
    same = channels(deps, "1.weight", "2.weight")
    apart = channels(deps, "2.weight", "1.weight")
    assert chain.pattern == same.pattern != apart.pattern
    assert channels(deps, "1.bias").pattern == channels(deps, "0.bias").pattern


def test_the_pattern_tells_what_must_stay() -> None:
    deps = fxprune.analyze(nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4)), torch.randn(1, 4))
    assert channels(deps, "0.bias").pattern != channels(deps, "1.bias").pattern


def test_axes_are_told_in_the_channels_of_another() -> None:
    deps = fxprune.analyze(nn.Sequential(*(nn.Linear(4, 4) for _ in range(3))), torch.randn(1, 4))
    one, two = channels(deps, "0.bias"), channels(deps, "1.bias")
    translated = one.in_terms_of(two)
    assert translated(Axis(4, (one.ids[1:],))).vectors[0].tolist() == two.ids[1:].tolist()
    assert translated(Axis(2, (np.zeros(2, dtype=np.int64),))).vectors[0].tolist() == [0, 0]
    assert translated(Axis(4)).vectors == ()
    with pytest.raises(UnknownChannelError):
        translated(Axis(4, (two.ids[1:],)))
