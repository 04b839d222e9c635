"""Processes of `torch.distributed` prune alike: the first one's plan counts, and it alone saves."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch.nn.parallel import DistributedDataParallel

import fxprune
from fxprune import Progressive, importance
from tests.processes import join_group, run_two, told
from tests.progress.test_optimizers import X, network
from tests.progress.test_progressing import momentum

pytestmark = pytest.mark.skipif(not dist.is_available(), reason="torch without distributed")


def batch(rank: int, number: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(10 * number + rank)
    images = torch.randn(4, 3, 8, 8, generator=generator)
    return images, torch.randint(5, (4,), generator=generator)


def loss(model: Any, data: Any) -> torch.Tensor:
    return F.cross_entropy(model(data[0]), data[1])


def loop(rank: int, path: str, criterion: Any, until: int = 2) -> Progressive:
    """A user's loop with DDP."""
    run = Progressive(
        network(), X, {"params": 0.5}, 2, checkpoint=path, criterion=criterion, verify="quick"
    )
    optimizer = momentum(run.model)
    run.restore(optimizer)
    while not run.done and run.step_number < until:
        ddp = DistributedDataParallel(run.step(optimizer))
        for number in range(3):
            optimizer.zero_grad()
            loss(ddp, batch(rank, number)).backward()
            optimizer.step()
        run.save(optimizer)
        dist.barrier()
    return run


def other_plans(rank: int) -> list[list[int]]:
    """What goes where processes would choose differently."""
    run = Progressive(network(), X, ratio=0.5, steps=1, criterion="random", seed=rank, verify=False)
    run.step()
    return [list(entry.removed) for entry in run.plan.groups.values()]


def failing(rank: int) -> None:
    """A step for which the second process finds no plan."""
    run = Progressive(network(), X, ratio=0.5, steps=1, verify=False)
    if rank:
        with torch.no_grad():
            next(run.model.parameters()).fill_(torch.nan)
    run.step()


def work(rank: int, folder: str) -> None:
    join_group(rank, folder)
    whole = loop(rank, f"{folder}/whole.pt", "l2")
    torch.save(whole.model.state_dict(), f"{folder}/whole {rank}.pt")
    loop(rank, f"{folder}/parts.pt", "l2", until=1)
    torch.save(
        loop(rank, f"{folder}/parts.pt", "l2").model.state_dict(), f"{folder}/parts {rank}.pt"
    )
    taylor = importance.Taylor([batch(rank, 7)], loss, progress=False)
    torch.save(
        loop(rank, f"{folder}/taylor.pt", taylor).model.state_dict(), f"{folder}/taylor {rank}.pt"
    )
    lost = f"{folder}/whole.pt" if rank else f"{folder}/none.pt"
    notes = {
        "plans": other_plans(rank),
        "failed": told(lambda: failing(rank)),
        "lost": told(lambda: loop(rank, lost, "l2")),
        "history": [step.shares() for step in whole.history],
    }
    Path(folder, f"{rank}.json").write_text(json.dumps(notes), encoding="utf-8")
    dist.destroy_process_group()
    os._exit(0)  # threads of torch that are left may abort while Python ends


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two processes write down."""
    return run_two(work, tmp_path_factory.mktemp("processes"))


@pytest.fixture(scope="module")
def notes(folder: Path) -> list[dict[str, Any]]:
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(2)]


def equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("name", ["whole", "parts", "taylor"])
def test_processes_end_with_the_same_smaller_model(folder: Path, name: str) -> None:
    first, second = (torch.load(folder / f"{name} {rank}.pt") for rank in range(2))
    parameters = dict(network().named_parameters())
    own = {key: value for key, value in first.items() if key in parameters}
    assert equal(own, {key: value for key, value in second.items() if key in parameters})
    assert first.keys() == second.keys()
    assert all(first[key].shape == second[key].shape for key in first)
    assert sum(v.numel() for v in own.values()) < 0.6 * sum(p.numel() for p in parameters.values())


def test_processes_that_go_on_end_as_those_that_were_never_left(folder: Path) -> None:
    assert equal(torch.load(folder / "whole 0.pt"), torch.load(folder / "parts 0.pt"))


def test_the_plan_of_the_first_process_counts(notes: list[dict[str, Any]]) -> None:
    assert notes[0]["plans"] == notes[1]["plans"]
    plan = fxprune.plan(network(), X, 0.5, criterion="random", seed=0)
    assert notes[0]["plans"] == [list(entry.removed) for entry in plan.groups.values()]


def test_no_process_waits_for_one_that_finds_no_plan(notes: list[dict[str, Any]]) -> None:
    assert "the process of rank 1 failed" in notes[0]["failed"]
    assert "contains NaN" in notes[1]["failed"]


def test_processes_that_see_different_checkpoints_are_told(notes: list[dict[str, Any]]) -> None:
    for note in notes:
        assert "the processes go on from different steps: [0, 2]" in note["lost"]
