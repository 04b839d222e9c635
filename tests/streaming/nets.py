"""Models whose checkpoints are shrunk, and checkpoints of them in shards."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

import fxprune
from fxprune.shards import INDEX, SINGLE
from fxprune.tensor_files import library

TOKENS = torch.arange(10).reshape(2, 5) % 12


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.up = nn.Linear(width, 2 * width)
        self.down = nn.Linear(2 * width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.down(self.up(x).relu())


class Net(nn.Module):
    """Tied weights, integers that look up positions, residual blocks, and a tensor of no dims."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.embed = nn.Embedding(12, width)
        self.blocks = nn.ModuleList([Block(width) for _ in range(3)])
        self.places = nn.Embedding(8, width)
        self.register_buffer("order", torch.arange(5).flip(0))
        self.head = nn.Linear(width, 12, bias=False)
        self.head.weight = self.embed.weight
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.embed(tokens) + self.places(self.order)
        for block in self.blocks:
            x = block(x)
        return self.head(x) * self.scale


def build() -> Net:
    """The model with its weights; for the command line, too."""
    torch.manual_seed(0)
    return Net().eval()


def example_inputs() -> torch.Tensor:
    return TOKENS


def empty() -> Net:
    """The model without data."""
    with torch.device("meta"):
        return Net().eval()


def stored(model: nn.Module) -> dict[str, torch.Tensor]:
    """Its state dict with each tied tensor once, as libraries write it."""
    found, seen = {}, set[int]()
    for name, tensor in model.state_dict(keep_vars=True).items():
        if id(tensor) not in seen:
            seen.add(id(tensor))
            found[name] = tensor.detach().clone()
    return found


def write_single(state: Mapping[str, torch.Tensor], folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    library().save_file(dict(state), folder / SINGLE, metadata={"format": "pt"})
    return folder


def write_sharded(state: Mapping[str, torch.Tensor], folder: Path, count: int = 3) -> Path:
    """A checkpoint in shards: tensors go to one after another in turn."""
    files = [f"model-{k + 1:05}-of-{count:05}.safetensors" for k in range(count)]
    return write_files(state, folder, {name: files[k % count] for k, name in enumerate(state)})


def write_files(state: Mapping[str, torch.Tensor], folder: Path, where: Mapping[str, str]) -> Path:
    """A checkpoint in shards."""
    folder.mkdir(exist_ok=True)
    for file in set(where.values()):
        tensors = {name: state[name] for name in where if where[name] == file}
        library().save_file(tensors, folder / file, metadata={"format": "pt"})
    write_index(folder, where)
    return folder


def write_index(folder: Path, where: Mapping[str, str], **others: Any) -> None:
    document = {"metadata": {"total_size": 1, "kept": "text"}, "weight_map": dict(where), **others}
    (folder / f"{SINGLE}{INDEX}").write_text(json.dumps(document))


def weight_map(folder: Path) -> dict[str, str]:
    found: dict[str, str] = json.loads((folder / f"{SINGLE}{INDEX}").read_text())["weight_map"]
    return found


def read_back(folder: Path) -> dict[str, torch.Tensor]:
    """All tensors of a checkpoint, read by the library."""
    found: dict[str, torch.Tensor] = {}
    for path in sorted(folder.glob("*.safetensors")):
        found |= library().load_file(path)
    return found


def digests(folder: Path) -> dict[str, str]:
    """What tells whether anything in a folder was changed."""
    return {
        path.name: f"{path.stat().st_mtime_ns} {hashlib.sha256(path.read_bytes()).hexdigest()}"
        for path in sorted(folder.iterdir())
    }


def same(one: Mapping[str, torch.Tensor], other: Mapping[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(
        torch.equal(one[name], other[name]) and one[name].dtype == other[name].dtype for name in one
    )


def plan_of(model: nn.Module | None = None, **options: Any) -> fxprune.Plan:
    return fxprune.plan(build() if model is None else model, TOKENS, **{"ratio": 0.5, **options})
