"""What draws, for the layers below that of pictures, which must not import it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

DRAWERS: dict[str, Callable[..., Any]] = {}
"""`fxprune.drawing` enters "explanation" (see `Explanation.draw`), "svg" (of an analysis) and
"picture" (the SVG of a `Picture`)."""
