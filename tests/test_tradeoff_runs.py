"""Candidates are worth the same on every executor, and what is finished is not lost."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import fxprune
from fxprune import FxPruneError, InputError
from fxprune.reports import Tradeoff
from fxprune.tradeoffs import tradeoff
from tests.processes import local_cluster
from tests.sensitivities.models import Counting, X, error, size, two


def plans() -> dict[str, Any]:
    return {f"{ratio}": fxprune.plan(two(), X[:2], ratio=ratio) for ratio in (0.75, 0.25, 0.5)}


def found(evaluate: Any = error, **options: Any) -> Tradeoff:
    return tradeoff(two(), plans(), X[:2], evaluate=evaluate, mode="min", **options)


def test_threads_find_what_this_thread_finds_in_the_same_order() -> None:
    with ThreadPoolExecutor(4) as executor:
        assert found(executor=executor, pending=4) == found()
    assert [each.name for each in found().candidates] == ["(original)", "0.75", "0.25", "0.5"]


@pytest.mark.slow
def test_processes_find_what_this_thread_finds() -> None:
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as executor:
        assert found(executor=executor) == found()
        with pytest.raises(InputError, match=r"evaluate failed for the candidate 0\.75"):
            found(failing, executor=executor)


@pytest.mark.slow
def test_a_local_cluster_of_dask_finds_what_this_thread_finds() -> None:
    with local_cluster(2, processes=True) as executor:
        assert found(executor=executor, pending=4) == found()
        # a function that only this process has
        assert found(lambda model: error(model) + 0, executor=executor) == found()


def failing(model: nn.Module) -> float:
    if model.get_submodule("large").out_features == 4:
        raise ValueError("too small for me")
    return error(model)


def test_an_error_of_evaluate_names_the_candidate_here_too() -> None:
    with pytest.raises(InputError, match=r"evaluate failed for the candidate 0\.75") as raised:
        found(failing)
    assert "too small for me" in str(raised.value)
    assert "test_tradeoff_runs.py" in str(raised.value)


def test_a_plan_of_another_model_is_told_before_anything_is_evaluated(tmp_path: Path) -> None:
    evaluate, other = Counting(tmp_path / "calls"), nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 1))
    mixed = {**plans(), "other": fxprune.plan(other, X[:2], ratio=0.5)}
    with pytest.raises(FxPruneError, match="another model"):
        tradeoff(two(), mixed, X[:2], evaluate=evaluate)
    assert evaluate.count == 0


def test_finished_candidates_are_not_evaluated_again(tmp_path: Path) -> None:
    file, evaluate = tmp_path / "values.json", Counting(tmp_path / "calls")

    def stopping(model: nn.Module) -> float:
        if evaluate.count == 2:
            raise KeyboardInterrupt
        return evaluate(model)

    with pytest.raises(KeyboardInterrupt) as stopped:
        found(stopping, resume=file)
    (note,) = stopped.value.__notes__
    assert "2 of 4 candidates are finished in" in note
    assert found(evaluate, resume=file) == found()
    assert evaluate.count == 4
    assert found(evaluate, resume=file) == found()
    assert evaluate.count == 4


def test_what_has_a_value_when_a_candidate_fails_is_kept(tmp_path: Path) -> None:
    file, evaluate = tmp_path / "values.json", Counting(tmp_path / "calls")
    with ThreadPoolExecutor(1) as executor, pytest.raises(InputError, match="too small"):
        found(failing, executor=executor, pending=1, resume=file)
    assert found(evaluate, resume=file) == found()
    assert evaluate.count == 3  # that of the original was known


def test_a_file_of_other_weights_or_another_meaning_is_refused_and_left_as_it_is(
    tmp_path: Path,
) -> None:
    file = tmp_path / "values.json"
    found(resume=file)
    before = file.read_bytes()
    with pytest.raises(InputError, match="cannot go on"):
        found(norm="exact", resume=file)
    other = two()
    with torch.no_grad():
        next(other.parameters()).add_(1)
    with pytest.raises(InputError, match="model is"):
        tradeoff(other, plans(), X[:2], evaluate=error, resume=file)
    assert file.read_bytes() == before


@pytest.mark.parametrize("text", ["", "{}", '{"format": "fxprune values of candidates"}'])
def test_a_damaged_file_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "values.json").write_text(text)
    with pytest.raises(InputError, match=r"values\.json|not a|not valid"):
        found(resume=tmp_path / "values.json")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"evaluate": None, "resume": "x.json"}, "resume= is given, and nothing is evaluated"),
        ({"evaluate": None, "pending": 2}, "pending= is given, and nothing is evaluated"),
        ({"pending": 0}, "pending is 0"),
        ({"executor": 4}, "executor is 4"),
        ({"evaluate": "error"}, "evaluate is 'error'"),
        ({"resume": 3}, "resume is 3"),
        ({"resume": "no/folder.json"}, "the folder does not exist"),
    ],
)
def test_wrong_arguments_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        tradeoff(two(), plans(), X[:2], **{"evaluate": error, **options})


def test_the_user_may_change_the_model_that_is_evaluated() -> None:
    def spoil(model: nn.Module) -> int:
        count = size(model)
        vars(model).pop("meta", None)
        return count

    for each in found(spoil).candidates:
        assert each.value == each.parameters
