"""Plots of a report; matplotlib is imported where it is used, for it is an extra."""

from __future__ import annotations

import math
import re
from io import StringIO
from typing import TYPE_CHECKING, Any

from fxprune.errors import printable
from fxprune.images import figure_class
from fxprune.reports.cells import magnitude

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from fxprune.planning.sensitivity_data import Sensitivity
    from fxprune.reports.tradeoff_data import Cost, Tradeoff

COLOURS = ("#4477AA", "#EE6677", "#228833", "#CCBB44", "#66CCEE", "#AA3377")
"""Paul Tol's "bright" scheme, which reads on white and on black, without its grey."""
_GREY = "#999999"
_INK = "#010203"
"""Stands for the colour of the text around the plot."""
_INKED = (
    *("text.color", "axes.edgecolor", "axes.labelcolor", "axes.titlecolor"),
    *("xtick.color", "ytick.color", "xtick.labelcolor", "ytick.labelcolor"),
)
_STYLE: dict[str, Any] = {
    "text.parse_math": False,
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 9.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.formatter.use_mathtext": False,
    "axes.unicode_minus": False,
    "savefig.facecolor": "none",
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "legend.framealpha": 0.0,
    **dict.fromkeys(_INKED, _INK),
}
_LONGEST_NAME = 40
_AXES_WIDTH, _AXES_HEIGHT = 250.0, 200.0
"""About the size of half a plot, in points."""
_LETTER, _LINE = 4.4, 9.5
"""About the size of a letter of the names in it."""
_MOVES = (-9.0, 5.0, -19.0, 15.0, -29.0, 25.0, -39.0, 35.0)
"""Where a name may stand, in points above its point."""


def inline_svg(draw: Callable[[], Figure], name: str) -> str:
    """An `svg` element that can stand in a page beside others, and takes its text colour.

    The same figure gives the same text: it has no date, and its identifiers begin with `name`.

    Raises:
        InputError: matplotlib is not installed.
    """
    figure_class()
    from matplotlib import rc_context  # noqa: PLC0415  # an extra

    style: Any = {**_STYLE, "svg.hashsalt": name, "axes.prop_cycle": _cycle()}
    with rc_context(style):
        drawn = StringIO()
        empty = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        draw().savefig(drawn, format="svg", metadata=empty)
    found = drawn.getvalue()
    found = found[found.index("<svg") :].rstrip()
    found = re.sub(r"\s*<metadata>.*?</metadata>", "", found, flags=re.DOTALL)
    found = re.sub(r'(\sid="|url\(#|href="#)', rf"\g<1>{name}-", found)
    found = re.sub(r'<svg [^>]*?viewBox="([^"]*)"[^>]*>', r'<svg viewBox="\1">', found, count=1)
    return found.replace(_INK.lower(), "currentColor").replace(_INK, "currentColor")


def _cycle() -> Any:
    """The colours of what has none of its own."""
    from matplotlib.rcsetup import cycler  # noqa: PLC0415  # an extra

    return cycler(color=COLOURS)


def curves_figure(sensitivity: Sensitivity) -> Figure:
    """What the model is worth without a share of each group: the steepest curves have names.

    Raises:
        InputError: matplotlib is not installed.
    """
    figure = figure_class()(figsize=(8.2, 3.6), layout="constrained")
    axes = figure.subplots()
    worst = {name: max(row.values(), default=0.0) for name, row in sensitivity.drops.items()}
    named = sorted(worst, key=lambda name: -worst[name])[: len(COLOURS)]
    colours = dict(zip(named, COLOURS, strict=False))
    lines = {}
    for name, curve in sensitivity.curves.items():
        points = [(0.0, sensitivity.baseline)]
        points += [
            (p.removed / curve.size, p.value)
            for p in curve.points
            if p.removed and p.value is not None
        ]
        x, y = zip(*points, strict=True)
        is_named = name in colours
        (lines[name],) = axes.plot(
            *(x, y),
            color=colours.get(name, _GREY),
            linewidth=1.6 if is_named else 0.7,
            marker="o" if is_named else None,
            markersize=3.5,
            zorder=3 if is_named else 2,
        )
    axes.axhline(sensitivity.baseline, color=_INK, linewidth=0.7, linestyle=(0, (4, 3)))
    axes.set_xlabel("share of the group's channels that was removed")
    axes.set_ylabel(
        "value (higher is better)" if sensitivity.mode == "max" else "value (lower is better)"
    )
    axes.set_xlim(0, 1)
    if colours:
        known = ([lines[name] for name in named], [_short(name) for name in named])
        axes.legend(*known, loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=8)
    return figure


