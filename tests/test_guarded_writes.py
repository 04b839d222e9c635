"""Tensors that are lent."""

from __future__ import annotations

import pytest
import torch

from fxprune.guarded_writes import Lent, LentError


def test_what_is_lent_can_be_read() -> None:
    weight = torch.ones(4, 4)
    with Lent([weight]) as lent:
        out = (weight @ weight).mul_(2)
    assert not lent.is_written
    assert out.sum() == 128


@pytest.mark.parametrize("through", ["itself", "a view", "another object"])
def test_what_is_lent_is_not_written_into(through: str) -> None:
    weight = torch.ones(4, 4)
    target = {"itself": weight, "a view": weight.t()[1:], "another object": weight.detach()}
    with Lent([weight]) as lent, pytest.raises(LentError, match="writes into a weight"):
        target[through].mul_(2)
    assert lent.is_written
    assert weight.sum() == 16
