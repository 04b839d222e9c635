"""What the command line prints: tables for people, JSON for programs, progress on stderr."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from dataclasses import asdict
from typing import Any, TypeAlias

import click
from rich.console import Console
from rich.table import Table

from fxprune.analysis import DependencyGraph
from fxprune.comparison import Verification
from fxprune.explanations import Explanation
from fxprune.importance.running import room_for_bars
from fxprune.layers import layers_of
from fxprune.planning import GroupPlan, Plan
from fxprune.planning.sensitivity_data import Sensitivity
from fxprune.report import ShrinkReport
from fxprune.report_page import cost_table, costs_of, costs_told, layer_table
from fxprune.runtimes import Comparison
from fxprune.streaming import CheckpointReport
from fxprune.tables import Page, item, share, table

Printed: TypeAlias = DependencyGraph | Plan | Sensitivity | ShrinkReport | Verification

_PATIENCE = 1.0  # Seconds before a stage of the work says that it is running.


class _Spinner:
    """What moves on a terminal while work is done; it is not there while a bar is."""

    def __init__(self, console: Console, text: str) -> None:
        self._status = console.status(text)
        self._lock = threading.RLock()  # a bar may be closed by a garbage collection, anywhere
        self._bars = 0
        self._wanted = False

    def start(self) -> None:
        """Show it, once no bar is."""
        with self._lock:
            self._wanted = True
            if not self._bars:
                self._status.start()

    def stop(self) -> None:
        """Show it no longer."""
        with self._lock:
            self._wanted = False
            self._status.stop()

    def update(self, text: str) -> None:
        """Let it tell something else."""
        self._status.update(text)

    @contextmanager
    def hidden(self) -> Iterator[None]:
        """Without it; then it is there again."""
        with self._lock:
            self._bars += 1
            self._status.stop()
        try:
            yield
        finally:
            with self._lock:
                self._bars -= 1
                if self._wanted and not self._bars:
                    self._status.start()


@contextmanager
def _working(spinner: _Spinner) -> Iterator[None]:
    """While work is done, what it prints goes to standard error, and bars have room."""
    token = room_for_bars.set(spinner.hidden)
    try:
        with redirect_stdout(sys.stderr):
            try:
                yield
            finally:
                spinner.stop()  # it puts back the streams that there were when it was started
    finally:
        room_for_bars.reset(token)


@contextmanager
def stage(what: str) -> Iterator[None]:
    """Say on stderr that `what` is being done, once it has taken more than a second.

    A terminal shows a spinner, anything else gets a line. Meanwhile standard output goes to
    standard error, so that nothing that a model prints gets into a table or JSON.
    """
    console = Console(stderr=True)
    spinner = _Spinner(console, f"{what} ...")

    def show() -> None:
        if console.is_terminal:
            spinner.start()
        else:
            click.echo(f"{what} ...", err=True)

    timer = threading.Timer(_PATIENCE, show)
    timer.daemon = True
    with _working(spinner):
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
            timer.join()


@contextmanager
def stages() -> Iterator[Callable[[str], None]]:
    """As `stage`, for work that says itself what it is doing: each new text is shown as it comes.

    A terminal shows the latest only; anything else gets no more than a line a second.
    """
    console = Console(stderr=True)
    spinner = _Spinner(console, "")
    last = 0.0

    def tell(text: str) -> None:
        nonlocal last
        spinner.update(f"{text} ...")
        if console.is_terminal:
            spinner.start()
        elif time.monotonic() - last >= _PATIENCE:
            last = time.monotonic()
            click.echo(f"{text} ...", err=True)

    with _working(spinner):
        yield tell


def show(what: Printed, *, full: bool = False) -> None:
    """What printing it shows: in colours that fit a terminal, or as plain text.

    `full` leaves nothing out, and repeats have rows of their own.
    """
    console = _console()
    if console.is_terminal and not full:
        console.print(what)
    else:
        click.echo(what.text(full=full))


def show_plan(deps: DependencyGraph, plan: Plan, *, full: bool) -> None:
    """The widths, and the cost that they lead to; `full` adds that of every layer."""
    show(plan, full=full)
    layers = layers_of(deps, plan)
    each = (layer_table(layers, full=True), "") if full and layers else ()
    show_page(Page.of("", *each, cost_table(costs_of(layers))))


def show_page(page: Page) -> None:
    """A page on standard output."""
    console = _console()
    if console.is_terminal:
        console.print(page)
    else:
        click.echo(str(page))


def show_checkpoint(report: CheckpointReport) -> None:
    """The files before and after, the cost of the model, and what was checked."""
    rows = [(s.name, s.before, s.after, s.sha256[:16]) for s in report.shards]
    cells = [(n, f"{b:,}", f"{a:,}", share(a, b), digest) for n, b, a, digest in rows]
    before, after = report.before, report.after
    total = ("all", f"{before:,}", f"{after:,}", share(after, before), "")
    shards = table(
        ("shard", "before", "after", "left", "SHA-256"),
        cells,
        left=(0, 4),
        total=total if len(rows) > 1 else (),
    )
    costs = cost_table(costs_told(report.model))
    show_page(Page.of(shards, "", costs, "", *map(item, report.notes())))


def checkpoint_document(report: CheckpointReport) -> dict[str, Any]:
    """A report on a checkpoint for JSON."""
    proof = report.verification
    return {
        "source": str(report.source),
        "target": str(report.target),
        "shards": [asdict(shard) for shard in report.shards],
        "before": {"bytes": report.before, "model": asdict(report.model.before)},
        "after": {"bytes": report.after, "model": asdict(report.model.after)},
        "tensors": {
            "sliced": len(report.sliced),
            "untouched": len(report.untouched),
            "unknown": list(report.unknown),
            "dropped": list(report.dropped),
        },
        "files": {"copied": list(report.copied), "left_out": list(report.left_out)},
        "config": report.has_config,
        "groups": widths_document(report.model.groups),
        "verification": verification_document(proof) if proof else None,
    }


def show_comparison(comparison: Comparison) -> None:
    """A row for each model and runtime, and why some have no figures."""
    table = Table("model", "runtime", "ms", "of the first", "peak MiB", "size MiB")
    for column in (*table.columns[2:3], *table.columns[4:]):
        column.justify = "right"
    failed = []
    for each in comparison.measurements:
        size = [f"{count / 2**20:.1f}" if count else "" for count in (each.peak_memory, each.size)]
        latency = str(each.milliseconds or "failed")
        table.add_row(each.name, each.runtime, latency, str(each.relation or ""), *size)
        if each.failure:
            failed.append(f"{each.name} in {each.runtime}: {each.failure}")
    console = _console()
    console.print(table)
    console.print(
        f"ms: median of {comparison.rounds} rounds (10th to 90th percentile), threads:"
        f" {comparison.threads}; peak: of the process, with its runtime",
        soft_wrap=True,
    )
    for text in failed:
        console.print(f"- {text}", soft_wrap=True)


def show_table(table: Table) -> None:
    """A table on standard output."""
    _console().print(table)


def show_json(document: Mapping[str, Any]) -> None:
    """A document as JSON on standard output."""
    click.echo(json.dumps(document, indent=2, allow_nan=False))


def analysis_document(deps: DependencyGraph) -> dict[str, Any]:
    """An analysis for JSON."""
    groups = [
        {
            "name": group.name,
            "kind": group.kind,
            "size": group.size,
            "prunable": group.prunable,
            "pinned": asdict(group.pinned) if group.pinned else None,
            "members": [{"parameter": m.parameter, "dim": m.dim} for m in group.members],
        }
        for group in deps.groups
    ]
    return {
        "groups": groups,
        "prunable_share": deps.prunable_share,
        "shares": [{**asdict(row), "share": row.share} for row in deps.shares],
        "diagnostics": [asdict(d) for d in deps.diagnostics],
    }


def explanation_document(explanation: Explanation) -> dict[str, Any]:
    """The answer of `deps.why` for JSON."""
    return asdict(explanation)


def widths_document(groups: Mapping[str, GroupPlan]) -> dict[str, Any]:
    """The widths of groups for JSON."""
    return {
        name: {"kind": group.kind, "before": group.size, "after": group.width}
        for name, group in groups.items()
    }


def cost_document(deps: DependencyGraph, plan: Plan) -> dict[str, Any]:
    """The cost before and after, as a plan predicts it, for JSON."""
    costs = costs_of(layers_of(deps, plan))
    return {
        when: {name.lower(): getattr(change, when) for name, change in costs.items()}
        for when in ("before", "after")
    }


def report_document(report: ShrinkReport) -> dict[str, Any]:
    """A report for JSON."""
    proof = report.verification
    return {
        "before": asdict(report.before),
        "after": asdict(report.after),
        "dropped": list(report.dropped),
        "groups": widths_document(report.groups),
        "verification": verification_document(proof) if proof else None,
        "diagnostics": [asdict(diagnostic) for diagnostic in report.diagnostics],
        "renormalized": [asdict(diagnostic) for diagnostic in report.renormalized],
        "emit": report.emit,
    }


def verification_document(verification: Verification) -> dict[str, Any]:
    """A verification for JSON."""
    return asdict(verification)


def _console() -> Console:
    """Standard output. Names such as `attn[heads]` are no markup; files get long lines."""
    console = Console(markup=False, emoji=False, highlight=False)
    if not console.is_terminal:
        console.width = max(console.width, 120)
    return console
