"""A program: a random network as the text of its class, which can be pasted into a test."""

from __future__ import annotations

import linecache
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional

from models_zoo import randomize

Layout: TypeAlias = Literal["image", "signal", "sequence", "vector", "tokens"]
VOCABULARY = 7


@dataclass(frozen=True)
class Value:
    """A tensor of a program.

    Attributes:
        name: how the program calls it.
        layout: image (N, C, H, W), signal (N, C, L), sequence (N, L, C), vector (N, C), or tokens
            (N, L), which are integers.
        channels: C.
        extent: the sizes besides N and C.
    """

    name: str
    layout: Layout
    channels: int
    extent: tuple[int, ...] = ()

    @property
    def dim(self) -> int:
        """The dim of the channels."""
        return 1 if self.layout in ("image", "signal", "vector") else -1

    def shape(self, batch: int, more: int = 0) -> tuple[int, ...]:
        """The sizes for a batch, with `more` places along each extent."""
        extent = tuple(size + more for size in self.extent)
        if self.layout == "tokens":
            return (batch, *extent)
        if self.layout == "sequence":
            return (batch, *extent, self.channels)
        return (batch, self.channels, *extent)


@dataclass(frozen=True)
class Program:
    """A network.

    Attributes:
        inputs: the arguments of forward.
        members: lines of `__init__`.
        lines: lines of `forward`.
        results: the names that are returned.
        steps: the kinds of the steps that it was made of.
    """

    inputs: tuple[Value, ...]
    members: tuple[str, ...]
    lines: tuple[str, ...]
    results: tuple[str, ...]
    steps: tuple[str, ...] = field(default=(), compare=False)

    def __str__(self) -> str:
        arguments = ", ".join(value.name for value in self.inputs)
        lines = [
            "class Model(nn.Module):",
            "    def __init__(self):",
            "        super().__init__()",
            *(f"        {line}" for line in self.members),
            "",
            f"    def forward(self, {arguments}):",
            *(f"        {line}" for line in self.lines),
            f"        return {', '.join(self.results)}",
        ]
        return "\n".join(lines) + "\n"

    def build(self) -> nn.Module:
        """The network, with random weights, in float64 and eval mode."""
        return built(str(self))

    def draw_inputs(self, batch: int = 2, more: int = 0, seed: int = 0) -> tuple[Tensor, ...]:
        """Random arguments of forward."""
        generator = torch.Generator().manual_seed(seed)
        return tuple(
            torch.randint(VOCABULARY, value.shape(batch, more), generator=generator)
            if value.layout == "tokens"
            else torch.randn(value.shape(batch, more), generator=generator).double()
            for value in self.inputs
        )


def built(text: str) -> nn.Module:
    """The network of a class called Model, with random weights, in float64 and eval mode."""
    scope: dict[str, Any] = {
        "torch": torch,
        "nn": nn,
        "F": functional,
        "__name__": "fuzz.generated",
    }
    name = f"<fuzz {hash(text) & 0xFFFFFFFF:08x}>"
    linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)
    exec(compile(text, name, "exec"), scope)
    model = scope["Model"]()
    assert isinstance(model, nn.Module)
    return randomize(model).double().eval()
