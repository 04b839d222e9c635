"""How much faster pruned models are than their MACs say, in three runtimes, and what is predicted.

A dense model and pruned ones are called in turns, on one thread, in eager mode, by `torch.compile`
and by ONNX Runtime. Every figure is the median of ratios of neighbouring calls.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn
from torchvision import models

import fxprune
from benchmarks.tables import table
from fxprune.planning.latency import PredictedLatency
from fxprune.planning.plan_data import Plan

Multiple: TypeAlias = int | Literal["host"]
Call: TypeAlias = Callable[[], object]
NETWORKS = ("resnet50", "mobilenet_v2", "vit_b_16")
SHARES = (0.75, 0.5, 0.25)
MULTIPLES: tuple[Multiple, ...] = (1, 8, 16, "host")
RUNTIMES = ("eager", "compile", "onnxruntime")
ROUNDS = 9
THREADS = 1
"""On more of them, a machine that does other work measures that."""
PLOT = Path(__file__).parents[1] / "docs" / "images" / "speedups.svg"


@dataclass(frozen=True)
class Pruned:
    """A pruned model, and what is known of it.

    Attributes:
        network: that was pruned.
        share: of the MACs that may be left.
        multiple: of the widths, as `round_to` has it.
        macs: the share that is left.
        ratios: for each runtime its latency in units of the dense model's, run by run.
        predicted: the latency in units of the dense one's: by straight lines, and with steps.
    """

    network: str
    share: float
    multiple: Multiple
    macs: float
    ratios: dict[str, list[float]]
    predicted: tuple[float, float]

    def median(self, runtime: str) -> float:
        """The latency in units of the dense model's."""
        return statistics.median(self.ratios[runtime])

    @property
    def cells(self) -> str:
        """The cells of a table: MACs, latencies, predictions."""
        measured = [
            f"**{statistics.median(r):.2f}** ({min(r):.2f} to {max(r):.2f})"
            for r in self.ratios.values()
        ]
        cells = [f"{self.macs:.2f}", *measured, *(f"{value:.2f}" for value in self.predicted)]
        return " | ".join(cells)


@contextmanager
def threads(number: int) -> Iterator[None]:
    """So many threads of torch, meanwhile."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def network(name: str) -> tuple[nn.Module, Tensor]:
    """A model with random weights, and an image."""
    torch.manual_seed(0)
    return models.get_model(name, weights=None).eval(), torch.randn(1, 3, 224, 224)


def session(model: nn.Module, image: Tensor, folder: str | Path) -> Call:
    """A call in ONNX Runtime; the file may go then."""
    import onnxruntime  # noqa: PLC0415  # it leaves a file in the folder for temporary ones

    from fxprune import onnx  # noqa: PLC0415

    path = Path(folder) / "model.onnx"
    onnx.export(model, path, image, dynamic={})
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = THREADS
    options.log_severity_level = 3
    found = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    feeds = {found.get_inputs()[0].name: image.numpy()}
    return lambda: found.run(None, feeds)


def calls(model: nn.Module, image: Tensor, folder: Path) -> dict[str, Call]:
    """A forward in each runtime, warmed up."""
    compiled = torch.compile(model, dynamic=False)
    found: dict[str, Call] = {
        "eager": lambda: model(image),
        "compile": lambda: compiled(image),
        "onnxruntime": session(model, image, folder),
    }
    for call in found.values():
        call()
        call()
    return found


def seconds(call: Call) -> float:
    """What a call takes."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def in_turns(dense: Call, others: Sequence[Call]) -> list[list[float]]:
    """The time of each call in units of the dense one's just before, round by round."""
    found: list[list[float]] = [[] for _ in others]
    for _ in range(ROUNDS):
        for ratios, call in zip(found, others, strict=True):
            before = seconds(dense)
            ratios.append(seconds(call) / before)
    return found


def predictions(deps: fxprune.DependencyGraph) -> Callable[[Plan], tuple[float, float]]:
    """What a plan leaves of the latency, as predicted: by straight lines, and with steps."""
    ways = [PredictedLatency(deps, multiples={}), PredictedLatency(deps)]
    whole = [way(np.zeros(0, dtype=np.int64)) for way in ways]

    def predicted(plan: Plan) -> tuple[float, float]:
        ids = [deps.group(name).ids[list(g.removed)] for name, g in plan.groups.items()]
        straight, stepped = (
            way(np.concatenate(ids)) / all_of_it for way, all_of_it in zip(ways, whole, strict=True)
        )
        return straight, stepped

    return predicted


