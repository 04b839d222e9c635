"""Writing the files of a checkpoint, several at a time."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import torch

from fxprune.errors import FxPruneError, first_of
from fxprune.files import write_atomically
from fxprune.shards import Planned, Shard, as_bytes, write_in_parts
from fxprune.streaming.markers import Finished, Marker
from fxprune.streaming.reports import Progress
from fxprune.streaming.slicing import sliced_parts

if TYPE_CHECKING:
    from torch import Tensor

    from fxprune.shards import Checkpoint

_PIECE = 1 << 24
"""How many bytes are read at once."""
Slices = Mapping[str, Mapping[int, Sequence[int]]]


@dataclass(frozen=True)
class Job:
    """All that is to be written.

    Attributes:
        checkpoint: the source.
        target: the folder.
        files: the tensors of each file that is written, in their order.
        slices: name -> dim -> removed positions.
    """

    checkpoint: Checkpoint
    target: Path
    files: Mapping[str, tuple[Planned, ...]]
    slices: Slices

    def write(self, name: str, wrote: Callable[[int], object]) -> Finished:
        """Write a file, and check what is on the disk then.

        Raises:
            FxPruneError: it cannot be written, or what is on the disk is something else.
        """
        shard, path = self.checkpoint.shards[name], self.target / name
        digests = []

        def fill(stream: BinaryIO) -> None:
            digests.append(
                write_in_parts(
                    stream,
                    self.files[name],
                    shard.metadata,
                    lambda tensor: self._parts(shard, tensor),
                    wrote,
                )
            )

        write_atomically(path, fill)
        finished = Finished(path.stat().st_size, digests[0])
        try:
            self.check(name, finished)
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        return finished

    def _parts(self, shard: Shard, name: str) -> Iterable[Tensor]:
        tensor, gone = shard.tensor(name), self.slices.get(name)
        return sliced_parts(tensor, gone) if gone else [tensor]

    def check(self, name: str, expected: Finished) -> None:
        """Read a file that was written back.

        Raises:
            FxPruneError: it does not hold what was to be written.
        """
        if wrong := self.wrong(name, expected):
            raise FxPruneError(
                f"{self.target / name} does not hold what was to be written",
                why=first_of(wrong),
                hint="check the disk",
            )

    def wrong(self, name: str, expected: Finished) -> list[str]:
        """What is wrong with a file that was written: nothing, it should be."""
        path = self.target / name
        wrong = _wrong_bytes(path, expected)
        if not wrong:
            source, made = self.checkpoint.shards[name], Shard.open(path)
            wrong = [
                f"{each.name} is {entry.dtype} of shape {list(entry.shape)}"
                for each, entry in ((each, made.entries[each.name]) for each in self.files[name])
                if (entry.dtype, entry.shape) != (each.dtype, each.shape)
            ]
            wrong += [
                f"{each.name} has other bytes than in the source"
                for each in self.files[name]
                if each.name not in self.slices
                and not _are_equal(source.tensor(each.name), made.tensor(each.name))
            ]
        return wrong


def _wrong_bytes(path: Path, expected: Finished) -> list[str]:
    """What is wrong with a file as a whole."""
    if not path.is_file():
        return ["it is not there"]
    size = path.stat().st_size
    if size != expected.size:
        return [f"it has {size:,} bytes, not {expected.size:,}"]
    return [] if _digest(path) == expected.sha256 else ["it has another SHA-256"]


def _digest(path: Path) -> str:
    """SHA-256 of a file, of what is on the disk where the system lets us ask for that."""
    found = hashlib.sha256()
    with path.open("rb", buffering=0) as stream:
        if hasattr(os, "posix_fadvise"):
            with suppress(OSError):
                os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        while piece := stream.read(_PIECE):
            found.update(piece)
    return found.hexdigest()


def _are_equal(one: Tensor, other: Tensor) -> bool:
    return torch.equal(as_bytes(one), as_bytes(other))


class _StoppedError(FxPruneError):
    """Another file failed, or the user wants to stop."""


class Work:
    """The writing of all files, and how far it is."""

    def __init__(
        self, job: Job, marker: Marker, progress: Callable[[Progress], object] | None
    ) -> None:
        self.job = job
        self.marker = marker
        self._progress = progress
        self._go = threading.Event()  # an executor that is interrupted forgets its newest thread
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._sizes = {name: sum(t.size for t in tensors) for name, tensors in job.files.items()}
        self._written = sum(self._sizes[name] for name in marker.shards)

    def run(self, workers: int) -> None:
        """Write all files that are not finished, so many at a time.

        Whatever ends it early, the others stop, and what was finished is noted.

        Raises:
            FxPruneError: a file cannot be written.
        """
        left = [name for name in self.job.files if name not in self.marker.shards]
        pending: dict[Future[Finished], str] = {}
        with ThreadPoolExecutor(workers) as executor:
            try:
                for name in left:
                    pending[executor.submit(self._write, name)] = name
                self._go.set()
                while pending:
                    done, _ = wait(pending, return_when="FIRST_COMPLETED")
                    self._finish(done, pending)
            except BaseException:
                self._stop.set()
                self._go.set()
                for future in pending:
                    future.cancel()
                wait(pending)
                self._finish_rest(pending)
                raise

    def _write(self, name: str) -> Finished:
        self._go.wait()
        self._wrote(0)
        return self.job.write(name, self._wrote)

    def _finish(
        self, done: Iterable[Future[Finished]], pending: dict[Future[Finished], str]
    ) -> None:
        """Note what is finished; what failed is raised after that."""
        failed = []
        for future in done:
            name = pending.pop(future)
            error = future.exception()
            if error is not None:
                failed.append(error)
                continue
            marker = self.marker.with_finished(name, future.result())
            marker.write(self.job.target)
            self.marker = marker
            self._tell(0)
        if failed:
            raise failed[0]

    def _finish_rest(self, pending: dict[Future[Finished], str]) -> None:
        """Note what was finished meanwhile, if it is possible."""
        good = [f for f in pending if not f.cancelled() and f.exception() is None]
        with suppress(FxPruneError):
            self._finish(good, pending)

    def _wrote(self, count: int) -> None:
        if self._stop.is_set():
            raise _StoppedError("stopped")
        if count:
            self._tell(count)

    def _tell(self, count: int) -> None:
        with self._lock:
            self._written += count
            if self._progress is not None:
                finished, total = len(self.marker.shards), sum(self._sizes.values())
                self._progress(Progress(finished, len(self._sizes), self._written, total))
