"""Results in a file, so that a run can go on where another ended."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

from mutation.mutants import Mutant
from mutation.running import Result


def read(path: Path | None) -> dict[Mutant, Result]:
    """The results of an earlier run by mutant; none if there is no file."""
    if path is None or not path.exists():
        return {}
    found = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        entry = json.loads(line)
        mutant = Mutant(**entry.pop("mutant"))
        found[mutant] = Result(mutant, **entry)
    return found


def append(path: Path | None, results: Iterable[Result]) -> None:
    """Add results to a file."""
    if path is not None:
        with path.open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(asdict(result)) + "\n" for result in results)
