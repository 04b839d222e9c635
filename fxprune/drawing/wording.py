"""The words in a picture: widths, weights, reasons, and all that is known of a node."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fxprune.errors import first_of
from fxprune.explanations import in_plain_words

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from fxprune.drawing.pictures import Picture, PictureEdge, PictureGroup, PictureNode, Value

_MOST = 8
"""Names in the details of a node."""


def count(number: int) -> str:
    """A number in about four characters.

    >>> count(999), count(11_689_512), count(999_999)
    ('999', '11.7M', '1M')
    """
    for unit, name in ((10**12, "T"), (10**9, "G"), (10**6, "M"), (10**3, "k")):
        if number >= 0.9995 * unit:  # three digits of less would be rounded to this
            return f"{number / unit:.3g}{name}"
    return str(number)


def flow(edge: PictureEdge, *, pruned: bool) -> str:
    """The widths of what flows along an edge, one line for each tensor that differs."""
    return "\n".join(dict.fromkeys(widths(value, pruned=pruned) for value in edge.values))


def widths(value: Value, *, pruned: bool) -> str:
    """The sizes of the axes that carry channels, before and after a plan."""
    before, after = ("x".join(map(str, v)) for v in (value.widths_before, value.widths_after))
    return f"{before} → {after}" if pruned and value.dims else before


def group_width(group: PictureGroup, *, pruned: bool) -> str:
    """Kind and width of a group."""
    return f"{group.kind} {group.size} → {group.width}" if pruned else f"{group.kind} {group.size}"


def weight(node: PictureNode, *, pruned: bool) -> str:
    """The parameters of a node, and their part of all."""
    after = f" → {count(node.parameters_after)}" if pruned else ""
    share = f"{node.share:.1%}" if node.share >= 0.001 else "<0.1%"
    return f"{count(node.parameters)}{after} ({share})"


def joined(words: Sequence[str], longest: int) -> str:
    """Words on one line, and how many did not fit.

    >>> joined(["Conv2d", "BatchNorm2d", "ReLU"], 22)
    'Conv2d · BatchNorm2d +1'
    """
    text = words[0] if words else ""
    for number, word in enumerate(words[1:], start=1):
        if len(text) + len(word) + 3 > longest:
            return f"{text} +{len(words) - number}"
        text += f" · {word}"
    return text


def heading(picture: Picture) -> str:
    """The model and its cost."""
    totals = (picture.parameters, picture.macs)
    parameters, macs = (
        " → ".join(count(n) for n in (both if picture.pruned else both[:1])) for both in totals
    )
    text = f"{picture.modules.get('', '')}: {parameters} parameters, {macs} MACs"
    if picture.dropped:
        text += f"\ndropped whole: {', '.join(picture.dropped)}"
    return text


def details(node: PictureNode, picture: Picture) -> Iterator[str]:
    """Everything that is known of a node, a line each."""
    yield node.path or node.name
    yield from filter(None, [picture.marks.get(node.name)])
    if node.operators:
        yield ", ".join(node.operators)
    yield f"nodes: {first_of(node.ops, _MOST)}"
    if node.source:
        yield f"source: {node.source}"
    if node.parameters:
        yield f"parameters: {weight(node, pruned=picture.pruned)}"
    if node.macs:
        after = f" → {count(node.macs_after)}" if picture.pruned else ""
        yield f"MACs: {count(node.macs)}{after}"
    for name in node.groups[:_MOST]:
        group = picture.groups[name]
        state = f", pinned: {group.pinned.what}" if group.pinned is not None else ""
        yield f"group {name}: {group_width(group, pruned=picture.pruned)}{state}"
    if len(node.groups) > _MOST:
        yield f"and {len(node.groups) - _MOST} more groups"
    if node.pinned is not None:
        yield f"must stay, because {in_plain_words(node.pinned)}"
        if str(node.pinned.where):
            yield f"where: {node.pinned.where}"
        if node.pinned.hint:
            yield f"what to do: {node.pinned.hint}"
