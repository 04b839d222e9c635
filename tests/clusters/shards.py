"""What a user's script under torchrun does: `torchrun ... -m tests.clusters.shards CASE FOLDER`."""

from __future__ import annotations

import json
import os
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

import fxprune
from fxprune import importance
from tests.processes import told

KINDS = ("taylor", "fisher", "mean", "apoz", "variance")
COUNT = 5
X = torch.ones(1, 3, 6, 6, dtype=torch.float64)


def network() -> nn.Module:
    """Wide enough that data tell which channels go."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 32, 3), nn.ReLU(), nn.Conv2d(32, 32, 3), nn.ReLU()]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(128, 4)).double().eval()


def batches(count: int) -> list[tuple[Tensor, Tensor]]:
    """Batches of different sizes and of different kinds of images."""
    generator = torch.Generator().manual_seed(1)
    found = []
    for number in range(count):
        size = 3 + number
        images = torch.randn(size, 3, 6, 6, generator=generator, dtype=torch.float64) + number % 3
        found.append((images, torch.randint(4, (size,), generator=generator)))
    return found


def loss(model: Any, batch: Any) -> Tensor:
    return F.cross_entropy(model(batch[0]), batch[1])


def plan(kind: str, data: Any, model: Any = None) -> fxprune.Plan:
    """A plan by a criterion of data."""
    criterion: Any
    if kind in ("taylor", "fisher"):
        made = {"taylor": importance.Taylor, "fisher": importance.Fisher}[kind]
        criterion = made(data, loss, progress=False)
    else:
        statistic: Any = kind
        criterion = importance.Activation(data, statistic, progress=False)
    return fxprune.plan(model or network(), X, ratio=0.5, criterion=criterion)


def plans(rank: int) -> dict[str, Any]:
    """Plans of halves, and of shards of which one has four times as many batches."""
    all_ = batches(COUNT)
    shards = {"halves": all_[rank::2], "uneven": all_[4:] if rank else all_[:4]}
    return {f"{kind} {name}": plan(kind, s).slices for kind in KINDS for name, s in shards.items()}


def disturbed() -> Any:
    """The network with other weights."""
    model = network()
    with torch.no_grad():
        next(model.parameters()).add_(1)
    return model


def broken() -> Any:
    """The network with weights that no plan can rank."""
    model = network()
    with torch.no_grad():
        next(model.parameters()).fill_(torch.nan)
    return model


def refusals(rank: int) -> dict[str, Any]:
    """What goes wrong where one process differs from the other."""
    read: list[int] = []

    def noted() -> Any:
        for batch in batches(2):
            read.append(1)
            yield batch

    found: dict[str, Any] = {
        "criteria": told(lambda: plan("mean" if rank else "taylor", noted())),
        "statistics": told(lambda: plan("mean" if rank else "apoz", noted())),
        "weights": told(lambda: plan("taylor", noted(), disturbed() if rank else None)),
        "no numbers": told(lambda: plan("mean", noted(), broken() if rank else None)),
    }
    found["read"] = len(read)
    found["loss"] = told(lambda: plan("taylor", [(X, None)] if rank else batches(2)))
    options: Any = {"resume": f"{os.environ['FOLDER']}/points {rank}.json", "progress": False}
    found["resume"] = told(
        lambda: fxprune.sensitivity(network(), X, lambda _: 1.0, ratios=[0.5], **options)
    )
    found["after"] = plan("mean", batches(2)).slices  # they still work together
    return found


def dying(rank: int) -> dict[str, Any]:
    """The second process ends while the first waits for it."""
    if rank:
        os._exit(7)
    return {"told": told(lambda: plan("mean", batches(1)))}


def alone(rank: int) -> dict[str, Any]:
    """The second process makes another plan, and ends in order."""
    if rank:
        return {"told": told(lambda: fxprune.plan(network(), X, ratio=0.5))}
    return {"told": told(lambda: plan("mean", batches(1)))}


def main(case: str, folder: str) -> None:
    torch.set_num_threads(1)
    os.environ["FOLDER"] = folder
    dist.init_process_group("gloo", timeout=timedelta(seconds=60))
    rank = dist.get_rank()
    found = {"plans": plans, "refusals": refusals, "dying": dying, "alone": alone}[case](rank)
    Path(folder, f"{rank}.json").write_text(json.dumps(found), encoding="utf-8")
    sys.stdout.flush()
    os._exit(0)  # threads of torch that are left may abort while Python ends


if __name__ == "__main__":
    main(*sys.argv[1:])
