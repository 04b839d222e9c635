"""Plots of widths and cost, before and after."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

import fxprune
from fxprune.bar_plots import bars
from tests.drawing.models import IMAGE, residual

pytest.importorskip("matplotlib")
from matplotlib.figure import Figure


def labels(figure: Figure) -> list[str]:
    """What the bars are."""
    return [label.get_text() for label in figure.axes[0].get_yticklabels()]


def texts(figure: Figure) -> list[str]:
    """What is written beside the bars."""
    return [text.get_text().strip() for text in figure.axes[0].texts]


def test_a_plan_and_a_report_plot_the_widths_of_their_groups(tmp_path: Path) -> None:
    deps = residual(6, 6, 4)
    plan = fxprune.plan(deps, IMAGE, ratio=0.5, ignore=["stem"])
    figure = plan.plot(tmp_path / "widths.svg")
    assert isinstance(figure, Figure)
    assert labels(figure) == list(plan.groups)
    assert texts(figure) == ["8", "6 → 3", "6 → 3", "4 → 2"]
    assert b"</svg>" in (tmp_path / "widths.svg").read_bytes()
    report = fxprune.shrink(deps, plan, verify=False).meta["fxprune"]
    assert texts(report.plot()) == texts(figure)


def test_a_picture_plots_the_cost_of_its_nodes() -> None:
    deps = residual(6)
    plan = fxprune.plan(deps, IMAGE, ratio=0.5)
    picture = fxprune.draw(deps, plan=plan)
    figure = picture.plot()
    assert labels(figure) == ["stem", "blocks.0.conv1", "blocks.0.conv2", "head"]
    assert texts(figure)[1] == "31.1k → 7.78k"
    weights = picture.plot(what="parameters")
    assert texts(weights)[-1] == "45 → 25"
    part = picture.around("head", 0).plot()
    assert labels(part) == ["head"], "what is outside of a part has no bar"
    with pytest.raises(fxprune.InputError, match='take "macs" or "parameters"'):
        picture.plot(what="bytes")  # type: ignore[arg-type]  # that is the test


def test_any_name_can_be_plotted(tmp_path: Path) -> None:
    figure = bars([("$\\frac{$ \x1b[2J", 3, 1)] * 300, "things", "$^$", tmp_path / "plot.png")
    assert (tmp_path / "plot.png").stat().st_size
    assert not texts(figure), "so many numbers could not be read"


def test_nothing_is_refused() -> None:
    with pytest.raises(fxprune.InputError, match="nothing to plot"):
        bars([], "channels", "")
    linear, inputs = torch.nn.Linear(3, 2), torch.zeros(1, 3)
    with pytest.raises(fxprune.InputError, match="no group of channels can be pruned"):
        fxprune.plan(linear, inputs, ratio=0.5).plot()


def test_an_unknown_kind_of_image_is_refused(tmp_path: Path) -> None:
    with pytest.raises(fxprune.InputError, match="does not end with the kind of an image"):
        bars([("a", 2, 1)], "channels", "", tmp_path / "plot.txt")
    assert list(tmp_path.iterdir()) == []


def test_no_figure_of_pyplot_is_left() -> None:
    bars([("a", 2, 1)], "channels", "")
    pyplot = sys.modules.get("matplotlib.pyplot")
    assert pyplot is None or not pyplot.get_fignums()
