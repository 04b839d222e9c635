"""The modes in which the original is a reference, by what is asked of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fxprune.folding import FoldedMode
from fxprune.interference import PoisonMode
from fxprune.reference import MaskedMode

if TYPE_CHECKING:
    from fxprune.folding import Rows
    from fxprune.labels import LabelAlgebra
    from fxprune.meaning import Meaning
    from fxprune.precision import Widening
    from fxprune.reference import Removed


def mode_of(
    meaning: Meaning,
    labels: LabelAlgebra,
    removed: Removed,
    widening: Widening | None = None,
    *,
    poisoned: bool = False,
    constant_rows: Rows | None = None,
) -> MaskedMode:
    """The mode for a meaning, with NaN at removed positions if `poisoned`.

    Constants that are folded reach what is kept by right, so that poison takes them for dropped.
    Where they are folded, `constant_rows` of the claim tells which channels are constant already.
    """
    if poisoned:
        return PoisonMode(labels, removed, widening, meaning.norm)
    if meaning.constants == "drop":
        return MaskedMode(labels, removed, widening, meaning.norm)
    return FoldedMode(labels, removed, widening, meaning.norm, constant_rows)
