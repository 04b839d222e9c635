"""Which layers of pruned models are slower than their MACs say, and why.

The first table times single layers at widths between two multiples of 32, in each runtime and
memory layout. The second adds up the operators of whole models by kind, dense and pruned, each
timed alone.
"""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import fxprune
from benchmarks.speedups import (
    NETWORKS,
    THREADS,
    Call,
    network,
    seconds,
    session,
    threads,
)
from benchmarks.tables import table
from fxprune.labels import Ids
from fxprune.op_calls import op_calls
from fxprune.planning.axis_sizes import AxisSizes
from fxprune.planning.host_widths import roles
from fxprune.planning.latency import FreeCall
from fxprune.planning.op_times import OpTimes

LOW, HIGH = 96, 128
CLASSES = {
    "odd": (97, 105, 113, 121, 127),
    "x2": (98, 110, 122),
    "x4": (100, 116, 124),
    "x8": (104, 120),
    "x16": (112,),
}
WIDTHS = sorted({LOW, HIGH, *(width for widths in CLASSES.values() for width in widths)})
ROUNDS = 15
SHORTEST = 0.002
"""Seconds; calls that take less are timed several at a time."""
WAYS = ("eager", "eager, channels last", "compile", "onnxruntime")
CONVOLUTIONS = ("3x3 convolution", "pointwise convolution", "depthwise convolution")
LAYERS = (*CONVOLUTIONS, "linear", "attention")


class Attention(nn.Module):
    """Four heads."""

    def forward(self, x: Tensor) -> Tensor:
        """Attend to oneself."""
        return F.scaled_dot_product_attention(x, x, x)


def layer(kind: str, width: int) -> tuple[nn.Module, Tensor]:
    """A layer whose width is odd or even in all it reads and writes, and an input."""
    image = torch.randn(1, width, 28, 28)
    if kind == "3x3 convolution":
        return nn.Conv2d(width, width, 3, padding=1).eval(), image
    if kind == "pointwise convolution":
        return nn.Conv2d(width, width, 1).eval(), image
    if kind == "depthwise convolution":
        return nn.Conv2d(width, width, 3, padding=1, groups=width).eval(), image
    if kind == "linear":
        return nn.Linear(width, width).eval(), torch.randn(1, 197, width)
    return Attention().eval(), torch.randn(1, 4, 197, width)


def runs_in(way: str, kind: str, width: int) -> Call | None:
    """A call of a layer in a runtime or layout, or None if it has none such."""
    module, x = layer(kind, width)
    if way == "onnxruntime":
        with TemporaryDirectory() as folder:
            return session(module, x, folder)
    if way == "eager, channels last":
        if kind not in CONVOLUTIONS:
            return None
        nhwc: Any = torch.channels_last
        module, x = module.to(memory_format=nhwc), x.to(memory_format=nhwc)
    called = torch.compile(module, dynamic=False) if way == "compile" else module
    return lambda: called(x)


def times(way: str, kind: str) -> dict[int, float] | None:
    """Seconds of a call by width, timed in turns."""
    torch.compiler.reset()
    calls = {width: runs_in(way, kind, width) for width in WIDTHS}
    runs: dict[int, list[float]] = {width: [] for width in WIDTHS}
    number = 1
    for turn in range(ROUNDS + 3):
        for width, call in calls.items():
            if call is None:
                return None
            taken = [seconds(call) for _ in range(number)]
            if turn == 2:
                number = max(number, math.ceil(SHORTEST / max(min(taken), 1e-7)))
            elif turn > 2:
                runs[width].append(statistics.fmean(taken))
    return {width: statistics.median(each) for width, each in runs.items()}


def excess(found: dict[int, float], widths: Sequence[int]) -> float:
    """What widths take beyond the straight line between the two multiples of 32, as a share."""
    slope = (found[HIGH] - found[LOW]) / (HIGH - LOW)
    return statistics.fmean(
        found[width] / (found[LOW] + slope * (width - LOW)) - 1 for width in widths
    )


def _by_width() -> Iterator[str]:
    with threads(THREADS), torch.inference_mode(), _many_compiled():
        for kind in LAYERS:
            first = None
            for way in WAYS:
                found = times(way, kind)
                if found is None:
                    continue
                first = first or found[HIGH]
                cells = [f"{100 * excess(found, each):+.0f} %" for each in CLASSES.values()]
                unit = f"{found[HIGH] / first:.2f}"
                yield f"| {kind} | {way} | {unit} | {' | '.join(cells)} |"


def widths() -> list[str]:
    """How much is lost by widths that are no multiples."""
    head = f"| layer | where | time at {HIGH} |{' |'.join(f' {name}' for name in CLASSES)} |"
    return [
        f"Single layers with as many inputs as outputs, {LOW} to {HIGH} wide (attention: dims of a",
        "head), one thread. `time` is in units of the eager one. The other columns tell how much",
        "longer widths take than the straight line between multiples of 32 says: odd ones, and",
        "multiples of 2, 4, 8 and 16 that are of no larger power of two. Medians of",
        f"{ROUNDS} rounds in turns.",
        *table(head, _by_width(), texts=(0, 1)),
    ]


