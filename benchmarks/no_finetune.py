"""Accuracy without fine-tuning: `python -m benchmarks.no_finetune`.

Every criterion prunes trained networks to several shares of their MACs, with every repair, and
Torch-Pruning prunes the same networks to the same shares by each of its criteria. Then networks are
fine-tuned with and without a repair, which takes hours. Every figure is kept in
`benchmarks/figures` once it is known, so that a run that was stopped goes on from there, and one
with more criteria or repairs measures only these; what changes figures needs another folder, or
these files to be removed. Criteria and repairs are the tables of `benchmarks.ways`,
and `benchmarks.no_finetune_page` tells what was found.
"""

from __future__ import annotations

import multiprocessing
import warnings
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import click
import torch

from benchmarks.kept_figures import Kept, name_of
from benchmarks.no_finetune_page import (
    NORMS,
    NOTHING,
    PEER,
    TARGET_SHARE,
    TUNED,
    Table,
    Tuned,
    page,
    tuned_pairs,
)
from benchmarks.rivals import CRITERIA, GRADIENTS, SCOPES, estimate_norms
from benchmarks.subjects import Size, Subject, lite0, minilm, resnet, transformer
from benchmarks.ways import METHODS, REPAIRS, WITHOUT_INPUTS, Criterion, planned, shrunk

SHARES = (0.75, TARGET_SHARE, 0.35, 0.25)
"""Of the MACs, that are left at most."""
SEEDS = 3
TUNED_SHARE = 0.25
"""Of the MACs, where networks are fine-tuned."""
FIGURES = Path(__file__).parent / "figures"
PAGE = Path(__file__).parents[1] / "docs" / "no_finetune.md"


@dataclass(frozen=True)
class Study:
    """What is done with a network, for several seeds.

    Attributes:
        make: the network, with a seed.
        rivals: criteria of Torch-Pruning.
        methods: how channels are chosen.
        shares: of its MACs.
        published: whether a seed changes neither its weights nor what it is judged by.
    """

    make: Callable[[Size, Path, int], Subject]
    rivals: Sequence[str]
    methods: Sequence[str] = tuple(METHODS)
    shares: Sequence[float] = SHARES
    published: bool = False

    def of_any_seed(self) -> set[str]:
        """The names of figures that are the same for all seeds."""
        methods = [name for name in self.methods if not METHODS[name].seeded]
        pairs = [*product(methods, WITHOUT_INPUTS)]
        rivals = [name for name in self.rivals if name not in GRADIENTS]
        pairs += [(f"{PEER}{name}, {scope}", NOTHING) for name, scope in product(rivals, SCOPES)]
        every = product(self.shares if self.published else (), pairs)
        return {name_of(share, *pair) for share, pair in every}


STUDIES: dict[str, Study] = {
    "ResNet-18": Study(resnet, tuple(CRITERIA)),
    "vision transformer": Study(transformer, ("L2", "LAMP", "Taylor", "Hessian")),
    "EfficientNet-Lite0": Study(lite0, tuple(CRITERIA), published=True),
    "MiniLM": Study(minilm, ("L2", "LAMP", "Taylor", "Hessian")),
}


def measure(subject: Subject, kept: Kept, study: Study) -> None:
    """All figures of a study for a seed."""
    if "dense" not in kept:
        kept.put("dense", subject.judge(subject.model))
    made = cache(lambda criterion: criterion(subject))  # in several scopes, but measured once
    for method in study.methods:
        if subject.labels or not METHODS[method].labels:
            _measure_method(subject, kept, method, study.shares, made)
    for criterion in study.rivals if subject.rival else ():
        _measure_rival(subject, kept, criterion, study.shares)


def _measure_method(
    subject: Subject,
    kept: Kept,
    method: str,
    shares: Sequence[float],
    made: Callable[[Criterion], Any],
) -> None:
    pairs = [(share, repair) for share in shares for repair in REPAIRS]
    left = [pair for pair in pairs if name_of(pair[0], method, pair[1]) not in kept]
    if not left:
        return
    deps, criterion = subject.deps, made(METHODS[method].criterion)
    plans = {share: planned(subject, deps, method, criterion, share) for share, _ in left}
    for share, repair in left:
        plan = plans[share]
        figure = None if plan is None else subject.judge(shrunk(subject, plan, repair))
        kept.put(name_of(share, method, repair), figure)


