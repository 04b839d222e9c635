"""Attribute fixers: numbers that follow widths."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import fxprune
from fxprune.fixers import Widths, registry
from models_zoo import randomize

X = torch.randn(3, 12, generator=torch.Generator().manual_seed(0))


class Halves(nn.Module):
    """Cuts its features in two pieces whose width no name tells."""

    def __init__(self) -> None:
        super().__init__()
        self.cut = 8
        self.first, self.second = nn.Linear(12, 16), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 12) -> (N, 2)."""
        x = self.first(x)
        return self.second(x[:, : self.cut] * x[:, self.cut :].sigmoid())


@pytest.fixture(autouse=True)
def _own_registry(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(registry, "_FIXERS", dict(registry._FIXERS))
    return


def shrink() -> Any:
    model = randomize(Halves()).eval()
    return fxprune.shrink(model, fxprune.plan(model, X, ratio=0.5), X, emit="module")


def test_without_a_fixer_the_module_is_refused() -> None:
    with pytest.raises((fxprune.RewriteError, fxprune.VerificationError)):
        shrink()


def test_a_fixer_sets_what_it_returns() -> None:
    @fxprune.fixer(Halves)
    def halves(module: Halves, widths: Widths) -> dict[str, Any]:
        assert widths.input == (3, 12)
        assert widths.output == (3, 2)
        return {"cut": module.first.weight.shape[0] // 2}

    assert shrink().cut == 4


def test_subclasses_use_it_too() -> None:
    @fxprune.fixer(Halves)
    def halves(module: Halves, widths: Widths) -> dict[str, Any]:
        return {"cut": module.first.weight.shape[0] // 2}

    class Other(Halves):
        pass

    model = randomize(Other()).eval()
    small: Any = fxprune.shrink(model, fxprune.plan(model, X, ratio=0.5), X, emit="module")
    assert small.cut == 4


def test_a_second_fixer_is_refused() -> None:
    with pytest.raises(fxprune.FxPruneError, match="Linear already has a fixer"):
        fxprune.fixer(nn.Linear)


def test_a_fixer_that_fails_is_named() -> None:
    @fxprune.fixer(Halves)
    def halves(module: Halves, widths: Widths) -> dict[str, Any]:
        raise KeyError("width")

    with pytest.raises(fxprune.RewriteError, match="fixer of Halves fails"):
        shrink()
