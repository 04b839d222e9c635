"""Time to analyze, plan and shrink: beside Torch-Pruning, and in units of one forward of the model.

The first tables are made by `benchmarks.peer`. In the others the unit makes the figures comparable
between machines. Every run has its own unit: the mean of a forward before and one after it, so that
a machine that is now fast, now slow measures the same. Every figure is the median of several runs
after a warm-up; the spread is told beside it.

They tell what each stage takes; how near all are to their floor, one forward on meta tensors and
one copy of the kept weights; what importing takes; what memory shrinking and its proof take; what
the quick checks of verification take, what exact statistics cost, and how many candidates a second
are priced.

`python -m benchmarks` makes all tables, `python -m benchmarks quick candidates` these two.
"""

from __future__ import annotations

import platform
import shlex
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torchvision import models

import fxprune
from benchmarks import layer_speeds, memory, peer, profile, speedups
from benchmarks.tables import table
from fxprune import meta_cache
from fxprune.files import write_atomically
from fxprune.planning.candidates import CandidateCost

NETWORKS = ("resnet18", "mobilenet_v2", "densenet121", "densenet201")
ANALYZED = ("swin_t", "maxvit_t", "mvit_v2_s", "vit_b_16")
VERIFIED = ("resnet18", "resnet50", "mobilenet_v2", "vit_b_16")
PRICED = ("resnet50", "mobilenet_v2", "densenet121", "vit_b_16")
CANDIDATES = 1000
EXACT = ("vit_b_16", "swin_t", "convnext_tiny")
BATCH = 8
BATCHES = (1, 8, 32)
RUNS = 9
TARGET = Path(__file__).parents[1] / "docs" / "benchmarks.md"


def seconds(function: Callable[[], Any]) -> tuple[float, Any]:
    """Wall-clock time of one call, and what it returned."""
    start = time.perf_counter()
    value = function()
    return time.perf_counter() - start, value


def measure(name: str) -> dict[str, list[float]]:
    """Seconds of each stage, run by run."""

    def forward() -> float:
        with torch.no_grad():
            return seconds(lambda: model(image))[0]

    options = {"init_weights": False} if name == "googlenet" else {}
    model = models.get_model(name, weights=None, **options).eval()
    image = torch.randn(1, 3, 224, 224)
    stages: dict[str, list[float]] = {
        key: [] for key in ("forward", "analyze", "plan", "shrink", "verify")
    }
    for run in range(RUNS + 1):
        before = forward()
        analysis, deps = seconds(lambda: fxprune.analyze(model, image))
        planning, plan = seconds(lambda deps=deps: fxprune.plan(deps, ratio=0.5))
        shrinking, small = seconds(
            lambda deps=deps, plan=plan: fxprune.shrink(deps, plan, verify=False)
        )
        unit = (before + forward()) / 2
        proof = seconds(lambda small=small, plan=plan: fxprune.verify(model, small, plan))[0]
        if run:  # the first one warms up
            for key, value in zip(
                stages, (unit, analysis, planning, shrinking, proof), strict=True
            ):
                stages[key].append(value)
    return stages


def row(name: str) -> str:
    """One line of the table: medians in forwards, and the spread of the total."""
    stages = measure(name)
    forward = stages["forward"]
    shares = {
        key: [taken / unit for taken, unit in zip(times, forward, strict=True)]
        for key, times in stages.items()
    }
    stage_runs = [shares[key] for key in ("analyze", "plan", "shrink")]
    totals = [sum(parts) for parts in zip(*stage_runs, strict=True)]
    medians = [statistics.median(runs) for runs in (*stage_runs, shares["verify"])]
    total = statistics.median(totals)
    cells = [*(f"{value:.1f}" for value in medians[:3]), f"**{total:.1f}**"]
    cells += [f"{min(totals):.1f} to {max(totals):.1f}", f"{medians[3]:.1f}"]
    return f"| {name} | {statistics.median(forward) * 1000:.0f} ms | {' | '.join(cells)} |"


class Passing(TorchDispatchMode):
    """Calls every operator, and does nothing else."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call one operator."""
        return func(*args, **(kwargs or {}))


def in_forwards(forward: Callable[[], float], work: Callable[[], Any]) -> tuple[float, list[float]]:
    """The median time of a forward, and run by run how many of them some work takes."""
    units, ratios = [], []
    for run in range(RUNS + 1):
        before = forward()
        taken = seconds(work)[0]
        unit = (before + forward()) / 2
        if run:  # the first one warms up
            units.append(unit)
            ratios.append(taken / unit)
    return statistics.median(units), ratios


