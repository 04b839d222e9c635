"""A kill -9 in the middle of progressive pruning loses at most the step in flight."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from fxprune import Plan
from fxprune.progress.files import Progress

CHECKOUT = Path(__file__).parents[2]


def started(folder: Path, *step: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-m", "tests.progress.runs", str(folder), *step],
        cwd=CHECKOUT,
    )


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no kill -9 here")
def test_a_kill_in_the_middle_loses_at_most_the_step_in_flight(tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    whole.mkdir()
    killed.mkdir()
    assert started(whole).wait(300) == 0
    run = started(killed, "3")
    for _ in range(3000):
        if (killed / "ready").exists() or run.poll() is not None:
            break
        time.sleep(0.1)
    run.kill()
    assert run.wait(60) == -signal.SIGKILL
    saved = Progress.load(killed / "run.pt")
    assert saved.step == 2
    assert saved.extra == {"step": 2}
    assert not (killed / "final.pt").exists()

    assert started(killed).wait(300) == 0
    assert (killed / "began at 2").exists()
    ours, theirs = torch.load(killed / "final.pt"), torch.load(whole / "final.pt")
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(value, theirs[name]) for name, value in ours.items())
    assert Plan.load(killed / "plan.json").groups == Plan.load(whole / "plan.json").groups
