"""What `deps.why` tells: for each axis whether it can be pruned, and what stops it if not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from fxprune.deferred import deferred
from fxprune.errors import Diagnostic, InputError, Location
from fxprune.notebook_tables import Shown
from fxprune.repeats import folded, patterns, template
from fxprune.rules.convolution import KERNEL_AXIS

if TYPE_CHECKING:
    import os
    from collections.abc import Hashable, Iterator, Sequence

    from fxprune.analysis import DependencyGraph

_LONGEST_WAY = 8
_PLAIN = {
    "output of the model": "these are channels of an output of the model, and outputs keep their"
    " shape",
    KERNEL_AXIS: "this is the kernel axis of a convolution: it has places, not channels",
    "constant": "they are coupled to a tensor of constants, all of which stay",
    "integers": "they are coupled to integers, all of which stay",
    "coupled here to positions that must stay": "they are coupled there to positions that must"
    " stay",
}


@dataclass(frozen=True)
class AxisReason:
    """What is known of some positions of a parameter's axis: those of one group.

    Attributes:
        parameter: name of the parameter or buffer.
        dim: its axis.
        size: positions of the axis.
        positions: how many of them this is about.
        group: name of the group of channels that lie there; "" if there is none.
        kind: kind of that group; "" if there is none.
        prunable: whether a plan may remove some of them.
        reason: what stops it; None if nothing does.
        way: the nodes from the first reader of the parameter to the one where its channels meet
            what must stay; empty if they can be pruned, or no value carries them there.
        joints: those of these nodes that couple several values, so that the pin passes on.
    """

    parameter: str
    dim: int
    size: int
    positions: int
    group: str
    kind: str
    prunable: bool
    reason: Diagnostic | None = None
    way: tuple[Location, ...] = ()
    joints: tuple[Location, ...] = ()

    @property
    def name(self) -> str:
        """The parameter and the axis, such as `conv1.weight[0]`."""
        return f"{self.parameter}[{self.dim}]"

    @property
    def extent(self) -> str:
        """How many positions this is about; an empty text for all."""
        return "" if self.positions == self.size else f" {self.positions} of {self.size}"

    def __str__(self) -> str:
        return f"{self.name}{self.extent}"


@dataclass(frozen=True)
class Explanation(Shown):
    """What `deps.why(pattern)` found. Printing it gives a paragraph for each group.

    Attributes:
        pattern: what was asked for.
        axes: every axis of every parameter that it means, one entry for each group on it.
    """

    pattern: str
    axes: tuple[AxisReason, ...]
    # no field: `asdict`, `repr`, `==` and pickle are about what was found, not about a model
    _deps: ClassVar[DependencyGraph | None] = None

    @classmethod
    def of(cls, deps: DependencyGraph, pattern: str, axes: tuple[AxisReason, ...]) -> Explanation:
        """An explanation that can be drawn, for it knows its model."""
        made = cls(pattern, axes)
        vars(made)["_deps"] = deps
        return made

    def __getstate__(self) -> dict[str, Any]:
        return {"pattern": self.pattern, "axes": self.axes}

    @property
    def prunable(self) -> bool:
        """Whether a plan may remove anything of what was named."""
        return any(axis.prunable for axis in self.axes)

    @property
    def reasons(self) -> tuple[Diagnostic, ...]:
        """What stops the axes that must stay, each reason once."""
        return tuple(dict.fromkeys(a.reason for a in self.axes if a.reason is not None))

    def draw(
        self, path: str | os.PathLike[str] | None = None, *, level: str = "module", hops: int = 1
    ) -> Any:
        """Draw what was asked for, what stops it, and the way between them.

        The nodes that tell why something must stay are marked.

        Args:
            path: the file to write, as for `fxprune.draw`; None for none.
            level: "module", or "op" for every operator of the captured graph.
            hops: how many edges away from all that to go.

        Returns:
            What was drawn, as data: a `fxprune.drawing.Picture`.

        Raises:
            InputError: an argument is wrong, nothing of it is in the graph, or the explanation was
                pickled since, which leaves the model behind.
            FxPruneError: the layout failed, or the file cannot be written.
        """
        if self._deps is None:
            raise InputError(
                "this explanation has no model to draw",
                why="it was read from a pickle, or not made by DependencyGraph.why",
                hint="ask again: deps.why(...)",
            )
        return deferred("drawing of an explanation")(self, self._deps, path, level=level, hops=hops)

    def text(self, *, full: bool = False) -> str:
        """What printing it shows.

        Axes whose names differ in indices only are told as one, and so are groups of which the same
        is said: `layer1.{0-2}.conv{1,2}`. Of several places the first one is told.

        Args:
            full: every axis by its name, and a paragraph for each group.
        """
        paragraphs: dict[Hashable, list[AxisReason]] = {}
        for axis in self.axes:
            paragraphs.setdefault((axis.group, axis.reason), []).append(axis)
        alike: dict[Hashable, list[list[AxisReason]]] = {}
        for axes in paragraphs.values():
            key = (axes[0].group, axes[0].reason) if full else _said(axes)
            alike.setdefault(key, []).append(axes)
        return "\n".join(line for found in alike.values() for line in _paragraph(found, full))

    def __str__(self) -> str:
        return self.text()


def _said(axes: Sequence[AxisReason]) -> Hashable:
    """What is said of some axes, but for the indices in names and the place."""
    first = axes[0]
    reason = first.reason and (first.reason.what, first.reason.hint, first.reason.where.op)
    names = [(template(axis.parameter), axis.dim, axis.extent) for axis in axes]
    return template(first.group), first.kind, reason, tuple(names)


def _paragraph(found: Sequence[Sequence[AxisReason]], full: bool) -> Iterator[str]:
    """The sentences about axes that share a reason; of several groups if the same is said."""
    first = found[0][0]
    axes = [axis for each in found for axis in each]
    rows = folded(axes, lambda axis: axis.name, lambda axis: (axis.extent, axis.name * full))
    subject = ", ".join(dict.fromkeys(f"{name}{alike[0].extent}" for name, alike in rows))
    names = [str(pattern) for pattern in patterns(each[0].group for each in found)]
    group = f"group{'s' * (len(found) > 1)} {', '.join(names)}" if first.group else ""
    if first.reason is None:
        asked = "" if first.kind in ("channels", "heads") else ", where a plan names it"
        yield f"{subject}: can be pruned, {group}{asked}"
        return
    of_group = f", {group}" if group else ""
    yield f"{subject}: must stay{of_group}, because {in_plain_words(first.reason)}"
    yield from _places(first, len({axis.reason for axis in axes}))
    if first.reason.hint:
        yield f"    what to do: {first.reason.hint}"


def _places(axis: AxisReason, count: int) -> Iterator[str]:
    """Where the channels of an axis were coupled to what must stay, the first of so many places."""
    if axis.reason is not None and str(axis.reason.where):
        more = f", and {count - 1} more" if count > 1 else ""
        yield f"    where: {axis.reason.where}{more}"
    for joint in axis.joints:
        yield f"    coupled at: {joint}"
    if len(axis.way) > 1:
        names = [place.node for place in axis.way]
        if len(names) > _LONGEST_WAY:
            names[3:-3] = [f"({len(names) - 6} more)"]
        yield f"    by way of: {' -> '.join(names)}"


def in_plain_words(reason: Diagnostic) -> str:
    """The reason as the second half of a sentence.

    >>> in_plain_words(Diagnostic("input x of the model"))
    'these are channels of input x of the model, and inputs keep their shape'
    """
    what = reason.what
    if what.startswith("input ") and what.endswith(" of the model"):
        return f"these are channels of {what}, and inputs keep their shape"
    return _PLAIN.get(what, what)
