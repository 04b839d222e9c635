"""Processes that evaluate for a command, and end with it."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing.context import SpawnContext, SpawnProcess
from multiprocessing.process import BaseProcess

import torch

_PATIENCE = 5.0
"""Seconds that processes have to end by themselves."""


class _Shielded(SpawnProcess):
    """A process that Ctrl-C does not reach: it is for the command to end it."""

    def start(self) -> None:
        """Start it with SIGINT blocked, which it inherits; here it is held back for that long."""
        if not hasattr(signal, "pthread_sigmask"):
            super().start()
            return
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            super().start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


class _Shielding(SpawnContext):
    Process = _Shielded


@contextmanager
def processes(count: int) -> Iterator[Executor | None]:
    """An executor with so many processes, which share the processors; none for one.

    If the command is stopped they end at once, with what they are evaluating.
    """
    if count == 1:
        yield None
        return
    threads = max(1, (os.cpu_count() or 1) // count)
    executor = ProcessPoolExecutor(count, _Shielding(), _set_up, (threads,))
    try:
        yield executor
        executor.shutdown()
    except KeyboardInterrupt:  # also one that comes while they end
        running = multiprocessing.active_children()
        executor.shutdown(wait=False, cancel_futures=True)  # they end when they are told to
        _end(running)
        raise
    except BaseException:
        executor.shutdown()
        raise


def _end(processes: Sequence[BaseProcess]) -> None:
    """Ask processes to end, and end those that do not."""
    for process in processes:
        process.terminate()
    last = time.monotonic() + _PATIENCE
    for process in processes:
        process.join(max(0.0, last - time.monotonic()))
        process.kill()


def _stop(*_: object) -> None:
    """End in order, or what libraries share with other processes would be left behind."""
    raise SystemExit


def _set_up(threads: int) -> None:
    """What a process starts with: what it prints must not get into a table or JSON."""
    signal.signal(signal.SIGTERM, _stop)
    torch.set_num_threads(threads)
    sys.stdout = sys.stderr