def analysis_row(name: str) -> str:
    """One line of the second table: analysis and all stages beside what they cannot do without."""

    def forward() -> float:
        meta_cache.forget()  # or all analyses but the first would find every shape known
        with torch.no_grad(), Passing():
            return seconds(lambda: shadow(image.to("meta")))[0]

    model = models.get_model(name, weights=None).eval()
    shadow = models.get_model(name, weights=None).eval().to("meta")
    image = torch.randn(1, 3, *((16,) if name.startswith("mvit") else ()), 224, 224)
    rows: list[tuple[float, float, float, float]] = []
    for run in range(RUNS + 1):
        before = forward()
        analysis, deps = seconds(lambda: fxprune.analyze(model, image))
        after = forward()
        rest, small = seconds(
            lambda deps=deps: fxprune.shrink(deps, fxprune.plan(deps, ratio=0.5), verify=False)
        )
        copying, _ = seconds(lambda small=small: [p.detach().clone() for p in small.parameters()])
        if run:  # the first one warms up
            meta = (before + after) / 2
            rows.append((meta, copying, analysis / meta, (analysis + rest) / (meta + copying)))
    meta, copying, alone, total = (statistics.median(column) for column in zip(*rows, strict=True))
    totals = [row[-1] for row in rows]
    times = f"{meta * 1000:.0f} ms | {copying * 1000:.1f} ms"
    spread = f"{min(totals):.1f} to {max(totals):.1f}"
    return f"| {name} | {times} | **{alone:.1f}** | **{total:.1f}** | {spread} |"


def verification_row(name: str) -> str:
    """One line of the third table: quick checks in units of a forward on the same inputs."""

    def forward() -> float:
        with torch.no_grad():
            return seconds(lambda: model(images))[0]

    def checks() -> None:
        fxprune.verify(deps, small, plan, images, quick=True)

    model = models.get_model(name, weights=None).eval()
    cells = []
    for batch in BATCHES:
        images = torch.randn(batch, 3, 224, 224)
        deps = fxprune.analyze(model, images)
        plan = fxprune.plan(deps, ratio=0.5)
        small = fxprune.shrink(deps, plan, verify=False)
        unit, ratios = in_forwards(forward, checks)
        cells += [f"{unit * 1000:.0f} ms", f"**{statistics.median(ratios):.1f}**"]
    return f"| {name} | {' | '.join(cells)} |"


def exact_row(name: str) -> str:
    """One line of the fourth table: a forward with exact statistics, and with those of the kept."""

    def forward(model: Any) -> float:
        with torch.no_grad():
            return seconds(lambda: model(images))[0]

    model = models.get_model(name, weights=None).eval()
    images = torch.randn(BATCH, 3, 224, 224)
    deps = fxprune.analyze(model, images)
    plan = fxprune.plan(deps, ratio=0.5)
    kept, exact = (fxprune.shrink(deps, plan, norm=n, verify=False) for n in ("kept", "exact"))
    rows: list[tuple[float, float, float]] = []
    for run in range(RUNS + 1):
        times = (forward(model), forward(kept), forward(exact))
        if run:
            rows.append(times)
    dense, of_kept, of_exact = (statistics.median(column) for column in zip(*rows, strict=True))
    ratio = statistics.median(row[2] / row[1] for row in rows)
    shares = f"{of_kept / dense:.2f} | {of_exact / dense:.2f}"
    return f"| {name} | {dense * 1000:.0f} ms | {shares} | **{ratio:.2f}** |"


def candidates_row(name: str) -> str:
    """One line of the fifth table: exact costs of random removals, a second."""
    model = models.get_model(name, weights=None).eval()
    deps = fxprune.analyze(model, torch.zeros(1, 3, 224, 224))
    building, cost = seconds(lambda: CandidateCost(deps))
    free = np.concatenate([group.ids for group in deps.groups if group.pinned is None])
    random = np.random.default_rng(0)
    removals = [free[random.random(len(free)) < random.random()] for _ in range(CANDIDATES)]
    runs = [seconds(lambda: [cost(ids) for ids in removals])[0] for _ in range(RUNS + 1)][1:]
    rates = [CANDIDATES / taken for taken in runs]
    spread = f"{min(rates):,.0f} to {max(rates):,.0f}"
    return f"| {name} | {building * 1000:.0f} ms | **{statistics.median(rates):,.0f}** | {spread} |"


def stages() -> list[str]:
    """From a model to a smaller one."""
    head = "| model | forward | analyze | plan | shrink | total | spread | verify (float64) |"
    return [
        "Time in units of one CPU forward of the dense model (batch 1, 224 x 224, float32); half",
        "of the channels of every group removed, criterion l2. `total` is `analyze` + `plan` +",
        "`shrink` without verification. `verify` analyzes again and makes all checks, in float64.",
        f"Medians of {RUNS} runs after a warm-up, each divided by the",
        "mean of a forward before and one after it.",
        *table(head, map(row, NETWORKS)),
    ]


def analysis() -> list[str]:
    """How near analysis and all stages together are to their floor."""
    return [
        "Analysis runs the model on meta tensors, which have no data. Its floor is one forward on",
        "them under a dispatch mode that only calls the operators. `analyze` captures, interprets",
        "and groups; nothing is remembered from earlier runs. The floor of all stages together is",
        "that forward and one copy of the weights that are kept.",
        "",
        "What convolutions take beyond it are the passes under *Profile*. Attention, and windows",
        "most of all, is lowered besides: it is recorded at several sizes, to know which of its",
        "numbers follow from the inputs.",
        *table(
            "| model | meta forward | copy | analyze, in meta forwards"
            " | all stages, in meta forwards and copies | spread |",
            map(analysis_row, (*NETWORKS, *ANALYZED)),
        ),
    ]


