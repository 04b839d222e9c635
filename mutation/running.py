"""Each mutant in a process of its own, forked when torch is imported and fxprune is not."""

from __future__ import annotations

import importlib
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Literal, TypeAlias

from mutation.checks import checks
from mutation.mutants import ROOT, Mutant

Outcome: TypeAlias = Literal["killed", "survived", "timed out"]
_MEMORY = 4 << 30  # A loop without end can also fill the memory.
_COPIED = ("fxprune", "models_zoo", "tests", "docs")
# What every mutant would import otherwise, and takes seconds.
_SLOW_IMPORTS = (
    *("torch", "torch.export", "torch.fx.experimental.proxy_tensor", "torch._decomp"),
    *("torch.utils.flop_counter", "torch._subclasses", "networkx", "rich.console"),
)


@dataclass(frozen=True)
class Result:
    """What became of a mutant, and the last line of what the check said."""

    mutant: Mutant
    outcome: Outcome
    reason: str = ""
    seconds: float = 0.0


def preload() -> None:
    """Import what mutants share, before the first one is forked."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in _SLOW_IMPORTS:
            importlib.import_module(name)
        sys.modules["torch"].set_num_threads(1)


@contextmanager
def checkout() -> Iterator[Path]:
    """A copy of the tree that mutants are put into; the checkout itself is never changed."""
    with tempfile.TemporaryDirectory(prefix="fxprune-mutation-") as name:
        copy = Path(name)
        for folder in _COPIED:
            shutil.copytree(ROOT / folder, copy / folder)  # with bytecode, which stays valid
        shutil.copy2(ROOT / "pyproject.toml", copy)
        yield copy


def run_all(mutants: Sequence[Mutant], jobs: int, limit: float) -> Iterator[Result]:
    """Run mutants, `jobs` at a time; `limit` is how many CPU seconds each may take.

    Raises:
        RuntimeError: the checks of a package fail without a mutant.
    """
    files = list({mutant.package: mutant.file for mutant in mutants}.values())
    with get_context("fork").Pool(jobs) as pool:
        for file, reason in zip(
            files, pool.map(partial(_baseline, limit=limit), files), strict=True
        ):
            if reason is not None:
                raise RuntimeError(f"{file}: the checks fail without a mutant: {reason}")
        yield from pool.imap_unordered(partial(_run, limit=limit), mutants)


def _baseline(file: str, limit: float) -> str | None:
    """What the checks of a file say without a mutant, if they fail."""
    with checkout() as copy:
        outcome, reason = _wait(_fork(file, copy, round(limit)))
        return None if outcome == "survived" else reason or _log(copy)


def _run(mutant: Mutant, limit: float) -> Result:
    start = time.monotonic()
    with checkout() as copy:
        (copy / mutant.file).write_text(mutant.text, encoding="utf-8")
        outcome, reason = _wait(_fork(mutant.file, copy, round(limit)))
        if outcome == "killed" and reason:  # a crash may have other causes: it has to come again
            outcome, reason = _wait(_fork(mutant.file, copy, round(limit)))
        told = _log(copy) if outcome == "killed" else ""
    return Result(mutant, outcome, reason or told, time.monotonic() - start)


def _fork(file: str, copy: Path, limit: int) -> int:
    sys.stdout.flush()
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        resource.setrlimit(resource.RLIMIT_CPU, (limit, limit + 5))
        resource.setrlimit(resource.RLIMIT_DATA, (_MEMORY, _MEMORY))
        _enter(copy)
        for check in checks(file):
            check()
        code = 0
    except BaseException:  # noqa: BLE001  # whatever it is, the mutant was noticed
        os.write(2, traceback.format_exc(limit=-1).encode())
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _enter(copy: Path) -> None:
    """Make the copy the place where modules come from, and keep what is printed there."""
    log = os.open(copy / "log", os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.environ.update(CI="1", HF_HUB_OFFLINE="1")
    sys.dont_write_bytecode = True
    os.chdir(copy)
    sys.path[:] = [str(copy), *(p for p in sys.path if p and Path(p).resolve() != ROOT)]
    sys.path_importer_cache.clear()
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _wait(pid: int) -> tuple[Outcome, str]:
    _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status):
        number = signal.Signals(os.WTERMSIG(status))
        return ("timed out" if number == signal.SIGXCPU else "killed"), f"died of {number.name}"
    return ("survived" if os.WEXITSTATUS(status) == 0 else "killed"), ""


def _log(copy: Path) -> str:
    lines = (copy / "log").read_text(encoding="utf-8", errors="replace").strip().splitlines()
    telling = [line for line in lines if line.startswith(("FAILED", "ERROR", "E  "))]
    return (telling or lines or [""])[-1][:200]
