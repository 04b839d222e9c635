"""fxprune beside Torch-Pruning: the same model, ratio and criterion, in one process, taking turns.

Both start from a model in memory and end with a smaller one: ours with `plan` and `shrink`, which
copies the kept weights, theirs with `MagnitudePruner` and one `step`, which cuts the given model;
so it gets a fresh copy, made outside of the measurement, for every run. Ours is measured without a
proof, as theirs has none, and with one. Each is run once to warm up, then in turns.

A run of the peer that takes longer than the limit is stopped, and the row says so.
"""

from __future__ import annotations

import copy
import ctypes
import gc
import math
import resource
import signal
import statistics
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch_pruning
from matplotlib.figure import Figure
from torch import Tensor, nn
from torchvision import models

import fxprune
from benchmarks.tables import table
from fxprune import meta_cache

NETWORKS = (
    *("resnet18", "resnet50", "mobilenet_v2", "efficientnet_v2_s", "googlenet", "densenet121"),
    *("densenet201", "convnext_tiny", "vit_b_16", "swin_t", "regnet_y_8gf"),
)
DEPTHS = (25, 100, 400, 1600)
DENSE = (10, 40, 160)
WIDTHS = (16, 64, 256, 1024, 4096)
RUNS = 5
LIMIT = 60
"""Seconds that a run of the peer may take."""
ROOM = 8 << 30
"""Bytes that it may take more than there are before."""
PLOT = Path(__file__).parents[1] / "docs" / "images" / "speed.svg"


class TooLongError(Exception):
    """A run took longer than it may."""


@dataclass(frozen=True)
class Taken:
    """What runs of one side took: seconds, run by run, and MiB more than before at most."""

    seconds: tuple[float, ...]
    memory: float

    @property
    def median(self) -> float:
        """The median of the runs, in seconds."""
        return statistics.median(self.seconds)


@dataclass(frozen=True)
class Row:
    """One model on both sides; None if the peer did not do it, and why."""

    name: str
    ours: Taken
    proved: float | None
    theirs: Taken | None
    why: str = ""

    @property
    def ratios(self) -> list[float]:
        """How many times as long the peer took, run by run."""
        assert self.theirs is not None
        return [t / o for o, t in zip(self.ours.seconds, self.theirs.seconds, strict=False)]

    def __str__(self) -> str:
        ours = f"| {self.name} | {_time(self.ours.median)} | {self.ours.memory:.0f} "
        proof = f"| {_time(self.proved)} " if self.proved else "| "
        if self.theirs is None:
            return f"{ours}{proof}| {self.why} | | | |"
        ratios = sorted(self.ratios)
        spread = f"{ratios[0]:.1f} to {ratios[-1]:.1f}"
        theirs = f"| {_time(self.theirs.median)} | {self.theirs.memory:.0f} "
        return f"{ours}{proof}{theirs}| **{statistics.median(ratios):.1f}** | {spread} |"


HEAD = (
    "| model | fxprune | MiB more | with proof | Torch-Pruning | MiB more"
    " | times as long | spread |"
)


def _time(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms" if seconds < 10 else f"{seconds:.1f} s"


@contextmanager
def _limited(seconds: int) -> Iterator[None]:
    """Stop work that takes too long, or more memory than `ROOM`, which then raises an error."""

    def stop(*_: Any) -> None:
        raise TooLongError

    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    room = _status("VmData") + ROOM  # which counts for the limit
    before = signal.signal(signal.SIGALRM, stop)
    try:
        limit = room if hard == resource.RLIM_INFINITY else min(room, hard)
        resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))
        signal.alarm(seconds)
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def _status(name: str) -> int:
    """A size that Linux tells of this process, in bytes."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    (line,) = (line for line in status.splitlines() if line.startswith(name))
    return int(line.split()[1]) * 1024


def _anonymous() -> float:
    """The memory of this process that is no file, in MiB."""
    return _status("RssAnon") / 2**20


def _seconds(work: Callable[[], Any]) -> float:
    """What a run takes; its result is dropped afterwards."""
    gc.collect()
    start = time.perf_counter()
    result = work()
    taken = time.perf_counter() - start
    del result
    return taken


def most_memory(work: Callable[[], Any]) -> float:
    """The most memory of this process while it works, in MiB more than before."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # or what was freed before would be used again
    before = _anonymous()
    most, done = [before], threading.Event()

    def watch() -> None:
        while not done.wait(0.002):
            most[0] = max(most[0], _anonymous())

    watcher = threading.Thread(target=watch)
    watcher.start()
    result = work()
    done.set()
    watcher.join()
    most[0] = max(most[0], _anonymous())
    del result
    return most[0] - before


