"""Every error that fxprune raises, one sentence each.

All of them say *what* went wrong, *where* (node, module, source line), *why*, and *what to do*.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from reprlib import Repr
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import os


@dataclass(frozen=True)
class Location:
    """A place in the traced model: fx node, module path and the user's source line."""

    node: str = ""
    module: str = ""
    source: str = ""
    op: str = ""

    def __str__(self) -> str:
        parts = [
            f"node {self.node}" if self.node else "",
            f"module {self.module}" if self.module else "",
            f"op {self.op}" if self.op else "",
            self.source,
        ]
        return ", ".join(part for part in parts if part)


@dataclass(frozen=True)
class Diagnostic:
    """Why channels must stay: what happened, where, and what would change it."""

    what: str
    where: Location = Location()
    hint: str = ""

    def __str__(self) -> str:
        text = self.what
        if place := str(self.where):
            text += f" [{place}]"
        if self.hint:
            text += f" ({self.hint})"
        return text


class Scene(Protocol):
    """The place in a model that an error is about; the layers that know of pictures make it."""

    def draw(self, path: str | os.PathLike[str] | None, *, level: Any, hops: int) -> Any:
        """Draw the place and what is near it."""


class FxPruneError(Exception):
    """Root of all errors of fxprune: what, where, why and what to do about it.

    Args:
        what: the failure in one sentence.
        where: the place in the model.
        why: the cause, if it is not plain from `what`.
        hint: what the user can do.
    """

    scene: Scene | None = None

    def __init__(
        self, what: str, *, where: Location | str = "", why: str = "", hint: str = ""
    ) -> None:
        what, why, hint = printable(what), printable(why), printable(hint)
        self.what = what
        self.where = where
        self.why = why
        self.hint = hint
        lines = [what]
        for title, text in (("where", printable(str(where))), ("why", why), ("what to do", hint)):
            if text:
                lines.append(f"  {title}: {text}")
        super().__init__("\n".join(lines))

    def draw(
        self, path: str | os.PathLike[str] | None = None, *, level: str = "module", hops: int = 2
    ) -> Any:
        """Draw the place that the error names, which is marked, and what is near it.

        The error does not keep the model. So draw it in the `except` block, or as long as you have
        the error with its traceback. One that came from another process has its picture with it,
        of modules.

        Args:
            path: the file to write, as for `fxprune.draw`; None for none.
            level: "module", or "op" for every operator of the captured graph.
            hops: how many edges away from the place.

        Returns:
            What was drawn, as data: a `fxprune.drawing.Picture`.

        Raises:
            InputError: there is nothing to draw, or an argument is wrong.
            FxPruneError: the layout failed, or the file cannot be written.
        """
        if self.scene is None:
            raise InputError(
                "there is no picture of this error",
                why="no analyzed model was at hand where it was raised",
                hint="draw the model itself: fxprune.draw(model, path, example_inputs=...)",
            )
        return self.scene.draw(path, level=level, hops=hops)


class InputError(FxPruneError):
    """An argument has the wrong type, shape or value."""


class CaptureError(FxPruneError):
    """The model could not be turned into a `torch.fx` graph."""


class AnalysisError(FxPruneError):
    """The captured graph could not be interpreted on the example inputs."""


class PlanError(FxPruneError):
    """A plan is malformed, names what is not there, or belongs to another model."""


class RewriteError(FxPruneError):
    """A pass could not give a node the shape that the plan predicts."""


class VerificationError(FxPruneError):
    """The shrunk model does not compute what the original computes for the kept channels."""


class WrongRuleError(FxPruneError):
    """A label rule lets an operator compute something else after channels are removed."""


class NeedlessPinError(FxPruneError):
    """A label rule pins or couples channels that could be removed."""


def printable(text: str) -> str:
    r"""A text in which nothing steers a terminal: names in it can be anyone's.

    >>> printable("plan\x1b[2J")
    'plan\\x1b[2J'
    """
    return "".join(c if c.isprintable() or c == "\n" else ascii(c)[1:-1] for c in text)


def first_of(differences: Sequence[str], most: int = 5) -> str:
    """The first of many phrases, and how many more there are.

    >>> first_of(["a", "b", "c"], 2)
    'a; b and 1 more'
    """
    more = f" and {len(differences) - most} more" if len(differences) > most else ""
    return "; ".join(differences[:most]) + more


class _Shown(Repr):
    """Short texts for values of users, which can be whole models, tensors or giant integers."""

    def __init__(self) -> None:
        super().__init__()
        self.maxstring = self.maxother = self.maxlong = 60

    def repr1(self, x: Any, level: int) -> str:
        """The text of a value inside others."""
        shape = getattr(x, "shape", None)
        if isinstance(shape, tuple):
            return f"a {type(x).__name__} of shape {tuple(shape)}" if shape else repr(x)
        return " ".join(super().repr1(x, level).split())

    def repr_int(self, x: int, level: int) -> str:
        """The text of an integer, which Python refuses to write if it is long."""
        return super().repr_int(x, level) if x.bit_length() < 1000 else "a giant integer"


def shown(value: object) -> str:
    """A value in a message: on one line, and a short one.

    >>> shown("half"), shown(list(range(99)))
    ("'half'", '[0, 1, 2, 3, 4, 5, ...]')
    """
    return _Shown().repr(value)


def first_line(error: BaseException) -> str:
    """The first line of an error's text, or its type if it has none.

    >>> first_line(ValueError("no way"))
    'no way'
    """
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def in_one_line(error: BaseException) -> str:
    """The type and the first line of an error.

    >>> in_one_line(ValueError("no way"))
    'ValueError: no way'
    """
    name = type(error).__name__
    return name if not str(error).strip() else f"{name}: {first_line(error)}"
