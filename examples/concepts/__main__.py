"""Write the pictures of docs/concepts.md into docs/images/concepts."""

from __future__ import annotations

from pathlib import Path

import torch

import fxprune
from examples.concepts.models import Pinned
from examples.concepts.pictures import PICTURES

FOLDER = Path(__file__).parents[2] / "docs" / "images" / "concepts"


def main() -> None:
    """Write all of them; the last is laid out by Graphviz."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, picture in PICTURES.items():
        (FOLDER / f"{name}.svg").write_text(picture(), encoding="utf-8")
    deps = fxprune.analyze(Pinned().eval(), torch.zeros(1, 3, 8, 8))
    fxprune.draw(deps, FOLDER / "pins.svg", fxprune.plan(deps, ratio=0.5))


if __name__ == "__main__":
    main()
