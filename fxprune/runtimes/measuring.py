"""Measuring candidates side by side: each in a process of its own, all in turns."""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch.utils import _pytree as pytree

from fxprune.errors import InputError
from fxprune.measurements import Comparison, Measurement, Relation, Spread
from fxprune.runtimes import worker
from fxprune.runtimes.runners import Candidate, Settings

_MIB = 2**20
_PATIENCE = 5.0
"""Seconds that a process has to end by itself."""
_GROUP = 0 if os.name == "posix" else None
"""0 puts a process into a group of its own, which Ctrl-C does not reach."""


class _Process:
    """A candidate's process."""

    def __init__(self, candidate: Candidate, settings: Settings) -> None:
        self.candidate = candidate
        self.size = self.peak = 0
        self.failure = ""
        self.times: list[float] = []
        self._settings = settings
        self._popen: subprocess.Popen[str] | None = None

    def start(self, folder: Path) -> None:
        """Load the model and warm it up."""
        job = _job(self.candidate, self._settings, folder)
        # Without the script's own folder on the path, and with this process's path instead.
        command = [sys.executable, "-P", str(Path(worker.__file__))]
        pipe = subprocess.PIPE
        self._popen = subprocess.Popen(
            command, stdin=pipe, stdout=pipe, text=True, process_group=_GROUP
        )
        self.ask(json.dumps(job))

    def ask(self, line: str = "") -> None:
        """Send a line, and take the answer: what was measured, or why it was not."""
        popen = self._popen
        if popen is None or popen.stdin is None or popen.stdout is None:
            raise RuntimeError("the process was not started")
        with suppress(BrokenPipeError):  # of a process that has ended, as the next lines tell
            print(line, file=popen.stdin, flush=True)
        answer = popen.stdout.readline()
        if not answer:  # killed, by the system's guard of memory for one
            self.failure = f"the process ended with exit code {popen.wait()}"
            return
        self._note(json.loads(answer))

    def _note(self, answer: Mapping[str, Any]) -> None:
        self.failure = answer.get("failure", "")
        if "size" in answer:
            size = answer["size"]  # None of an ONNX file: to parse it would count as memory
            self.size = _file_size(self.candidate) if size is None else size
        self.peak = answer.get("peak", self.peak)
        self.times += [answer["seconds"]] if "seconds" in answer else []
        limit = self._settings.memory_limit
        if limit is not None and self.peak > limit:
            self.failure = (
                f"it held {self.peak / _MIB:.0f} MiB, more than the limit of {limit / _MIB:.0f} MiB"
            )
            self.stop()

    def stop(self) -> None:
        """End the process, if it was started: it may tidy up first."""
        if self._popen is None:
            return
        try:
            self._popen.communicate(timeout=_PATIENCE)
        except (subprocess.TimeoutExpired, ValueError):
            self._popen.kill()
            self._popen.wait()
        self._popen = None

    def kill(self) -> None:
        """End the process at once, with those that it started."""
        if self._popen is None:
            return
        if os.name == "posix":
            with suppress(ProcessLookupError):
                os.killpg(self._popen.pid, signal.SIGKILL)
        self._popen.kill()
        with self._popen:
            self._popen = None


def _job(candidate: Candidate, settings: Settings, folder: Path) -> dict[str, Any]:
    """What the process needs: ONNX Runtime gets arrays by name, torch the candidate itself."""
    job = {
        "path": sys.path,
        "runtime": candidate.runtime,
        "threads": settings.threads,
        "warm_up": settings.warm_up,
        "shortest": settings.shortest,
    }
    if candidate.runtime == "onnxruntime":
        return {**job, "model": str(candidate.model), "inputs": _arrays(candidate.inputs, folder)}
    path = folder / "candidate.pickle"
    path.write_bytes(pickle.dumps(candidate))
    return {**job, "candidate": str(path)}


def _file_size(candidate: Candidate) -> int:
    from fxprune.onnx.files import file_size  # noqa: PLC0415  # an extra

    return file_size(Path(str(candidate.model)))


def _arrays(inputs: Any, folder: Path) -> dict[str, str]:
    """The files of the tensors, by the names of the arguments, or else by their numbers."""
    named = inputs if isinstance(inputs, Mapping) else dict(enumerate(pytree.tree_leaves(inputs)))
    found = {}
    for number, (name, value) in enumerate(named.items()):
        if isinstance(value, torch.Tensor):
            path = folder / f"{number}.npy"
            np.save(path, value.numpy())
            found[str(name)] = str(path)
    return found


def compare(
    candidates: Sequence[Candidate],
    settings: Settings | None = None,
    progress: Callable[[str], object] = lambda text: None,
) -> Comparison:
    """Latency, peak memory and size of models in runtimes.

    Each candidate lives in a process of its own. They are loaded and warmed up one after another,
    and then timed in turns, one call (or a few short ones) each a round, so that a machine that is
    now fast, now slow is so for all of them. Ratios are of the times of one round.

    Args:
        candidates: at least one; those in the same runtime are compared with its first.
        settings: threads, rounds and limits.
        progress: called with what is being done.

    Raises:
        InputError: there is no candidate.
    """
    if not candidates:
        raise InputError(
            "there is nothing to measure", hint="name a model and a runtime it runs in"
        )
    chosen = settings or Settings()
    processes = [_Process(candidate, chosen) for candidate in candidates]
    try:
        with TemporaryDirectory() as folder:
            for number, process in enumerate(processes, 1):
                name = f"{process.candidate.name} in {process.candidate.runtime}"
                progress(f"Loading and warming up {name} ({number} of {len(processes)})")
                process.start(Path(folder))
        for number in range(1, chosen.rounds + 1):
            progress(f"Timing, round {number} of {chosen.rounds}")
            for process in processes:
                if not process.failure:
                    process.ask()
    except KeyboardInterrupt:
        for process in processes:
            process.kill()
        raise
    finally:
        for process in processes:
            process.stop()
    found = tuple(_measurement(process, processes) for process in processes)
    return Comparison(found, chosen.threads, chosen.rounds, chosen.memory_limit)


def _measurement(process: _Process, processes: Sequence[_Process]) -> Measurement:
    name, runtime = process.candidate.name, process.candidate.runtime
    milliseconds = relation = None
    if not process.failure:
        milliseconds = Spread.of([1000 * seconds for seconds in process.times])
        first = next(other for other in processes if other.candidate.runtime == runtime)
        if first is not process and not first.failure:
            relation = Relation.of(first.candidate.name, process.times, first.times)
    return Measurement(
        name, runtime, milliseconds, relation, process.peak, process.size, process.failure
    )
