"""Images by matplotlib, which is an extra and is imported where it is used."""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING

from fxprune.errors import InputError, in_one_line
from fxprune.files import write_atomically

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.figure import Figure


def figure_class() -> type[Figure]:
    """The class of figures of matplotlib, which need no window.

    Raises:
        InputError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure  # noqa: PLC0415  # an extra
    except ImportError as error:
        raise InputError(
            f"matplotlib cannot be imported: {in_one_line(error)}",
            why="it draws the plot",
            hint='pip install "fxprune[plot]"',
        ) from error
    return Figure


def check_image(path: Path) -> None:
    """Refuse what could not be drawn, before the work.

    Raises:
        InputError: matplotlib is not installed, or writes no such images.
    """
    known = figure_class()().canvas.get_supported_filetypes()
    if _kind(path) not in known:
        raise InputError(
            f"{path} does not end with the kind of an image",
            hint=f"take one of {', '.join(f'.{name}' for name in sorted(known))}",
        )


def write_image(figure: Figure, path: Path) -> None:
    """Write a figure, as its path's suffix says, whole or not at all.

    Raises:
        FxPruneError: the file cannot be written.
    """
    drawn = BytesIO()
    figure.savefig(drawn, format=_kind(path))
    write_atomically(path, lambda stream: stream.write(drawn.getvalue()))


def _kind(path: Path) -> str:
    return path.suffix.removeprefix(".").lower()
