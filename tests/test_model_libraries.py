"""Models of libraries by name, their inputs, and what the shell offers for them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner

import fxprune
from fxprune.cli import main
from fxprune.errors import InputError
from fxprune.loading import ModelName, ModelSource, parse_model
from fxprune.model_libraries import LibraryModel, names

# transformers and timm warn of optional libraries that are missing.
pytestmark = pytest.mark.filterwarnings("ignore")

CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "tie_word_embeddings": True,
}
BERT = {**CONFIG, "model_type": "bert", "architectures": None, "num_key_value_heads": 4}
VIT = {
    **BERT,
    "model_type": "vit",
    "architectures": ["ViTForImageClassification"],
    "image_size": 16,
    "patch_size": 4,
}


def source(text: str, **options: Any) -> ModelSource:
    return ModelSource(parse_model(text), **options)


def config_file(folder: Path, **config: Any) -> Path:
    path = folder / "config.json"
    path.write_text(json.dumps(config))
    return path


def test_a_name_before_the_colon_is_a_library_or_a_python_module() -> None:
    assert parse_model("timm:resnet18.a1_in1k") == LibraryModel("timm", "resnet18.a1_in1k")
    assert parse_model("hf:models/config.json") == LibraryModel("hf", "models/config.json")
    assert parse_model("torchvision.models:resnet18") == ModelName("torchvision.models", "resnet18")
    assert str(parse_model("torchvision:resnet18")) == "torchvision:resnet18"


# torchvision and timm


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("shufflenet_v2_x0_5", (1, 3, 224, 224)),
        ("inception_v3", (1, 3, 299, 299)),
        ("vit_b_16", (1, 3, 224, 224)),  # some of its weights are for images of 384 pixels
    ],
)
def test_classifiers_of_torchvision_tell_their_images(name: str, shape: tuple[int, ...]) -> None:
    pytest.importorskip("torchvision")
    (image,) = source(f"torchvision:{name}").required_inputs()
    assert image.shape == shape


def test_models_of_torchvision_are_built_without_weights_of_any_part() -> None:
    pytest.importorskip("torchvision")
    with torch.device("meta"):
        model = source("torchvision:deeplabv3_mobilenet_v3_large").model()
    assert type(model).__name__ == "DeepLabV3"
    assert not model.training


def test_models_whose_inputs_are_not_known_need_them() -> None:
    pytest.importorskip("torchvision")
    with pytest.raises(InputError, match="no example inputs for torchvision:raft_small") as caught:
        source("torchvision:raft_small").required_inputs()
    assert "--input" in caught.value.hint


def test_models_of_timm_tell_their_images_and_have_the_weights_of_the_seed() -> None:
    pytest.importorskip("timm")
    model, again = (source("timm:test_resnet.r160_in1k", seed=3).model() for _ in range(2))
    state = again.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())
    (image,) = source("timm:test_resnet.r160_in1k").required_inputs()
    assert image.shape == (1, 3, 160, 160)
    assert model(image).shape == (1, 1000)


@pytest.mark.parametrize(
    ("text", "library", "message", "hint"),
    [
        ("torchvision:resnet81", "torchvision", "no model 'resnet81'", "resnet18"),
        ("timm:resnet81", "timm", "no model 'resnet81'", "resnet18"),
        ("timm:hf-hub:someone/model", "timm", "no model 'hf-hub:someone/model'", "nearest"),
    ],
)
def test_a_name_that_a_library_does_not_have_is_told_with_the_nearest(
    text: str, library: str, message: str, hint: str
) -> None:
    pytest.importorskip(library)
    for ask in (source(text).model, source(text).example_inputs):
        with pytest.raises(InputError, match=message) as caught:
            ask()
        assert hint in caught.value.hint


@pytest.mark.parametrize(
    ("text", "package"),
    [
        ("timm:resnet18", "timm"),
        ("hf:config.json", "transformers"),
        ("torchvision:vgg11", "torchvision"),
    ],
)
def test_a_library_that_is_missing_is_told_with_the_command_that_installs_it(
    text: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(InputError, match=f"need the package {package}") as caught:
        source(text).model()
    assert caught.value.hint == f"pip install {package}"


# transformers


def test_a_configuration_makes_the_model_that_it_names_and_tokens_for_it(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    config_file(tmp_path, **CONFIG)
    for text in (f"hf:{tmp_path}", f"hf:{tmp_path / 'config.json'}"):
        model: Any = source(text).model()
        assert type(model).__name__ == "LlamaForCausalLM"
        assert model.config.hidden_size == 32
        inputs = source(text).required_inputs()
        assert inputs["input_ids"].shape == (1, 16)
        assert inputs["use_cache"] is False
        plan = fxprune.plan(model, inputs, ratio=0.5)
        assert {group.width for group in plan.groups.values() if group.kind == "heads"} == {1}


def test_without_an_architecture_it_makes_the_model_without_a_head(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    path = config_file(tmp_path, **BERT)
    assert type(source(f"hf:{path}").model()).__name__ == "BertModel"
    assert source(f"hf:{path}").required_inputs().keys() >= {"input_ids"}


def test_a_model_of_images_gets_an_image(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    path = config_file(tmp_path, **VIT)
    inputs = source(f"hf:{path}").required_inputs()
    assert {name: tuple(value.shape) for name, value in inputs.items()} == {
        "pixel_values": (1, 3, 16, 16)
    }
    with torch.no_grad():
        assert source(f"hf:{path}").model()(**inputs).logits.shape == (1, 2)


def test_saved_weights_of_which_some_are_tied_are_its_state(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    pytest.importorskip("safetensors")
    config_file(tmp_path, **CONFIG)
    model: Any = source(f"hf:{tmp_path}", seed=1).model()
    model.save_pretrained(tmp_path)
    again: Any = source(f"hf:{tmp_path}", state=tmp_path / "model.safetensors").model()
    assert torch.equal(again.model.embed_tokens.weight, model.model.embed_tokens.weight)
    assert again.lm_head.weight is again.model.embed_tokens.weight


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "cannot be read: JSONDecodeError"),
        ("[]", "cannot be read: AttributeError"),
        ('{"model_type": "lama"}', r"no models of the type 'lama'[\s\S]*llama"),
        (json.dumps({**CONFIG, "architectures": ["LlamaForCausal"]}), "no model 'LlamaForCausal'"),
        (json.dumps({**CONFIG, "architectures": ["AutoTokenizer"]}), "no model 'AutoTokenizer'"),
        (json.dumps({**CONFIG, "hidden_size": "wide"}), "failed: .*hidden_size"),
    ],
)
def test_a_file_that_is_no_configuration_is_an_error(
    text: str, message: str, tmp_path: Path
) -> None:
    pytest.importorskip("transformers")
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(InputError, match=message):
        source(f"hf:{tmp_path}").model()


def test_a_file_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    with pytest.raises(InputError, match=r"nothing.json cannot be read: FileNotFoundError"):
        source(f"hf:{tmp_path / 'nothing.json'}").model()


def test_commands_take_models_of_libraries(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    path, small = config_file(tmp_path, **CONFIG), tmp_path / "small.pt"
    arguments = ["shrink", f"hf:{path}", "--ratio", "0.5", "--uniform", "--emit", "module"]
    done = CliRunner().invoke(main, [*arguments, "--quick", "-o", str(small)])
    assert done.exit_code == 0, done.output
    assert "a LlamaForCausalLM" in done.output
    model: Any = torch.load(small, weights_only=False)
    assert model.config.hidden_size == 16


# the shell


def test_the_shell_is_offered_models() -> None:
    pytest.importorskip("torchvision")
    environment = {
        **os.environ,
        "_FXPRUNE_COMPLETE": "bash_complete",
        "COMP_WORDS": "fxprune analyze torchvision:resnet1",
        "COMP_CWORD": "2",
    }
    done = subprocess.run(
        [sys.executable, "-c", "from fxprune.cli import main; main(prog_name='fxprune')"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [f"plain,torchvision:resnet{depth}" for depth in (101, 152, 18)]


@pytest.mark.parametrize(
    ("start", "expected"),
    [
        ("t", [("plain", "torchvision:"), ("plain", "timm:")]),
        ("net.o", [("file", "net.o")]),
        ("timm:test_resn", [("plain", "timm:test_resnet")]),
        ("torchvision:no such", []),
        ("torchvision.models:res", [("file", "torchvision.models:res")]),
    ],
)
def test_a_model_goes_on_with_a_library_a_name_of_it_or_a_file(
    start: str, expected: list[tuple[str, str]]
) -> None:
    pytest.importorskip("timm")
    pytest.importorskip("torchvision")
    argument = next(p for p in main.commands["analyze"].params if p.name == "model")
    with main.make_context("fxprune", ["analyze", "x:y"]) as context:
        found = argument.shell_complete(context, start)
    assert [(item.type, item.value) for item in found] == expected


def test_a_library_that_is_missing_has_no_names_to_offer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(InputError):
        names("timm")
    argument = next(p for p in main.commands["analyze"].params if p.name == "model")
    with main.make_context("fxprune", ["analyze", "x:y"]) as context:
        assert argument.shell_complete(context, "timm:res") == []
