"""Operators whose outcome a sample cannot show, in models that are shrunk and verified."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

import fxprune


class Bags(nn.Module):
    def __init__(self, mode: str) -> None:
        super().__init__()
        self.table = nn.EmbeddingBag(20, 8, mode=mode)
        self.head = nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.table(x))


@pytest.mark.parametrize("mode", ["sum", "mean", "max"])
def test_the_width_of_an_embedding_bag_can_go(mode: str) -> None:
    small = fxprune.shrink(Bags(mode).eval(), {"table": 0.5}, torch.randint(20, (4, 5)))
    assert small.table.weight.shape == (20, 4)


class Attention(nn.Module):
    """Attention as a graph for CPUs has it."""

    def __init__(self, **options: bool) -> None:
        super().__init__()
        self.qkv = nn.Linear(12, 3 * 16)
        self.out = nn.Linear(16, 5)
        self.options = options

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = self.qkv(x).unflatten(-1, (3, 4, 4)).permute(2, 0, 3, 1, 4).unbind(0)
        fused = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu.default
        y = fused(q, k, v, **self.options)[0]
        return self.out(y.transpose(1, 2).flatten(2))


@pytest.mark.parametrize("options", [{}, {"is_causal": True}])
@pytest.mark.parametrize("kind", ["heads", "head_dims"])
def test_attention_in_one_operator_loses_heads_and_keeps_the_scale(
    kind: str, options: dict[str, bool]
) -> None:
    model, x = Attention(**options).eval(), torch.randn(2, 6, 12)
    deps = fxprune.analyze(model, x)
    (group,) = (g for g in deps.groups if g.kind == kind and g.pinned is None)
    small = fxprune.shrink(model, {group.name: 0.5}, x)
    assert small(x).shape == (2, 6, 5)
    assert sum(p.numel() for p in small.parameters()) < sum(p.numel() for p in model.parameters())


class Looked(nn.Module):
    """Channels of a convolution looked up in several ways."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 12, 1)
        self.rows = nn.Linear(5, 6)
        self.head = nn.Linear(5, 2)
        self.way = way
        self.register_buffer("table", torch.tensor([[7, 2, 4], [1, 0, 11]]))
        self.register_buffer("places", torch.tensor([5, 3, 3, 0]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv(x)
        if self.way == "a table":
            return self.head(y[:, self.table].mean(2).sum(1))
        y = self.rows(y)
        if self.way == "two lists":
            return y[:, [7, 2, 9, 7], :, self.places].sum(0)
        if self.way == "a column and a row":
            return y[:, self.table[0].unsqueeze(1), :, self.places].mean((0, 1))
        return y[..., [7, 2, 9, 7], 1:3, self.places].mean(1)


@pytest.mark.filterwarnings("ignore::FutureWarning")  # torch 2.13 warns of itself
@pytest.mark.parametrize("traced", [False, True])
@pytest.mark.parametrize("way", ["a table", "two lists", "a column and a row", "with a slice"])
def test_known_positions_on_several_axes_get_new_numbers(way: str, traced: bool) -> None:
    model, x = Looked(way).eval(), torch.randn(2, 3, 4, 5)
    graph = model
    if traced:
        program = torch.export.export(model, (x,), strict=False).run_decompositions()
        graph = program.module(check_guards=False)
    deps = fxprune.analyze(graph, x)
    free = {group.name: 0.5 for group in deps.groups if group.pinned is None}
    small = fxprune.shrink(graph, free, x)
    shrunk = {name: tuple(p.shape) for name, p in small.named_parameters()}
    assert shrunk["conv.weight"][0] < 12


class Windows(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 1)
        self.last = nn.Conv2d(8, 4, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        rows = functional.unfold(self.first(x), 2, stride=2)
        return self.last(functional.fold(rows * 2, (6, 6), 2, stride=2))


def test_channels_go_through_windows_and_back() -> None:
    small = fxprune.shrink(Windows().eval(), {"first": 0.5}, torch.randn(2, 3, 6, 6))
    assert small.first.out_channels == 4


class Slots(nn.Module):
    """Tokens added to the slots that they are routed to, as a mixture of experts does."""

    def __init__(self) -> None:
        super().__init__()
        self.up = nn.Linear(6, 8)
        self.down = nn.Linear(8, 3)

    def forward(self, x: torch.Tensor, where: torch.Tensor) -> torch.Tensor:
        y = self.up(x)
        slots = y.new_zeros(5, y.shape[1]).index_add_(0, where, y)
        index = where.unsqueeze(1).expand(-1, y.shape[1])
        slots = slots.scatter_add(0, index, y.relu())
        return self.down(slots.gather(0, index) + slots[where])


def test_the_width_of_routed_tokens_can_go() -> None:
    inputs = (torch.randn(4, 6), torch.tensor([3, 1, 3, 0]))
    small = fxprune.shrink(Slots().eval(), {"up": 0.5}, inputs)
    assert small.up.out_features == 4


class Filtered(nn.Module):
    """A global filter: products with complex weights between two Fourier transforms."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 1)
        self.weight = nn.Parameter(torch.randn(8, 6, 4, 2))
        self.last = nn.Conv2d(8, 4, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.fft.rfft2(self.first(x), norm="ortho") * torch.view_as_complex(self.weight)
        return self.last(torch.fft.irfft2(y, s=(6, 6), norm="ortho"))


def test_channels_go_through_fourier_transforms() -> None:
    small = fxprune.shrink(Filtered().eval(), {"first": 0.5}, torch.randn(2, 3, 6, 6))
    assert small.weight.shape == (4, 6, 4, 2)
