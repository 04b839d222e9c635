"""Accuracy at equal MACs and fine-tuning, beside Torch-Pruning: `python -m benchmarks.accuracy`.

One ResNet-18 for each seed is trained on Fashion-MNIST. Every method prunes it to the same MACs,
and what it yields is fine-tuned alike: the same images in the same order, the same optimizer, as
many epochs. Finished runs are kept in a folder, so that a run that was stopped goes on from there.
"""

from __future__ import annotations

import copy
import json
import platform
import statistics
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import click
import torch
import torch_pruning
from torch import nn

import fxprune
from benchmarks.rivals import CRITERIA, LARGEST, SCOPES, Batches, Rival, loss, macs
from examples.resnet18 import Data, Settings, dense
from examples.training import accuracy, train
from fxprune import importance

SHARE = 0.3
"""What is left of the MACs, at most."""
EPOCHS = 1
IMAGES = 20_000  # of the training set, that are fine-tuned on
CALIBRATION = 512  # images that criteria by gradients see
EXAMPLE = torch.zeros(1, 3, 28, 28)
TARGET = Path(__file__).parents[1] / "docs" / "accuracy.md"


def ours(model: nn.Module, batches: Batches, **options: Any) -> nn.Module:
    """The largest network within the share of MACs that fxprune finds."""
    plan = fxprune.plan(model, EXAMPLE, target={"macs": SHARE}, max_ratio=LARGEST, **options)
    return fxprune.shrink(model, plan, batches[0][0][:2], verify="quick")


def by_sensitivity(model: nn.Module, batches: Batches, **options: Any) -> nn.Module:
    """The same, with a sensitivity analysis by the loss on the calibration images."""
    evaluate = partial(mean_loss, batches=batches)
    criterion = options["criterion"]
    found = fxprune.sensitivity(
        model, EXAMPLE, evaluate, ratios=(0.25, 0.5, 0.75), mode="min", criterion=criterion
    )
    return ours(model, batches, sensitivity=found, **options)


@torch.no_grad()
def mean_loss(model: nn.Module, batches: Batches) -> float:
    """The mean loss of some batches."""
    return statistics.fmean(float(loss(model, batch)) for batch in batches)


def torch_pruning_of(
    model: nn.Module, batches: Batches, *, criterion: str, scope: str
) -> nn.Module:
    """The largest network within the share of MACs that Torch-Pruning finds."""
    found = Rival.of(criterion, model, batches).within(SHARE, scope)
    if found is None:
        raise RuntimeError("Torch-Pruning finds no network within the MACs")
    return found


Method = Callable[[nn.Module, Batches], nn.Module]


def methods() -> dict[str, Method]:
    """Every method, by name: those of Torch-Pruning first."""
    found: dict[str, Method] = {}
    for criterion, scope in product(CRITERIA, SCOPES):
        label = f"Torch-Pruning, {criterion}, {scope}"
        found[label] = partial(torch_pruning_of, criterion=criterion, scope=scope)
    kinds: dict[str, Callable[..., nn.Module]] = {
        "L2": partial(ours, criterion="l2"),
        "LAMP": partial(ours, criterion="lamp"),
        "Taylor": partial(_by_data, kind=importance.Taylor),
        "Fisher": partial(_by_data, kind=importance.Fisher),
    }
    for name, method in kinds.items():
        found[f"fxprune, {name}, each group"] = method
        normalize = "none" if name == "LAMP" else "mean"  # which compares over layers as it is
        for scope in ("global", "isomorphic"):
            found[f"fxprune, {name}, {scope}"] = partial(method, scope=scope, normalize=normalize)
    found["fxprune, L2, sensitivity"] = partial(by_sensitivity, criterion="l2")
    found["fxprune, LAMP, sensitivity"] = partial(by_sensitivity, criterion="lamp")
    found["fxprune, Fisher, sensitivity"] = _by_fisher_sensitivity
    return found


def _by_fisher_sensitivity(model: nn.Module, batches: Batches) -> nn.Module:
    criterion = importance.Fisher(batches, loss, progress=False)
    return by_sensitivity(model, batches, criterion=criterion)


def _by_data(model: nn.Module, batches: Batches, *, kind: Any, **options: Any) -> nn.Module:
    return ours(model, batches, criterion=kind(batches, loss, progress=False), **options)