def _memory(side: str, made: Made) -> float:
    """The same in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.peer", side, made.kind, str(made.size)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=5 * LIMIT)
    return float(done.stdout.split()[-1])


def _theirs(model: nn.Module, inputs: Tensor) -> Callable[[], Any]:
    """A run of the peer on a copy of its own; what makes the outputs stays as it is."""
    own = copy.deepcopy(model)
    last = [module for module in own.modules() if isinstance(module, nn.Linear)][-1]

    def work() -> Any:
        importance = torch_pruning.importance.GroupMagnitudeImportance(p=2)
        torch_pruning.pruner.MagnitudePruner(
            own, inputs, importance=importance, pruning_ratio=0.5, ignored_layers=[last]
        ).step()
        return own

    return work


def _ours(model: nn.Module, inputs: Tensor, *, verify: bool) -> Callable[[], Any]:
    def work() -> Any:
        meta_cache.forget()  # of earlier runs
        deps = fxprune.analyze(model, inputs)
        return fxprune.shrink(deps, fxprune.plan(deps, ratio=0.5), verify=verify)

    return work


def compare(made: Made, *, proof: bool) -> Row:
    """Both sides in turns."""
    model, inputs = made.model()
    ours, theirs, why = [], [], ""
    for run in range(RUNS + 1):
        mine = _seconds(_ours(model, inputs, verify=False))
        if not why:
            work = _theirs(model, inputs)
            try:
                with _limited(LIMIT), warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    other = _seconds(work)
            except TooLongError:
                why = f"stopped after {LIMIT} s"
            except Exception as error:  # noqa: BLE001  # whatever it is, the row says so
                why = type(error).__name__
            else:
                theirs += [other] if run else []
        ours += [mine] if run else []
    proved = _seconds(_ours(model, inputs, verify=True)) if proof else None
    del model
    taken = Taken(tuple(ours), _memory("ours", made))
    peer = None if why else Taken(tuple(theirs), _memory("theirs", made))
    return Row(str(made), taken, proved, peer, why)


# -- models ---------------------------------------------------------------------------------


class Residual(nn.Module):
    """A chain of residual blocks of two convolutions."""

    def __init__(self, blocks: int, width: int = 16, kernel: int = 3) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, padding=1)
        layers = [_layer(width, kernel) + _layer(width, kernel) for _ in range(blocks)]
        self.blocks = nn.ModuleList(nn.Sequential(*block) for block in layers)
        self.head = nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Add up what the blocks return."""
        x = self.stem(x)
        for block in self.blocks:
            x = x + block(x)
        return self.head(x.mean((2, 3)))


class Dense(nn.Module):
    """A dense block: every layer reads all before it."""

    def __init__(self, layers: int, growth: int = 12) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, growth, 3, padding=1)
        self.layers = nn.ModuleList(
            nn.Sequential(
                nn.BatchNorm2d(growth * k), nn.ReLU(), nn.Conv2d(growth * k, growth, 3, padding=1)
            )
            for k in range(1, layers + 1)
        )
        self.head = nn.Linear(growth * (layers + 1), 10)

    def forward(self, x: Tensor) -> Tensor:
        """Concatenate all that the layers return."""
        found = [self.stem(x)]
        for layer in self.layers:
            found.append(layer(torch.cat(found, 1)))
        return self.head(torch.cat(found, 1).mean((2, 3)))


def _layer(width: int, kernel: int = 3) -> list[nn.Module]:
    convolution = nn.Conv2d(width, width, kernel, padding=kernel // 2, bias=False)
    return [convolution, nn.BatchNorm2d(width), nn.ReLU()]


def chain(layers: int) -> nn.Module:
    """A chain of convolutions, batch norms and activations."""
    body = [module for _ in range(layers) for module in _layer(16)]
    ends = nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10)
    return nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), *body, *ends)


def network(name: str) -> nn.Module:
    """A network of torchvision."""
    options = {"init_weights": False, "aux_logits": False} if name == "googlenet" else {}
    model: nn.Module = models.get_model(name, weights=None, **options)
    return model


