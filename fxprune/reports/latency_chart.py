"""The chart of a comparison; matplotlib is imported where it is used, for it is an extra."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fxprune.errors import InputError, printable
from fxprune.images import figure_class, write_image

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.figure import Figure

    from fxprune.measurements import Comparison

_MIB = 2**20


def draw_chart(comparison: Comparison, path: Path | None = None, width: float = 12) -> Figure:
    """Bars of latency (with its spread), peak memory and size, written to a file if there is one.

    What failed has no bar. The width is in inches.

    Raises:
        InputError: matplotlib is not installed, writes no such images, or all has failed.
        FxPruneError: the file cannot be written.
    """
    shown = [each for each in comparison.measurements if each.milliseconds is not None]
    if not shown:
        raise InputError("there is nothing to draw: nothing could be measured")
    names = [printable(f"{each.name}\n{each.runtime}") for each in shown]
    figure = figure_class()(figsize=(width, 1.5 + 0.6 * len(shown)), layout="constrained")
    latency, memory, size = figure.subplots(1, 3, sharey=True)
    spreads = [each.milliseconds for each in shown if each.milliseconds is not None]
    medians = [spread.median for spread in spreads]
    below = [spread.median - spread.low for spread in spreads]
    above = [spread.high - spread.median for spread in spreads]
    ink = latency.xaxis.label.get_color()
    latency.barh(range(len(shown)), medians, xerr=[below, above], capsize=3, ecolor=ink)
    memory.barh(range(len(shown)), [each.peak_memory / _MIB for each in shown])
    size.barh(range(len(shown)), [each.size / _MIB for each in shown])
    for axes, title in (
        (latency, "latency, ms\n(line: 10th to 90th percentile)"),
        (memory, "peak memory\nof the process, MiB"),
        (size, "size\nof the model, MiB"),
    ):
        axes.set_title(title, fontsize=10)
    latency.set_yticks(range(len(shown)), names, parse_math=False)
    latency.invert_yaxis()
    if path is not None:
        write_image(figure, path)
    return figure
