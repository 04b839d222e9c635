"""What measured latencies say, and what they do not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeAlias

import numpy as np

Verdict: TypeAlias = Literal["faster", "slower", "no difference"]


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
        return asdict(self)
