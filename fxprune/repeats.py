"""Names that differ in indices only, as one: `layer1.{0-2}.conv{1,2}`.

>>> print(*patterns(["layer1.0.conv1", "layer1.0.conv2", "layer1.1.conv1", "layer1.1.conv2"]))
layer1.{0,1}.conv{1,2}
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import prod
from typing import TypeAlias, TypeVar

Box: TypeAlias = tuple[tuple[int, ...], ...]
"""For each place of a name all the indices that stand there."""
T = TypeVar("T")

# Not `[0]`, which is an axis; not 007, which a number would not bring back.
_INDEX = re.compile(r"(?<![\[0-9])(0|[1-9][0-9]{0,8})(?![0-9])")
_MOST_INDICES = 16
"""A name of a file can be of any length: one with more indices stands for itself alone."""


@dataclass(frozen=True)
class Pattern:
    """All names that have these texts, and between them any of these indices.

    Attributes:
        texts: what does not change, one more than there are places.
        indices: for each place the indices, ascending.
    """

    texts: tuple[str, ...]
    indices: Box = ()

    def __len__(self) -> int:
        return prod(map(len, self.indices))

    def names(self) -> Iterator[str]:
        """Every name, the last index changing first."""
        for point in itertools.product(*self.indices):
            yield "".join(_alternating(self.texts, map(str, point)))

    def __str__(self) -> str:
        return "".join(_alternating(self.texts, map(_written, self.indices)))


def patterns(names: Iterable[str]) -> list[Pattern]:
    """Names as few patterns, in the order of their first names; together they are just these."""
    return [pattern for pattern, _ in folded(names, str, lambda _: None)]


def template(name: str) -> tuple[str, ...]:
    """What names have in common that differ in their indices only.

    >>> template("layer1.0.conv2")
    ('layer', '.', '.conv', '')
    """
    return _parts(name)[0]


def folded(
    rows: Iterable[T], name: Callable[[T], str], shown: Callable[[T], Hashable]
) -> list[tuple[Pattern, list[T]]]:
    """Rows of a table as few rows: one for those that differ in the indices of their names only.

    The names of all patterns are exactly those of the rows, each as often. The order is that of the
    first row of each pattern.

    Args:
        rows: the rows.
        name: the name of a row.
        shown: all else that is shown of a row; only rows that are equal here become one.
    """
    alike: dict[Hashable, dict[tuple[int, ...], int]] = {}
    texts_of: dict[Hashable, tuple[str, ...]] = {}
    listed = list(rows)
    for number, row in enumerate(listed):
        texts, point = _parts(name(row))
        for again in itertools.count():  # a name that comes twice is in two patterns
            key = (texts, shown(row), again)
            known = alike.setdefault(key, {})
            texts_of[key] = texts
            if point not in known:
                known[point] = number
                break
    found = [
        (sorted(known[point] for point in itertools.product(*box)), Pattern(texts_of[key], box))
        for key, known in alike.items()
        for box in _boxes(list(known))
    ]
    found.sort(key=lambda entry: entry[0][0])
    return [(pattern, [listed[number] for number in numbers]) for numbers, pattern in found]


def _parts(name: str) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """What stands around the indices of a name, and the indices."""
    parts = _INDEX.split(name) if "{" not in name and "}" not in name else [name]
    if len(parts) > 2 * _MOST_INDICES + 1:
        parts = [name]
    return tuple(parts[::2]), tuple(map(int, parts[1::2]))


def _boxes(points: Sequence[tuple[int, ...]]) -> list[Box]:
    """Boxes that have each of these points in one of them, and no other point.

    Places are joined from the last to the first, or the other way round if that leaves fewer.
    """
    places = range(len(points[0]))
    single: list[Box] = [tuple((index,) for index in point) for point in points]
    return min((_joined(single, order) for order in (places[::-1], places)), key=len)


def _joined(boxes: list[Box], places: Sequence[int]) -> list[Box]:
    """The boxes, with those joined that differ at one place, until there are none."""
    count = 0
    while count != len(boxes) > 1:
        count = len(boxes)
        for place in places:
            beside: dict[Box, list[int]] = {}
            for box in boxes:
                beside.setdefault(box[:place] + box[place + 1 :], []).extend(box[place])
            boxes = [
                (*others[:place], tuple(sorted(indices)), *others[place:])
                for others, indices in beside.items()
            ]
    return boxes


def _alternating(texts: Iterable[str], between: Iterable[str]) -> Iterator[str]:
    for text, index in itertools.zip_longest(texts, between, fillvalue=""):
        yield text
        yield index


def _written(indices: Sequence[int]) -> str:
    """Indices as they stand in a name: `7`, `{1,2}`, `{0-5,7}`, `{0,2,...,30}`."""
    if len(indices) == 1:
        return str(indices[0])
    step = indices[1] - indices[0]
    even = tuple(range(indices[0], indices[-1] + 1, step))
    if step > 1 and len(indices) > 3 and even == tuple(indices):
        return f"{{{indices[0]},{indices[1]},...,{indices[-1]}}}"
    return f"{{{','.join(_run(*ends) for ends in runs(indices))}}}"


def _run(first: int, last: int) -> str:
    return str(first) if first == last else f"{first}{',' if last == first + 1 else '-'}{last}"


def runs(numbers: Iterable[int]) -> list[tuple[int, int]]:
    """The first and the last of each run of ascending numbers.

    >>> runs([0, 1, 2, 7])
    [(0, 2), (7, 7)]
    """
    found: list[tuple[int, int]] = []
    for number in numbers:
        if found and number == found[-1][1] + 1:
            found[-1] = (found[-1][0], number)
        else:
            found.append((number, number))
    return found
