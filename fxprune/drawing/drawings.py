"""`draw`: from a model, and a plan, to a file with a picture."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from fxprune.analysis import analyze
from fxprune.drawing.building import Builder, picture_of
from fxprune.drawing.dot_writing import dot_of
from fxprune.drawing.folding import folded
from fxprune.drawing.layouts import FORMATS, rendered, renderer
from fxprune.drawing.page_data import page_data
from fxprune.drawing.page_writing import layout_script, page_of
from fxprune.drawing.pictures import Level, Picture
from fxprune.drawing.series import Series, series_of, still
from fxprune.drawing.sharing import shared
from fxprune.errors import FxPruneError, InputError, shown
from fxprune.files import write_atomically
from fxprune.inputs import materialize
from fxprune.planning import Plan

if TYPE_CHECKING:
    from fxprune.analysis import DependencyGraph, Model

_MOST_NODES = 300
"""Of a picture that a notebook shows without being asked for it."""


def draw(
    model: Model,
    path: str | os.PathLike[str] | None = None,
    plan: Plan | str | os.PathLike[str] | None = None,
    example_inputs: Any = None,
    *,
    level: Level = "module",
    group: str | None = None,
    around: str | None = None,
    hops: int = 2,
    fold: bool = True,
) -> Picture:
    """Draw a model: what is coupled to what, what must stay and why, what a plan removes.

    A node is a module with what belongs to it (a convolution, its batch norm and activation), or
    what runs between modules. Its colour is the group of channels that it puts out; hatched
    channels must stay; its size grows with its share of the parameters. Edges tell the sizes of
    axes that carry channels, before and after the plan. `docs/drawing.md` explains all of it.

    Args:
        model: the model, or the DependencyGraph that `analyze` made of it.
        path: the file to write: .dot, .svg, .png, .pdf or .html. The images are laid out by the
            system's `dot`, or by the package graphviz-pure (which writes no PDF). The page is one
            file that reads nothing else, to look around in with a browser: with a search, boxes
            that open and close, and a slider over ratios; it takes the package netron. None for no
            file: a notebook shows what is returned, with repeated blocks folded.
        plan: what is removed: a Plan or the path of one.
        example_inputs: as for `analyze`; a DependencyGraph has them, and so does a plan.
        level: "module", or "op" for every operator of the captured graph.
        group: the name of a group of channels: only the nodes that carry it.
        around: the name of a module or of a node of the captured graph: only what is near it.
        hops: how many edges away from it.
        fold: draw a run of blocks that are all the same once.

    Returns:
        What was drawn, as data: before blocks were folded, and with all edges.

    Raises:
        InputError: an argument is wrong, nothing has that name, or no program is there to lay out.
        PlanError: the plan is for another model.
        FxPruneError: the layout failed, or the file cannot be written.
        CaptureError, AnalysisError: see `analyze`.
    """
    check_request(path, level, hops)
    plan = None if plan is None else Plan.of(plan)
    builder = Builder(_analyzed(model, plan, example_inputs), plan, level)
    picture = builder.picture()
    if group is not None:
        picture = picture.of_group(group)
    if around is not None:
        picture = picture.around(around, hops)
    if path is not None:
        is_page = check_picture(path) == "html"
        write_picture(picture, path, fold=fold, series=series_of(builder) if is_page else None)
    return picture


def write_picture(
    picture: Picture,
    path: str | os.PathLike[str] | None,
    *,
    fold: bool = True,
    series: Series | None = None,
) -> None:
    """Write a picture to a file, as its path's suffix says; the file appears whole or not at all.

    Args:
        picture: what is drawn.
        path: of the file; without one nothing is written.
        fold: draw a run of blocks that are all the same once.
        series: the numbers that the slider of a page shows; none but the picture's by default.

    Raises:
        InputError: see `check_picture`.
        FxPruneError: the layout failed, or the file cannot be written.
    """
    if path is None:
        return
    kind = check_picture(path)
    if kind == "html":
        data = page_of(page_data(picture, series or still(picture), fold=fold)).encode()
    else:
        data = rendered(dot_of(shared(folded(picture) if fold else picture)), kind)
    write_atomically(Path(path), lambda stream: stream.write(data))


def check_picture(path: str | os.PathLike[str]) -> str:
    """The kind of picture that a path's suffix says; refuses what could not be drawn.

    Raises:
        InputError: the suffix is unknown, or no program is there that writes it.
    """
    kind = Path(path).suffix.removeprefix(".").lower()
    known = (*FORMATS, "html")
    if kind not in known:
        raise InputError(
            f"{os.fspath(path)} does not end with a kind of picture",
            hint=f"take one of {', '.join(f'.{name}' for name in known)}",
        )
    if kind == "html":
        layout_script()
    else:
        renderer(kind)
    return kind


def check_request(path: str | os.PathLike[str] | None, level: object, hops: object) -> None:
    """Refuse what cannot be drawn, before the work.

    Raises:
        InputError: an argument is wrong, or no program is there to lay out.
    """
    if path is not None:
        check_picture(path)
    if level not in get_args(Level):
        raise InputError(f"level is {shown(level)}", hint='take "module" or "op"')
    if isinstance(hops, bool) or not isinstance(hops, int) or hops < 0:
        raise InputError(f"hops is {shown(hops)}", hint="take a number of edges: 0, 1, 2 ...")


def _analyzed(model: Model, plan: Plan | None, example_inputs: Any) -> DependencyGraph:
    if plan is None:
        return analyze(model, example_inputs)
    if example_inputs is None:
        example_inputs = materialize(plan.inputs, seed=None)
    return plan.analyze(model, example_inputs)


def svg_of(picture: Picture) -> str | None:
    """A picture as SVG, with repeated blocks folded; None if nothing is there to lay out."""
    try:
        return rendered(dot_of(shared(folded(picture))), "svg").decode()
    except FxPruneError:  # a notebook then shows the rest
        return None


def small_svg_of(deps: DependencyGraph) -> str | None:
    """An analysis as SVG; None too if it has more nodes than are laid out in no time."""
    picture = folded(picture_of(deps))
    return svg_of(picture) if len(picture.nodes) <= _MOST_NODES else None
