"""Pictures of the place that an error is about, and of what a why-not tells."""

from __future__ import annotations

import weakref
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from fxprune.drawing.building import picture_of
from fxprune.drawing.drawings import check_request, write_picture
from fxprune.errors import FxPruneError, InputError, Location, first_of
from fxprune.explanations import in_plain_words

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Mapping, Sequence

    from fxprune.analysis import DependencyGraph
    from fxprune.drawing.pictures import Level, Picture
    from fxprune.explanations import AxisReason, Explanation
    from fxprune.planning import Plan


@contextmanager
def drawable(deps: DependencyGraph, plan: Plan | None = None) -> Iterator[None]:
    """Errors that leave the block can be drawn, those that could not be before."""
    try:
        yield
    except FxPruneError as error:
        if error.scene is None:
            error.scene = ErrorScene(deps, plan, error)
        raise


class ErrorScene:
    """The place of an error in the picture of a model.

    The analysis, and with it the model, is held weakly: an error that is kept must not keep them.
    They live as long as the traceback, whose frames have them. No picture is made before someone
    asks for one, because that takes a second for a large model, and most errors are not drawn. A
    pickle has no frames; so that an error of another process can be drawn, it takes along the
    picture of modules, which is plain values.
    """

    def __init__(self, deps: DependencyGraph, plan: Plan | None, error: FxPruneError) -> None:
        self._deps = weakref.ref(deps)
        self._plan = plan
        self._made: Picture | None = None
        self._what = error.what
        self._texts = _texts_at(error, deps)

    def draw(self, path: str | os.PathLike[str] | None, *, level: Level, hops: int) -> Picture:
        """Draw the place and what is near it; see `FxPruneError.draw`."""
        check_request(path, level, hops)
        if not self._texts:
            raise InputError(
                "there is no place to draw",
                why=f"the error names no node or module of the model: {self._what}",
                hint="draw the model itself: fxprune.draw(model, path, plan, example_inputs)",
            )
        picture = self._picture(level)
        name = next(filter(picture.called, self._texts), None)
        if name is None:
            raise InputError(
                f"the picture has no {' or '.join(list(self._texts)[:2])}",
                why="what carries no channels (sizes, masks) is no node of it",
                hint='pass level="op", which draws more operators' if level == "module" else "",
            )
        # what a module of several nodes returns is made by the last of them
        place = picture.called(name)[-1]
        marked = _marked(picture.near([place], hops), {place: self._texts[name]})
        write_picture(marked, path)
        return marked

    def _picture(self, level: Level) -> Picture:
        deps = self._deps()
        if deps is not None:
            return picture_of(deps, self._plan, level)
        if self._made is None:
            raise InputError(
                "the model of this error is gone",
                why="an error does not keep it, and its traceback was cleared",
                hint="draw it in the `except` block, or keep the DependencyGraph and pass that",
            )
        if level != self._made.level:
            raise InputError(
                "this error came from another process with a picture of modules",
                hint=f'pass level="{self._made.level}"',
            )
        return self._made

    def __getstate__(self) -> dict[str, Any]:
        try:
            made = self._picture("module")
        except Exception:  # noqa: BLE001  # the error itself is worth more than its picture
            made = None
        return {**vars(self), "_deps": None, "_plan": None, "_made": made}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        vars(self).update(state, _deps=_nothing)


def _nothing() -> None:
    """A reference to what is gone."""


def _texts_at(error: FxPruneError, deps: DependencyGraph) -> dict[str, str]:
    """Nodes and modules where an error could be told, the most exact first, and what is told there.

    Before the module of a node that is not drawn (a size, a mask) comes what it is computed of.
    """
    where, what = error.where, error.what
    if isinstance(where, Location):
        aside = f"{what} (at {where.node}, which reads this)"
        names = {where.node: what} | dict.fromkeys(_read_by(where.node, deps), aside)
        return {name: text for name, text in {**names, where.module: what}.items() if name}
    kind, _, name = where.partition(" ")
    if kind == "parameter":
        name = name.rpartition(".")[0]
    return {name: what} if name and kind in ("module", "parameter") else {}


def _read_by(name: str, deps: DependencyGraph) -> list[str]:
    """The nodes of the captured graph that one is computed of, the nearest first."""
    ring = [node for node in deps.graph_module.graph.nodes if node.name == name]
    found = dict.fromkeys(ring)
    while ring := [
        n for n in dict.fromkeys(n for r in ring for n in r.all_input_nodes) if n not in found
    ]:
        found |= dict.fromkeys(ring)
    return [node.name for node in found if node.name != name]


def draw_explanation(
    explanation: Explanation,
    deps: DependencyGraph,
    path: str | os.PathLike[str] | None,
    *,
    level: Level,
    hops: int,
) -> Picture:
    """Draw what was asked for, what stops it, and the way between; see `Explanation.draw`."""
    check_request(path, level, hops)
    picture = picture_of(deps, level=level)
    marks: dict[str, dict[str, list[str]]] = {}
    centre: dict[str, None] = {}
    for axis in explanation.axes:
        asked = _asked(picture, axis)
        centre |= dict.fromkeys(asked)
        centre |= {found: None for place in axis.way for found in picture.called(place.node)}
        if axis.reason is not None and axis.group:  # the axes of a kernel have no group
            at = next(filter(None, map(picture.called, _stopped_at(axis))), asked)
            for name in at[-1:]:
                reasons = marks.setdefault(name, {})
                reasons.setdefault(in_plain_words(axis.reason), []).append(str(axis))
    if not centre:
        raise InputError(
            f"no operator that is drawn has to do with {explanation.pattern}",
            why="; ".join(reason.what for reason in explanation.reasons),
            hint='pass level="op", which draws every operator' if level == "module" else "",
        )
    marked = _marked(picture.near(centre, hops), {n: _told(r) for n, r in marks.items()})
    write_picture(marked, path)
    return marked


def _asked(picture: Picture, axis: AxisReason) -> list[str]:
    """The nodes of the module that holds a parameter; of the one around that if it has none."""
    path = axis.parameter
    while path := path.rpartition(".")[0]:
        if found := picture.called(path):
            return found
    group = picture.groups.get(axis.group)
    return list(group.nodes) if group is not None else []


def _stopped_at(axis: AxisReason) -> list[str]:
    """The nodes where an axis met what must stay, the most exact first."""
    where = axis.reason.where if axis.reason is not None else Location()
    return [name for name in (*(place.node for place in axis.way[-1:]), where.node) if name]


def _told(reasons: Mapping[str, Sequence[str]]) -> str:
    told = {why: list(dict.fromkeys(axes)) for why, axes in reasons.items()}
    return "; ".join(f"{first_of(axes, 2)} must stay: {why}" for why, axes in told.items())


def _marked(picture: Picture, marks: Mapping[str, str]) -> Picture:
    here = {node.name for node in picture.nodes}
    return replace(picture, marks={name: text for name, text in marks.items() if name in here})
