"""The colours of groups: fills that keep black text readable and that all eyes tell apart."""

PALETTE = (
    "#77AADD",
    "#EE8866",
    "#EEDD88",
    "#FFAABB",
    "#99DDFF",
    "#44BB99",
    "#BBCC33",
    "#AAAA00",
)
"""Paul Tol's "light" scheme for labelled areas, without its grey. They start over at the end."""
GREY = "#DDDDDD"
"""For groups with one node, where there is nothing to tell apart."""
MARK = "#D40000"
"""For the border of what the picture is about."""
WHITE = "#FFFFFF"
"""For what carries no channels, or channels of several groups."""


def colour(number: int | None) -> str:
    """The colour of a group by its number; grey without one.

    >>> colour(0), colour(8), colour(None)
    ('#77AADD', '#77AADD', '#DDDDDD')
    """
    return GREY if number is None else PALETTE[number % len(PALETTE)]


def paler(fill: str) -> str:
    """A colour halfway to white.

    >>> paler("#77AADD")
    '#BBD4EE'
    """
    parts = (int(fill[place : place + 2], 16) for place in (1, 3, 5))
    return "#" + "".join(f"{(part + 255) // 2:02X}" for part in parts)