KINDS: dict[str, Callable[[int], nn.Module]] = {
    "chain of {} layers": chain,
    "{} residual blocks": Residual,
    "dense block of {} layers": Dense,
    "2 residual blocks of width {}": lambda width: Residual(2, width, kernel=1),
}


@dataclass(frozen=True)
class Made:
    """A model by its name, so that another process can make it: one of `KINDS`, or a network."""

    kind: str
    size: int = 0

    def __str__(self) -> str:
        return self.kind.format(self.size)

    def model(self) -> tuple[nn.Module, Tensor]:
        """The model, and inputs for it."""
        if self.kind in KINDS:
            return KINDS[self.kind](self.size).eval(), torch.randn(1, 3, 32, 32)
        return network(self.kind).eval(), torch.randn(1, 3, 224, 224)


# -- sections -------------------------------------------------------------------------------


def _table(rows: Iterator[Row]) -> tuple[list[str], list[Row]]:
    made: list[Row] = []

    def told() -> Iterator[str]:
        for row in rows:
            made.append(row)
            yield str(row)

    return table(HEAD, told()), made


def networks() -> list[str]:
    """Networks of torchvision on both sides."""
    rows = (compare(Made(name), proof=True) for name in NETWORKS)
    lines, made = _table(rows)
    both = [statistics.median(row.ratios) for row in made if row.theirs is not None]
    mean = math.exp(statistics.fmean(map(math.log, both)))
    version, count = torch_pruning.__version__, len(both)
    return [
        f"Half of the channels of each group removed, criterion l2, beside Torch-Pruning {version}",
        "(`MagnitudePruner` with `GroupMagnitudeImportance(p=2)`, all but the last layer). Batch",
        f"1, 224 x 224. Medians of {RUNS} runs after a warm-up, in turns; one run of the proof.",
        "`MiB more` is the most memory of a process beyond that before, files left out: ours",
        "copies the kept weights, theirs cuts the model in place. `times as long` is theirs by",
        "ours without a proof, which theirs has none of.",
        *lines,
        "",
        f"In the geometric mean of the {count} networks that Torch-Pruning prunes it takes",
        f"**{mean:.1f}** times as long.",
    ]


def scaling() -> list[str]:
    """How time grows with depth and width."""
    sizes_of = dict(zip(KINDS, (DEPTHS, DEPTHS, DENSE, WIDTHS), strict=True))
    text, curves = [], {}
    for title, sizes in sizes_of.items():
        lines, made = _table(compare(Made(title, size), proof=False) for size in sizes)
        text += lines
        curves[title] = (sizes, made)
        times = [row.ours.median for row in made]
        text += ["", f"Ours grows with exponent **{_exponent(sizes, times):.2f}** overall."]
    _plot(curves)
    return [
        "The same on models that are made for it, at 32 x 32. An exponent of 1 is time in",
        "proportion to the number of layers; it is taken between the smallest and the largest. A",
        "dense block of n layers has n^2 / 2 connections, a layer of width n has n^2 weights.",
        *text,
        "",
        "![time against depth and width](images/speed.svg)",
    ]


def _exponent(sizes: Sequence[int], times: Sequence[float]) -> float:
    return math.log(times[-1] / times[0]) / math.log(sizes[-1] / sizes[0])


def _plot(curves: dict[str, tuple[Sequence[int], list[Row]]]) -> None:
    figure = Figure(figsize=(10, 2.8), layout="constrained")
    axes = figure.subplots(1, len(curves), sharey=True)
    for axis, (title, (sizes, rows)) in zip(axes, curves.items(), strict=True):
        axis.loglog(sizes, [row.ours.median for row in rows], "o-", label="fxprune")
        done = [
            (size, row.theirs.median) for size, row in zip(sizes, rows, strict=True) if row.theirs
        ]
        if done:
            axis.loglog(*zip(*done, strict=True), "s--", label="Torch-Pruning")
        axis.set_title(title.format("n"), fontsize=9)
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("seconds")
    axes[0].legend(fontsize=8)
    figure.savefig(PLOT, metadata={"Date": None})


def main(side: str, kind: str, size: str) -> None:
    """Print what one side takes of memory for a model."""
    model, inputs = Made(kind, int(size)).model()
    small = Residual(1).eval()
    for run in (_ours(small, inputs, verify=False), _theirs(small, inputs)):
        run()  # imports, and what is made once
    work = _theirs(model, inputs) if side == "theirs" else _ours(model, inputs, verify=False)
    print(most_memory(work))


if __name__ == "__main__":
    main(*sys.argv[1:])
