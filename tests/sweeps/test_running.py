"""What happens to the process of a model is a row."""

from __future__ import annotations

import pytest
from torch import nn

from sweeps.entry import SweepModel, normal
from sweeps.running import Task, preload, run_all, run_one
from tests.sweeps import tasks


@pytest.fixture(scope="module", autouse=True)
def _imports_only_once() -> None:
    preload(["tests.sweeps.tasks", "sweeps.running"])


def model(name: str = "net") -> SweepModel:
    return SweepModel("library", "family", name, nn.Identity, lambda: normal(1))


def test_the_row_of_another_process_arrives() -> None:
    row = run_one(model(), tasks.succeed, timeout=60)
    assert row is not None
    assert (row.key, row.outcome, row.cut) == ("library/family/net", "shrunk", 0.5)


def test_a_skipped_model_has_no_row() -> None:
    assert run_one(model(), tasks.skip, timeout=60) is None


def test_a_hang_is_a_row() -> None:
    row = run_one(model(), tasks.hang, timeout=0.2)
    assert row is not None
    assert (row.key, row.outcome, row.seconds) == ("library/family/net", "timed out", 0.2)


@pytest.mark.parametrize(
    ("task", "reason"),
    [
        (tasks.abort, "the process died of SIGABRT"),
        (tasks.leave, "the process ended with exit code 3"),
    ],
)
def test_the_death_of_the_process_is_a_row(task: Task, reason: str) -> None:
    row = run_one(model(), task, timeout=60)
    assert row is not None
    assert (row.key, row.outcome, row.reason) == ("library/family/net", "crashed", reason)


def test_all_models_run_when_there_are_more_than_jobs() -> None:
    models = [model(name) for name in "abc"]
    rows = dict(run_all(models, tasks.succeed, jobs=2, timeout=60))
    assert {row.name for row in rows.values() if row} == {"a", "b", "c"}
