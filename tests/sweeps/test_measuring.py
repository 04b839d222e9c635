"""Whatever a model does, measuring it gives a row."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import fxprune
from sweeps import measuring
from sweeps.entry import SweepModel, normal
from sweeps.measuring import measure, prunable_share
from sweeps.rows import Row


class NotANumber(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * torch.nan


class Wordless(nn.Module):
    def forward(self, x: Tensor) -> str:
        return "done"


def net() -> nn.Module:
    return nn.Sequential(nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 2))


def row_of(build: Callable[[], nn.Module], shape: tuple[int, ...] = (2, 8)) -> Row:
    row = measure(SweepModel("library", "family", "net", build, lambda: normal(*shape)))
    assert row is not None
    return row


def test_a_model_that_shrinks_has_all_figures() -> None:
    row = row_of(net)
    assert (row.outcome, row.stage, row.reason, row.dtype) == ("shrunk", "", "", "float64")
    assert row.parameters == 68
    assert row.cut == 1 - 35 / 68
    assert row.error is not None
    assert row.error < 1e-9
    assert row.seconds is not None


def test_the_prunable_share_is_what_goes_if_all_goes_that_may() -> None:
    deps = fxprune.analyze(net(), normal(2, 8))
    assert prunable_share(deps) == pytest.approx((8 * 6 + 6 + 6 * 2) / 68)


def test_a_refusal_keeps_what_was_found_before_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise fxprune.PlanError("no plan", where="here", why="because")

    monkeypatch.setattr(fxprune, "plan", refuse)
    row = row_of(net)
    assert (row.outcome, row.stage) == ("refused", "plan")
    assert row.reason == "PlanError: no plan [here]: because"
    assert row.parameters == 68
    assert row.prunable is not None
    assert row.cut is None


def test_a_difference_is_a_wrong_row(monkeypatch: pytest.MonkeyPatch) -> None:
    def differ(*_: object, **__: object) -> None:
        raise fxprune.VerificationError("node relu differs")

    monkeypatch.setattr(fxprune, "verify", differ)
    row = row_of(net)
    assert (row.outcome, row.stage) == ("wrong", "verify")
    assert row.cut is not None
    assert row.error is None


def test_any_other_exception_is_a_crash_with_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(*_: object) -> None:
        raise KeyError("axis")

    monkeypatch.setattr("fxprune.analysis.build_groups", crash)
    row = row_of(net)
    assert (row.outcome, row.stage) == ("crashed", "analyze")
    assert row.reason.startswith("KeyError: 'axis' [analysis.py:")


@pytest.mark.parametrize(
    ("build", "shape", "reason"),
    [
        (net, (2, 5), "RuntimeError: mat1 and mat2 shapes cannot be multiplied"),
        (NotANumber, (2, 8), "the model returns NaN"),
        (Wordless, (2, 8), "the model returns no tensor"),
    ],
)
def test_a_model_that_tells_nothing_is_unusable(
    build: Callable[[], nn.Module], shape: tuple[int, ...], reason: str
) -> None:
    row = row_of(build, shape)
    assert row.outcome == "unusable"
    assert row.reason.startswith(reason)


def test_a_model_that_is_too_large_is_skipped() -> None:
    entry = SweepModel("library", "family", "net", net, lambda: normal(2, 8))
    assert measure(entry, largest=67) is None
    assert measure(entry, largest=68) is not None


def test_verification_that_cannot_run_the_result_is_a_crash(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise measuring.RunError("the shrunk model fails at node add")

    monkeypatch.setattr(fxprune, "verify", fail)
    assert row_of(net).outcome == "crashed"
