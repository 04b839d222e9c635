"""`fxprune.sensitivity`: what it measures, what it takes from a file, what it refuses."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import fxprune
from fxprune import InputError, PlanError, Sensitivity
from fxprune.importance import L1
from tests.sensitivities.models import Attending, Counting, X, error, two

RATIOS = (0.25, 0.5, 0.75)


def measured(model: Any = None, evaluate: Any = error, **options: Any) -> Sensitivity:
    options = {"ratios": RATIOS, "mode": "min", "progress": False, **options}
    return fxprune.sensitivity(model or two(), X[:2], evaluate, **options)


# -- what is measured ------------------------------------------------------------------------


def test_every_value_is_that_of_the_model_shrunk_by_hand() -> None:
    found = measured()
    assert found.baseline == 0
    assert list(found.curves) == ["large", "small"]
    for name, row in found.values.items():
        for ratio, value in row.items():
            plan = fxprune.plan(two(), X[:2], ratios={name: ratio})
            assert value == error(fxprune.shrink(two(), plan))
            assert found.drops[name][ratio] == value
            assert found.curves[name].points[RATIOS.index(ratio)].removed == 16 * ratio


def test_heads_are_measured_and_dims_of_heads_where_they_are_asked_for() -> None:
    model = Attending().eval()
    x = torch.ones(2, 3, 4)

    def value(small: nn.Module) -> float:
        return small(x).sum().item()

    found = fxprune.sensitivity(model, x, value, ratios=[0.5], progress=False)
    assert {curve.kind for curve in found.curves.values()} == {"channels", "heads"}
    more = fxprune.sensitivity(model, x, value, ratios=[0.5], heads=False, head_dims=True)
    assert {curve.kind for curve in more.curves.values()} == {"channels", "head_dims"}
    (name,) = [n for n, curve in more.curves.items() if curve.kind == "head_dims"]
    named = fxprune.sensitivity(model, x, value, ratios=[0.5], only=[name], progress=False)
    assert named.values == {name: more.values[name]}


def test_only_what_is_named_is_measured_in_the_order_of_the_model() -> None:
    assert list(measured(only=["small"]).curves) == ["small"]
    assert list(measured(only=["sm*", "large"]).curves) == ["large", "small"]


def test_ratios_that_remove_the_same_are_evaluated_once_and_nothing_is_the_baseline(
    tmp_path: Path,
) -> None:
    evaluate = Counting(tmp_path / "calls")
    found = measured(evaluate=evaluate, ratios=(0, 0.01, 0.5, 0.51), only=["small"])
    assert evaluate.count == 2  # the whole model, and half of the group
    row = found.values["small"]
    assert row[0] == row[0.01] == found.baseline
    assert row[0.5] == row[0.51]


def test_the_model_of_the_user_stays_as_it_is_whatever_evaluate_does_to_those_that_it_gets() -> (
    None
):
    model = two().train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    seen = []

    def destroy(small: nn.Module) -> float:
        seen.append(small)
        with torch.no_grad():
            for parameter in small.parameters():
                parameter.zero_()
        small.eval()
        return 0.0

    measured(model, destroy)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert model.training
    assert all(small is not model for small in seen)
    assert len(set(map(id, seen))) == len(seen) == 7


def test_scores_are_computed_once() -> None:
    calls = []

    class Noted(L1):
        def evidence(self, deps: fxprune.DependencyGraph) -> Any:
            calls.append(deps)
            return super().evidence(deps)

    found = measured(criterion=Noted())
    assert len(calls) == 1
    assert found.values == measured(criterion="l1").values


def test_an_analysis_is_taken_for_the_model_and_needs_no_inputs() -> None:
    deps = fxprune.analyze(two(), X[:2])
    found = fxprune.sensitivity(deps, None, error, ratios=RATIOS, mode="min", progress=False)
    assert found == measured()


def test_a_model_without_blocks_is_measured() -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.up, self.down = nn.Linear(4, 8), nn.Linear(8, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + self.down(self.up(x).relu())

    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 4), Block(), Block(), nn.Linear(4, 1))
    plan = fxprune.plan(model, X, drop=["1"])
    deps = plan.analyze(model, X)
    found = fxprune.sensitivity(deps, X, lambda m: m(X).sum(), ratios=[0.5], progress=False)
    assert "1.up" not in found.curves
    assert "2.up" in found.curves
    less = fxprune.plan(deps, X, 0.3, sensitivity=found)
    assert less.dropped == ("1",)
    with pytest.raises(PlanError, match="another model"):
        fxprune.plan(model, X, 0.3, sensitivity=found)


@pytest.mark.parametrize(
    ("returned", "value"),
    [
        (3, 3.0),
        (np.float32(0.5), 0.5),
        (np.array(0.5), 0.5),
        (torch.tensor(0.5), 0.5),
        (torch.tensor(2), 2.0),
    ],
)
def test_a_number_of_any_library_is_a_value(returned: Any, value: float) -> None:
    found = measured(evaluate=lambda _: returned, only=["small"], ratios=[0.5])
    assert found.baseline == found.values["small"][0.5] == value


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, torch.tensor(math.nan)])
def test_a_value_that_is_not_finite_is_none_and_the_largest_drop(value: Any) -> None:
    def evaluate(model: nn.Module) -> Any:
        return 1.0 if model.get_submodule("small").out_features == 16 else value

    found = measured(evaluate=evaluate, mode="max", only=["small"])
    assert found.values["small"] == dict.fromkeys(RATIOS)
    assert found.drops["small"] == dict.fromkeys(RATIOS, math.inf)
    assert Sensitivity.from_json(found.to_json()) == found


# -- what is refused -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "returned", [None, "0.5", True, torch.tensor([0.5]), 1j, torch.tensor(1j), [0.5], {}]
)
def test_what_is_no_number_is_refused_with_what_it_is(returned: Any) -> None:
    with pytest.raises(InputError, match="evaluate returned"):
        measured(evaluate=lambda _: returned)


def test_a_whole_model_without_a_finite_value_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="for the whole model"):
        measured(evaluate=lambda _: math.nan, resume=tmp_path / "points.json")
    assert not list(tmp_path.iterdir())


def test_what_evaluate_raises_is_told_with_group_ratio_and_line() -> None:
    def evaluate(model: nn.Module) -> float:
        if model.get_submodule("small").out_features == 8:
            raise ValueError("too small for me")
        return 1.0

    with pytest.raises(InputError, match=r"group small at ratio 0\.5: ValueError: too small") as e:
        measured(evaluate=evaluate)
    assert isinstance(e.value.__cause__, ValueError)
    assert "test_measuring.py" in str(e.value)


def test_a_model_that_cannot_be_shrunk_is_told_with_group_and_ratio(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(_: Any, plan: fxprune.Plan, *__: Any, **___: Any) -> nn.Module:
        if plan.groups["small"].removed:
            raise fxprune.RewriteError("no way", hint="give up")
        return two()

    monkeypatch.setattr("fxprune.sensitivities.runs.shrink", refuse)
    with pytest.raises(fxprune.RewriteError, match=r"group small at ratio 0\.25: no way") as e:
        measured()
    assert "give up; or leave the group out (only=)" in str(e.value)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"ratios": []}, "ratios is"),
        ({"ratios": 0.5}, "ratios is"),
        ({"ratios": "0.5"}, "ratios is"),
        ({"ratios": [1.0]}, "a ratio is 1.0"),
        ({"ratios": [math.nan]}, "a ratio is nan"),
        ({"mode": "most"}, "unknown mode"),
        ({"criterion": "l3"}, "unknown criterion"),
        ({"reduction": "all"}, "unknown reduction"),
        ({"evaluate": 3}, "evaluate is 3"),
        ({"executor": 3}, "executor is 3"),
        ({"pending": 0}, "pending is 0"),
        ({"only": "small"}, "only is"),
        ({"groups": ["small"]}, "groups is"),
        ({"verify": "slow"}, "verify='slow'"),
        ({"resume": "/no/such/folder/points.json"}, "the folder does not exist"),
        ({"resume": 3}, "resume is 3"),
    ],
)
def test_an_option_out_of_range_is_refused(options: dict[str, Any], text: str) -> None:
    with pytest.raises(InputError, match=text):
        measured(**options)


@pytest.mark.parametrize(
    ("only", "text"), [("smal", "nearest names"), ("from_small", "nothing of from_small")]
)
def test_a_name_that_means_nothing_to_measure_is_refused(only: str, text: str) -> None:
    with pytest.raises(PlanError, match=text):
        measured(only=[only])


def test_a_model_without_groups_is_refused() -> None:
    with pytest.raises(PlanError, match="no group to measure"):
        measured(nn.Linear(4, 2))


# -- going on --------------------------------------------------------------------------------


def test_finished_points_are_not_evaluated_again(tmp_path: Path) -> None:
    file, evaluate = tmp_path / "points.json", Counting(tmp_path / "calls")
    first = measured(evaluate=evaluate, resume=file)
    assert evaluate.count == 7
    assert Sensitivity.load(file) == first
    assert measured(evaluate=evaluate, resume=file) == first
    assert evaluate.count == 7


def test_a_run_goes_on_from_the_points_before_the_one_that_failed(tmp_path: Path) -> None:
    file, evaluate = tmp_path / "points.json", Counting(tmp_path / "calls")

    def failing(model: nn.Module) -> float:
        if evaluate.count == 4:
            raise KeyboardInterrupt
        return evaluate(model)

    with pytest.raises(KeyboardInterrupt):
        measured(evaluate=failing, resume=file)
    assert sum(len(curve.points) for curve in Sensitivity.load(file).curves.values()) == 3
    assert measured(evaluate=evaluate, resume=file) == measured()
    assert evaluate.count == 7


def test_other_groups_and_ratios_are_added_to_the_file_and_the_result_has_what_is_asked_for(
    tmp_path: Path,
) -> None:
    file, evaluate = tmp_path / "points.json", Counting(tmp_path / "calls")
    measured(evaluate=evaluate, resume=file, only=["small"])
    found = measured(evaluate=evaluate, resume=file, only=["large"], ratios=[0.5, 0.6])
    assert list(found.curves) == ["large"]
    assert found.ratios == (0.5, 0.6)
    known = Sensitivity.load(file)
    assert list(known.curves) == ["large", "small"]
    assert list(known.values["small"]) == list(RATIOS)
    assert evaluate.count == 1 + 3 + 2


def test_points_of_other_channels_are_evaluated_anew(tmp_path: Path) -> None:
    # Scores that are made of data may differ, though the criterion has the same name.
    class Steady(L1):
        sign = 1

        def saliency(self, name: str, weights: torch.Tensor) -> torch.Tensor:
            return self.sign * super().saliency(name, weights)

    class Turned(Steady):
        sign = -1

    Turned.__name__ = "Steady"
    file, evaluate = tmp_path / "points.json", Counting(tmp_path / "calls")
    first = measured(evaluate=evaluate, resume=file, criterion=Steady())
    other = measured(evaluate=evaluate, resume=file, criterion=Turned())
    assert evaluate.count == 1 + 6 + 6
    assert other.values != first.values
    assert other.values == measured(criterion=Turned()).values


def changed(model: nn.Module) -> nn.Module:
    with torch.no_grad():
        next(model.parameters())[0, 0] += 1e-3
    return model


@pytest.mark.parametrize(
    ("other", "text"),
    [
        ({"model": changed(two())}, "other weights"),
        ({"model": nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 1)).eval()}, "of another model"),
        ({"criterion": "l1"}, "criterion is 'l2' there, 'l1' here"),
        ({"reduction": "max"}, "reduction is 'sum' there, 'max' here"),
        ({"seed": 1}, "seed is 0 there, 1 here"),
        ({"mode": "max"}, "mode is 'min' there, 'max' here"),
    ],
)
def test_a_file_made_in_another_way_is_refused_and_left_alone(
    tmp_path: Path, other: dict[str, Any], text: str
) -> None:
    file, evaluate = tmp_path / "points.json", Counting(tmp_path / "calls")
    measured(resume=file)
    before = file.read_bytes()
    with pytest.raises(InputError, match=text):
        measured(evaluate=evaluate, resume=file, **other)
    assert evaluate.count == 0
    assert file.read_bytes() == before


@pytest.mark.parametrize("damage", [lambda t: t[: len(t) // 2], lambda _: "", lambda _: "[1]"])
def test_a_damaged_file_is_refused_and_left_alone(tmp_path: Path, damage: Any) -> None:
    file, evaluate = tmp_path / "points.json", Counting(tmp_path / "calls")
    measured(resume=file)
    file.write_text(before := damage(file.read_text()))
    with pytest.raises(InputError, match="sensitivity") as raised:
        measured(evaluate=evaluate, resume=file)
    assert str(file) in str(raised.value)
    assert evaluate.count == 0
    assert file.read_text() == before
    assert [path.name for path in tmp_path.iterdir()] == ["points.json"]


def test_a_file_of_a_model_that_someone_made_up_changes_no_group(tmp_path: Path) -> None:
    file = tmp_path / "points.json"
    measured(resume=file)
    document = json.loads(file.read_text())
    document["groups"]["no such group"] = document["groups"].pop("small")
    file.write_text(json.dumps(document))
    assert measured(resume=file) == measured()


def test_a_bar_is_shown_on_standard_error_only_if_it_is_asked_for(
    capsys: pytest.CaptureFixture[str],
) -> None:
    measured(progress=False)
    printed = capsys.readouterr()
    assert printed.out == printed.err == ""
    measured(progress=True)
    assert capsys.readouterr().out == ""