def front_figure(tradeoff: Tradeoff, chosen: str = "") -> Figure:
    """Cost against value: what is on the front is filled, the chosen plan has a ring.

    Args:
        tradeoff: the candidates.
        chosen: what tells the plan of the report.

    Raises:
        InputError: matplotlib is not installed.
    """
    figure = figure_class()(figsize=(8.2, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    costs: tuple[tuple[Axes, Cost, str], ...] = (
        (left, "macs", "MACs"),
        (right, "parameters", "parameters"),
    )
    for axes, cost, title in costs:
        _draw_front(axes, tradeoff, cost, chosen)
        axes.set_xlabel(f"{title} that are left")
        axes.xaxis.set_major_formatter(lambda value, _: magnitude(value))
        axes.locator_params(axis="x", nbins=5)
    better = "higher" if tradeoff.mode == "max" else "lower"
    left.set_ylabel(f"{_short(tradeoff.metric)} ({better} is better)")
    return figure


def _draw_front(axes: Axes, tradeoff: Tradeoff, cost: Cost, chosen: str) -> None:
    front = tradeoff.front(cost)
    points = [(getattr(each, cost), each.value or 0.0) for each in front]
    axes.plot([x for x, _ in points], [y for _, y in points], color=COLOURS[0])
    drawn = [each for each in tradeoff.candidates if each.value is not None]
    for each in drawn:
        place = (getattr(each, cost), each.value or 0.0)
        fill = COLOURS[0] if each in front else "none"
        axes.plot(*place, marker="o", color=fill, markeredgecolor=COLOURS[0], markersize=6)
        if chosen and each.plan == chosen:
            axes.plot(
                *place, marker="o", color="none", markeredgecolor=COLOURS[1], markersize=12, mew=1.8
            )
    axes.margins(x=0.2, y=0.15)
    _label(axes, [(_short(c.name), getattr(c, cost), c.value or 0.0) for c in drawn])


def _label(axes: Axes, points: Sequence[tuple[str, float, float]]) -> None:
    """A name beside each point, above or below the names that are there already."""
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    taken: list[tuple[float, float, float]] = []
    for name, x, y in points:
        at = (x - left) / (right - left) * _AXES_WIDTH
        height = (y - bottom) / (top - bottom) * _AXES_HEIGHT
        width = len(name) * _LETTER
        is_left = at + width > _AXES_WIDTH
        start = at - 6 - width if is_left else at + 6
        shift = next(
            move
            for move in _MOVES
            if all(
                abs(height + move - other) >= _LINE or start > until or start + width < since
                for other, since, until in taken
            )
            or move == _MOVES[-1]
        )
        taken.append((height + shift, start, start + width))
        axes.annotate(
            *(name, (x, y)),
            xytext=(-6 if is_left else 6, shift),
            textcoords="offset points",
            ha="right" if is_left else "left",
            fontsize=8,
        )


def _short(name: str) -> str:
    """A name that leaves room for the plot."""
    name = printable(name).replace("\n", " ")
    rest = math.floor((_LONGEST_NAME - 1) / 2)
    return name if len(name) <= _LONGEST_NAME else f"{name[:rest]}…{name[-rest:]}"
