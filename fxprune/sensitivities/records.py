"""What is known of a sensitivity so far, in memory and in the file that a run goes on from."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fxprune.errors import InputError
from fxprune.interruptions import kept, refuse_others, resumed
from fxprune.planning.sensitivity_data import Curve, Point, Sensitivity

if TYPE_CHECKING:
    from fxprune.groups import Group
    from fxprune.labels import Ids


@dataclass(frozen=True, eq=False)
class Removal:
    """Channels of one group that go together.

    Attributes:
        group: the group.
        ratios: the fractions that mean just these channels.
        ids: the removed ids.
    """

    group: Group
    ratios: tuple[float, ...]
    ids: Ids

    @cached_property
    def digest(self) -> str:
        """What tells the channels."""
        channels = np.flatnonzero(np.isin(self.group.ids, self.ids)).astype("<i8")
        return hashlib.sha256(channels.tobytes()).hexdigest()[:16]

    def points(self, value: float | None) -> dict[float, Point]:
        """The points of the group's curve, by ratio."""
        return {r: Point(r, len(self.ids), value, self.digest) for r in self.ratios}


class Record:
    """The points that are finished; each is written to a file at once, if there is one.

    Args:
        known: what is known.
        begun: whether the whole model's value is.
        names: those of all groups, in the order of the model.
        path: of the file.
    """

    def __init__(
        self, known: Sensitivity, begun: bool, names: Sequence[str], path: Path | None
    ) -> None:
        self._known, self.begun, self._names, self._path = known, begun, names, path
        self._values = {
            (name, point.channels): point.value
            for name, curve in known.curves.items()
            for point in curve.points
        }

    @classmethod
    def of(
        cls, base: Sensitivity, names: Sequence[str], resume: str | os.PathLike[str] | None
    ) -> Record:
        """The record of a run, with what a file of an earlier one holds.

        Args:
            base: how the points are made; without any.
            names: those of all groups.
            resume: the path of the file; it need not be there.

        Raises:
            InputError: the file is damaged, or was made in another way; or its folder is missing.
        """
        path = resumed(resume)
        if path is None or not path.exists():
            return cls(base, False, names, path)
        known = Sensitivity.load(path)
        _check_same(known, base, path)
        return cls(known, True, names, path)

    def begin(self, value: float | None) -> None:
        """Note the value of the whole model.

        Raises:
            InputError: it is not finite.
        """
        if value is None:
            raise InputError(
                "evaluate returned NaN or an infinite value for the whole model",
                why="there is nothing to compare the values of shrunk models with",
                hint="mend evaluate, or the weights",
            )
        self._known, self.begun = replace(self._known, baseline=value), True
        self._save()

    def find(self, removals: Sequence[Removal]) -> dict[Removal, float | None]:
        """The values that are known of some removals."""
        values = {**self._values}
        for removal in removals:
            if not len(removal.ids):
                values[removal.group.name, removal.digest] = self._known.baseline
        keys = {removal: (removal.group.name, removal.digest) for removal in removals}
        return {removal: values[key] for removal, key in keys.items() if key in values}

    def told(self, removals: Sequence[Removal]) -> str:
        """What of some removals is kept if it ends now, and how to go on."""
        known = {
            (name, point.ratio, point.channels)
            for name, curve in self._known.curves.items()
            for point in curve.points
        }
        asked = {
            (each.group.name, ratio, each.digest) for each in removals for ratio in each.ratios
        }
        return kept(len(asked & known), len(asked), "points", self._path)

    def note(self, values: Mapping[Removal, float | None]) -> None:
        """Add values, and write the file.

        Raises:
            FxPruneError: it cannot be written.
        """
        curves = dict(self._known.curves)
        for removal, value in values.items():
            group = removal.group
            before = curves[group.name].points if group.name in curves else ()
            points = {point.ratio: point for point in before} | removal.points(value)
            ordered = tuple(points[ratio] for ratio in sorted(points))
            curves[group.name] = Curve(group.size, group.kind, ordered)
        curves = {name: curves[name] for name in self._names if name in curves}
        self._known = replace(self._known, curves=curves)
        self._save()

    def result(self, groups: Sequence[Group], ratios: Container[float]) -> Sensitivity:
        """What is known of some groups at some ratios."""
        curves = {group.name: self._known.curves[group.name] for group in groups}
        return replace(
            self._known,
            curves={
                name: replace(curve, points=tuple(p for p in curve.points if p.ratio in ratios))
                for name, curve in curves.items()
            },
        )

    def _save(self) -> None:
        if self._path is not None:
            self._known.save(self._path)


def _check_same(known: Sensitivity, base: Sensitivity, path: Path) -> None:
    """Refuse to go on with what was measured in another way."""
    differences = []
    if known.digest != base.digest:
        differences.append("it is of another model")
    elif known.weights != base.weights:
        differences.append("it is of the same model with other weights")
    there, here = {**known.made, "mode": known.mode}, {**base.made, "mode": base.mode}
    refuse_others(path, there, here, "measure", differences)