def measured(name: str) -> list[Pruned]:
    """Pruned models of a network."""
    torch.compiler.reset()
    model, image = network(name)
    deps = fxprune.analyze(model, image)
    predicted = predictions(deps)
    plans = {
        (share, multiple): fxprune.plan(deps, target={"macs": share}, round_to=multiple)
        for share in SHARES
        for multiple in MULTIPLES
    }
    alike = {str(plan.slices): plan for plan in plans.values()}  # several multiples, one plan
    with torch.inference_mode(), TemporaryDirectory() as folder:
        dense = calls(model, image, Path(folder))
        made = {
            key: calls(fxprune.shrink(deps, plan, verify=False), image, Path(folder))
            for key, plan in alike.items()
        }
        others = [made[str(plan.slices)] for plan in plans.values()]
        ratios = {
            runtime: in_turns(dense[runtime], [other[runtime] for other in others])
            for runtime in RUNTIMES
        }
    return [
        Pruned(
            name,
            share,
            multiple,
            plan.made["reached"]["macs"],
            {runtime: ratios[runtime][number] for runtime in RUNTIMES},
            predicted(plan),
        )
        for number, ((share, multiple), plan) in enumerate(plans.items())
    ]


def errors(found: Sequence[Pruned]) -> str:
    """A line on how far predictions are off, and what they know of widths that are no multiples."""
    pairs = [
        (odd, even)
        for odd, even in product(found, found)
        if (odd.multiple, even.multiple) == (1, 16)
        and (odd.network, odd.share) == (even.network, even.share)
    ]
    slower = statistics.fmean(odd.median("eager") / even.median("eager") for odd, even in pairs)
    said = [
        statistics.fmean(odd.predicted[way] / even.predicted[way] for odd, even in pairs)
        for way in (0, 1)
    ]
    off = [
        100
        * statistics.fmean(abs(each.predicted[way] / each.median("eager") - 1) for each in found)
        for way in (0, 1)
    ]
    return (
        "Predictions are off the measured eager latency by a mean of"
        f" {off[0]:.1f} % (straight) and {off[1]:.1f} % (with steps). Plans with"
        f" `round_to=1` take {slower:.2f} times as long as those with 16, where straight lines say"
        f" {said[0]:.2f} and steps say {said[1]:.2f}."
    )


def gains(found: Sequence[Pruned]) -> str:
    """A line on what multiples gain at the same MACs."""
    exact = {(each.network, each.share): each for each in found if each.multiple == 1}
    told = []
    for multiple in MULTIPLES[1:]:
        rows = [each for each in found if each.multiple == multiple]
        for_runtime = [
            statistics.fmean(
                each.median(r) / exact[each.network, each.share].median(r) for each in rows
            )
            for r in RUNTIMES
        ]
        numbers = ", ".join(
            f"{value:.2f} ({r})" for value, r in zip(for_runtime, RUNTIMES, strict=True)
        )
        told.append(f"`round_to={multiple!r}` {numbers}".replace("'", '"'))
    return f"Latency in units of that with `round_to=1`, in the mean: {'; '.join(told)}."


def section() -> list[str]:
    """Latency against MACs."""
    head = (
        "| model | MACs asked | round_to | MACs left | eager | compile | ONNX Runtime"
        " | predicted, straight | predicted, steps |"
    )
    by_name: dict[str, list[Pruned]] = {}

    def rows() -> Iterator[str]:
        for name in NETWORKS:
            by_name[name] = measured(name)
            for each in by_name[name]:
                yield f"| {name} | {each.share} | {each.multiple} | {each.cells} |"

    with threads(THREADS):
        lines = table(head, rows())
    _plot(by_name)
    everything: list[Any] = [each for found in by_name.values() for each in found]
    return [
        "`target={'macs': ...}` with several `round_to`, criterion l2; batch 1, 224 x 224, one",
        "thread. Latencies are in units of the dense model's in the same runtime, called just",
        f"before: medians of {ROUNDS} rounds after a warm-up, with the smallest and the largest.",
        "What is *predicted* is the eager latency, from times of operators: by straight lines",
        "between eighths of dense widths, and with the steps of this machine (as for a budget of",
        "latency).",
        *lines,
        "",
        gains(everything),
        errors(everything),
        "",
        "![latency against MACs](images/speedups.svg)",
    ]


def _plot(by_name: dict[str, list[Pruned]]) -> None:
    figure = Figure(figsize=(10, 3.4), layout="constrained")
    axes = figure.subplots(1, len(by_name), sharey=True)
    for axis, (name, found) in zip(axes, by_name.items(), strict=True):
        axis.plot([0, 1], [0, 1], color="#BBBBBB", label="as MACs say")
        for runtime, colour in zip(RUNTIMES, ("#4477AA", "#EE6677", "#228833"), strict=True):
            for multiple, style in ((1, "o:"), ("host", "s-")):
                rows = [each for each in found if each.multiple == multiple]
                points = [(1.0, 1.0), *((each.macs, each.median(runtime)) for each in rows)]
                label = f"{runtime}, round_to={multiple}"
                axis.plot(*zip(*points, strict=True), style, color=colour, ms=4, label=label)
        axis.set_title(name, fontsize=9)
        axis.set_xlabel("MACs left")
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("latency left")
    axes[0].legend(fontsize=6)
    figure.savefig(PLOT, metadata={"Date": None})
