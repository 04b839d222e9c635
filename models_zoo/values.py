"""Random, non-trivial parameter values, so that a wrong slice shows in the output."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import Tensor, nn

M = TypeVar("M", bound=nn.Module)


def randomize(model: M, seed: int = 0) -> M:
    """Fill `model`'s parameters and norm statistics in place and return `model`.

    Freshly built layers hide errors: zero biases, unit norm weights and zero running means
    look the same whichever channels are kept. Values are drawn on the CPU from `seed` alone:

    - `running_mean` ~ N(0, 0.1), `running_var` ~ U(0.5, 1.5)
    - norm weights, known as 1-d parameters called `weight`, ~ U(0.5, 1.5)
    - biases, layer scales and all else with one value per channel ~ N(0, 0.3)
    - weights ~ N(0, sqrt(2 / fan_in)) (He et al. 2015), so that activations keep their scale

    Integer buffers (counters, indices) and other floating-point buffers keep their values.
    """
    generator = torch.Generator().manual_seed(seed)

    def uniform(target: Tensor) -> None:
        target.copy_(torch.rand(target.shape, generator=generator) + 0.5)

    def normal(target: Tensor, std: float) -> None:
        target.copy_(torch.randn(target.shape, generator=generator) * std)

    with torch.no_grad():
        for module in model.modules():
            for name, parameter in module.named_parameters(recurse=False):
                if name == "weight" and parameter.ndim == 1:
                    uniform(parameter)
                elif parameter.numel() == max(parameter.shape, default=1):
                    normal(parameter, 0.3)
                else:
                    normal(parameter, (2.0 / _fan_in(module, parameter)) ** 0.5)
            for name, buffer in module.named_buffers(recurse=False):
                if name == "running_mean":
                    normal(buffer, 0.1)
                elif name == "running_var":
                    uniform(buffer)
    return model


def _fan_in(module: nn.Module, weight: Tensor) -> float:
    """Return how many products are summed to make one output of `module`."""
    if isinstance(module, nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d):
        # An output sees one in `stride` kernel taps per axis, of one group's input channels.
        stride = torch.Size(module.stride).numel()
        return weight[:, 0].numel() / (module.groups * stride)
    return weight[0].numel()
