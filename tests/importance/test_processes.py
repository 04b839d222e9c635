"""Two processes with half of the data each find the scores of one with all of it."""

from __future__ import annotations

import contextlib
import io
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist

import fxprune
from fxprune import importance
from tests.importance.test_data import X, batches, loss, network
from tests.importance.test_weights import scored
from tests.processes import join_group, run_two, told

pytestmark = pytest.mark.skipif(not dist.is_available(), reason="torch without distributed")
KINDS = ("taylor", "fisher", "mean", "apoz", "variance")


def criterion(kind: str, data: Any, *, progress: bool = False) -> importance.Criterion:
    if kind == "taylor":
        return importance.Taylor(data, loss, progress)
    if kind == "reconstruction":
        return importance.ReconstructionError(data, progress=progress)
    if kind == "fisher":
        return importance.Fisher(data, loss, progress)
    statistic: Any = kind
    return importance.Activation(data, statistic, progress=progress)


def found(kind: str, data: Any) -> Any:
    return scored(fxprune.analyze(network(), X), criterion(kind, data))


def failing(count: int) -> Any:
    """As many batches as told, and then one that no model takes."""
    return [*batches(count), (torch.zeros(4, 7, 5, 5, dtype=torch.float64), torch.zeros(4).long())]


def errors(rank: int) -> dict[str, str]:
    """What goes wrong in this process, case by case."""
    other = torch.nn.Sequential(torch.nn.Conv2d(2, 5 + rank, 1), torch.nn.Conv2d(5 + rank, 3, 1))
    deps = fxprune.analyze(other.double(), X)
    uneven = [batches(1)[0] if rank else (*batches(1)[0], torch.zeros(3))]
    empty = [importance.Taylor([], loss), importance.Activation([])]
    return {
        "loss of rank 1": told(lambda: found("taylor", failing(1) if rank else batches(3))),
        "inputs of rank 0": told(lambda: found("mean", batches(3) if rank else failing(0))),
        "both": told(lambda: found("fisher", failing(0))),
        "no gradients": told(lambda: scored(fxprune.analyze(network(), X), empty[0])),
        "no activations": told(lambda: scored(fxprune.analyze(network(), X), empty[1])),
        "no errors": told(lambda: found("reconstruction", batches(1) if rank else [])),
        "other models": told(lambda: scored(deps, criterion("mean", [torch.zeros_like(X)]))),
        "samples": told(lambda: found("taylor", uneven)),
    }


def bar(kind: str) -> str:
    """What a criterion writes on the standard error stream."""
    with contextlib.redirect_stderr(io.StringIO()) as stream:
        scored(fxprune.analyze(network(), X), criterion(kind, batches(1), progress=True))
    return stream.getvalue()


def work(rank: int, folder: str) -> None:
    os.environ["FORCE_COLOR"] = "1"  # as on a terminal
    join_group(rank, folder)
    halves = {kind: found(kind, batches(4)[rank::2]) for kind in KINDS}
    alone = {f"{kind} alone": found(kind, batches(2) if rank else []) for kind in KINDS}
    errors_of_halves = found("reconstruction", batches(4)[rank::2])
    np.savez(f"{folder}/{rank}.npz", **halves, **alone, reconstruction=errors_of_halves)
    notes = {**errors(rank), "bars": bar("taylor") + bar("mean")}
    Path(folder, f"{rank}.json").write_text(json.dumps(notes), encoding="utf-8")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two processes write down."""
    return run_two(work, tmp_path_factory.mktemp("processes"))


@pytest.fixture(scope="module")
def notes(folder: Path) -> list[dict[str, str]]:
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(2)]


def test_processes_add_up(folder: Path) -> None:
    one, two = (np.load(folder / f"{rank}.npz") for rank in range(2))
    for kind in KINDS:
        np.testing.assert_array_equal(one[kind], two[kind])
        np.testing.assert_allclose(one[kind], found(kind, batches(4)), rtol=1e-12)


def test_errors_of_reconstruction_are_of_the_data_of_all(folder: Path) -> None:
    one, two = (np.load(folder / f"{rank}.npz")["reconstruction"] for rank in range(2))
    np.testing.assert_array_equal(one, two)
    np.testing.assert_allclose(one, found("reconstruction", batches(4)), rtol=1e-8)


def test_errors_of_reconstruction_need_batches_in_all(notes: list[dict[str, str]]) -> None:
    what = "there are no batches to compute reconstruction errors of"
    assert notes[0]["no errors"].startswith(what)
    assert notes[1]["no errors"].startswith(f"the process of rank 0 failed: InputError: {what}")


def test_a_process_without_batches_gets_the_scores_of_the_others(folder: Path) -> None:
    one, two = (np.load(folder / f"{rank}.npz") for rank in range(2))
    for kind in KINDS:
        np.testing.assert_array_equal(one[f"{kind} alone"], two[f"{kind} alone"])
        np.testing.assert_allclose(two[f"{kind} alone"], found(kind, batches(2)), rtol=1e-12)


@pytest.mark.parametrize(
    ("case", "failed", "what"),
    [
        ("loss of rank 1", 1, "the loss cannot be computed"),
        ("inputs of rank 0", 0, "the model fails at node first"),
    ],
)
def test_what_fails_in_one_process_fails_in_all(
    notes: list[dict[str, str]], case: str, failed: int, what: str
) -> None:
    assert notes[failed][case].startswith(what)
    kind = "OriginalFailsError" if failed == 0 else "InputError"
    assert notes[1 - failed][case].startswith(
        f"the process of rank {failed} failed: {kind}: {what}"
    )


def test_each_process_that_fails_tells_its_own_error(notes: list[dict[str, str]]) -> None:
    for each in notes:
        assert each["both"].startswith("the loss cannot be computed")


def test_no_batches_in_any_process_are_refused_in_all(notes: list[dict[str, str]]) -> None:
    for each in notes:
        assert each["no gradients"].startswith("there are no batches to compute gradients of")
        assert each["no activations"].startswith("there are no batches to compute activations of")


def test_processes_with_other_models_or_kinds_of_batches_are_refused(
    notes: list[dict[str, str]],
) -> None:
    for rank, each in enumerate(notes):
        what = f"the process of rank {1 - rank} has another model than that of rank {rank}"
        assert each["other models"].startswith(what)
        assert each["samples"].startswith("some batches can be taken apart into samples and others")


def test_the_first_process_alone_shows_a_bar(notes: list[dict[str, str]]) -> None:
    assert "gradients" in notes[0]["bars"]
    assert "activations" in notes[0]["bars"]
    assert notes[1]["bars"] == ""
