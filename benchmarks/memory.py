"""The most memory that shrinking and its proof take, each in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import torch
import transformers
from torch import nn
from torchvision import models

import fxprune
from benchmarks.peer import most_memory
from benchmarks.tables import table

NETWORKS = ("vgg16", "resnet50", "vit_b_16", "bert", "gpt2")
WAYS: dict[str, dict[str, Any]] = {
    "graph": {"emit": "graph"},
    "graph, donated": {"emit": "graph", "donate": True},
    "module": {"emit": "module"},
    "module, donated": {"emit": "module", "donate": True},
}
PROOF = "proof"
_MIB = 1 << 20


def made(name: str) -> tuple[nn.Module, Any]:
    """A model and inputs for it."""
    tokens = {"input_ids": torch.zeros(1, 16, dtype=torch.int64)}
    if name == "bert":
        return transformers.BertModel(transformers.BertConfig()).eval(), tokens
    if name == "gpt2":
        config = transformers.GPT2Config(use_cache=False)
        return transformers.GPT2LMHeadModel(config).eval(), tokens
    return models.get_model(name, weights=None).eval(), torch.randn(1, 3, 224, 224)


def size(model: nn.Module) -> float:
    """Parameters and buffers in MiB."""
    state = [*model.parameters(), *model.buffers()]
    return sum(t.numel() * t.element_size() for t in state) / _MIB


def _warm_up() -> None:
    """Imports, and what is made once."""
    small, image = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8)).eval(), torch.randn(1, 8)
    for options in WAYS.values():
        fxprune.shrink(small, {"0": 0.5}, image, verify=False, **{**options, "donate": False})
    fxprune.shrink(small, {"0": 0.5}, image)


def main(name: str, way: str) -> None:
    """Print the sizes of a model before and after, of its largest tensor, and what a way takes."""
    _warm_up()
    model, inputs = made(name)
    deps = fxprune.analyze(model, inputs)
    plan = fxprune.plan(deps, ratio=0.5)
    dense = size(model)
    largest = max(p.numel() * p.element_size() for p in model.parameters()) / _MIB
    kept: list[float] = []
    if way == PROOF:
        small = fxprune.shrink(deps, plan, verify=False)
        kept.append(size(small))
        taken = most_memory(lambda: fxprune.verify(deps, small, plan))
    else:

        def work() -> nn.Module:
            small: nn.Module = fxprune.shrink(deps, plan, verify=False, **WAYS[way])
            kept.append(size(small))
            return small

        taken = most_memory(work)
    print(dense, kept[0], largest, taken)


def _measured(name: str, way: str) -> list[float]:
    command = [sys.executable, "-m", "benchmarks.memory", name, way]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=600)
    return [float(number) for number in done.stdout.split()[-4:]]


def _rows() -> Iterator[str]:
    for name in NETWORKS:
        found = {way: _measured(name, way) for way in (*WAYS, PROOF)}
        dense, kept, largest, _ = found["graph"]
        cells = [f"{number:.0f}" for number in (dense, kept, largest)]
        cells += [f"{numbers[-1]:.0f}" for numbers in found.values()]
        yield f"| {name} | {' | '.join(cells)} |"


def memory() -> list[str]:
    """What shrinking and its proof take beside the model."""
    head = f"| model | dense | kept | largest tensor | {' | '.join((*WAYS, PROOF))} |"
    return [
        "The most memory of a process beyond that with the analyzed model, files left out, in",
        "MiB; half of the channels of every group removed, one image or 16 tokens, each way in a",
        "process of its own. `kept` is the shrunk model, `donated` is `donate=True`; both kinds of",
        "results are made without a proof. `proof` is all checks of `fxprune.verify` on the graph,",
        "in float64, in which the dense model takes twice as much as `dense` says.",
        "",
        "What is beyond `kept` does not grow with the weights: Python's objects (3 MiB for",
        "resnet50, 31 for vit_b_16, whose attention is lowered, as tracemalloc tells), and 10 to",
        "15 MiB of chunks of what is sliced and of what the allocator keeps. A second run takes",
        "as much, so it is no import. So kept + 15 % is met where weights are much larger than",
        "that.",
        *table(head, _rows()),
    ]


if __name__ == "__main__":
    main(*sys.argv[1:])
