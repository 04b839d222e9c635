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
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import click
import torch
from torch import nn

import fxprune
from benchmarks.kept_figures import Kept, name_of
from benchmarks.no_finetune_page import NORMS, NOTHING, PEER, TUNED, Table, Tuned, page, tuned_pairs
from benchmarks.rivals import CRITERIA as RIVALS
from benchmarks.rivals import LARGEST, SCOPES, estimate_norms, loss
from benchmarks.subjects import Size, Subject, lite0, minilm, resnet, transformer
from examples.pretrained import moves
from fxprune import DependencyGraph, importance
from fxprune.errors import InputError
from fxprune.planning import Plan

SHARES = (0.75, 0.5, 0.35, 0.25)
"""Of the MACs, that are left at most."""
SEEDS = 3
TUNED_SHARE = 0.25
"""Of the MACs, where networks are fine-tuned."""
TARGET = Path(__file__).parents[1] / "docs" / "no_finetune.md"


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


Criterion = Callable[[Subject], Any]


@dataclass(frozen=True)
class Method:
    """How channels are chosen.

    Attributes:
        criterion: for a network and its inputs.
        labels: whether it needs labels.
        every: whether it is run for every seed, and not for the first one alone.
        options: of `fxprune.plan`.
    """

    criterion: Criterion
    labels: bool = False
    every: bool = True
    options: Mapping[str, Any] = field(default_factory=dict)


def _named(name: str) -> Criterion:
    return lambda subject: name


def _activation(statistic: Any) -> Criterion:
    return lambda subject: Once(
        importance.Activation(subject.batches, statistic, whole, progress=False)
    )


def _outputs(subject: Subject) -> Once:
    return Once(importance.Fisher(subject.directions(), moves, progress=False))


def _gradient(kind: Any) -> Criterion:
    return lambda subject: Once(kind(subject.labelled, loss, progress=False))


METHODS: dict[str, Method] = {
    "random": Method(_named("random")),
    "l2": Method(_named("l2")),
    "l2, global": Method(_named("l2"), options={"scope": "global", "normalize": "mean"}),
    "lamp": Method(_named("lamp")),
    "fpgm": Method(_named("fpgm")),
    "activation variance": Method(_activation("variance")),
    "outputs": Method(_outputs),
    "taylor": Method(_gradient(importance.Taylor), labels=True),
    "l1": Method(_named("l1"), every=False),
    "bn_scale": Method(_named("bn_scale"), every=False),
    "cosine": Method(_named("cosine"), every=False),
    "activation mean": Method(_activation("mean"), every=False),
    "activation apoz": Method(_activation("apoz"), every=False),
    "fisher": Method(_gradient(importance.Fisher), labels=True, every=False),
}
"""How channels are chosen, by name."""
Repair = Callable[[Subject, Plan], Any]


def whole(batch: tuple[Any, ...]) -> tuple[Any, ...]:
    """All arguments of the model."""
    return batch