def imported(statements: Sequence[str]) -> list[float]:
    """Seconds that each statement takes in a new process, one after another."""
    program = ["import time", "times = [time.perf_counter()]"]
    for statement in statements:
        program += [statement, "times.append(time.perf_counter())"]
    program.append("print(*(b - a for a, b in zip(times, times[1:])))")
    command = [sys.executable, "-c", "\n".join(program)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return [float(text) for text in done.stdout.split()]


def imports() -> list[str]:
    """What `import fxprune` adds to `import torch`."""
    names = "fxprune.analyze, fxprune.plan, fxprune.shrink"
    statements = ("import torch", "import fxprune", names)
    runs = [imported(statements) for _ in range(RUNS + 1)][1:]
    times = [statistics.median(column) for column in zip(*runs, strict=True)]
    return [
        "In a new process, one after another. `import fxprune` loads none of its modules: the",
        "names do, when they are first asked for.",
        *table(
            "| statement | time |",
            (
                f"| `{text}` | {taken * 1000:.0f} ms |"
                for text, taken in zip(statements, times, strict=True)
            ),
        ),
    ]


def verification() -> list[str]:
    """The quick checks."""
    head = f"| model |{' |'.join(f' forward, batch {b} | quick verification' for b in BATCHES)} |"
    return [
        "`fxprune.verify(deps, small, plan, images, quick=True)`: shapes, and both models in",
        "float32 with NaN at removed positions, in units of one eager forward of the dense model",
        "on the same images, at several batches. What does not grow with the batch is Python's",
        "share, a fifth to a third of a second.",
        *table(head, map(verification_row, VERIFIED)),
    ]


def exact() -> list[str]:
    """What exact statistics cost."""
    return [
        'Half of all channels removed; a forward with `norm="kept"` and with `norm="exact"`, as',
        f"shares of the dense one at a batch of {BATCH}, and the second in units of the first.",
        *table("| model | dense forward | kept | exact | exact / kept |", map(exact_row, EXACT)),
    ]


def candidates() -> list[str]:
    """How fast candidates are priced."""
    return [
        "Exact parameters, bytes and MACs of random removals, without building a model: what is",
        "prepared once, and candidates a second.",
        *table(
            "| model | preparation | candidates a second | spread |", map(candidates_row, PRICED)
        ),
    ]


SECTIONS: dict[str, Callable[[], list[str]]] = {
    "Torch-Pruning": peer.networks,
    "Growth": peer.scaling,
    "Profile": profile.profile,
    "Memory": memory.memory,
    "Stages": stages,
    "Analysis": analysis,
    "Imports": imports,
    "Quick verification": verification,
    "Exact statistics": exact,
    "Candidates": candidates,
    "Speedups": speedups.section,
    "Widths": layer_speeds.widths,
    "Layers": layer_speeds.layers,
}


def main(chosen: Sequence[str], finished: list[str]) -> None:
    """Measure what is named, or everything; print the tables, and write them in their places.

    Args:
        chosen: first letters of sections; the others stay as they are.
        finished: gets the title of each section that is measured and written.
    """
    versions = f"torch {torch.__version__.split('+')[0]}, Python {platform.python_version()}"
    made = f"{versions}, {torch.get_num_threads()} threads. Written by `python -m benchmarks`."
    for title in asked(chosen):
        write(title, "\n".join([*SECTIONS[title](), "", made]))
        finished.append(title)


def asked(chosen: Sequence[str]) -> list[str]:
    """The sections whose titles begin so, or all."""
    return [name for name in SECTIONS if not chosen or name.lower().startswith(tuple(chosen))]


def write(title: str, text: str) -> None:
    """Put a section that is finished in its place; the page appears whole or not at all."""
    before = TARGET.read_text(encoding="utf-8").split("\n## ")[1:]
    texts = {part.partition("\n")[0]: part.partition("\n")[2].strip() for part in before}
    texts[title] = text
    parts = [f"## {name}\n\n{texts[name]}\n" for name in SECTIONS if name in texts]
    page = "\n".join(["# Benchmarks\n", *parts]).encode()
    write_atomically(TARGET, lambda stream: stream.write(page))


def command(chosen: Sequence[str]) -> int:
    """Measure; after Ctrl-C, tell what is left. Returns the exit code."""
    finished: list[str] = []
    try:
        main(chosen, finished)
    except KeyboardInterrupt:
        left = [title for title in asked(chosen) if title not in finished]
        words = " ".join(shlex.quote(title.lower()) for title in left)
        print(
            f"\nstopped: {len(finished)} of {len(asked(chosen))} sections are finished and"
            f" written; to go on: python -m benchmarks {words}",
            file=sys.stderr,
        )
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(command([name.lower() for name in sys.argv[1:]]))
