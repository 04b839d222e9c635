"""Accuracy without fine-tuning: `python -m benchmarks.no_finetune`.

Every criterion prunes trained networks to several shares of their MACs, with every repair, and
Torch-Pruning prunes the same networks to the same shares by each of its criteria. Then networks are
fine-tuned with and without a repair. Every figure is kept in a folder once it is known, so that a
run that was stopped goes on from there. `benchmarks.no_finetune_page` tells it all.
"""

from __future__ import annotations

import multiprocessing
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from copy import deepcopy
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import click
import torch
from torch import nn

import fxprune
from benchmarks import no_finetune_page
from benchmarks.kept_figures import Kept, name_of
from benchmarks.no_finetune_page import Table
from benchmarks.rivals import LARGEST, loss
from benchmarks.subjects import Size, Subject, lite0, minilm, resnet, transformer
from examples.pretrained import moves
from fxprune import DependencyGraph, importance
from fxprune.errors import InputError
from fxprune.planning import Plan

SHARES = (0.75, 0.5, 0.35, 0.25)
"""Of the MACs, that are left at most."""
SEEDS = 3
TUNED_SHARE = 0.5
"""Of the MACs, where networks are fine-tuned."""
TARGET = Path(__file__).parents[1] / "docs" / "no_finetune.md"

Criterion = Callable[[Subject], Any]


@dataclass(frozen=True)
class Method:
    """How channels are chosen.

    Attributes:
        criterion: for a network and its inputs.
        options: of `fxprune.plan`.
        labels: whether it needs labels.
    """

    criterion: Criterion
    options: Mapping[str, Any] = field(default_factory=dict)
    labels: bool = False


def _named(name: str) -> Criterion:
    return lambda subject: name


def _activation(statistic: Any) -> Criterion:
    return lambda subject: importance.Activation(subject.batches, statistic, _all, progress=False)


def _all(batch: tuple[Any, ...]) -> tuple[Any, ...]:
    return batch


METHODS: dict[str, Method] = {
    **{name: Method(_named(name)) for name in importance.CRITERIA},
    "activation, mean": Method(_activation("mean")),
    "activation, apoz": Method(_activation("apoz")),
    "activation, variance": Method(_activation("variance")),
    "outputs": Method(lambda s: importance.Fisher(s.directions(), moves, progress=False)),
    "taylor": Method(lambda s: importance.Taylor(s.labelled, loss, progress=False), labels=True),
    "fisher": Method(lambda s: importance.Fisher(s.labelled, loss, progress=False), labels=True),
}
"""How channels are chosen, by name."""

Repair = Callable[[Subject, Plan], Any]


def _reconstructed(subject: Subject, plan: Plan, **options: Any) -> Any:
    found = fxprune.reconstruct(
        subject.model,
        plan,
        subject.batches,
        subject.example,
        inputs=_all,
        progress=False,
        **options,
    )
    return found.deps


REPAIRS: dict[str, Repair] = {
    "nothing": lambda subject, plan: subject.model,
    "means": partial(_reconstructed, method="mean"),
    "reconstruction": partial(_reconstructed, method="regression"),
}
"""From a plan to what is shrunk by it, by name."""

SUBJECTS: dict[str, Callable[[Size, Path, int], Subject]] = {
    "ResNet-18": resnet,
    "vision transformer": transformer,
    "EfficientNet-Lite0": lite0,
    "MiniLM": minilm,
}
SEEDED = ("ResNet-18",)
"""Those that are done with every seed."""


@dataclass(frozen=True)
class Once(importance.Criterion):
    """A criterion that is measured once for all shares of MACs."""

    criterion: importance.Criterion
    found: list[importance.Evidence] = field(default_factory=list)

    def __post_init__(self) -> None:
        for name in ("needs", "comparable", "joint"):
            object.__setattr__(self, name, getattr(self.criterion, name))

    def evidence(self, deps: DependencyGraph) -> Iterator[importance.Evidence]:
        """What it was the first time."""
        self.found[:] = self.found or self.criterion.evidence(deps)
        yield from self.found


def measure(subject: Subject, kept: Kept) -> None:
    """All figures of a network but those of fine-tuning."""
    if "dense" not in kept:
        kept.put("dense", subject.judge(subject.model))
    deps = fxprune.analyze(subject.model, subject.example)
    for method in METHODS:
        if subject.labels or not METHODS[method].labels:
            criterion = METHODS[method].criterion(subject)
            for share in SHARES:
                _measure_method(subject, kept, deps, method, criterion, share)
    for name, rival in subject.rivals.items():
        for share in SHARES:
            known = name_of(share, f"Torch-Pruning, {name}", "nothing")
            if known not in kept:
                small = rival.within(share, deepcopy(subject.model), subject.labelled)
                kept.put(known, subject.judge(small.eval()))


