"""A shrunk transformer generates, trains and takes adapters as the original does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import fxprune
from tests.pretrained.models import build, inputs

# transformers warns of optional libraries that are missing.
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def plan() -> fxprune.Plan:
    return fxprune.plan(build("llama"), inputs("llama"), ratio=0.5, uniform=True)


@pytest.fixture
def small(plan: fxprune.Plan) -> Any:
    return fxprune.shrink(build("llama"), plan, inputs("llama"), emit="module", verify=False)


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model.eval()(**inputs("llama")).logits
    return found


def test_a_shrunk_model_generates_the_same_with_and_without_a_cache(small: Any) -> None:
    options = {"max_new_tokens": 6, "do_sample": False, "min_new_tokens": 6}
    plain = small.generate(**inputs("llama"), **options, use_cache=False)
    cached = small.generate(**inputs("llama"), **options, use_cache=True)
    assert cached.shape == (2, 13)
    assert torch.equal(plain, cached)


def test_the_trainer_trains_a_shrunk_model_and_writes_checkpoints_that_load(
    small: Any, tmp_path: Path
) -> None:
    pytest.importorskip("accelerate")
    transformers: Any = pytest.importorskip("transformers")
    ids = inputs("llama")["input_ids"]
    before = [parameter.detach().clone() for parameter in small.parameters()]
    arguments = transformers.TrainingArguments(
        output_dir=str(tmp_path),
        max_steps=2,
        per_device_train_batch_size=2,
        save_steps=2,
        report_to="none",
        use_cpu=True,
        disable_tqdm=True,
    )
    examples = [{"input_ids": row, "labels": row} for row in ids]
    trainer = transformers.Trainer(model=small, args=arguments, train_dataset=examples)
    assert trainer.train().global_step == 2
    changed = [not torch.equal(a, b) for a, b in zip(before, small.parameters(), strict=True)]
    assert all(changed)
    again = type(small).from_pretrained(tmp_path / "checkpoint-2")
    assert again.config.intermediate_size == 24
    assert torch.equal(logits(again), logits(small))


def test_adapters_train_on_a_shrunk_model_and_are_merged_into_it(
    small: Any, tmp_path: Path
) -> None:
    peft: Any = pytest.importorskip("peft")
    small.save_pretrained(tmp_path / "small")
    frozen = {name: p.detach().clone() for name, p in small.named_parameters()}
    config = peft.LoraConfig(r=2, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
    adapted = peft.get_peft_model(small, config)
    optimizer = torch.optim.SGD((p for p in adapted.parameters() if p.requires_grad), lr=0.1)
    ids = inputs("llama")["input_ids"]
    for _ in range(2):  # one half of an adapter begins as zeros, so the first step moves the other
        optimizer.zero_grad()
        adapted(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
    trained = logits(adapted)
    adapted.save_pretrained(tmp_path / "adapter")
    base = type(small).from_pretrained(tmp_path / "small")
    for name, parameter in base.named_parameters():
        assert torch.equal(parameter, frozen[name])
    assert not torch.allclose(logits(base), trained)
    again = peft.PeftModel.from_pretrained(base, tmp_path / "adapter")
    assert torch.equal(logits(again), trained)
    merged = again.merge_and_unload()
    assert type(merged) is type(small)
    torch.testing.assert_close(logits(merged), trained, rtol=1e-4, atol=1e-5)
