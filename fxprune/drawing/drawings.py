"""`draw`: from a model, and a plan, to a file with a picture."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from fxprune.analysis import analyze
from fxprune.drawing.building import Builder
from fxprune.drawing.dot_writing import dot_of
from fxprune.drawing.folding import folded
from fxprune.drawing.layouts import FORMATS, rendered, renderer
from fxprune.drawing.page_data import page_data
from fxprune.drawing.page_writing import layout_script, page_of
from fxprune.drawing.pictures import Level, Picture
from fxprune.drawing.series import series_of
from fxprune.drawing.sharing import shared
from fxprune.errors import InputError, shown
from fxprune.files import write_atomically
from fxprune.inputs import materialize
from fxprune.planning import Plan

if TYPE_CHECKING:
    from fxprune.analysis import DependencyGraph, Model


def draw(
    model: Model,
    path: str | os.PathLike[str],
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
            that open and close, and a slider over ratios; it takes the package netron.
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
    target, kind = Path(path), check_picture(path)
    _check(level, hops)
    plan = None if plan is None else Plan.of(plan)
    builder = Builder(_analyzed(model, plan, example_inputs), plan, level)
    picture = builder.picture()
    if group is not None:
        picture = picture.of_group(group)
    if around is not None:
        picture = picture.around(around, hops)
    if kind == "html":
        data = page_of(page_data(picture, series_of(builder), fold=fold)).encode()
    else:
        data = rendered(dot_of(shared(folded(picture) if fold else picture)), kind)
    write_atomically(target, lambda stream: stream.write(data))
    return picture


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


def _check(level: object, hops: object) -> None:
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