def _many_compiled() -> Any:
    import torch._dynamo  # noqa: PLC0415  # takes a second

    return torch._dynamo.config.patch(recompile_limit=1000)  # type: ignore[no-untyped-call]


# -- whole models ---------------------------------------------------------------------------


@dataclass
class Sum:
    """The operators of a kind: seconds, MACs and bytes, of the dense model and of pruned ones."""

    times: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    macs: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    bytes: dict[str, float] = field(default_factory=lambda: defaultdict(float))

    def left(self, what: str, of: str) -> float:
        """A share of the dense model's."""
        found: dict[str, float] = getattr(self, what)
        return found[of] / found["dense"] if found["dense"] else 1.0

    @property
    def why(self) -> str:
        """Why it is slower than its MACs say, if it is, by what was measured."""
        if not self.macs["dense"]:
            return f"no MACs: it moves bytes, and {self.left('bytes', 'host'):.2f} of them are left"
        aligned = self.left("times", "host") / self.left("macs", "host")
        odd = self.left("times", "odd") / self.left("macs", "odd")
        reasons = []
        if odd > 1.05 * aligned:
            reasons.append(f"odd widths take {100 * (odd / aligned - 1):.0f} % longer for each MAC")
        if aligned > 1.1:
            bytes_left = f"{self.left('bytes', 'host'):.2f} of the bytes are left"
            is_bound = self.macs["dense"] / self.bytes["dense"] < MEMORY_BOUND
            reasons.append(
                f"memory-bound: {bytes_left}" if is_bound else f"less reuse: {bytes_left}"
            )
        return "; ".join(reasons) or "as its MACs say"


MEMORY_BOUND = 4.0
"""MACs for each byte below which arithmetic waits for memory, roughly."""


def sums(name: str) -> dict[str, Sum]:
    """The operators of a network, dense and with half of the MACs, by kind."""
    model, image = network(name)
    deps = fxprune.analyze(model, image)
    calls, labels = op_calls(deps)
    axes = [axis for call in calls for operand in call.operands() for axis in operand.axes]
    numbers = AxisSizes(axes, labels)
    taken = OpTimes(torch.device("cpu"))
    removals = {"dense": np.zeros(0, dtype=np.int64), **dict(_removals(deps))}
    found: dict[str, Sum] = defaultdict(Sum)
    for key, removed in removals.items():
        mask = np.zeros(len(labels), dtype=np.bool_)
        mask[labels.find(removed)] = True
        sizes = numbers.of(mask).tolist()
        for call in calls:
            free = FreeCall.of(call, numbers, labels, {})
            own = tuple(sizes[number] for number in free.numbers)
            time = taken.of(call.op, *free.arguments(own))
            if time is None:
                continue
            kind = next((role.split()[0] for _, role in roles(call)), "all else")
            shapes = free.shapes(own)
            found[kind].times[key] += time
            found[kind].bytes[key] += 4.0 * sum(map(math.prod, shapes))
            found[kind].macs[key] += _macs(kind, shapes)
    taken.save()
    return found


def _removals(deps: fxprune.DependencyGraph) -> Iterator[tuple[str, Ids]]:
    for key, multiple in (("odd", 1), ("host", "host")):
        plan = fxprune.plan(deps, target={"macs": 0.5}, round_to=multiple)  # type: ignore[arg-type]
        ids = [deps.group(name).ids[list(g.removed)] for name, g in plan.groups.items()]
        yield key, np.concatenate(ids)


def _macs(kind: str, shapes: Sequence[tuple[int, ...]]) -> float:
    """The MACs of a call: of a convolution each output meets the weights of its channel."""
    if kind == "all else":
        return 0.0
    out = math.prod(shapes[-1])
    if kind == "linear":
        return float(out * shapes[-2][-2])
    return float(out * math.prod(shapes[1][1:]))


def _by_kind() -> Iterator[str]:
    with threads(THREADS):
        for name in NETWORKS:
            found = sums(name)
            whole = sum(each.times["dense"] for each in found.values())
            for kind, each in sorted(found.items(), key=lambda item: -item[1].times["dense"]):
                cells = [
                    f"{each.times['dense'] / whole:.2f}",
                    f"{each.macs['dense'] / each.bytes['dense']:.1f}",
                ]
                for key in ("odd", "host"):
                    has_macs = each.macs["dense"] > 0
                    cells.append(f"{each.left('macs', key):.2f}" if has_macs else "")
                    cells.append(f"**{each.left('times', key):.2f}**")
                yield f"| {name} | {kind} | {' | '.join(cells)} | {each.why} |"


def layers() -> list[str]:
    """Which kinds of layers are slower than their MACs say."""
    head = (
        "| model | layers | share of time | MACs for a byte | MACs left | time left, round_to=1"
        " | MACs left, host | time left, host | why |"
    )
    return [
        "Half of the MACs left, with `round_to=1` and with what suits the machine. Every operator",
        "is timed alone in eager mode, dense and pruned, on one thread, and added up by kind. A",
        f"kind is called memory-bound if it has less than {MEMORY_BOUND:g} MACs for each byte that",
        "it reads and writes.",
        *table(head, _by_kind(), texts=(0, 1, 8)),
    ]
