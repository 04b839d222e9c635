"""The file that marks a target as incomplete, and tells what of it is finished."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from fxprune.documents import DocumentKind
from fxprune.errors import FxPruneError, InputError
from fxprune.files import write_atomically

MARKER = "fxprune-incomplete.json"
"""The name of the file in a target that is not finished."""
FINISHED = "fxprune-checkpoint.json"
"""Its name in one that is."""
_KIND = DocumentKind(
    name="shrunk checkpoint",
    version=1,
    keys=("format", "version", "plan", "source", "shards"),
    optional=(),
    error=InputError,
    again="delete the folder, and begin anew",
    largest=64 << 20,
)


@dataclass(frozen=True)
class Finished:
    """A file that is written and checked.

    Attributes:
        size: its bytes.
        sha256: of the whole file, in hexadecimal.
    """

    size: int
    sha256: str


@dataclass(frozen=True)
class Marker:
    """What a target is going to be, and how far it is.

    Attributes:
        plan: SHA-256 of what the plan removes.
        source: SHA-256 of the names, sizes and headers of the source's files.
        shards: the files that are finished, by name.
    """

    plan: str
    source: str
    shards: Mapping[str, Finished] = field(default_factory=dict)

    def with_finished(self, name: str, finished: Finished) -> Marker:
        """The same, and one more file."""
        return replace(self, shards={**self.shards, name: finished})

    def write(self, folder: Path, name: str = MARKER) -> None:
        """Put it into the target.

        Raises:
            FxPruneError: it cannot be written; the one before is still there.
        """
        document = {
            "format": _KIND.format,
            "version": _KIND.version,
            "plan": self.plan,
            "source": self.source,
            "shards": {n: {"size": f.size, "sha256": f.sha256} for n, f in self.shards.items()},
        }
        text = json.dumps(document, indent=2) + "\n"
        write_atomically(folder / name, lambda stream: stream.write(text.encode()))

    @classmethod
    def read(cls, folder: Path) -> Marker:
        """The marker in a target.

        Raises:
            InputError: it is malformed.
        """
        return _KIND.load(folder / MARKER, cls.from_json, "fxprune.shrink_checkpoint")

    @classmethod
    def from_json(cls, text: str) -> Marker:
        """The marker in a text.

        Raises:
            InputError: it is malformed.
        """
        document = _KIND.document(text)
        shards = {}
        for name, value in _KIND.mapping(document["shards"]).items():
            entry = _KIND.with_keys(value, ("size", "sha256"))
            shards[name] = Finished(_KIND.integer(entry["size"]), _digest(entry["sha256"]))
        return cls(_digest(document["plan"]), _digest(document["source"]), shards)

    def check_same_job(self, other: Marker, folder: Path) -> None:
        """Refuse to go on with what was begun for something else.

        Args:
            other: what is to be done now.
            folder: the target.

        Raises:
            FxPruneError: another plan, or another source.
        """
        wrong = [
            what
            for what, mine, theirs in (
                ("plan", self.plan, other.plan),
                ("source", self.source, other.source),
            )
            if mine != theirs
        ]
        if wrong:
            raise FxPruneError(
                f"{folder} is an incomplete checkpoint of another {' and another '.join(wrong)}",
                why=f"{MARKER} in it tells what was begun",
                hint="go on with what was begun, or delete the folder, or name another target",
            )


def _digest(value: object) -> str:
    text = _KIND.text_in(value)
    if re.fullmatch(r"[0-9a-f]{64}", text) is None:
        raise _KIND.malformed(text, "a SHA-256 in hexadecimal")
    return text