def _reconstructed(subject: Subject, plan: Plan, **options: Any) -> Any:
    found = fxprune.reconstruct(
        subject.model,
        plan,
        subject.batches,
        subject.example,
        inputs=whole,
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

FEW = ("random", "l2", "activation variance", "outputs", "taylor")


@dataclass(frozen=True)
class Study:
    """What is done with a network.

    Attributes:
        make: the network.
        methods: how channels are chosen.
        shares: of its MACs.
        seeded: whether it is done for each seed.
        rivals: criteria of Torch-Pruning.
    """

    make: Callable[[Size, Path, int], Subject]
    methods: Sequence[str] = FEW
    shares: Sequence[float] = SHARES
    seeded: bool = False
    rivals: Sequence[str] = ()


STUDIES: dict[str, Study] = {
    "ResNet-18": Study(resnet, tuple(METHODS), seeded=True, rivals=tuple(RIVALS)),
    "vision transformer": Study(transformer, rivals=("L2", "LAMP", "Taylor", "Hessian")),
    "EfficientNet-Lite0": Study(lite0, shares=SHARES[:2]),
    "MiniLM": Study(minilm, shares=SHARES[:2]),
}


def measure(subject: Subject, kept: Kept, study: Study, *, extras: bool) -> None:
    """All figures of a network but those of fine-tuning; `extras` are those for the first seed."""
    if "dense" not in kept:
        kept.put("dense", subject.judge(subject.model))
    deps = fxprune.analyze(subject.model, subject.example)
    for name in study.methods:
        method = METHODS[name]
        if (subject.labels or not method.labels) and (extras or method.every):
            criterion = method.criterion(subject)
            for share in study.shares:
                left = [each for each in REPAIRS if name_of(share, name, each) not in kept]
                plan = planned(deps, name, criterion, share) if left else None
                for repair in left:
                    figure = None if plan is None else subject.judge(shrunk(subject, plan, repair))
                    kept.put(name_of(share, name, repair), figure)
    for criterion in study.rivals:
        _measure_rival(subject, kept, criterion, study.shares)


def _measure_rival(subject: Subject, kept: Kept, criterion: str, shares: Sequence[float]) -> None:
    """Torch-Pruning with a criterion, with batch norms as they are and with other statistics."""
    rival = None
    for scope, share in product(SCOPES, shares):
        name = f"{PEER}{criterion}, {scope}"
        if name_of(share, name, NORMS) in kept or subject.rival is None:
            continue
        rival = rival or subject.rival(criterion)
        small = rival.within(share, scope).eval()
        kept.put(name_of(share, name, NOTHING), subject.judge(small))
        has_norms = estimate_norms(small, subject.batches)
        kept.put(name_of(share, name, NORMS), subject.judge(small) if has_norms else None)


def planned(deps: DependencyGraph, method: str, criterion: Any, share: float) -> Plan | None:
    """What a method removes to leave a share of the MACs; None if it cannot tell."""
    target, options = {"macs": share}, METHODS[method].options
    try:
        return fxprune.plan(deps, target=target, criterion=criterion, max_ratio=LARGEST, **options)
    except InputError:  # it tells nothing of some group
        return None


def shrunk(subject: Subject, plan: Plan, repair: str) -> nn.Module:
    """The network without what a plan removes, repaired."""
    source = REPAIRS[repair](subject, plan)
    return fxprune.shrink(source, plan, subject.example, verify="quick").eval()


def tune(subject: Subject, kept: Kept, method: str, repair: str) -> None:
    """The figures of fine-tuning what a method leaves."""
    name = name_of(TUNED_SHARE, method, f"{repair}, {TUNED}")
    if name in kept or subject.tune is None:
        return
    deps = fxprune.analyze(subject.model, subject.example)
    plan = planned(deps, method, METHODS[method].criterion(subject), TUNED_SHARE)
    if plan is not None:
        kept.put(name, [*subject.tune(shrunk(subject, plan, repair))])


@dataclass(frozen=True)
class Job:
    """The part of all work that is about one network.

    Attributes:
        name: one of `STUDIES`.
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
        subject = STUDIES[self.name].make(self.size, self.folder / "networks", self.seed)
        for method, repair in self.tuned:
            tune(subject, self.kept, method, repair)
        if not self.tuned:
            measure(subject, self.kept, STUDIES[self.name], extras=self.seed == 0)


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
        name: [Job(name, seed, size, folder) for seed in range(seeds if study.seeded else 1)]
        for name, study in STUDIES.items()
    }
    run([job for some in jobs.values() for job in some], processes)
    labels = {name: method.labels for name, method in METHODS.items()}

    def table(name: str) -> Table:
        return Table([job.kept.figures for job in jobs[name]], labels, tuple(REPAIRS))

    first = next(iter(STUDIES))
    pairs = tuned_pairs(table(first), TUNED_SHARE)
    both = tuple((method, each) for method, repair in pairs for each in (NOTHING, repair))
    run([replace(job, tuned=both) for job in jobs[first]], processes)
    tables = {name: table(name) for name in STUDIES}
    shares = {name: study.shares for name, study in STUDIES.items()}
    return page(tables, shares, Tuned(TUNED_SHARE, size.points, size.settings.images), size)


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
