"""Plans as JSON: round trips, stable and readable text, and what is refused."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import fxprune
from fxprune import FxPruneError, PlanError
from fxprune.planning import Plan
from tests.planning.models import chain, zoo

NAMES = ["residual", "classic_cnn", "grouped_conv", "shared_module_siamese", "nothing_to_prune"]


def half(name: str = "residual") -> Plan:
    return fxprune.plan(zoo(name), ratio=0.5, ratios={"*": 0.25} if name == "residual" else None)


def edited(change: Callable[[Any], object]) -> str:
    """The text of a plan after a change of its document."""
    document = json.loads(half("classic_cnn").to_json())
    change(document)
    return json.dumps(document)


class Nested(nn.Module):
    """Takes inputs of every kind that a plan can keep."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(4, 8), nn.Linear(8, 2)

    def forward(self, x: dict[str, Any], scale: float, mode: str, pair: tuple[Any, ...]) -> Tensor:
        return self.last(self.first(x["a"][0])) * scale + pair[0]


NESTED: tuple[Any, ...] = (
    {"a": [torch.randn(3, 4), None]},
    0.5,
    "fast",
    (torch.tensor([5, 6]), True),
)


# -- round trips ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_a_plan_equals_itself_after_a_round_trip(name: str) -> None:
    plan = half(name)
    assert Plan.from_json(plan.to_json()) == plan


@pytest.mark.parametrize("name", NAMES)
def test_the_text_is_the_same_after_a_round_trip(name: str) -> None:
    text = half(name).to_json()
    assert Plan.from_json(text).to_json() == text


def test_the_text_is_the_same_for_the_same_request() -> None:
    plan = half()
    assert half().to_json() == plan.to_json()


def test_nested_inputs_survive_a_round_trip() -> None:
    plan = fxprune.plan(Nested(), NESTED, 0.5)
    again = Plan.from_json(plan.to_json())
    assert again == plan
    mapping, scale, mode, pair = again.inputs
    assert (type(mapping["a"]), mapping["a"][1], scale, mode) == (list, None, 0.5, "fast")
    assert (type(pair), pair[0].low, pair[0].high, pair[1]) == (tuple, 5, 7, True)


def test_a_plan_can_be_carried_out_after_a_round_trip() -> None:
    model = Nested().eval()
    plan = Plan.from_json(fxprune.plan(model, NESTED, 0.5).to_json())
    assert fxprune.shrink(model, plan).get_submodule("first").weight.shape == (4, 4)


# -- text -----------------------------------------------------------------------------------


def test_the_text_begins_with_what_it_is() -> None:
    document = json.loads(half().to_json())
    assert list(document)[:2] == ["format", "version"]
    assert document["format"] == "fxprune plan"


def test_every_list_of_numbers_stands_on_one_line() -> None:
    lines = [line.strip() for line in half("classic_cnn").to_json().splitlines()]
    assert not [line for line in lines if line.rstrip(",").isdigit()]
    conv = fxprune.plan(zoo("classic_cnn"), channels={"conv2": [6, 1]}).to_json()
    assert '"removed": [1, 6]' in conv
    assert '"0": [1, 6]' in conv


def test_the_text_ends_with_one_newline() -> None:
    text = half().to_json()
    assert text.endswith("}\n")


def test_the_text_is_plain_json() -> None:
    document = json.loads(half("classic_cnn").to_json())
    assert document["groups"]["conv1"] == {
        "size": 4,
        "kind": "channels",
        "removed": list(half("classic_cnn").groups["conv1"].removed),
    }
    assert document["slices"].keys() == half("classic_cnn").slices.keys()
    assert document["shapes"]["fc1.weight"] == [64, 392]


# -- files ----------------------------------------------------------------------------------


def test_a_saved_plan_can_be_loaded(tmp_path: Path) -> None:
    plan = half()
    plan.save(tmp_path / "plan.json")
    assert Plan.load(tmp_path / "plan.json") == plan == Plan.load(str(tmp_path / "plan.json"))


def test_saving_leaves_the_plan_and_nothing_else(tmp_path: Path) -> None:
    half().save(tmp_path / "plan.json")
    half("classic_cnn").save(tmp_path / "plan.json")
    assert [path.name for path in tmp_path.iterdir()] == ["plan.json"]
    assert Plan.load(tmp_path / "plan.json") == half("classic_cnn")


def test_a_save_that_fails_keeps_the_old_plan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "plan.json"
    half().save(path)

    def interrupted(plan: Plan) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr(Plan, "to_json", interrupted)
    with pytest.raises(KeyboardInterrupt):
        half("classic_cnn").save(path)
    assert [file.name for file in tmp_path.iterdir()] == ["plan.json"]
    assert Plan.load(path) == half()


