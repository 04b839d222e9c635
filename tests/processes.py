"""Two processes of `torch.distributed` on this machine."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist


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
