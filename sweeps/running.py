"""Each model in a process of its own, so that a crash or a hang is a row and not the end."""

from __future__ import annotations

import math
import os
import signal
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, replace
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TypeAlias

import torch

from sweeps.catalogue import catalogue
from sweeps.entry import SweepModel
from sweeps.measuring import measure
from sweeps.rows import Row

Task: TypeAlias = Callable[[str, str], Row | None]

# A server process that has imported the libraries forks one process for each model: starting
# costs nothing, and no process inherits threads or tensors of another.
_CONTEXT = get_context("forkserver")
_GRACE = 10


@dataclass(frozen=True)
class Measure:
    """The task of the sweep; what it is given means the same in another process.

    `largest` is the number of parameters above which a model is skipped (no row).
    """

    threads: int = 1
    largest: int | None = None

    def __call__(self, library: str, key: str) -> Row | None:
        torch.set_num_threads(self.threads)
        return measure(catalogue(library)[key], self.largest)


def preload(modules: Iterable[str]) -> None:
    """Let the server process import these; before the first model runs."""
    _CONTEXT.set_forkserver_preload(list(modules))


def run_all(
    models: Iterable[SweepModel], task: Task, *, jobs: int, timeout: float
) -> Iterator[tuple[SweepModel, Row | None]]:
    """Run the task on every model, `jobs` at a time, and give the rows as they come."""
    with ThreadPoolExecutor(max_workers=jobs) as pool:
        running = {pool.submit(run_one, model, task, timeout): model for model in models}
        try:
            for done in as_completed(running):
                yield running[done], done.result()
        finally:
            pool.shutdown(cancel_futures=True)


def run_one(model: SweepModel, task: Task, timeout: float) -> Row | None:
    """Run the task in a process of its own; its death and its tardiness are rows too."""
    ours, theirs = _CONTEXT.Pipe(duplex=False)
    process = _CONTEXT.Process(
        target=_send, args=(theirs, task, model.library, model.key, timeout), daemon=True
    )
    process.start()
    theirs.close()
    lost = Row(model.library, model.family, model.name, "crashed")
    try:
        if not ours.poll(timeout):
            return replace(lost, outcome="timed out", seconds=timeout)
        row: Row | None = ours.recv()
        process.join(_GRACE)  # it cleans up behind itself
        return row
    except EOFError:
        process.join()
        return replace(lost, reason=_death(process.exitcode))
    finally:
        ours.close()
        process.kill()
        process.join()


def _send(connection: Connection, task: Task, library: str, key: str, timeout: float) -> None:
    # Should the sweep itself be killed, nobody is left to end this process.
    signal.alarm(math.ceil(timeout) + _GRACE)
    # What a model prints is not for the reader of the progress.
    with Path(os.devnull).open("w") as nowhere:
        os.dup2(nowhere.fileno(), 1)
        os.dup2(nowhere.fileno(), 2)
    connection.send(task(library, key))
    connection.close()


def _death(code: int | None) -> str:
    if code is not None and code < 0:
        return f"the process died of {signal.Signals(-code).name}"
    return f"the process ended with exit code {code}"
