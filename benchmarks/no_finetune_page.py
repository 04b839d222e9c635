"""The page of `benchmarks.no_finetune`."""

from __future__ import annotations

import platform
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch_pruning

from benchmarks.kept_figures import name_of

TARGET = 0.25
"""The share of Torch-Pruning's drop of accuracy that is aimed at."""
PEER = "Torch-Pruning, "
NOTHING = "nothing"
TUNED = "fine-tuned"
Figures = Mapping[str, Any]
"""Those of one seed."""
ABOUT = "# Accuracy without fine-tuning\n"
NOTES: Mapping[str, str] = {
    "ResNet-18": "",
    "vision transformer": "",
    "EfficientNet-Lite0": "",
    "MiniLM": "",
}


@dataclass(frozen=True)
class Table:
    """What was measured of one network.

    Attributes:
        seeds: the figures of each seed.
        methods: of fxprune, and whether each needs labels.
        repairs: of fxprune.
    """

    seeds: Sequence[Figures]
    methods: Mapping[str, bool]
    repairs: Sequence[str]

    def values(self, share: float, method: str, repair: str) -> list[float] | None:
        """The figures of all seeds; None if there are none."""
        found = [each.get(name_of(share, method, repair)) for each in self.seeds]
        return None if None in found else found  # type: ignore[return-value]

    def median(self, share: float, method: str, repair: str) -> float:
        """The median of the seeds, and less than any figure if there is none."""
        found = self.values(share, method, repair)
        return -1.0 if found is None else statistics.median(found)

    def best(self, share: float, repairs: Sequence[str] = ()) -> tuple[str, str]:
        """The method that needs no labels and the repair with the largest median."""
        pairs = [
            (method, repair)
            for method, labels in self.methods.items()
            for repair in repairs or self.repairs
            if not labels
        ]
        return max(pairs, key=lambda pair: self.median(share, *pair))

    @property
    def peers(self) -> list[str]:
        """What Torch-Pruning was tried with."""
        parts = (name.partition(", ")[2].rpartition(": ")[0] for name in self.seeds[0])
        return [name for name in dict.fromkeys(parts) if name.startswith(PEER)]

    def best_peer(self, share: float) -> str:
        """The one of Torch-Pruning with the largest median."""
        return max(self.peers, key=lambda name: self.median(share, name, NOTHING))

    def rows(self, share: float) -> Iterator[str]:
        """A row for each method, best first, and one for Torch-Pruning."""

        def most(method: str) -> float:
            return max(self.median(share, method, repair) for repair in self.repairs)

        for method in sorted(self.methods, key=most, reverse=True):
            found = [self.values(share, method, repair) for repair in self.repairs]
            if any(found):
                name = f"{method} (with labels)" if self.methods[method] else method
                cells = [told(values) if values else "" for values in found]
                yield f"| {name} | {' | '.join(cells)} |"
        if self.peers:
            name = self.best_peer(share)
            rest = " |" * (len(self.repairs) - 1)
            yield f"| **{name}** | {told(self.values(share, name, NOTHING) or ())} |{rest}"


def told(values: Sequence[float]) -> str:
    """The median, with the spread if there are several."""
    spread = f" ({max(values) - min(values):.1f})" if len(values) > 1 else ""
    return f"{statistics.median(values):.1f}{spread}"


def page(
    tables: Mapping[str, Table], shares: Sequence[float], points: Sequence[float], tuned: float
) -> str:
    """All of it, in Markdown.

    Args:
        tables: by what was pruned; the first is the one that the target is about.
        shares: of MACs.
        points: how many epochs fine-tuning had taken at each point, from 0.
        tuned: the share of MACs at which networks were fine-tuned.
    """
    first, table = next(iter(tables.items()))
    text = [ABOUT, f"## {first}: what it comes to", "", *_summary(table, shares)]
    text += ["", *_target(table)]
    text += ["", "## With fine-tuning afterwards", "", *_tuning(table, points, tuned)]
    for name, each in tables.items():
        text += ["", f"## {name}: every criterion", "", NOTES[name]]
        text += [line for share in shares for line in _ranking(each, share)]
    versions = f"torch {torch.__version__.split('+')[0]}, Torch-Pruning {torch_pruning.__version__}"
    text += [
        "",
        f"Written by `python -m benchmarks.no_finetune` on {platform.machine()}, {versions}.",
    ]
    return "\n".join([*text, ""])


def _ranking(table: Table, share: float) -> Iterator[str]:
    dense = told([each["dense"] for each in table.seeds])
    yield from ("", f"### At most {share:.0%} of the MACs (dense: {dense})", "")
    yield f"| chosen by | {' | '.join(table.repairs)} |"
    yield f"| --- |{' ---: |' * len(table.repairs)}"
    yield from table.rows(share)


