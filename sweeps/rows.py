"""What the sweep found out about one model, and the file that keeps it."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal, TypeAlias

Outcome: TypeAlias = Literal["shrunk", "refused", "wrong", "crashed", "timed out", "unusable"]
OUTCOMES: tuple[Outcome, ...] = ("shrunk", "refused", "wrong", "crashed", "timed out", "unusable")

_ROOT = Path(__file__).parents[1]
_PACKAGES = ("torch", "torchvision", "timm", "transformers", "numpy")


@dataclass(frozen=True)
class Row:
    """What became of one model; what it did not get to is None or empty.

    `outcome` is "shrunk" (and verified), "refused" (an FxPruneError), "wrong" (a
    VerificationError), "crashed" (anything else, the death of the process too), "timed out", or
    "unusable" (the model itself does not run, or gives NaN, so that nothing can be told).
    """

    library: str
    family: str
    name: str
    outcome: Outcome
    stage: str = ""
    parameters: int | None = None
    captured: str = ""
    prunable: float | None = None
    cut: float | None = None
    error: float | None = None
    dtype: str = ""
    emit: str = ""
    seconds: float | None = None
    reason: str = ""

    @property
    def key(self) -> str:
        """Library, family and name, as `SweepModel.key`."""
        return f"{self.library}/{self.family}/{self.name}"


@dataclass(frozen=True)
class RowFile:
    """Rows as JSON lines; a later row of a model replaces an earlier one."""

    path: Path

    def read(self) -> dict[str, Row]:
        """All rows by key; a line that an interrupted run left unfinished is skipped."""
        rows = {}
        for line in (
            self.path.read_text(encoding="utf-8").splitlines() if self.path.exists() else ()
        ):
            try:
                row = Row(**json.loads(line))
            except (ValueError, TypeError):
                continue
            rows[row.key] = row
        return rows

    def append(self, row: Row) -> None:
        """Add a row at the end, on a line of its own whatever came before."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(f"\n{json.dumps(asdict(row))}\n")


def row_file(library: str) -> RowFile:
    """The file of a library's rows in the user's cache.

    Its name is a digest of all that the rows depend on: fxprune, how a model is measured, the
    library's own table and the installed versions. So no row is ever stale, committed or not.
    """
    sources = [
        *(_ROOT / "fxprune").rglob("*.py"),
        _ROOT / "models_zoo" / "values.py",
        _ROOT / "sweeps" / "entry.py",
        _ROOT / "sweeps" / "measuring.py",
        *(_ROOT / "sweeps").glob(f"{library}_models.py"),
        *(_ROOT / "sweeps" / f"{library}_models").rglob("*.py"),
    ]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    name = f"{library}-{_digest(sources)[:16]}.jsonl"
    return RowFile(cache / "fxprune-sweep" / name)


def _digest(sources: Iterable[Path]) -> str:
    text = hashlib.sha256(repr(versions()).encode())
    for path in sorted(sources):
        text.update(f"{path.relative_to(_ROOT)}\n".encode())
        text.update(path.read_bytes())
    return text.hexdigest()


def versions() -> dict[str, str]:
    """The installed versions of what the rows depend on."""
    installed = {d.name: d.version for d in metadata.distributions() if d.name in _PACKAGES}
    return {name: installed[name].split("+")[0] for name in _PACKAGES if name in installed}