@dataclass(frozen=True)
class Run:
    """What became of one network by one method.

    Attributes:
        macs: the share that is left.
        parameters: how many there are.
        before: accuracy before fine-tuning, in %.
        after: accuracy afterwards, in %.
    """

    macs: float
    parameters: int
    before: float
    after: float


def run(method: Method, model: nn.Module, data: Data, seed: int) -> Run:
    """Prune and fine-tune."""
    some = data.train[:CALIBRATION]
    batches = list(zip(some.images.split(64), some.labels.split(64), strict=True))
    small = method(copy.deepcopy(model), batches).eval()
    before = 100 * accuracy(small, data.test)
    share = macs(small, EXAMPLE) / macs(model, EXAMPLE)
    if share > SHARE:
        raise RuntimeError(f"{share:.3f} of the MACs are left")
    for parameter in small.parameters():
        parameter.grad = None
    train(small, data.train[:IMAGES], EPOCHS, learning_rate=0.05, seed=1000 + seed)
    parameters = sum(parameter.numel() for parameter in small.parameters())
    return Run(share, parameters, before, 100 * accuracy(small, data.test))


def page(runs: dict[str, list[Run]], whole: list[float]) -> str:
    """The table, best first."""
    rows = sorted(runs.items(), key=lambda item: -statistics.fmean(r.after for r in item[1]))
    about = f"""# Accuracy

A ResNet-18 is trained on Fashion-MNIST ({_told(whole)} % on the test images), pruned to at most
{SHARE:.0%} of its MACs, and fine-tuned for {EPOCHS} epoch(s) of {IMAGES:,} images: by every method
from the same {len(whole)} networks, with the same images in the same order. What looks at data
(Taylor, Hessian, Fisher, sensitivity) sees the same {CALIBRATION} of the training images.
`python -m benchmarks.accuracy` wrote this page on {platform.machine()} with torch
{torch.__version__.split("+")[0]} and Torch-Pruning {torch_pruning.__version__}. Figures are means
over seeds, with the spread (largest less smallest) in parentheses.
"""
    lines = [
        about,
        "| method | MACs left | parameters | accuracy before % | after % |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for name, own in rows:
        shares = f"{statistics.fmean(r.macs for r in own):.3f}"
        count = f"{statistics.fmean(r.parameters for r in own):,.0f}"
        before, after = _told([r.before for r in own]), _told([r.after for r in own])
        lines.append(f"| {name} | {shares} | {count} | {before} | {after} |")
    return "\n".join([*lines, ""])


def _told(values: Iterable[float]) -> str:
    numbers = list(values)
    return f"{statistics.fmean(numbers):.2f} ({max(numbers) - min(numbers):.2f})"


@click.command()
@click.option("--seeds", default=3, show_default=True)
@click.option("--only", default="", help="Methods with this in their names.")
@click.option("--folder", type=Path, default=Path("build/accuracy"), show_default=True)
@click.option("--networks", type=Path, default=Path("build/resnet18/full"), show_default=True)
def main(*, seeds: int, only: str, folder: Path, networks: Path) -> None:
    """Prune and fine-tune by every method, and write docs/accuracy.md."""
    torch.set_num_threads(1)
    settings = Settings()
    data = Data.load(settings)
    runs: dict[str, list[Run]] = {}
    whole = []
    for seed in range(seeds):
        home = networks / f"seed{seed}"
        home.mkdir(parents=True, exist_ok=True)
        model = dense(data, settings, home, seed)
        whole.append(100 * accuracy(model, data.test))
        for name, method in methods().items():
            if only not in name:
                continue
            path = (
                folder
                / f"{SHARE:g}-{EPOCHS}-{IMAGES}"
                / f"seed{seed}"
                / f"{name.replace(', ', '-').replace(' ', '_')}.json"
            )
            if not path.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(json.dumps(vars(run(method, model, data, seed))))
            runs.setdefault(name, []).append(Run(**json.loads(path.read_text())))
            click.echo(f"seed {seed}, {name}: {runs[name][-1]}")
    if not only:
        TARGET.write_text(page(runs, whole), encoding="utf-8")


if __name__ == "__main__":
    main()
