"""What measured latencies say, and what they do not."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeAlias, get_args

import numpy as np

from fxprune.documents import DocumentKind
from fxprune.errors import InputError

Verdict: TypeAlias = Literal["faster", "slower", "no difference"]
_VERDICTS: tuple[Verdict, ...] = get_args(Verdict)
_KIND = DocumentKind(
    name="bench",
    version=1,
    keys=("format", "version", "measurements", "threads", "rounds", "memory_limit"),
    optional=(),
    error=InputError,
    again="write it again with fxprune bench --json",
    largest=16 << 20,
)


@dataclass(frozen=True)
class Spread:
    """A median, and what nine of ten values reach and exceed: the 10th and 90th percentiles."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """The spread of some values, at least one."""
        low, median, high = np.quantile(values, [0.1, 0.5, 0.9]).tolist()
        return cls(median, low, high)

    def __str__(self) -> str:
        return f"{self.median:.3g} ({self.low:.3g} to {self.high:.3g})"


@dataclass(frozen=True)
class Relation:
    """The latency of a candidate in units of another's, by the rounds in which both were timed.

    Attributes:
        to: the name of the other.
        ratio: of the two times of a round.
        verdict: "faster" or "slower" if nine of ten rounds agree on it.
    """

    to: str
    ratio: Spread
    verdict: Verdict

    @classmethod
    def of(cls, to: str, own: Sequence[float], other: Sequence[float]) -> Relation:
        """The relation of two candidates that were timed in the same rounds."""
        ratio = Spread.of((np.array(own) / np.array(other)).tolist())
        if ratio.high < 1:
            return cls(to, ratio, "faster")
        return cls(to, ratio, "slower" if ratio.low > 1 else "no difference")

    def __str__(self) -> str:
        if self.verdict == "no difference":
            return f"no difference ({self.ratio.low:.2f}x to {self.ratio.high:.2f}x)"
        return f"{self.ratio.median:.2f}x ({self.ratio.low:.2f}x to {self.ratio.high:.2f}x)"


@dataclass(frozen=True)
class Measurement:
    """What became of a candidate.

    Attributes:
        name: of the model.
        runtime: that it ran in.
        milliseconds: for one call, or None if it failed.
        relation: to the first model in this runtime; None for that one itself, or if one failed.
        peak_memory: most bytes that the process held, code and runtime included.
        size: bytes of the model's file, or of its tensors if it has none.
        failure: why it was not measured, or "".
    """

    name: str
    runtime: str
    milliseconds: Spread | None = None
    relation: Relation | None = None
    peak_memory: int = 0
    size: int = 0
    failure: str = ""


@dataclass(frozen=True)
class Comparison:
    """All measurements, and how they were taken.

    Attributes:
        measurements: in the order of the candidates.
        threads: that a call may use.
        rounds: that were timed.
        memory_limit: bytes that a process may hold, or None.
    """

    measurements: tuple[Measurement, ...]
    threads: int
    rounds: int
    memory_limit: int | None

    def to_document(self) -> dict[str, Any]:
        """Everything as plain data, for JSON."""
        return {"format": _KIND.format, "version": _KIND.version, **asdict(self)}

    def to_json(self) -> str:
        """The comparison as JSON text, as `fxprune bench --json` prints it."""
        return json.dumps(self.to_document(), indent=2, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> Comparison:
        """The comparison in a JSON text.

        Raises:
            InputError: the text is not JSON, not a comparison, or of another version.
        """
        document = _KIND.document(text)
        limit = document["memory_limit"]
        return cls(
            measurements=tuple(map(_measurement, _KIND.sequence(document["measurements"]))),
            threads=_KIND.integer(document["threads"]),
            rounds=_KIND.integer(document["rounds"]),
            memory_limit=None if limit is None else _KIND.integer(limit),
        )

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Comparison:
        """Read what `fxprune bench --json` printed into a file.

        Raises:
            InputError: the file cannot be read or holds no comparison.
        """
        return _KIND.load(path, cls.from_json, "fxprune bench --json")


def _measurement(entry: Any) -> Measurement:
    names = ("name", "runtime", "milliseconds", "relation", "peak_memory", "size", "failure")
    content = _KIND.with_keys(entry, names)
    spread, relation = content["milliseconds"], content["relation"]
    return Measurement(
        name=_KIND.text_in(content["name"]),
        runtime=_KIND.text_in(content["runtime"]),
        milliseconds=None if spread is None else _spread(spread),
        relation=None if relation is None else _relation(relation),
        peak_memory=_KIND.integer(content["peak_memory"]),
        size=_KIND.integer(content["size"]),
        failure=_KIND.text_in(content["failure"]),
    )


def _spread(entry: Any) -> Spread:
    content = _KIND.with_keys(entry, ("median", "low", "high"))
    median, low, high = (_KIND.number(content[key]) for key in ("median", "low", "high"))
    if not 0 <= low <= median <= high:
        raise _KIND.malformed([low, median, high], "a median between two percentiles")
    return Spread(median, low, high)


def _relation(entry: Any) -> Relation:
    content = _KIND.with_keys(entry, ("to", "ratio", "verdict"))
    verdict = content["verdict"]
    if not isinstance(verdict, str) or verdict not in _VERDICTS:
        raise _KIND.malformed(verdict, "a verdict")
    return Relation(_KIND.text_in(content["to"]), _spread(content["ratio"]), verdict)
