"""At which sizes a model is run to find out what is dynamic."""

import torch
from torch import nn

import fxprune
from fxprune.sampling import Samples


class Pairs(nn.Module):
    """Takes queries and keys of any lengths."""

    def forward(self, q: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
        return q @ k.transpose(1, 2)


class Square(nn.Module):
    """Takes square inputs only."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + x.transpose(1, 2)


def test_all_dims_that_vary_are_varied_at_once_by_factors_of_their_own() -> None:
    deps = fxprune.analyze(Pairs(), (torch.randn(2, 5, 8), torch.randn(2, 7, 8)))
    found = Samples(deps)
    base, *joint = (s["matmul"].shape for s in (found.base, *found.joint))
    factors = [tuple(n // m for n, m in zip(shape, base, strict=True)) for shape in joint]
    assert len(factors) == 2
    assert all(len(set(chosen)) == 3 for chosen in factors)
    orders = [sorted(range(3), key=chosen.__getitem__) for chosen in factors]
    assert orders[0] == orders[1][::-1]


def test_dims_that_only_vary_together_share_a_factor() -> None:
    found = Samples(fxprune.analyze(Square(), torch.randn(2, 5, 5)))
    shapes = [sample["add"].shape for sample in found.joint]
    assert len(shapes) == 2
    assert all(shape[1] == shape[2] != 5 for shape in shapes)


def test_without_dims_that_vary_there_is_nothing_to_vary() -> None:
    class Fixed(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.reshape(2, 5) + x.reshape(2, 5)

    found = Samples(fxprune.analyze(Fixed(), torch.randn(2, 5)))
    assert (found.apart, found.joint) == ((), ())
