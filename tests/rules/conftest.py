"""Operators of our own, and a rule table that forgets what a test registers."""

import pytest
import torch

from fxprune.rules import registry

LIBRARY = torch.library.Library("fxprune_tests", "DEF")
LIBRARY.define("scale(Tensor x, Tensor weight) -> Tensor")
LIBRARY.define("shout(Tensor x) -> Tensor", tags=(torch.Tag.pointwise,))
LIBRARY.define("twice(Tensor x) -> Tensor")
LIBRARY.define("fold(Tensor x) -> Tensor")
LIBRARY.define("fold.three(Tensor x, int n) -> Tensor")
LIBRARY.define("fold_(Tensor(a!) x) -> Tensor(a!)")
LIBRARY.impl("scale", lambda x, weight: x * weight.reshape(-1, 1, 1), "CPU")
LIBRARY.impl("scale", lambda x, weight: torch.empty_like(x), "Meta")
LIBRARY.impl("twice", lambda x: x + x, "CompositeImplicitAutograd")


@pytest.fixture(autouse=True)
def own_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_RULES", dict(registry._RULES))
    monkeypatch.setattr(registry, "_INHERITED", {})
