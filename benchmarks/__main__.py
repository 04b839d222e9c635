"""Time to analyze, plan and shrink, in units of one forward of the same model.

The unit makes the figures comparable between machines. Every run has its own unit: the mean of a
forward before and one after it, so that a machine that is now fast, now slow measures the same.
Every figure is the median of several runs after a warm-up; the spread is told beside it.
"""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torchvision import models

import fxprune

NETWORKS = ("resnet18", "mobilenet_v2", "densenet121", "densenet201")
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
    in_forwards = {
        key: [taken / unit for taken, unit in zip(times, forward, strict=True)]
        for key, times in stages.items()
    }
    stage_runs = [in_forwards[key] for key in ("analyze", "plan", "shrink")]
    totals = [sum(parts) for parts in zip(*stage_runs, strict=True)]
    medians = [statistics.median(runs) for runs in (*stage_runs, in_forwards["verify"])]
    total = statistics.median(totals)
    cells = [*(f"{value:.1f}" for value in medians[:3]), f"**{total:.1f}**"]
    cells += [f"{min(totals):.1f} to {max(totals):.1f}", f"{medians[3]:.1f}"]
    return f"| {name} | {statistics.median(forward) * 1000:.0f} ms | {' | '.join(cells)} |"


def main() -> None:
    """Measure every network, print the table, and write it."""
    head = "| model | forward | analyze | plan | shrink | total | spread | verify (float64) |"
    versions = f"torch {torch.__version__.split('+')[0]}, Python {platform.python_version()}"
    lines = [
        "# Benchmarks",
        "",
        "Time in units of one CPU forward of the dense model (batch 1, 224 x 224, float32); half",
        "of the channels of every group removed, criterion l2. `total` is `analyze` + `plan` +",
        "`shrink` without verification. `verify` analyzes again and runs both models twice in",
        f"float64. Medians of {RUNS} runs after a warm-up, each divided by the mean of a forward",
        "before and one after it.",
        "",
        f"{versions}, {torch.get_num_threads()} threads. Written by `python -m benchmarks`.",
        "",
        head,
        "| --- | --: | --: | --: | --: | --: | --: | --: |",
    ]
    print(head)
    for name in NETWORKS:
        lines.append(row(name))
        print(lines[-1], flush=True)
    TARGET.write_text("\n".join([*lines, ""]), encoding="utf-8")


if __name__ == "__main__":
    main()
