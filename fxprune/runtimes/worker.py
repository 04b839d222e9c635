"""The process in which one candidate is measured, run as a script.

It imports no more than its runtime needs, so that its memory is what a deployment would hold:
ONNX Runtime goes without torch and without fxprune. It reads a job, answers with a line of JSON
once the model is ready, and with another for each line that it is sent.
"""

from __future__ import annotations

import json
import os
import pickle
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

Call = Callable[[], object]


def main() -> None:
    """Serve until the input ends."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what models print must not get between the answers

    def answer(**values: object) -> None:
        try:
            print(json.dumps(values), file=answers, flush=True)
        except BrokenPipeError:  # who has asked is gone: there is nobody to tell
            os.dup2(os.open(os.devnull, os.O_WRONLY), answers.fileno())  # what is left to flush
            sys.exit()

    line = sys.stdin.readline()
    if not line:  # stopped before it could ask
        return
    try:
        job = json.loads(line)
        sys.path[:] = job["path"]
        call, size = _onnx(job) if job["runtime"] == "onnxruntime" else _torch(job)
        calls = _warm_up(call, job["warm_up"], job["shortest"])
        answer(size=size, peak=peak_memory())
        for _ in sys.stdin:
            answer(seconds=_seconds(call, calls), peak=peak_memory())
    except Exception as error:  # noqa: BLE001  # whatever a model or a runtime raises
        text = str(error) if type(error).__module__ == "fxprune.errors" else ""
        answer(failure=text or " ".join(f"{type(error).__name__}: {error}".split()))


def _torch(job: dict[str, Any]) -> tuple[Call, int]:
    from fxprune.runtimes.runners import open_runner  # noqa: PLC0415  # with torch

    candidate = pickle.loads(Path(job["candidate"]).read_bytes())  # the parent's own
    return open_runner(candidate, job["threads"])


def _onnx(job: dict[str, Any]) -> tuple[Call, None]:
    import numpy as np  # noqa: PLC0415  # what needs no more than this file has no need of them
    import onnxruntime  # noqa: PLC0415

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = job["threads"], 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    providers = ["CPUExecutionProvider"]
    session = onnxruntime.InferenceSession(job["model"], options, providers=providers)
    names = [each.name for each in session.get_inputs()]
    given = {name: np.load(file, allow_pickle=False) for name, file in job["inputs"].items()}
    if len(given) != len(names):
        raise ValueError(f"the file takes {len(names)} inputs, and {len(given)} are given")
    feeds = given if set(given) == set(names) else dict(zip(names, given.values(), strict=True))
    return lambda: session.run(None, feeds), None


def _warm_up(call: Call, least: float, shortest: float) -> int:
    """Call for some seconds; returns how many calls are long enough to be timed."""
    start = time.perf_counter()
    times: list[float] = []
    while len(times) < 3 or time.perf_counter() - start < least:
        times.append(_seconds(call, 1))
    return max(1, round(shortest / max(min(times), 1e-9)))


def _seconds(call: Call, calls: int) -> float:
    start = time.perf_counter()
    for _ in range(calls):
        call()
    return (time.perf_counter() - start) / calls


def peak_memory() -> int:
    """The most bytes of memory that this process has held at once (its resident set)."""
    status = Path("/proc/self/status")
    if status.exists():  # `getrusage` would count the parent, of which a process starts as a copy
        for line in status.read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    import resource  # noqa: PLC0415  # not on Windows

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


if __name__ == "__main__":
    main()
