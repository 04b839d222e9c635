"""What a model loses with each of its groups, as data: a table, JSON both ways, a plot.

A sensitivity's file may come from anyone. Names in it are only ever compared with those of the
model or shown, and no text of it becomes a path, code or the name of an attribute.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

from fxprune.documents import DocumentKind, compact_lists
from fxprune.errors import InputError
from fxprune.files import write_atomically
from fxprune.notebook_tables import Shown
from fxprune.planning.sensitivity_page import sensitivity_page
from fxprune.planning.sensitivity_plots import heat_map
from fxprune.tables import Page

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Mode: TypeAlias = Literal["max", "min"]
MODES: tuple[Mode, ...] = get_args(Mode)
_KIND = DocumentKind(
    name="sensitivity",
    version=1,
    keys=("format", "version", "mode", "baseline", "digest", "weights", "made", "groups"),
    optional=(),
    error=InputError,
    again="write it again with Sensitivity.save",
    largest=64 << 20,
)


@dataclass(frozen=True)
class Point:
    """What a model without some channels of one group was found to be worth.

    Attributes:
        ratio: the fraction of channels that was asked for.
        removed: how many channels went.
        value: what `evaluate` returned; None if that was NaN or infinite.
        channels: what tells the removed channels, the first 16 digits of their SHA-256.
    """

    ratio: float
    removed: int
    value: float | None
    channels: str


@dataclass(frozen=True)
class Curve:
    """One group: how many channels of which kind it has, and its points by ascending ratio."""

    size: int
    kind: str
    points: tuple[Point, ...] = ()


@dataclass(frozen=True)
class Sensitivity(Shown):
    """What a model is worth without a share of the channels of each of its groups.

    Attributes:
        baseline: the value of the model with all its channels.
        mode: "max" if higher values are better (an accuracy), "min" if lower ones are (a loss).
        curves: group name -> its size, its kind and its points.
        digest: SHA-256 of the model's structure.
        weights: SHA-256 of the values of its parameters and buffers.
        made: how channels were chosen (criterion, reduction, seed).
    """

    baseline: float
    mode: Mode
    curves: Mapping[str, Curve]
    digest: str
    weights: str
    made: Mapping[str, Any] = field(default_factory=dict)

    @property
    def ratios(self) -> tuple[float, ...]:
        """All ratios that some group was measured at, ascending."""
        return tuple(sorted({p.ratio for curve in self.curves.values() for p in curve.points}))

    @property
    def values(self) -> dict[str, dict[float, float | None]]:
        """Group name -> ratio -> what `evaluate` returned, None if it was NaN or infinite."""
        return {n: {p.ratio: p.value for p in curve.points} for n, curve in self.curves.items()}

    @property
    def drops(self) -> dict[str, dict[float, float]]:
        """Group name -> ratio -> by how much that is worse than the baseline.

        It is negative for a model that became better, and infinite where the value is None.
        """
        return {
            name: {ratio: self.drop(value) for ratio, value in row.items()}
            for name, row in self.values.items()
        }

    def drop(self, value: float | None) -> float:
        """By how much a value is worse than the baseline; infinite for None."""
        if value is None:
            return math.inf
        return self.baseline - value if self.mode == "max" else value - self.baseline

    def told(self) -> dict[str, Any]:
        """What a plan keeps of it, as data."""
        return {
            "baseline": self.baseline,
            "mode": self.mode,
            "weights": self.weights,
            "made": dict(self.made),
        }

    def to_json(self) -> str:
        """The sensitivity as JSON text, the same for the same one."""
        document = {
            "format": _KIND.format,
            "version": _KIND.version,
            "mode": self.mode,
            "baseline": self.baseline,
            "digest": self.digest,
            "weights": self.weights,
            "made": dict(self.made),
            "groups": {name: asdict(curve) for name, curve in self.curves.items()},
        }
        return compact_lists(json.dumps(document, indent=2, allow_nan=False))

    @classmethod
    def from_json(cls, text: str) -> Sensitivity:
        """The sensitivity in a JSON text.

        Raises:
            InputError: the text is not JSON, not a sensitivity, or of another version.
        """
        document = _KIND.document(text)
        mode = document["mode"]
        if not isinstance(mode, str) or mode not in MODES:
            raise _KIND.malformed(mode, "a mode")
        return cls(
            baseline=_KIND.number(document["baseline"]),
            mode=mode,
            curves={
                name: _curve(entry) for name, entry in _KIND.mapping(document["groups"]).items()
            },
            digest=_KIND.text_in(document["digest"]),
            weights=_KIND.text_in(document["weights"]),
            made={k: _plain(v) for k, v in _KIND.mapping(document["made"]).items()},
        )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the sensitivity as a JSON file; the file appears whole or not at all."""
        text = self.to_json().encode()
        write_atomically(Path(path), lambda stream: stream.write(text))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Sensitivity:
        """Read a sensitivity from a JSON file, or from that of a run that was not finished.

        Raises:
            InputError: the file cannot be read or holds no sensitivity.
        """
        return _KIND.load(path, cls.from_json, "fxprune.sensitivity or Sensitivity.save")

    @classmethod
    def of(cls, value: Sensitivity | str | os.PathLike[str]) -> Sensitivity:
        """A sensitivity, or the one in the file of that path.

        Raises:
            InputError: it is neither; or see `load`.
        """
        if isinstance(value, Sensitivity):
            return value
        if isinstance(value, (str, os.PathLike)):
            return cls.load(value)
        raise InputError(
            f"the sensitivity is a {type(value).__name__}",
            hint="pass what fxprune.sensitivity returned, or the path of its file",
        )

    def plot(self, path: str | os.PathLike[str] | None = None) -> Figure:
        """A heat map of the drops: a row for each group, a column for each ratio.

        Args:
            path: where to write it, as an image of the kind that the name ends with (".svg",
                ".pdf", ".png" ...). No window is opened.

        Returns:
            The `matplotlib.figure.Figure`.

        Raises:
            InputError: matplotlib is not installed, or writes no such images; or nothing was
                measured, or at more than 200 ratios.
            FxPruneError: the file cannot be written.
        """
        sign = "baseline - value" if self.mode == "max" else "value - baseline"
        title = f"drop ({sign}), baseline {self.baseline:.4g}"
        return heat_map(self.drops, self.ratios, title, None if path is None else Path(path))

    def text(self, *, full: bool = False) -> str:
        """What printing it shows: a row for each group, with its value at each ratio.

        Groups whose names differ in indices only, and whose values read the same, are one row.

        Args:
            full: every group on its own, and up to 200 ratios.
        """
        return str(sensitivity_page(self, full=full))

    def __str__(self) -> str:
        return self.text()

    def __rich__(self) -> Page:
        return sensitivity_page(self)