def test_a_folder_that_is_not_there_is_an_error_that_names_the_path(tmp_path: Path) -> None:
    with pytest.raises(FxPruneError, match=r"nowhere/plan\.json cannot be written"):
        half().save(tmp_path / "nowhere" / "plan.json")


def test_a_plan_that_json_cannot_hold_leaves_no_file(tmp_path: Path) -> None:
    plan = replace(half(), inputs=(b"fast",))
    with pytest.raises(FxPruneError, match="an input of type bytes"):
        plan.save(tmp_path / "plan.json")
    assert list(tmp_path.iterdir()) == []


def test_a_path_without_a_file_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match=r"missing\.json cannot be read"):
        Plan.load(tmp_path / "missing.json")


def test_a_folder_or_binary_file_is_no_plan(tmp_path: Path) -> None:
    (tmp_path / "weights.bin").write_bytes(b"\x80\x81\xff")
    for path in (tmp_path, tmp_path / "weights.bin"):
        with pytest.raises(PlanError, match="cannot be read"):
            Plan.load(path)


# -- texts that are no plans ----------------------------------------------------------------


@pytest.mark.parametrize("text", ["", "{", "plan", "{'format': 1}"])
def test_text_that_is_not_json_is_refused(text: str) -> None:
    with pytest.raises(PlanError, match="not valid JSON"):
        Plan.from_json(text)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
def test_a_truncated_text_is_refused(share: float) -> None:
    text = half().to_json().rstrip()
    with pytest.raises(PlanError, match="not valid JSON"):
        Plan.from_json(text[: int(len(text) * share)])


@pytest.mark.parametrize("text", ["[]", "3", "null", "{}", '{"format": "ONNX"}', '"fxprune plan"'])
def test_json_of_another_format_is_refused(text: str) -> None:
    with pytest.raises(PlanError, match="not a plan"):
        Plan.from_json(text)


@pytest.mark.parametrize("version", [0, 2, "1", None, 1.5])
def test_another_version_is_refused_by_its_number(version: Any) -> None:
    text = edited(lambda d: d.update(version=version))
    with pytest.raises(PlanError, match="version") as caught:
        Plan.from_json(text)
    assert repr(version) in caught.value.what


@pytest.mark.parametrize("key", ["groups", "slices", "shapes", "inputs", "digest", "made"])
def test_a_plan_without_one_of_its_parts_is_refused(key: str) -> None:
    with pytest.raises(PlanError, match=f"malformed.*{key}"):
        Plan.from_json(edited(lambda d: d.pop(key)))


MALFORMED: dict[str, Callable[[Any], object]] = {
    "groups that are a list": lambda d: d.update(groups=[1]),
    "a group that is a number": lambda d: d["groups"].update(conv1=4),
    "a group without removed channels": lambda d: d["groups"]["conv1"].pop("removed"),
    "a fraction of a channel": lambda d: d["groups"]["conv1"].update(removed=[0.5]),
    "a truth value for a channel": lambda d: d["groups"]["conv1"].update(removed=[True]),
    "a text for a channel": lambda d: d["groups"]["conv1"].update(removed=["0"]),
    "a text for channels": lambda d: d["groups"]["conv1"].update(removed="01"),
    "a number for channels": lambda d: d["groups"]["conv1"].update(removed=3),
    "no channels at all": lambda d: d["groups"]["conv1"].update(removed=None),
    "a text for a size": lambda d: d["groups"]["conv1"].update(size="4"),
    "a dim that is no number": lambda d: d["slices"]["conv1.weight"].update(first=[0]),
    "slices that are a list": lambda d: d.update(slices=[]),
    "a shape that is a number": lambda d: d["shapes"].update({"conv1.weight": 4}),
    "inputs that are a number": lambda d: d.update(inputs=3),
    "an input of two kinds": lambda d: d.update(inputs=[{"tensor": {}, "list": []}]),
    "an input without a shape": lambda d: d.update(inputs=[{"tensor": {"dtype": "float32"}}]),
    "an input of a dtype that is none": (
        lambda d: d["inputs"][0]["tensor"].update(dtype="float31")
    ),
    "an input of a dtype that is a function": (
        lambda d: d["inputs"][0]["tensor"].update(dtype="relu")
    ),
    "an input of a negative size": lambda d: d["inputs"][0]["tensor"].update(shape=[-1, 3]),
    "an input with more": lambda d: d["inputs"][0]["tensor"].update(device="cuda"),
}


@pytest.mark.parametrize("what", MALFORMED)
def test_a_malformed_plan_is_refused(what: str) -> None:
    with pytest.raises(PlanError, match="malformed") as caught:
        Plan.from_json(edited(MALFORMED[what]))
    assert "Plan.save" in caught.value.hint


