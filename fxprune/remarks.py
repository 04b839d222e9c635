"""Diagnostics as sentences, each once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fxprune.repeats import patterns

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from fxprune.errors import Diagnostic

_MOST_NAMES = 6


def told_once(diagnostics: Iterable[Diagnostic]) -> Iterator[str]:
    """A sentence for each diagnostic; a single one for those that say the same of several places.

    >>> from fxprune.errors import Diagnostic, Location
    >>> places = [Location(f"norm_{k}", f"blocks.{k}.norm", "net.py:7") for k in range(3)]
    >>> print(*told_once(Diagnostic("statistics", place) for place in places))
    statistics [3 nodes, module blocks.{0-2}.norm, net.py:7]
    """
    alike: dict[tuple[str, str, str], list[Diagnostic]] = {}
    for diagnostic in diagnostics:
        key = (diagnostic.what, diagnostic.where.op, diagnostic.hint)
        alike.setdefault(key, []).append(diagnostic)
    for found in alike.values():
        yield str(found[0]) if len(found) == 1 else _of_several(found)


def _of_several(found: Sequence[Diagnostic]) -> str:
    places = [diagnostic.where for diagnostic in found]
    nodes = dict.fromkeys(place.node for place in places if place.node)
    modules = dict.fromkeys(place.module for place in places if place.module)
    sources = dict.fromkeys(place.source for place in places if place.source)
    where = [
        f"{len(nodes)} nodes" if modules else f"node {listed(map(str, patterns(nodes)))}",
        f"module {listed(map(str, patterns(modules)))}" if modules else "",
        f"op {places[0].op}" if places[0].op else "",
        listed(sources, 1),
    ]
    hint = f" ({found[0].hint})" if found[0].hint else ""
    return f"{found[0].what} [{', '.join(filter(None, where))}]{hint}"


def listed(names: Iterable[str], most: int = _MOST_NAMES) -> str:
    """Names with commas; of many the first ones, and how many more there are.

    >>> listed("abcd", 2)
    'a, b and 2 more'
    """
    found = list(names)
    more = f" and {len(found) - most} more" if len(found) > most else ""
    return ", ".join(found[:most]) + more
