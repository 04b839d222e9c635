"""Models that users bring, good ones and others."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch._subclasses import FakeTensorMode
from torch.ao import quantization
from torch.optim.swa_utils import AveragedModel


def rows(batch: int = 4, width: int = 6) -> Tensor:
    """Inputs of the models below, the same every time."""
    return torch.randn(batch, width, generator=torch.Generator().manual_seed(0))


def chain(*widths: int) -> nn.Sequential:
    """Linear layers with activations between."""
    sizes = widths or (6, 8, 8, 3)
    layers: list[nn.Module] = []
    for wide, narrow in pairwise(sizes):
        layers += [nn.Linear(wide, narrow), nn.ReLU()]
    return nn.Sequential(*layers[:-1]).eval()


def images() -> nn.Sequential:
    """A small convolutional network for images of 3 channels."""
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 4, 3), nn.Flatten()
    ).eval()


class Pair(nn.Module):
    """Two layers, `first` of width 8; what follows differs from it in its forward."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(6, 8)
        self.second = nn.Linear(8, 3)
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x).relu())


# -- forwards that no graph can repeat, or that fail ----------------------------------------


class Raises(Pair):
    def forward(self, x: Tensor) -> Tensor:
        raise ValueError("the weights are not loaded")


class Branches(Pair):
    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        if x.sum() > 0:
            x = -x
        return self.second(x)


class Loops(Pair):
    def forward(self, x: Tensor) -> Tensor:
        while x.sum() > 0:
            x = x - 1
        return self.second(self.first(x))


class Gambles(Pair):
    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        return self.second(x if torch.rand(()) > 0.5 else x.relu())


class Trains(Pair):
    """Changes its own weights in forward."""

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            self.first.weight.mul_(0.5)
        return super().forward(x)


class TwoInputs(Pair):
    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return super().forward(x) * mask


class Counts(Pair):
    """Counts its calls in a buffer, and computes with the count."""

    steps: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("steps", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.steps += 1
        return super().forward(x) * self.steps


class Assigns(Counts):
    """As `Counts`, but with another tensor every time."""

    def forward(self, x: Tensor) -> Tensor:
        self.steps = self.steps + 1
        return Pair.forward(self, x) * self.steps


class CountsInPython(Pair):
    """Counts its calls in a number, which no graph can change."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return super().forward(x) * self.calls


class Remembers(Pair):
    """Keeps what it computed."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        self.last = self.first(x)
        self.seen.append(self.last)
        return self.second(self.last)


# -- modules that are not set up ------------------------------------------------------------


class NoForward(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(6, 8)


class NotSetUp(nn.Module):
    def __init__(self) -> None:
        object.__setattr__(self, "width", 3)

    def forward(self, x: Tensor) -> Tensor:
        return x


class OwnMeta(Pair):
    def __init__(self) -> None:
        super().__init__()
        self.meta = nn.Linear(6, 6)


class OneBuffer(nn.Module):
    """Weights that are views of one parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.flat = nn.Parameter(torch.randn(48 + 24))

    def forward(self, x: Tensor) -> Tensor:
        hidden = (x @ self.flat[:48].view(8, 6).T).relu()
        return hidden @ self.flat[48:].view(3, 8).T


# -- wrapped, frozen, quantized -------------------------------------------------------------


def quoted() -> nn.Module:
    model = chain()
    model.add_module('the "last"', nn.Linear(3, 4))
    return model


def keyword() -> nn.Module:
    model = chain()
    model.add_module("class", nn.Linear(3, 4))
    return model


def frozen() -> nn.Module:
    return torch.jit.freeze(torch.jit.script(chain()))


def quantized() -> nn.Module:
    return quantization.quantize_dynamic(chain(), {nn.Linear})


def statically_quantized() -> nn.Module:
    model = nn.Sequential(quantization.QuantStub(), *chain(), quantization.DeQuantStub()).eval()
    model.qconfig = quantization.default_qconfig
    quantization.prepare(model, inplace=True)(rows())
    return quantization.convert(model, inplace=True)


def averaged() -> nn.Module:
    return AveragedModel(chain()).eval()


def fake() -> nn.Module:
    with FakeTensorMode():
        return chain()


def fake_rows() -> Tensor:
    with FakeTensorMode():
        return rows()


# -- weights of other kinds -----------------------------------------------------------------


def with_weight(change: object) -> nn.Module:
    """A chain whose first weight is what `change` makes of it."""
    assert callable(change)
    model = chain()
    weight = change(model[0].weight.detach())
    model[0].weight = nn.Parameter(weight, requires_grad=weight.is_floating_point())
    return model


def poisoned(value: float) -> nn.Module:
    model = chain()
    with torch.no_grad():
        model[0].weight[1, 2] = value
    return model


def poisoned_buffer(value: float) -> nn.Module:
    model = images()
    model.get_buffer("1.running_mean")[0] = value
    return model


def half_on_meta() -> nn.Module:
    model = chain()
    model[2].to("meta")
    return model


def hooked(hook: object) -> nn.Module:
    assert callable(hook)
    model = chain()
    model[0].register_forward_hook(hook)
    return model
