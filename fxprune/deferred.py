"""Functions that are imported when they are called.

They are of layers above, which must not be imported below, or need a library that is slow to load.
"""

from __future__ import annotations

import pkgutil
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

_PLACES = {
    "graph of networkx": "fxprune.graphs.building:graph_of",
    "plan of masks": "fxprune.zeros:plan_of_zeros",
    "drawing of an explanation": "fxprune.drawing.scenes:draw_explanation",
    "SVG of an analysis": "fxprune.drawing.drawings:small_svg_of",
    "SVG of a picture": "fxprune.drawing.drawings:svg_of",
}


def deferred(what: str) -> Callable[..., Any]:
    """The function that does it.

    >>> deferred("plan of masks").__name__
    'plan_of_zeros'
    """
    function: Callable[..., Any] = pkgutil.resolve_name(_PLACES[what])
    return function
