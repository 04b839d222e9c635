"""What batches may be, and what is said of those that a model does not take."""

from __future__ import annotations

from collections import UserDict
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import fxprune
from fxprune import InputError
from fxprune.importance import ReconstructionError
from models_zoo import randomize


class Two(nn.Module):
    """A model of two inputs, and of labels that it may be without."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(6, 8), nn.Linear(8, 4)

    def forward(self, x: Tensor, y: Tensor, labels: Any = None) -> Tensor:
        """The loss, if there are labels."""
        out: Tensor = self.second((self.first(x) * y).relu())
        return out if labels is None else nn.functional.cross_entropy(out, labels)


X, Y, LABELS = torch.randn(20, 6), torch.randn(20, 1), torch.zeros(20, dtype=torch.long)


def two() -> Two:
    model: Two = randomize(Two()).eval()
    return model


@pytest.mark.parametrize("kind", [dict, UserDict])
def test_mappings_have_arguments_by_name(kind: Any) -> None:
    """Also those of tokenizers, which are no dicts."""
    model, batch = two(), kind(x=X, y=Y)
    plan = fxprune.plan(model, batch, ratio=0.5)
    expected = fxprune.reconstruct(model, plan, [(X, Y)], inputs=tuple, progress=False)
    small = fxprune.shrink(model, plan, calibrate=[batch])
    assert small.meta["fxprune"].repairs == expected.repairs
    assert fxprune.verify(model, small, plan, batch).repaired == ("second.weight", "second.bias")
    criterion = ReconstructionError([batch])
    assert fxprune.plan(model, batch, ratio=0.5, criterion=criterion).groups


@pytest.mark.parametrize(
    ("batch", "told"),
    [
        ((X, Y), "no example input for argument 'y'"),
        ({"x": X, "y": Y, "label": LABELS}, "unknown arguments"),
        ({"x": X, "y": Y, "labels": LABELS}, "the model fails at node"),
        (3, "example_inputs is a int"),
    ],
)
def test_batches_that_the_model_does_not_take_are_told_with_what_to_do(
    batch: Any, told: str
) -> None:
    model = two()
    plan = fxprune.plan(model, (X, Y), ratio=0.5)
    for call in (
        lambda: fxprune.shrink(model, plan, calibrate=[batch]),
        lambda: fxprune.reconstruct(model, plan, [batch], mode="parallel", progress=False),
    ):
        with pytest.raises(InputError, match=told) as caught:
            call()
        assert "fxprune.reconstruct(..., inputs=lambda batch: ...)" in caught.value.hint


def test_a_criterion_names_its_own_argument() -> None:
    criterion = ReconstructionError([(X, Y)])
    with pytest.raises(InputError, match="no example input for argument 'y'") as caught:
        fxprune.plan(two(), (X, Y), ratio=0.5, criterion=criterion)
    assert "ReconstructionError(batches, inputs=" in caught.value.hint