def _measure_method(
    subject: Subject,
    kept: Kept,
    deps: DependencyGraph,
    method: str,
    criterion: Any,
    share: float,
) -> None:
    left = [each for each in REPAIRS if name_of(share, method, each) not in kept]
    if not left:
        return
    try:
        plan = planned(deps, method, criterion, share)
    except InputError:  # a criterion that tells nothing of some group
        plan = None
    for repair in left:
        figure = None
        if plan is not None:
            small = shrunk(subject, plan, repair)
            figure = subject.judge(small)
        kept.put(name_of(share, method, repair), figure)


def planned(deps: DependencyGraph, method: str, criterion: Any, share: float) -> Plan:
    """What a method removes to leave a share of the MACs."""
    return fxprune.plan(
        deps,
        target={"macs": share},
        criterion=criterion,
        max_ratio=LARGEST,
        **METHODS[method].options,
    )


def shrunk(subject: Subject, plan: Plan, repair: str) -> nn.Module:
    """The network without what a plan removes, repaired."""
    source = REPAIRS[repair](subject, plan)
    return fxprune.shrink(source, plan, subject.example, verify="quick").eval()


def tune(subject: Subject, kept: Kept, method: str, repair: str) -> None:
    """The figures of fine-tuning what a method leaves."""
    name = name_of(TUNED_SHARE, method, f"{repair}, {no_finetune_page.TUNED}")
    if name in kept or subject.tune is None:
        return
    deps = fxprune.analyze(subject.model, subject.example)
    plan = planned(deps, method, METHODS[method].criterion(subject), TUNED_SHARE)
    kept.put(name, [*subject.tune(shrunk(subject, plan, repair))])


@dataclass(frozen=True)
class Job:
    """The part of all work that is about one network.

    Attributes:
        name: one of `SUBJECTS`.
        seed: of its training.
        size: how large everything is.
        folder: where figures and networks are kept.
        tuned: what to fine-tune, methods and repairs; without any, all else is measured.
    """

    name: str
    seed: int
    size: Size
    folder: Path
    tuned: tuple[tuple[str, str], ...] = ()

    @property
    def kept(self) -> Kept:
        """Its figures so far."""
        name = f"{self.name.replace(' ', '_')}-{self.seed}.json"
        return Kept(self.folder / name)

    def run(self) -> None:
        """Measure what is not known yet."""
        torch.set_num_threads(1)
        warnings.filterwarnings("ignore", module="torch_pruning")
        subject = SUBJECTS[self.name](self.size, self.folder / "networks", self.seed)
        for method, repair in self.tuned:
            tune(subject, self.kept, method, repair)
        if not self.tuned:
            measure(subject, self.kept)


def run(jobs: Sequence[Job], processes: int) -> None:
    """Do jobs, some at a time."""
    if processes == 1:
        for job in jobs:
            job.run()
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, context) as pool:
        for done in [pool.submit(job.run) for job in jobs]:
            done.result()


def benchmark(size: Size, seeds: int, folder: Path, processes: int) -> str:
    """Measure all that is not known yet, and return the page."""
    jobs = {
        name: [Job(name, seed, size, folder) for seed in range(seeds if name in SEEDED else 1)]
        for name in SUBJECTS
    }
    run([job for some in jobs.values() for job in some], processes)
    labels = {name: method.labels for name, method in METHODS.items()}
    first = next(iter(SUBJECTS))

    def table(name: str) -> Table:
        return Table([job.kept.figures for job in jobs[name]], labels, tuple(REPAIRS))

    pairs = no_finetune_page.tuned_pairs(table(first), TUNED_SHARE)
    both = tuple((m, r) for m, repair in pairs for r in (no_finetune_page.NOTHING, repair))
    run([replace(job, tuned=both) for job in jobs[first]], processes)
    points = [point / size.settings.images for point in (0, *size.points)]
    tables = {name: table(name) for name in SUBJECTS}
    return no_finetune_page.page(tables, SHARES, points, TUNED_SHARE)


@click.command()
@click.option("--seeds", default=SEEDS, show_default=True)
@click.option("--processes", default=2, show_default=True, help="How many networks at a time.")
@click.option("--folder", type=Path, default=Path("build/no_finetune"), show_default=True)
def main(*, seeds: int, processes: int, folder: Path) -> None:
    """Prune by every criterion, repair in every way, and write docs/no_finetune.md."""
    text = benchmark(Size(), seeds, folder, processes)
    TARGET.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
