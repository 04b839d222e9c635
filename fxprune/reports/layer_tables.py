"""The tables of layers: by module, and one by one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fxprune.layers import Change
from fxprune.reports.cells import Cell, Section, Table, bar, code, columns, shift, text

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from fxprune.layers import Layer

_MOST_MODULES = 24
_DOMINANT = 0.5
"""A module with more than this share of the parameters or the work is opened."""
_SHORT = 30
"""A table of no more layers than this is not folded away."""


def layer_section(layers: Sequence[Layer]) -> Section:
    """What was removed where."""
    parts = [_layer_table(layers)]
    modules = by_module(layers)
    if len(layers) > _SHORT and len(modules) < len(layers):
        parts.insert(0, _module_table(modules))
    return Section("layers", "Layers", tuple(parts))


def by_module(layers: Sequence[Layer]) -> dict[str, list[Layer]]:
    """Layers by the module that they are in.

    These are the modules at the top of the model. As long as one of them holds more than half of
    all, and there are not too many, it is replaced by the modules right inside of it.
    """
    rows = _split([("", list(layers))], "")
    while True:
        largest = max(rows, key=lambda row: _weight(row[1], layers), default=None)
        if largest is None or _weight(largest[1], layers) <= _DOMINANT:
            break
        opened = _split(rows, largest[0])
        if len(opened) > _MOST_MODULES or opened == rows:
            break
        rows = opened
    return dict(rows)


def _split(rows: Sequence[tuple[str, list[Layer]]], module: str) -> list[tuple[str, list[Layer]]]:
    """The rows, with one of them replaced by what is right inside of its module."""
    found: list[tuple[str, list[Layer]]] = []
    for name, layers in rows:
        if name != module:
            found.append((name, layers))
            continue
        inside: dict[str, list[Layer]] = {}
        depth = len(module.split(".")) + 1 if module else 1
        for layer in layers:
            inside.setdefault(".".join(layer.name.split(".")[:depth]), []).append(layer)
        found += inside.items()
    return found


def _weight(some: Iterable[Layer], layers: Sequence[Layer]) -> float:
    """The share of some layers of the parameters or the work, whichever is larger."""
    some = list(some)
    shares = [0.0]
    for name in ("parameters", "macs"):
        whole = total(layers, name).before
        if whole:
            shares.append(total(some, name).before / whole)
    return max(shares)


def total(layers: Iterable[Layer], name: str) -> Change:
    """The sum of a number of layers before and after."""
    return Change.total(getattr(layer, name) for layer in layers)


def _module_table(modules: dict[str, list[Layer]]) -> Table:
    sums = {n: (total(ls, "parameters"), total(ls, "macs")) for n, ls in modules.items()}
    widest = [max(each[k].before for each in sums.values()) for k in (0, 1)]
    rows = tuple(
        (
            code(name),
            shift(parameters),
            bar(parameters, widest[0]),
            shift(macs, short=True),
            bar(macs, widest[1]),
        )
        for name, (parameters, macs) in sums.items()
    )
    return Table("modules", columns("module", "#parameters", "left", "#MACs", "left"), rows)


def _layer_table(layers: Sequence[Layer]) -> Table:
    widest = [
        max((getattr(x, n).before for x in layers), default=0) for n in ("parameters", "macs")
    ]
    rows = tuple(
        (
            code(layer.name),
            text(layer.kind),
            shift(layer.width_in),
            shift(layer.width_out),
            shift(layer.parameters),
            bar(layer.parameters, widest[0]),
            shift(layer.macs, short=True),
            bar(layer.macs, widest[1]),
            _remark(layer),
        )
        for layer in layers
    )
    titles = ("layer", "kind", "#in", "#out", "#parameters", "left", "#MACs", "left", "remark")
    count = sum(layer.changed for layer in layers)
    summary = f"all {len(layers)} layers, {count} of them changed" if len(layers) > _SHORT else ""
    return Table("layers", columns(*titles), rows, summary)


def _remark(layer: Layer) -> Cell:
    """Why its outputs stay, or that it has gone."""
    if layer.dropped:
        return text("dropped whole")
    before = layer.parameters.before + layer.macs.before
    if before and not layer.parameters.after + layer.macs.after:
        return text("nothing is left of it")
    return text(f"outputs stay: {layer.pinned.what}" if layer.pinned is not None else "")
