"""Expected groups of every model of the zoo, as text that a person can read and diff.

`python -m tests.golden` tells which listings differ; with `--write` it writes them anew.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import fxprune
from models_zoo import ZOO

FOLDER = Path(__file__).parents[1] / "models_zoo" / "expected"


def listing(name: str) -> str:
    """The dependency graph of a model of the zoo as text."""
    model = ZOO[name]
    return f"{fxprune.analyze(model.build().eval(), model.example_inputs()).text(full=True)}\n"


def main() -> int:
    """Compare, or write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="write the listings that differ")
    write = parser.parse_args().write
    differing = []
    for name in ZOO:
        path = FOLDER / f"{name}.txt"
        text = listing(name)
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            differing.append(name)
            if write:
                FOLDER.mkdir(exist_ok=True)
                path.write_text(text, encoding="utf-8")
    stale = [path for path in FOLDER.glob("*.txt") if path.stem not in ZOO]
    for path in stale if write else ():
        path.unlink()
    print(f"{len(ZOO)} listings, {len(differing)} differ, {len(stale)} without a model")
    return 0 if write or not (differing or stale) else 1


if __name__ == "__main__":
    sys.exit(main())
