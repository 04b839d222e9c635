"""Two processes of torchrun, each with a shard of the data, make the plan of one with all of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch.distributed as dist

from tests.clusters.shards import COUNT, KINDS, batches, plan

pytestmark = [
    pytest.mark.skipif(not dist.is_available(), reason="torch without distributed"),
    pytest.mark.slow,
]
CHECKOUT = Path(__file__).parents[2]


def torchrun(case: str, folder: Path, *, code: int = 0) -> list[Any]:
    """Run the script in two processes; what each wrote, None if it wrote nothing."""
    script = ("tests.clusters.shards", case, str(folder))
    done = subprocess.run(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--nnodes=1", "--nproc-per-node=2"),
            *("--rdzv-backend=c10d", "--rdzv-endpoint=localhost:0", "-m", *script),
        ],
        env={**os.environ, "PYTHONPATH": str(CHECKOUT), "OMP_NUM_THREADS": "1"},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )
    assert (done.returncode != 0) == bool(code), done.stderr
    files = [folder / f"{rank}.json" for rank in range(2)]
    return [json.loads(file.read_text()) if file.exists() else None for file in files]


@pytest.fixture(scope="module")
def plans(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    return torchrun("plans", tmp_path_factory.mktemp("plans"))


@pytest.fixture(scope="module")
def refusals(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    return torchrun("refusals", tmp_path_factory.mktemp("refusals"))


def as_json(value: Any) -> Any:
    return json.loads(json.dumps(value))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shards", ["halves", "uneven"])
def test_the_plan_of_shards_is_that_of_all_data(plans: list[Any], kind: str, shards: str) -> None:
    whole = as_json(plan(kind, batches(COUNT)).slices)
    assert [each[f"{kind} {shards}"] for each in plans] == [whole, whole]


@pytest.mark.parametrize("kind", KINDS)
def test_a_shard_alone_makes_another_plan(kind: str) -> None:
    all_ = batches(COUNT)
    whole = plan(kind, all_).slices
    assert all(plan(kind, shard).slices != whole for shard in (all_[::2], all_[1::2], all_[4:]))


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("criteria", "scores by 'Activation(mean)', that of rank 0 by 'Taylor'"),
        ("statistics", "scores by 'Activation(mean)', that of rank 0 by 'Activation(apoz)'"),
        ("weights", "the process of rank 1 has other weights than that of rank 0"),
        ("no numbers", "the process of rank 1 failed: InputError: parameter"),
        ("loss", "the process of rank 1 failed: InputError: the loss cannot be computed"),
    ],
)
def test_what_differs_or_fails_in_one_process_is_told_in_all(
    refusals: list[Any], case: str, message: str
) -> None:
    first, second = (each[case] for each in refusals)
    assert message in first
    assert second not in ("no error", first)


def test_processes_that_differ_are_refused_before_any_data_is_read(refusals: list[Any]) -> None:
    assert [each["read"] for each in refusals] == [0, 0]


def test_a_file_to_resume_from_is_for_the_first_process(refusals: list[Any]) -> None:
    assert refusals[0]["resume"] == "no error"
    assert "resume= is given in the process of rank 1" in refusals[1]["resume"]


def test_after_an_error_the_processes_still_work_together(refusals: list[Any]) -> None:
    whole = as_json(plan("mean", [*batches(2), *batches(2)]).slices)
    assert [each["after"] for each in refusals] == [whole, whole]


def test_a_process_that_dies_is_not_waited_for(tmp_path: Path) -> None:
    first, second = torchrun("dying", tmp_path, code=1)
    assert second is None
    if first is not None:  # torchrun may be faster, and end it
        assert "the process of rank 0 cannot reach the others" in first["told"]


def test_a_process_that_does_something_else_is_not_waited_for(tmp_path: Path) -> None:
    first, second = torchrun("alone", tmp_path)
    assert second["told"] == "no error"
    assert "the process of rank 0 cannot reach the others" in first["told"]
    assert "in the same order" in first["told"]
