"""A run of progressive pruning as a process of its own, for the tests that kill one.

`python -m tests.progress.runs FOLDER [STEP]` prunes and trains with a checkpoint in the
folder. With a STEP it says "ready" in the middle of that step's training, and waits for its end.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import torch

import fxprune
from tests.progress.test_optimizers import X, network
from tests.progress.test_progressing import train


def main(folder: Path, waiting: int) -> None:
    torch.set_num_threads(1)
    run = fxprune.Progressive(
        network(), X, {"params": 0.4}, steps=4, checkpoint=folder / "run.pt", verify="quick"
    )
    (folder / f"began at {run.step_number}").touch()
    optimizer = torch.optim.SGD(run.model.parameters(), lr=0.05, momentum=0.9)
    run.restore(optimizer)
    while not run.done:
        model = run.step(optimizer)
        for epoch in range(2):
            train(model, optimizer, seed=run.step_number * 10 + epoch)
            if run.step_number == waiting and not epoch:
                (folder / "ready").touch()
                time.sleep(1000)
        run.save(optimizer, step=run.step_number)
    torch.save(run.model.state_dict(), folder / "final.pt")
    run.plan.save(folder / "plan.json")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0)