def test_an_input_that_json_cannot_hold_is_refused_by_its_type() -> None:
    model = Nested()
    plan = fxprune.plan(model, (NESTED[0], 0.5, b"fast", NESTED[3]), 0.5)
    with pytest.raises(PlanError, match="input of type bytes"):
        plan.to_json()


# -- plans that contradict the model or themselves ------------------------------------------


EDITS: dict[str, tuple[Callable[[Any], object], str]] = {
    "slices with one position more": (
        lambda d: d["slices"]["fc2.weight"]["1"].append(63),
        r"slices of fc2\.weight contradict",
    ),
    "slices with a tensor less": (
        lambda d: d["slices"].pop("conv1.bias"),
        r"slices of conv1\.bias contradict",
    ),
    "slices with a tensor more": (
        lambda d: d["slices"].update({"fc2.bias": {"0": [1]}}),
        r"slices of fc2\.bias contradict",
    ),
    "a group with one channel less": (
        lambda d: d["groups"]["conv2"]["removed"].pop(),
        r"slices of conv2\.weight contradict",
    ),
    "a group that is gone": (
        lambda d: d["groups"].pop("conv2"),
        r"slices of conv2\.weight contradict",
    ),
    "a channel out of range": (
        lambda d: d["groups"]["conv1"].update(removed=[0, 4]),
        "channel 4 of group conv1 is out of range",
    ),
    "a negative channel": (
        lambda d: d["groups"]["conv1"].update(removed=[-1, 0]),
        "channel -1 of group conv1 is out of range",
    ),
    "a channel that goes twice": (
        lambda d: d["groups"]["conv1"].update(removed=[0, 0]),
        "channels of group conv1 are not in order, each once",
    ),
    "a group of another size": (
        lambda d: d["groups"]["conv1"].update(size=40),
        "takes group conv1 for 40 channels",
    ),
    "a group of another kind": (
        lambda d: d["groups"]["conv1"].update(kind="heads"),
        "takes group conv1 for 4 heads",
    ),
    "a group that the model does not have": (
        lambda d: d["groups"].update(conv9={"size": 4, "kind": "channels", "removed": [0]}),
        "no group is named 'conv9'",
    ),
    "a pinned group": (
        lambda d: d["groups"].update(fc2={"size": 10, "kind": "channels", "removed": [0]}),
        "group fc2 is pinned",
    ),
    "a group that loses everything": (
        lambda d: d["groups"]["conv1"].update(removed=[0, 1, 2, 3]),
        r"nothing would be left of conv1\.weight",
    ),
}


@pytest.mark.parametrize("what", EDITS)
def test_an_edited_plan_is_refused(what: str) -> None:
    change, message = EDITS[what]
    plan = Plan.from_json(edited(change))
    with pytest.raises(PlanError, match=message):
        plan.layout(zoo("classic_cnn"))


def test_a_plan_applies_to_another_copy_of_its_model() -> None:
    plan = fxprune.plan(chain(3, 8, 2), torch.zeros(1, 3), 0.5)
    small = fxprune.shrink(chain(3, 8, 2), plan)
    assert small.get_submodule("0").weight.shape == (4, 3)


def test_a_plan_for_other_widths_is_refused_with_both_shapes() -> None:
    plan = fxprune.plan(chain(3, 8, 2), torch.zeros(1, 3), 0.5)
    with pytest.raises(PlanError, match="another model") as caught:
        fxprune.shrink(chain(3, 9, 2), plan)
    assert "0.weight: shape [9, 3] here, [8, 3] in the plan" in caught.value.why
    assert "make a plan for this model" in caught.value.hint


def test_a_plan_for_more_or_fewer_tensors_is_refused_with_their_names() -> None:
    short = fxprune.plan(chain(3, 8, 3), torch.zeros(1, 3), 0.5)
    long = fxprune.plan(chain(3, 8, 3, 4), torch.zeros(1, 3), 0.5)
    with pytest.raises(PlanError) as caught:
        fxprune.shrink(chain(3, 8, 3, 4), short)
    assert "2.weight: not in the plan's model" in caught.value.why
    with pytest.raises(PlanError) as caught:
        fxprune.shrink(chain(3, 8, 3), long)
    assert "2.weight: not in this model" in caught.value.why


def test_many_differences_are_counted_after_the_first_five() -> None:
    plan = fxprune.plan(chain(3, *[4] * 9, 2), torch.zeros(1, 3), 0.5)
    with pytest.raises(PlanError, match=r"and \d+ more"):
        fxprune.shrink(chain(3, *[5] * 9, 2), plan)


def test_a_plan_for_another_precision_is_refused() -> None:
    plan = fxprune.plan(chain(3, 8, 2), torch.zeros(1, 3), 0.5)
    with pytest.raises(PlanError, match="another model"):
        fxprune.shrink(chain(3, 8, 2).half(), plan)
