"""What is known of candidates so far, in memory and in the file that a run goes on from.

The file may come from anyone: names in it are compared with those of plans, and no more.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fxprune.documents import DocumentKind
from fxprune.errors import InputError
from fxprune.files import write_atomically
from fxprune.interruptions import kept, refuse_others, resumed
from fxprune.tradeoffs.appraising import Worth

_KIND = DocumentKind(
    name="values of candidates",
    version=1,
    keys=("format", "version", "made", "values"),
    optional=(),
    error=InputError,
    again="delete it, and let a run write it again",
    largest=64 << 20,
)


class Values:
    """The values that are found out; each is written to a file at once, if there is one.

    Args:
        made: of which model, and how; what a file must agree with.
        known: from what tells a candidate to its value.
        path: of the file.
    """

    def __init__(
        self, made: Mapping[str, str], known: Mapping[str, Worth], path: Path | None
    ) -> None:
        self._made, self.known, self._path = dict(made), dict(known), path

    @classmethod
    def of(cls, made: Mapping[str, str], resume: str | os.PathLike[str] | None) -> Values:
        """Those of a run, with what a file of an earlier one holds.

        Raises:
            InputError: the file is damaged, or of another model, or was made in another way; or its
                folder is missing.
        """
        path = resumed(resume)
        if path is None or not path.exists():
            return cls(made, {}, path)
        there, known = _KIND.load(path, _read, "tradeoff")
        refuse_others(path, there, made, "evaluate")
        return cls(made, known, path)

    def note(self, key: str, worth: Worth) -> None:
        """Add a value, and write the file.

        Raises:
            FxPruneError: it cannot be written.
        """
        self.known[key] = worth
        if self._path is None:
            return
        values = {name: asdict(each) for name, each in self.known.items()}
        document = {"format": _KIND.format, "version": _KIND.version, "made": self._made}
        text = json.dumps({**document, "values": values}, indent=2, allow_nan=False) + "\n"
        write_atomically(self._path, lambda stream: stream.write(text.encode()))

    def told(self, keys: list[str]) -> str:
        """What of some candidates is kept if it ends now, and how to go on."""
        finished = sum(key in self.known for key in keys)
        return kept(finished, len(keys), "candidates", self._path)


def _read(text: str) -> tuple[dict[str, str], dict[str, Worth]]:
    document = _KIND.document(text)
    made = {key: _KIND.text_in(value) for key, value in _KIND.mapping(document["made"]).items()}
    values = {key: _worth(entry) for key, entry in _KIND.mapping(document["values"]).items()}
    return made, values


def _worth(entry: Any) -> Worth:
    content = _KIND.with_keys(entry, ("value", "parameters", "macs"))
    counts = (_KIND.integer(content[name]) for name in ("parameters", "macs"))
    return Worth(_KIND.number(content["value"]), *counts)
