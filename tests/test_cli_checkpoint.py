"""`fxprune shrink-checkpoint`: what it writes, shows and refuses."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

import fxprune
from fxprune import cli_checkpoint
from fxprune.streaming.markers import MARKER
from tests.streaming.nets import (
    build,
    digests,
    plan_of,
    read_back,
    same,
    stored,
    write_sharded,
)
from tests.test_cli import document, fail, run

pytest.importorskip("safetensors", reason="needs the extra safetensors")

MODEL = "tests.streaming.nets:build"


@pytest.fixture(autouse=True)
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkpoint in the folder in which commands run."""
    monkeypatch.chdir(tmp_path)
    return write_sharded(stored(build()), tmp_path / "in")


def test_a_plan_and_options_of_one_make_the_same_checkpoint(source: Path, tmp_path: Path) -> None:
    plan_of().save(tmp_path / "plan.json")
    before = digests(source)
    output = run("shrink-checkpoint", MODEL, "in", "out", "--ratio", 0.5).output
    assert "wrote out" in output
    assert "model-00001-of-00003.safetensors" in output
    assert "not checked: what the model computes" in output
    run("shrink-checkpoint", MODEL, "in", "two", "--plan", "plan.json", "--workers", 2)
    assert digests(source) == before
    small = fxprune.shrink(build(), plan_of(), emit="module")
    for folder in ("out", "two"):
        assert same(read_back(tmp_path / folder), stored(small))


def test_json_tells_what_was_written(tmp_path: Path) -> None:
    found = document("shrink-checkpoint", MODEL, "in", "out", "--ratio", 0.5, "--quick")
    assert [shard["name"] for shard in found["shards"]] == sorted(
        path.name for path in (tmp_path / "out").glob("*.safetensors")
    )
    assert found["after"]["bytes"] < found["before"]["bytes"]
    assert found["verification"]["nodes"]
    assert found["groups"]["embed"] == {"kind": "channels", "before": 16, "after": 8}


def test_a_configuration_of_transformers_is_enough(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers", reason="needs transformers")
    sizes = {"hidden_size": 32, "intermediate_size": 80, "num_hidden_layers": 2}
    config = transformers.LlamaConfig(vocab_size=64, num_attention_heads=4, **sizes)
    model = transformers.LlamaForCausalLM(config)
    model.save_pretrained("llama")
    run("shrink-checkpoint", "hf:llama", "llama", "small", "--ratio", 0.25, "--uniform")
    again = transformers.AutoModelForCausalLM.from_pretrained("small")
    assert again.config.hidden_size == 24
    assert again(input_ids=torch.zeros(1, 4, dtype=torch.int64)).logits.shape == (1, 4, 64)


@pytest.mark.parametrize(
    ("arguments", "text", "code"),
    [
        (["in", "out"], "say what to remove", 2),
        (["in", "out", "--plan", "plan.json", "--ratio", 0.5], "leave out the options", 2),
        (["none", "out", "--ratio", 0.5], "does not exist", 2),
        (["in", "in/out", "--ratio", 0.5], "is in the source", 1),
        (["in", "in", "--ratio", 0.5], "is in the source", 1),
        (["in", ".", "--ratio", 0.5], "is not empty", 1),
        (["in", "out", "--ratio", 0.5, "--state", "plan.json"], "to be built without", 1),
        (["in", "out", "--ratio", 0.5, "--workers", 0], "workers", 2),
    ],
)
def test_what_makes_no_sense_is_refused(
    tmp_path: Path, arguments: list[Any], text: str, code: int
) -> None:
    plan_of().save(tmp_path / "plan.json")
    assert text in fail("shrink-checkpoint", MODEL, *arguments, code=code)
    assert not (tmp_path / "out").exists()


def test_a_file_with_weights_is_no_model_without_data(tmp_path: Path) -> None:
    (tmp_path / "net.pt2").write_bytes(b"")
    text = fail("shrink-checkpoint", "net.pt2", "in", "out", "--ratio", 0.5, "--trust")
    assert "to be built without" in text


def test_what_was_stopped_tells_how_to_go_on_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shrink = fxprune.shrink_checkpoint

    def stopped(*arguments: Any, progress: Any, **options: Any) -> Any:
        def tell(told: Any) -> None:
            progress(told)
            if told.shards == 1:
                os.kill(os.getpid(), signal.SIGINT)

        return shrink(*arguments, progress=tell, **options)

    with monkeypatch.context() as patched:
        patched.setattr(cli_checkpoint.fxprune, "shrink_checkpoint", stopped)
        text = fail("shrink-checkpoint", MODEL, "in", "out", "--ratio", 0.5, code=130)
    assert "of 3 files are finished in out" in text
    assert "do the same again" in text
    assert (tmp_path / "out" / MARKER).exists()
    output = run("shrink-checkpoint", MODEL, "in", "out", "--ratio", 0.5).output
    assert "there from an earlier run" in output
    assert json.loads((tmp_path / "out" / "plan.json").read_text())["made"]["ratio"] == 0.5
