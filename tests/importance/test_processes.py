"""Two processes with half of the data each find the scores of one with all of it."""

from __future__ import annotations

import multiprocessing
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

KINDS = ("taylor", "fisher", "mean", "apoz", "variance")


def found(kind: str, data: Any) -> Any:
    deps = fxprune.analyze(network(), X)
    if kind == "taylor":
        return scored(deps, importance.Taylor(data, loss, progress=False))
    if kind == "fisher":
        return scored(deps, importance.Fisher(data, loss, progress=False))
    statistic: Any = kind
    return scored(deps, importance.Activation(data, statistic, progress=False))


def work(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    mine = batches(4)[rank::2]
    np.savez(f"{folder}/{rank}.npz", **{kind: found(kind, mine) for kind in KINDS})
    dist.destroy_process_group()


@pytest.mark.skipif(not dist.is_available(), reason="torch without distributed")
def test_processes_add_up(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=work, args=(k, str(tmp_path))) for k in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(300)
        assert process.exitcode == 0
    one, two = (np.load(tmp_path / f"{rank}.npz") for rank in range(2))
    for kind in KINDS:
        np.testing.assert_array_equal(one[kind], two[kind])
        np.testing.assert_allclose(one[kind], found(kind, batches(4)), rtol=1e-12)
