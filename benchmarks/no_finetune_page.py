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
from benchmarks.subjects import Size

TARGET = 0.25
"""The share of Torch-Pruning's drop of accuracy that is aimed at."""
TARGET_SHARE = 0.5
"""Of the MACs, where it is."""
PEER = "Torch-Pruning, "
NOTHING = "nothing"
NORMS = "batch norms anew"
TUNED = "fine-tuned"
Figures = Mapping[str, Any]
"""Those of one seed."""
ABOUT = """# Accuracy without fine-tuning

How much of a network's accuracy is left right after pruning: by how channels are chosen, what is
[repaired](repair.md), and how many MACs are left. Nothing is trained but in the section that says
so.

- *Chosen by*: fxprune's [criteria](criteria.md), in each group alone, but for *global*. Those with
  labels do not count where the best is told.
- *Repairs*, from inputs without labels: *nothing*; *means*, where only the mean of what removed
  channels carried goes into biases (`reconstruct(method="mean", norms="keep")`); *reconstruction*,
  which is `shrink(calibrate=)`; and *folding*, which looks at no inputs: channels are merged with
  the kept ones that are most like them (`shrink(fold=True)`).
- *Torch-Pruning* is tried with its criteria by weights (L2, LAMP, scales of batch norms where there
  are some) and by gradients (Taylor, Hessian: of the loss with labels, or, where there are none, of
  outputs in random directions, as fxprune's *outputs*); in each layer, global and isomorphic: the
  largest network within the MACs. *{norms}* is the same with statistics of batch norms from the
  inputs for repairs, which it does not do by itself.
- The best is the one with the best figure that is told here, for either tool.
- Figures are medians of the seeds, with the spread (largest less smallest) in parentheses; without
  parentheses they are of the first seed. A seed is of the training, if there is one, and of the
  draw of inputs for criteria and repairs. What looks at none of these is the same for all seeds.
"""
NOTES: Mapping[str, str] = {
    "ResNet-18": "Trained on Fashion-MNIST. Accuracy on its 10,000 test images, in %. Criteria and"
    " repairs see {size.calibration} images of the training split.",
    "vision transformer": "Four blocks of width 96, patches of 7 x 7, four heads, no batch norms."
    " Trained on Fashion-MNIST. Accuracy on its 10,000 test images, in %. Criteria and repairs see"
    " {size.calibration} images of the training split.",
    "EfficientNet-Lite0": "With its ImageNet weights. On how many of {size.crops[1]} parts of the"
    " right halves of scikit-learn's two photos its first class is that of the dense network, in %."
    " Criteria and repairs see {size.crops[0]} parts of the left halves.",
    "MiniLM": "MiniLM-L6-v2 with its published weights. The mean cosine between embeddings and"
    " those of the dense network, times 100, on {size.sentences[1]} sentences of Python's language"
    " reference. Criteria and repairs see {size.sentences[0]} others. A seed draws which are"
    " which.",
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

    def values(self, share: float, method: str, repair: str) -> list[float]:
        """The figures of the seeds that have one."""
        found = (each.get(name_of(share, method, repair)) for each in self.seeds)
        return [value for value in found if value is not None]

    def median(self, share: float, method: str, repair: str) -> float:
        """The median of the seeds that have a figure; less than any if none has."""
        return statistics.median(self.values(share, method, repair) or [-np.inf])

    def drop(self, share: float, method: str, repair: str) -> float | None:
        """The median of how much less each seed has than its dense network; None of nothing."""
        name = name_of(share, method, repair)
        drops = [e["dense"] - e[name] for e in self.seeds if e.get(name) is not None]
        return statistics.median(drops) if drops else None

    def best(self, share: float, repairs: Sequence[str] = ()) -> tuple[str, str]:
        """The method and the repair with the largest median, of those without labels.

        They have figures of all seeds.
        """
        pairs = [
            (method, repair)
            for method, labels in self.methods.items()
            for repair in repairs or self.repairs
            if not labels and len(self.values(share, method, repair)) == len(self.seeds)
        ]
        return max(pairs, key=lambda pair: self.median(share, *pair))

    @property
    def peers(self) -> list[str]:
        """What Torch-Pruning was tried with."""
        parts = (name.partition(", ")[2].rpartition(": ")[0] for name in self.seeds[0])
        return [name for name in dict.fromkeys(parts) if name.startswith(PEER)]

    def best_peer(self, share: float, repair: str = NOTHING) -> str:
        """The one of Torch-Pruning with the largest median."""
        return max(self.peers, key=lambda name: self.median(share, name, repair))

    def rows(self, share: float) -> Iterator[str]:
        """A row for each method, best first, and two for Torch-Pruning."""

        def most(method: str) -> float:
            return max(self.median(share, method, repair) for repair in self.repairs)

        for method in sorted(self.methods, key=most, reverse=True):
            cells = [told(self.values(share, method, repair)) for repair in self.repairs]
            if any(cells):
                name = f"{method} (with labels)" if self.methods[method] else method
                yield f"| {name} | {' | '.join(cells)} |"
        for repair in (NOTHING, NORMS) if self.peers else ():
            name = self.best_peer(share, repair)
            values = self.values(share, name, repair)
            if values:
                label = f"**{name}**" + (f", {repair}" if repair != NOTHING else "")
                yield f"| {label} | {told(values)} |{' |' * (len(self.repairs) - 1)}"


def told(values: Sequence[float]) -> str:
    """The median, with the spread if there are several; nothing of nothing."""
    if not values:
        return ""
    spread = f" ({max(values) - min(values):.1f})" if len(values) > 1 else ""
    return f"{statistics.median(values):.1f}{spread}"


def page(
    tables: Mapping[str, Table], shares: Mapping[str, Sequence[float]], tuned: Tuned, size: Size
) -> str:
    """All of it, in Markdown.

    Args:
        tables: by what was pruned; the first is the one that the target is about.
        shares: of MACs, for each of them.
        tuned: at which share networks were fine-tuned, and for how long.
        size: how large everything was.
    """
    first, table = next(iter(tables.items()))
    text = [ABOUT.format(norms=NORMS.capitalize()), "## The best", "", *summary(tables, shares)]
    text += ["", "## The target", "", *target(table)]
    text += ["", "## With fine-tuning afterwards", "", *_tuning(first, table, tuned)]
    for name, each in tables.items():
        text += ["", f"## {name}", "", NOTES[name].format(size=size)]
        text += [line for share in shares[name] for line in _ranking(each, share)]
    version = torch.__version__.split("+")[0]
    text += [
        "",
        f"Written by `python -m benchmarks.no_finetune` on {platform.machine()} with torch",
    ]
    text += [f"{version} and Torch-Pruning {torch_pruning.__version__}."]
    return "\n".join([*text, ""])


def _ranking(table: Table, share: float) -> Iterator[str]:
    dense = told([each["dense"] for each in table.seeds])
    yield from ("", f"At most {share:.0%} of the MACs; the dense network has {dense}:", "")
    yield f"| chosen by | {' | '.join(table.repairs)} |"
    yield f"| --- |{' ---: |' * len(table.repairs)}"
    yield from table.rows(share)


def summary(tables: Mapping[str, Table], shares: Mapping[str, Sequence[float]]) -> Iterator[str]:
    """A row for each network and share: the best of Torch-Pruning, and ours with and without."""
    yield (
        f"| network | MACs | Torch-Pruning | Torch-Pruning, {NORMS} | fxprune, no repair"
        f" | with a repair | drop, of Torch-Pruning's | of that with {NORMS} |"
    )
    yield "| --- | ---: | --- | --- | --- | --- | ---: | ---: |"
    for network, table in tables.items():
        rest = [repair for repair in table.repairs if repair != NOTHING]
        for share in shares[network]:
            peers = [(table.best_peer(share, repair), repair) for repair in (NOTHING, NORMS)]
            own = [table.best(share, [NOTHING]), table.best(share, rest)]
            cells = [_named(table, share, *pair) for pair in (*peers, *own)]
            ours = table.drop(share, *own[1])
            cells += [_ratio(table.drop(share, *pair), ours) for pair in peers]
            yield f"| {network} | {share:.0%} | {' | '.join(cells)} |"


def _named(table: Table, share: float, method: str, repair: str) -> str:
    values = table.values(share, method, repair)
    ways = method.removeprefix(PEER), "" if repair in {NOTHING, NORMS} else repair
    return f"{told(values)}: {' + '.join(filter(None, ways))}" if values else ""


def _ratio(theirs: float | None, ours: float | None) -> str:
    if theirs is None or ours is None:
        return ""
    if ours <= 0:
        return "no drop"
    return f"{ours / theirs:.3f}" if theirs > 0 else "theirs has none"


def target(table: Table, share: float = TARGET_SHARE) -> Iterator[str]:
    """Whether it is reached: one choice of ours for all seeds, the best of theirs for each."""
    method, repair = table.best(share)
    yield (
        f"The target: at {share:.0%} of the MACs at most {TARGET:g} of the drop of accuracy of"
        f" Torch-Pruning's best criterion. Ours is {method} with {repair} for every seed, theirs"
        " whatever is best for the seed."
    )
    yield ""
    yield f"| seed | dense | fxprune, drop | Torch-Pruning, drop | share | {NORMS}, drop | share |"
    yield "| ---: | ---: | ---: | --- | ---: | --- | ---: |"
    for seed, figures in enumerate(table.seeds):
        ours = figures["dense"] - figures[name_of(share, method, repair)]
        cells = [f"{figures['dense']:.2f}", f"{ours:.2f}"]
        for state in (NOTHING, NORMS):
            name, drop = _least_drop(table, figures, share, state)
            reached = "reached" if ours <= TARGET * drop else "missed"
            told_share = _ratio(drop, ours) + (f", {reached}" if state == NOTHING else "")
            cells += [f"{drop:.2f}: {name.removeprefix(PEER)}", told_share]
        yield f"| {seed} | {' | '.join(cells)} |"


def _least_drop(table: Table, figures: Figures, share: float, state: str) -> tuple[str, float]:
    """The best of Torch-Pruning for one seed, and its drop."""
    known = {name: figures.get(name_of(share, name, state)) for name in table.peers}
    drops = {name: figures["dense"] - each for name, each in known.items() if each is not None}
    return min(drops.items(), key=lambda item: item[1])


@dataclass(frozen=True)
class Tuned:
    """How networks were fine-tuned: at which share of MACs; images seen at each point, of all."""

    share: float
    points: Sequence[int]
    images: int

    @property
    def epochs(self) -> list[float]:
        """Those done at each point, from 0."""
        return [point / self.images for point in (0, *self.points)]


def _tuning(network: str, table: Table, tuned: Tuned) -> Iterator[str]:
    """Curves of fine-tuning, and what the repair saves."""
    yield (
        f"Accuracy of {network} after so many epochs ({tuned.images:,} images each) of the same"
        f" fine-tuning, at {tuned.share:.0%} of the MACs: the same images in the same order;"
        " between two points the learning rate rises to 0.02 and falls to nearly nothing."
    )
    columns = " | ".join(f"{epochs:.3g}" for epochs in tuned.epochs)
    head = [f"| chosen by | repair | {columns} |", f"| --- | --- |{' ---: |' * len(tuned.epochs)}"]
    yield from ("", *head)
    saved = []
    for method, repair in tuned_pairs(table, tuned.share):
        both = [_curves(table, tuned.share, method, each) for each in (NOTHING, repair)]
        for each, curves in zip((NOTHING, repair), both, strict=True):
            cells = [told(values) for values in zip(*curves, strict=True)]
            yield f"| {method} | {each} | {' | '.join(cells)} |"
        every = [epochs_saved(tuned.epochs, *curves) for curves in zip(*both, strict=True)]
        cells = [_epochs(values) for values in zip(*every, strict=True)]
        saved.append(f"| {method} | {repair} | {' | '.join(cells)} |")
    yield ""
    yield (
        "Epochs that the repair saves: how many more the network without a repair needs to get as"
        " high as the repaired one is after so many, interpolated on its curve (medians)."
    )
    yield from ("", *head, *saved)


def tuned_pairs(table: Table, share: float) -> list[tuple[str, str]]:
    """What is fine-tuned, besides the same without a repair: the best, and l2 with its best."""
    rest = [repair for repair in table.repairs if repair != NOTHING]
    l2 = max(rest, key=lambda repair: table.median(share, "l2", repair))
    return list(dict.fromkeys([table.best(share, rest), ("l2", l2)]))


def _curves(table: Table, share: float, method: str, repair: str) -> list[list[float]]:
    start, later = name_of(share, method, repair), name_of(share, method, f"{repair}, {TUNED}")
    return [[each[start], *each[later]] for each in table.seeds]


def epochs_saved(
    points: Sequence[float], without: Sequence[float], repaired: Sequence[float]
) -> list[float]:
    """At each point, how many more epochs the other curve needs to get as high; inf if never."""
    best = np.maximum.accumulate(without)
    saved = []
    for point, height in zip(points, repaired, strict=True):
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
    return "more" if np.isinf(middle) else f"{middle:.2f}"
