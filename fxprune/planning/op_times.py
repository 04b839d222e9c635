"""How long operators take on this machine: measured once, and kept on disk."""

from __future__ import annotations

import hashlib
import json
import math
import os
import platform
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from fxprune.errors import FxPruneError
from fxprune.files import read_text, write_atomically
from fxprune.op_calls import replaced

LARGEST_FILE = 32 << 20
"""In bytes; an entry has about 150."""
_FORMAT = "fxprune times of operators"
_WARM_UP = 2
_FEWEST, _MOST = 5, 25
_LONG = 0.05
"""Runs of one operator end after this many seconds, if there were enough."""


def cache_folder() -> Path:
    """The user's folder for what can be measured again: `$XDG_CACHE_HOME/fxprune`, or `~/.cache`.

    A variable that names no absolute path is ignored, as the XDG specification asks. A user without
    a home has the folder for temporary files.
    """
    given = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if given.is_absolute():
        return given / "fxprune"
    try:
        return Path.home() / ".cache" / "fxprune"
    except RuntimeError:
        return Path(tempfile.gettempdir()) / "fxprune"


def seconds(run: Callable[[], Any], device: torch.device) -> float:
    """The time of one call, until its device has done the work."""
    wait = torch.accelerator.synchronize if device.type != "cpu" else None
    if wait is not None:
        wait(device)
    start = time.perf_counter()
    run()
    if wait is not None:
        wait(device)
    return time.perf_counter() - start


class OpTimes:
    """The time of every operator that is asked for, in yardsticks.

    A yardstick is a fixed piece of work on the same device, done before and after each run: so
    that a machine that is now fast, now slow measures the same, and operands are not always in the
    nearest cache. The time is the median of some runs after a warm-up.

    One file for each machine, device, number of threads and version of torch, which other processes
    may read and write too. A file that cannot be read is measured anew, one that cannot be written
    is left alone.

    Args:
        device: where operators run.
        folder: where files lie, `cache_folder()` by default.
    """

    def __init__(self, device: torch.device, folder: str | os.PathLike[str] | None = None) -> None:
        self._device = device
        self._environment = _environment(device)
        name = hashlib.sha256(self._environment.encode()).hexdigest()[:16]
        self._path = (cache_folder() if folder is None else Path(folder)) / f"ops-{name}.json"
        self._known = _read(self._path, self._environment)
        self._new: dict[str, float | None] = {}

    def of(self, op: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> float | None:
        """The time of a call, or None if the operator cannot be called so.

        Args:
            op: the operator.
            args: its arguments, with a `Shaped` for each tensor.
            kwargs: its keyword arguments, likewise.
        """
        key = f"{op} {_text(args)} {_text(kwargs)}"
        for known in (self._known, self._new):
            if key in known:
                return known[key]
        self._new[key] = self._measured(op, args, kwargs)
        return self._new[key]

    def _measured(self, op: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> float | None:
        generator = torch.Generator().manual_seed(0)

        def made(value: Any) -> Any:
            return value.random(generator, self._device) if isinstance(value, Shaped) else value

        try:
            with warnings.catch_warnings(), torch.no_grad(), torch.random.fork_rng(devices=[]):
                warnings.simplefilter("ignore")  # of what the user runs anyway
                given, options = replaced(args, made), replaced(dict(kwargs), made)
                return self._median(lambda: op(*given, **options))
        except Exception:  # noqa: BLE001  # an operator may refuse sizes, each in its own way
            return None

    def _median(self, run: Callable[[], Any]) -> float:
        for _ in range(_WARM_UP):
            run()
            before = seconds(self._yardstick, self._device)
        taken: list[float] = []
        total = 0.0
        while len(taken) < _FEWEST or (total < _LONG and len(taken) < _MOST):
            time_taken = seconds(run, self._device)
            after = seconds(self._yardstick, self._device)
            taken.append(2 * time_taken / (before + after))
            total += time_taken + after
            before = after
        return statistics.median(taken)

    def _yardstick(self) -> None:
        """About a millisecond of arithmetic, and of moving more than a core's cache holds."""
        torch.mm(self._matrix, self._matrix)
        self._memory.add_(1)

    @cached_property
    def _matrix(self) -> torch.Tensor:
        return torch.ones(256, 256, device=self._device)

    @cached_property
    def _memory(self) -> torch.Tensor:
        return torch.ones(1 << 21, device=self._device)

    def save(self) -> None:
        """Write what is new, beside what others have written meanwhile."""
        if not self._new:
            return
        self._known = {**_read(self._path, self._environment), **self._known, **self._new}
        self._new = {}
        document = {"format": _FORMAT, "environment": self._environment, "times": self._known}
        text = json.dumps(document, indent=0)
        if len(text) <= LARGEST_FILE:
            with suppress(OSError, FxPruneError):
                self._path.parent.mkdir(parents=True, exist_ok=True)
                write_atomically(self._path, lambda stream: stream.write(text.encode()))


@dataclass(frozen=True)
class Shaped:
    """A tensor that is to be made, with its dims from the outermost to the innermost in memory."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    order: tuple[int, ...]

    def __str__(self) -> str:
        is_dense = self.order == tuple(range(len(self.order)))
        return f"{self.dtype}{list(self.shape)}" + ("" if is_dense else f" by {list(self.order)}")

    def random(self, generator: torch.Generator, device: torch.device) -> torch.Tensor:
        """Numbers around one, which stay so if they are written to again and again; indices 0."""
        inside = [self.shape[dim] for dim in self.order]
        if self.dtype.is_floating_point or self.dtype.is_complex:
            values = (torch.rand(inside, generator=generator) + 0.5).to(self.dtype)
        else:
            values = torch.zeros(inside, dtype=self.dtype)
        dims = [self.order.index(dim) for dim in range(len(self.order))]
        return values.permute(dims).to(device)


def _text(value: Any) -> str:
    """All that the time of a call depends on."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}={_text(item)}" for key, item in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(_text, value)) + "]"
    return str(value) if isinstance(value, Shaped) else repr(value)


def _environment(device: torch.device) -> str:
    """What times are the same in."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor()
    parts = (platform.node(), platform.machine(), str(device), name)
    return ", ".join([*parts, f"{torch.get_num_threads()} threads", f"torch {torch.__version__}"])


def _read(path: Path, environment: str) -> dict[str, float | None]:
    """The times in a file; none if it is not exactly what `save` writes in this environment."""
    try:
        document = json.loads(read_text(path, LARGEST_FILE))
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(document, dict) or set(document) != {"format", "environment", "times"}:
        return {}
    times = document["times"]
    if (document["format"], document["environment"]) != (_FORMAT, environment):
        return {}
    if not isinstance(times, dict) or not all(map(_is_time, times.values())):
        return {}
    return times


def _is_time(value: Any) -> bool:
    return value is None or (type(value) is float and math.isfinite(value) and value >= 0)