def _measure_rival(subject: Subject, kept: Kept, criterion: str, shares: Sequence[float]) -> None:
    """Torch-Pruning with a criterion, with batch norms as they are and with other statistics."""
    names = {f"{PEER}{criterion}, {scope}": scope for scope in SCOPES}
    left = [
        (share, name)
        for share, name in product(shares, names)
        if name_of(share, name, NORMS) not in kept
    ]
    if not left or subject.rival is None:
        return
    rival = subject.rival(criterion)
    for share, name in left:
        small = rival.within(share, names[name])
        if name_of(share, name, NOTHING) not in kept:
            plain = None if small is None else subject.judge(small.eval())
            kept.put(name_of(share, name, NOTHING), plain)
        anew = None
        if small is not None and estimate_norms(small, subject.batches):
            anew = subject.judge(small)
        kept.put(name_of(share, name, NORMS), anew)


def tune(subject: Subject, kept: Kept, method: str, repair: str) -> None:
    """The figures of fine-tuning what a method leaves."""
    name = name_of(TUNED_SHARE, method, f"{repair}, {TUNED}")
    if name in kept or subject.tune is None:
        return
    plan = planned(subject, subject.deps, method, METHODS[method].criterion(subject), TUNED_SHARE)
    if plan is not None:
        kept.put(name, [*subject.tune(shrunk(subject, plan, repair))])


@dataclass(frozen=True)
class Job:
    """What is measured in one go, with figures in a file of its own.

    Attributes:
        name: one of `STUDIES`.
        seed: of its training.
        size: how large everything is.
        folder: where figures are kept.
        networks: where trained networks are.
        tuned: what to fine-tune instead, methods and repairs.
    """

    name: str
    seed: int
    size: Size
    folder: Path
    networks: Path
    tuned: tuple[tuple[str, str], ...] = ()

    @property
    def kept(self) -> Kept:
        """Its figures so far."""
        part = "-tuned" if self.tuned else ""
        return Kept(self.folder / f"{self.name.replace(' ', '_')}-{self.seed}{part}.json")

    def run(self) -> None:
        """Measure what is not known yet."""
        torch.set_num_threads(1)
        warnings.filterwarnings("ignore", module="torch_pruning")
        study = STUDIES[self.name]
        subject = study.make(self.size, self.networks, self.seed)
        for method, repair in self.tuned:
            tune(subject, self.kept, method, repair)
        if not self.tuned:
            kept = self.kept
            kept.take(replace(self, seed=0).kept, study.of_any_seed())
            measure(subject, kept, study)


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


def table_of(jobs: Sequence[Job]) -> Table:
    """What is known of a network."""
    seeds: dict[int, dict[str, object]] = {}
    for job in jobs:
        seeds.setdefault(job.seed, {}).update(job.kept.figures)
    labels = {name: method.labels for name, method in METHODS.items()}
    return Table([*seeds.values()], labels, tuple(REPAIRS))


def jobs_of(size: Size, seeds: int, folder: Path, networks: Path) -> dict[str, list[Job]]:
    """What is measured of each network."""
    return {
        name: [Job(name, seed, size, folder, networks) for seed in range(seeds)] for name in STUDIES
    }


def tuning(jobs: Sequence[Job]) -> list[Job]:
    """What is fine-tuned of a network of which the rest is known."""
    pairs = tuned_pairs(table_of(jobs), TUNED_SHARE)
    both = tuple((method, each) for method, repair in pairs for each in (NOTHING, repair))
    return [replace(job, tuned=both) for job in jobs]


def page_of(jobs: Mapping[str, Sequence[Job]], size: Size) -> str:
    """The page that tells what is known; the first network was fine-tuned."""
    tables = {
        name: table_of(some if at else [*some, *tuning(some)])
        for at, (name, some) in enumerate(jobs.items())
    }
    shares = {name: study.shares for name, study in STUDIES.items()}
    return page(tables, shares, Tuned(TUNED_SHARE, size.points, size.settings.images), size)


def benchmark(size: Size, seeds: int, folder: Path, networks: Path, processes: int) -> str:
    """Measure all that is not known yet, and return the page.

    Args:
        size: how large everything is.
        seeds: how many.
        folder: where figures are kept.
        networks: where trained networks are kept.
        processes: how many networks are worked on at a time.
    """
    jobs = jobs_of(size, seeds, folder, networks)
    run([job for some in jobs.values() for job in some], processes)
    run(tuning(next(iter(jobs.values()))), processes)
    return page_of(jobs, size)


@click.command()
@click.option("--seeds", default=SEEDS, show_default=True)
@click.option("--processes", default=2, show_default=True, help="How many networks at a time.")
@click.option("--folder", type=Path, default=FIGURES, show_default="benchmarks/figures")
@click.option("--networks", type=Path, default=Path("build/resnet18/full"), show_default=True)
def main(*, seeds: int, processes: int, folder: Path, networks: Path) -> None:
    """Prune by every criterion, repair in every way, and write docs/no_finetune.md."""
    text = benchmark(Size(), seeds, folder, networks, processes)
    PAGE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
