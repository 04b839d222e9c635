"""Processes on this machine: two of `torch.distributed`, or those of a cluster of dask."""

from __future__ import annotations

import multiprocessing
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist

from fxprune import FxPruneError


def join_group(rank: int, folder: str) -> None:
    """Meet the other process."""
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo",
        init_method=f"file://{folder}/meet",
        rank=rank,
        world_size=2,
        timeout=timedelta(seconds=100),
    )


def run_two(work: Callable[[int, str], None], folder: Path) -> Path:
    """Let two processes work, which get their rank and the folder, and see that both succeed."""
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=work, args=(k, str(folder))) for k in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(300)
        assert process.exitcode == 0
    return folder


def told(function: Callable[[], Any]) -> str:
    """The error that a function raises, as it is to be sent to another process."""
    try:
        function()
    except FxPruneError as error:
        return str(error)
    return "no error"


@contextmanager
def local_cluster(workers: int, *, processes: bool) -> Iterator[Executor]:
    """The executor of a cluster of dask on this machine."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of dask, while it starts and stops
        distributed = pytest.importorskip("distributed")
        options = {"processes": processes, "dashboard_address": None, "threads_per_worker": 2}
        with (
            distributed.LocalCluster(n_workers=workers, **options) as cluster,
            distributed.Client(cluster) as client,
        ):
            yield client.get_executor()
