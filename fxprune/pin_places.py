"""Where the channels of a pinned group met what must stay."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fxprune.rules import Place

if TYPE_CHECKING:
    from fxprune.groups import Group
    from fxprune.labels import LabelAlgebra


def meeting_place(labels: LabelAlgebra, group: Group) -> Place | None:
    """The operator at which a group was pinned; None if it can be pruned, or nobody knows.

    The reason's own place is where what must stay comes from: an input that is added to the
    channels far below. This is the addition.
    """
    pin = int(labels.pins(group.ids[:1])[0])
    place = labels.pin_places[pin]
    return place if pin and isinstance(place, Place) else None