def _summary(table: Table, shares: Sequence[float]) -> Iterator[str]:
    yield "| MACs | best of Torch-Pruning | best of fxprune, no repair | with a repair | drop, as a share of Torch-Pruning's |"
    yield "| ---: | --- | --- | --- | ---: |"
    dense = statistics.median(each["dense"] for each in table.seeds)
    for share in shares:
        peer = table.best_peer(share), NOTHING
        pairs = peer, table.best(share, [NOTHING]), table.best(share)
        cells = [_named(table, share, *pair) for pair in pairs]
        drops = [dense - table.median(share, *pair) for pair in (peer, pairs[2])]
        yield f"| {share:.0%} | {' | '.join(cells)} | {_ratio(*drops)} |"


def _named(table: Table, share: float, method: str, repair: str) -> str:
    what = method.removeprefix(PEER) + (f" + {repair}" if repair != NOTHING else "")
    return f"{told(table.values(share, method, repair) or ())}: {what}"


def _ratio(theirs: float, ours: float) -> str:
    return f"{ours / theirs:.2f}" if theirs > 0 else "no drop"


def _target(table: Table, share: float = 0.5) -> Iterator[str]:
    """One choice of ours for all seeds, beside the best of theirs for each."""
    method, repair = table.best(share)
    yield f"The target: at {share:.0%} of the MACs at most {TARGET:.0%} of the drop of Torch-Pruning's"
    yield f"best. Ours is {method} with {repair} for every seed, theirs whatever is best for the seed."
    yield ""
    yield "| seed | dense | Torch-Pruning | | fxprune | drop | its drop | share | |"
    yield "| ---: | ---: | ---: | --- | ---: | ---: | ---: | ---: | --- |"
    for seed, own in enumerate(table.seeds):
        known = {name: own[name_of(share, name, NOTHING)] for name in table.peers}
        name, theirs = max(known.items(), key=lambda item: item[1])
        dense, ours = own["dense"], own[name_of(share, method, repair)]
        reached = "reached" if dense - ours <= TARGET * (dense - theirs) else "missed"
        yield (
            f"| {seed} | {dense:.2f} | {theirs:.2f} | {name.removeprefix(PEER)} | {ours:.2f} "
            f"| {dense - theirs:.2f} | {dense - ours:.2f} | {_ratio(dense - theirs, dense - ours)} | {reached} |"
        )


def _tuning(table: Table, points: Sequence[float], share: float) -> Iterator[str]:
    """Curves of fine-tuning, and what the repair saves."""
    head = " | ".join(f"{point:g}" for point in points)
    yield f"Accuracy after so many epochs of the same fine-tuning, at {share:.0%} of the MACs."
    yield ""
    yield f"| chosen by | repair | {head} |"
    yield f"| --- | --- |{' ---: |' * len(points)}"
    saved = []
    for method, repair in tuned_pairs(table, share):
        with_, without = (_curves(table, share, method, each) for each in (repair, NOTHING))
        for each, curves in ((NOTHING, without), (repair, with_)):
            cells = [told(values) for values in zip(*curves, strict=True)]
            yield f"| {method} | {each} | {' | '.join(cells)} |"
        saved.append((method, repair, with_, without))
    yield ""
    yield "How many epochs the network without a repair needs to be where the repaired one is,"
    yield "interpolated on its curve, less those that the repaired one had (medians of the seeds):"
    yield ""
    yield f"| chosen by | repair | {head} |"
    yield f"| --- | --- |{' ---: |' * len(points)}"
    for method, repair, with_, without in saved:
        every = [epochs_saved(points, *pair) for pair in zip(with_, without, strict=True)]
        cells = [_epochs(values) for values in zip(*every, strict=True)]
        yield f"| {method} | {repair} | {' | '.join(cells)} |"


def tuned_pairs(table: Table, share: float) -> list[tuple[str, str]]:
    """What is fine-tuned, besides the same without a repair: the best, and l2 with its best."""
    rest = [repair for repair in table.repairs if repair != NOTHING]
    l2 = max(rest, key=lambda repair: table.median(share, "l2", repair))
    return list(dict.fromkeys([table.best(share, rest), ("l2", l2)]))


def _curves(table: Table, share: float, method: str, repair: str) -> list[list[float]]:
    start, later = name_of(share, method, repair), name_of(share, method, f"{repair}, {TUNED}")
    return [[each[start], *each[later]] for each in table.seeds]


def epochs_saved(
    points: Sequence[float], with_: Sequence[float], without: Sequence[float]
) -> list[float]:
    """At each point, how many more epochs the other curve needs to get as high; inf if never."""
    best = np.maximum.accumulate(without)
    saved = []
    for point, height in zip(points, with_, strict=True):
        later = int(np.searchsorted(best, height))
        if later == len(points):
            saved.append(np.inf)
            continue
        if later == 0:
            saved.append(points[0] - point)
            continue
        low, high = best[later - 1], best[later]
        part = (height - low) / (high - low)
        saved.append(points[later - 1] + part * (points[later] - points[later - 1]) - point)
    return saved


def _epochs(values: Sequence[float]) -> str:
    middle = statistics.median(values)
    return "never got there" if np.isinf(middle) else f"{middle:.2f}"
