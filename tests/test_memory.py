"""Peaks of memory, each measured in a process of its own."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from functools import cache

import pytest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc"),
]

SLACK = 48 << 20
"""Bytes beside weights: what the trial computes, labels, and what the allocator does not reuse."""

_MEASURED = textwrap.dedent(
    """
    import sys
    import torch
    from torch import nn
    from torchvision import models
    import fxprune
    from tests.peak_memory import most_memory

    def size(model):
        return sum(t.numel() * t.element_size() for t in (*model.parameters(), *model.buffers()))

    def made(name):
        tokens = {"input_ids": torch.zeros(1, 16, dtype=torch.int64)}
        if name == "layers":
            wide = (nn.Linear(2048, 2048) for _ in range(18))
            return nn.Sequential(nn.Linear(8, 2048), *wide, nn.Linear(2048, 8)), torch.randn(1, 8)
        if name in ("bert", "gpt2"):
            import transformers
            if name == "bert":
                return transformers.BertModel(transformers.BertConfig()), tokens
            config = transformers.GPT2Config(use_cache=False)
            return transformers.GPT2LMHeadModel(config), tokens
        return models.get_model(name, weights=None), torch.randn(1, 3, 224, 224)

    torch.set_num_threads(1)
    name, way = sys.argv[1:]
    x = torch.randn(1, 8)
    for emit in ("graph", "module"):  # imports, and what is made once
        tiny = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8)).eval()
        fxprune.shrink(tiny, {"0": 0.5}, x, emit=emit)
    model, inputs = made(name)
    deps = fxprune.analyze(model.eval(), inputs)
    plan = fxprune.plan(deps, ratio=0.5)
    dense, largest = size(model), max(p.numel() * p.element_size() for p in model.parameters())
    if way == "proof":
        small = fxprune.shrink(deps, plan, verify=False)
        _, peak = most_memory(lambda: fxprune.verify(deps, small, plan))
    else:
        options = {"verify": False, "emit": "module", "donate": way == "donated"}
        small, peak = most_memory(lambda: fxprune.shrink(deps, plan, **options))
    print(dense, size(small), largest, peak)
    """
)


@cache
def measured(name: str, way: str) -> tuple[int, int, int, int]:
    """Bytes of the model, of what is kept, of its largest tensor, and the most beyond them."""
    if name in ("bert", "gpt2"):
        pytest.importorskip("transformers")
    command = [sys.executable, "-W", "ignore", "-c", _MEASURED, name, way]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    dense, kept, largest, peak = map(int, done.stdout.split()[-4:])
    return dense, kept, largest, peak


@pytest.mark.parametrize("name", ["vgg16", "resnet50", "vit_b_16", "bert", "gpt2"])
def test_a_module_takes_little_more_memory_than_what_is_kept(name: str) -> None:
    _, kept, _, peak = measured(name, "module")
    assert peak <= 1.15 * kept + SLACK


@pytest.mark.parametrize("name", ["vgg16", "resnet50", "vit_b_16", "bert", "gpt2"])
def test_a_donated_module_takes_the_largest_tensor_at_most_besides(name: str) -> None:
    _, _, largest, peak = measured(name, "donated")
    assert peak <= largest + SLACK


def test_a_proof_holds_the_weights_of_each_model_in_float64_once_at_most() -> None:
    dense, kept, largest, peak = measured("layers", "proof")
    assert peak <= 2 * (dense + kept + 3 * largest) + SLACK