def _plain(value: Any) -> Any:
    if value is not None and not isinstance(value, (bool, int, float, str)):
        raise _KIND.malformed(value, "a text, a number or null")
    return value


def _curve(entry: Any) -> Curve:
    content = _KIND.with_keys(entry, ("size", "kind", "points"))
    size = _KIND.integer(content["size"])
    if size < 1:
        raise _KIND.malformed(size, "a number of channels")
    points = tuple(_point(each, size) for each in _KIND.sequence(content["points"]))
    ratios = [point.ratio for point in points]
    if ratios != sorted(set(ratios)):
        raise _KIND.malformed(ratios, "a list of ratios in order, each once")
    return Curve(size, _KIND.text_in(content["kind"]), points)


def _point(entry: Any, size: int) -> Point:
    content = _KIND.with_keys(entry, ("ratio", "removed", "value", "channels"))
    ratio, removed = _KIND.number(content["ratio"]), _KIND.integer(content["removed"])
    if not 0 <= ratio < 1:
        raise _KIND.malformed(ratio, "a ratio in [0, 1)")
    if not 0 <= removed <= size:
        raise _KIND.malformed(removed, f"a number of channels up to {size}")
    value = content["value"]
    return Point(
        ratio,
        removed,
        None if value is None else _KIND.number(value),
        _KIND.text_in(content["channels"]),
    )
